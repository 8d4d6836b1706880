import asyncio

import numpy as np
import pytest

import modelserve as ms
from tests.batcher.asking import run


@ms.batched(max_batch_size=64)
def lengths(texts: list[str]) -> list[int]:
    """How long each text is."""
    return [len(text) for text in texts]


class Model:
    def __init__(self, factor):
        self.factor = factor
        self.batches = 0

    @ms.batched(max_batch_size=4)
    def times(self, rows):
        self.batches += 1
        return rows * self.factor

    @ms.batched()
    async def atimes(self, rows):
        return rows * self.factor


def test_a_decorated_function_answers_for_one_item():
    assert lengths("four") == 4
    assert list(lengths.map(["a", "bc"])) == [1, 2]


def test_a_decorated_function_is_the_batcher_and_keeps_its_name():
    assert isinstance(lengths, ms.DynamicBatcher)
    assert (lengths.name, lengths.__name__, lengths.__doc__) == (
        "lengths",
        "lengths",
        "How long each text is.",
    )
    assert lengths._settings.form.limit == 64


def test_a_decorated_coroutine_function_stays_on_the_loop_that_calls():
    loops = []

    @ms.batched()
    async def same(xs):
        loops.append(asyncio.get_running_loop())
        return xs

    async def main():
        return await same.acall(1), asyncio.get_running_loop()

    assert run(main) == (1, *loops)


@pytest.mark.parametrize("method", ["times", "atimes"])
def test_each_instance_has_a_batcher_of_its_own(method):
    two, three = Model(2), Model(3)
    x = np.array([1.0])

    assert getattr(two, method)(x).tolist() == [2.0]
    assert getattr(three, method)(x).tolist() == [3.0]
    assert getattr(two, method) is getattr(two, method)
    assert getattr(two, method) is not getattr(three, method)
    assert getattr(two, method).stats.calls == 1


def test_a_decorator_serves_many_functions():
    decorate = ms.batched(max_batch_size=2, name=None)
    upper, lower = decorate(lambda xs: [x.upper() for x in xs]), decorate(lengths_of)

    assert (upper("a"), lower("abc")) == ("A", 3)


def lengths_of(texts):
    return [len(text) for text in texts]


def test_wrong_options_are_refused_where_the_function_is_decorated():
    with pytest.raises(ValueError, match="max_batch_size=0"):
        ms.batched(max_batch_size=0)(lengths_of)
    with pytest.raises(TypeError, match="max_size"):
        ms.batched(max_size=3)(lengths_of)
