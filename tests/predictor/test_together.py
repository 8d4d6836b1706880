"""Many inputs handed on a chunk at a time: in order, lazily, with errors in their places."""

import asyncio

import pytest

from modelserve.predictor import CHUNK, Primitive, Spec, Together


class Halves(Together):
    """Halves even numbers, and remembers how many came together."""

    kind = "Halves"

    def __init__(self):
        super().__init__("halves", {}, Spec(Halves, (), {}))
        self.sizes = []

    def many(self, chunk):
        self.sizes.append(len(chunk))
        return [ValueError(x) if x % 2 else x // 2 for x in chunk]

    async def amany(self, chunk):
        return self.many(chunk)


def taken(face, part, xs, **options):
    async def awaited():
        return [y async for y in part.amap(xs, **options)]

    return list(part.map(xs, **options)) if face == "map" else asyncio.run(awaited())


@pytest.mark.parametrize("face", ["map", "amap"])
def test_many_inputs_are_answered_in_order_a_chunk_at_a_time(face):
    part = Halves()

    assert taken(face, part, range(0, 4 * CHUNK + 8, 2)) == list(range(2 * CHUNK + 4))
    assert part.sizes == [CHUNK, CHUNK, 4]


@pytest.mark.parametrize("face", ["map", "amap"])
def test_an_error_is_raised_or_stands_in_place_of_its_answer(face):
    with pytest.raises(ValueError, match="3"):
        taken(face, Halves(), [2, 3, 4])
    one, bad, two = taken(face, Halves(), [2, 3, 4], return_exceptions=True)

    assert (one, type(bad), two) == (1, ValueError, 2)


def test_inputs_are_taken_only_when_their_answers_are_asked_for():
    part, inputs = Halves(), iter(range(0, 4 * CHUNK, 2))

    assert next(part.map(inputs)) == 0
    assert next(inputs) == 2 * CHUNK


def test_an_async_part_is_refused_on_a_loop():
    async def ask():
        with pytest.raises(RuntimeError, match="event loop"):
            next(part.map([2]))
        return [y async for y in part.amap([2])]

    part = Halves()
    part.is_async = True
    assert asyncio.run(ask()) == [1]
    assert isinstance(part, Primitive)
