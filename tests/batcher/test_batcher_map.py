import asyncio

import pytest

import modelserve as ms
from modelserve.testing import FakeClock, GatedPredictor
from tests.batcher.asking import (
    HOUR,
    LIMIT,
    both,
    both_gates,
    one_batch,
    outcome,
    run,
    same,
    taken,
    tenfold,
)


def odd_fails(xs):
    return [ValueError(f"{x} is odd") if x % 2 else x for x in xs]


@both
def test_map_fills_whole_batches_in_order(colour):
    sizes = []
    p = one_batch(colour(lambda xs: sizes.append(len(xs)) or tenfold(xs)), 4)

    assert list(p.map(range(12))) == tenfold(range(12))
    assert sizes == [4, 4, 4]


@both
def test_amap_fills_whole_batches_in_order(colour):
    sizes = []
    p = one_batch(colour(lambda xs: sizes.append(len(xs)) or tenfold(xs)), 4)

    assert run(lambda: taken(p.amap(range(12)))) == tenfold(range(12))
    assert sizes == [4, 4, 4]


@both
def test_map_of_nothing_is_nothing(colour):
    p = ms.DynamicBatcher(colour(same))

    assert list(p.map([])) == []
    assert run(lambda: taken(p.amap([]))) == []


def test_map_takes_no_more_inputs_than_two_batches_ahead():
    asked = []
    ys = ms.DynamicBatcher(same, max_batch_size=4).map(asked.append(n) or n for n in range(100))

    assert asked == []
    assert next(ys) == 0
    assert len(asked) == 8
    assert (next(ys), next(ys)) == (1, 2)
    assert len(asked) == 10


def test_amap_takes_no_more_inputs_than_two_batches_ahead():
    asked = []

    async def xs():
        for n in range(100):
            asked.append(n)
            yield n

    async def main():
        ys = ms.DynamicBatcher(same, max_batch_size=4).amap(xs())
        assert await anext(ys) == 0
        assert len(asked) == 8
        await ys.aclose()

    run(main)


@both
def test_the_first_failed_item_of_a_map_raises(colour):
    p = ms.DynamicBatcher(colour(odd_fails))
    ys = p.map([0, 2, 3, 4])

    assert (next(ys), next(ys)) == (0, 2)
    with pytest.raises(ValueError, match="3 is odd"):
        next(ys)
    with pytest.raises(ValueError, match="3 is odd"):
        run(lambda: taken(p.amap([0, 2, 3, 4])))


@both
def test_errors_of_a_map_can_stand_in_their_places(colour):
    p = ms.DynamicBatcher(colour(odd_fails))
    by_map = list(p.map(range(4), return_exceptions=True))
    by_amap = run(lambda: taken(p.amap(range(4), return_exceptions=True)))

    for zero, one, two, three in (by_map, by_amap):
        assert (zero, two) == (0, 2)
        assert [str(error) for error in (one, three)] == ["1 is odd", "3 is odd"]


def test_items_of_a_map_that_was_left_never_run():
    gate = GatedPredictor()
    p = ms.DynamicBatcher(gate, max_batch_size=2)
    first = p.submit("first")
    gate.wait_entered(1)

    def numbers():
        yield from range(3)
        raise KeyError("no more")

    with pytest.raises(KeyError):
        list(p.map(numbers()))
    gate.open()

    assert outcome(first) == "first"
    p.close(timeout=LIMIT)
    assert gate.calls == [["first"]]
    assert p.stats.abandoned == 3


def test_items_of_an_amap_that_was_left_never_run():
    gate = GatedPredictor()
    p = ms.DynamicBatcher(gate, max_batch_size=2)
    first = p.submit("first")
    gate.wait_entered(1)

    async def numbers():
        for n in range(3):
            yield n
        raise KeyError("no more")

    with pytest.raises(KeyError):
        run(lambda: taken(p.amap(numbers())))
    gate.open()

    assert outcome(first) == "first"
    p.close(timeout=LIMIT)
    assert gate.calls == [["first"]]
    assert p.stats.abandoned == 3


@both_gates
def test_a_map_that_finds_the_queue_full_of_others_is_refused_like_a_call(make, gates):
    gate = gates(make)
    p = ms.DynamicBatcher(gate, max_batch_size=1, max_queue_size=1)
    futures = [p.submit(0)]
    gate.wait_entered(1)
    futures.append(p.submit(1))

    with pytest.raises(ms.Overloaded):
        next(p.map([2]))
    with pytest.raises(ms.Overloaded):
        run(lambda: taken(p.amap([2])))
    assert p.stats.refused == 2
    gate.open()
    assert [outcome(future) for future in futures] == [0, 1]


def full_but_for_one(gate):
    """Make a batcher with a call at the gate and room for one more in its queue."""
    p = ms.DynamicBatcher(gate, max_batch_size=1, max_queue_size=2)
    futures = [p.submit("running")]
    gate.wait_entered(1)
    return p, [*futures, p.submit("waiting")]


def test_a_map_waits_for_its_own_answers_where_the_queue_is_full():
    gate = GatedPredictor()
    p, others = full_but_for_one(gate)
    looks = []

    def clock():
        looks.append("a look at the clock")
        if len(looks) == 2:  # since the item that found no room: the map waits
            gate.open()
        return 0.0

    def numbers():
        yield 0
        looks.clear()
        yield from (1, 2)

    with ms.request(timeout=HOUR, clock=clock):
        assert list(p.map(numbers())) == [0, 1, 2]
    assert [outcome(future) for future in others] == ["running", "waiting"]
    assert p.stats.refused == 0


def test_an_amap_waits_for_its_own_answers_where_the_queue_is_full():
    gate = GatedPredictor()
    p, others = full_but_for_one(gate)

    def numbers():
        yield 0
        asyncio.get_running_loop().call_soon(gate.open)  # when the map waits
        yield from (1, 2)

    assert run(lambda: taken(p.amap(numbers()))) == [0, 1, 2]
    assert [outcome(future) for future in others] == ["running", "waiting"]
    assert p.stats.refused == 0


@both
def test_a_map_in_a_request_ends_with_it(colour):
    clock = FakeClock()

    def predict(xs):
        clock.advance(1.0)
        return xs

    p = ms.DynamicBatcher(colour(predict), max_batch_size=1, max_queue_size=1)
    with ms.request(timeout=1.5, clock=clock), pytest.raises(ms.DeadlineExceeded):
        list(p.map(range(9)))
