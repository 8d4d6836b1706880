"""Which items are cut together and why: the plain way without a lock, and the way through lanes."""

import asyncio
import threading

import numpy as np
import pytest

import modelserve as ms
from modelserve.testing import AsyncGatedPredictor, FakeClock, GatedPredictor
from tests.batcher.asking import (
    HOUR,
    LIMIT,
    as_async,
    both,
    both_gates,
    one_batch,
    outcome,
    run,
    same,
    tenfold,
)
from tests.support import virtual
from tests.support.virtual import explore, here

SEEDS = range(20)


@pytest.fixture(params=[GatedPredictor, AsyncGatedPredictor])
def busy(request):
    """Make a batcher whose worker is at the gate: what is queued meanwhile is cut afterwards."""
    gate = request.param()

    def make(**options):
        p = ms.DynamicBatcher(gate, **{"max_batch_size": 4, "name": "busy", **options})
        p.submit("first")
        gate.wait_entered(1)
        return p, gate

    yield make
    gate.open()


def answers(futures):
    return [outcome(future) for future in futures]


# The plain way, and what leaves it


def test_like_items_go_as_they_came(busy):
    p, gate = busy()
    futures = [p.submit(n) for n in range(10)]
    gate.open()

    assert answers(futures) == list(range(10))
    assert gate.calls == [["first"], [0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert (p.stats.calls, p.stats.items) == (11, 11)
    p.close(timeout=LIMIT)
    assert p.stats.releases == {"free": 2, "full": 2}


def test_items_of_other_lanes_are_sorted_out(busy):
    p, gate = busy()
    rows = [np.zeros(2), np.ones(3), np.zeros(2), np.ones(3)]
    futures = [p.submit(row) for row in rows]
    gate.open()

    assert [outcome(future).tolist() for future in futures] == [row.tolist() for row in rows]
    assert [np.shape(batch) for batch in gate.calls[1:]] == [(2, 2), (2, 3)]


def test_plain_items_queue_behind_those_that_are_not(busy):
    p, gate = busy(max_batch_size=2)
    with ms.request(tenant="acme"):
        futures = [p.submit("special")]
    futures += [p.submit(n) for n in range(3)]
    gate.open()

    assert answers(futures) == ["special", 0, 1, 2]
    assert gate.calls[1:] == [["special", 0], [1, 2]]


def test_items_in_requests_that_ask_for_nothing_go_the_plain_way(busy):
    p, gate = busy()
    futures = []
    for n in range(4):
        with ms.request(unit=str(n)) as scope:
            futures.append(p.submit(n))
    gate.open()

    assert answers(futures) == [0, 1, 2, 3]
    assert gate.calls[1:] == [[0, 1, 2, 3]]
    assert scope.record["busy.batch_size"] == 4


def test_who_left_gives_the_place_to_others(busy):
    p, gate = busy(max_batch_size=2)
    futures = [p.submit(n) for n in range(4)]
    futures[0].cancel()
    gate.open()

    assert answers(futures[1:]) == [1, 2, 3]
    assert gate.calls[1:] == [[1, 2], [3]]
    p.close(timeout=LIMIT)
    assert (p.stats.abandoned, p.stats.calls) == (1, 5)


def test_what_is_staged_when_it_is_closed_is_drained(busy):
    p, gate = busy(max_batch_size=8)
    futures = [p.submit(n) for n in range(3)]

    async def main():
        closing = asyncio.ensure_future(p.aclose(timeout=LIMIT))
        await asyncio.sleep(0)
        gate.open()
        await closing

    run(main)
    assert answers(futures) == [0, 1, 2]
    assert p.stats.releases == {"free": 1, "drain": 1}


def test_all_who_are_queued_are_told_when_the_worker_breaks():
    looks = []

    def clock():
        looks.append("a look at the clock")
        if len(looks) == breaks:
            raise OSError("the clock is broken")
        return 0.0

    breaks = 0
    gate = GatedPredictor()
    p = ms.DynamicBatcher(gate, max_batch_size=1, clock=clock, name="timed")
    first = p.submit("first")
    gate.wait_entered(1)
    futures = [p.submit(n) for n in range(3)]
    breaks = len(looks) + 2  # one as the first run ends, and one as the next is cut
    gate.open()
    errors = answers(futures)

    assert outcome(first) == "first"
    assert [str(error) for error in errors] == ["'timed' could not finish a batch"] * 3
    assert len({id(error) for error in errors}) == 3
    assert p("again") == "again"
    assert p.stats.queued == 0


# Held back for company


def test_a_lone_caller_pays_for_company_in_vain_once():
    async def main():
        p = ms.DynamicBatcher(as_async(same), max_wait=1.0, clock=here().time)
        ended = []
        for n in range(4):
            assert await p.acall(n) == n
            ended.append(here().time())
            await asyncio.sleep(10.0)
        return ended

    assert virtual.run(main) == [1.0, 11.0, 21.0, 31.0]


def test_a_lone_caller_on_a_thread_pays_for_company_in_vain_once():
    clock = FakeClock()
    p = ms.DynamicBatcher(same, max_wait=0.001, clock=clock)
    lone = p.submit("a")
    clock.advance(0.001)

    assert outcome(lone) == "a"
    assert [p(x) for x in "bcd"] == ["b", "c", "d"]  # while the clock stands still
    assert p.stats.releases == {"waited": 1, "free": 3}


def test_who_is_held_back_again_are_those_whose_calls_overlap():
    async def main():
        batches = []

        async def predict(xs):
            batches.append((here().time(), list(xs)))
            await asyncio.sleep(0.1)
            return xs

        async def ask(x, at):
            await asyncio.sleep(at)
            return await p.acall(x)

        p = ms.DynamicBatcher(predict, max_wait=1.0, max_batch_size=9, clock=here().time)
        arrivals = [("a", 0.0), ("b", 5.0), ("c", 10.0), ("d", 10.05), ("e", 10.5), ("f", 20.0)]
        await asyncio.gather(*(ask(x, at) for x, at in arrivals))
        held = {x: at for at, batch in batches for x in batch}
        assert (held["a"], held["b"], held["c"]) == (1.0, 5.0, 10.0)
        assert held["d"] == held["e"] == pytest.approx(11.05)  # since c ran when d came
        assert held["f"] == 21.0
        assert p.stats.releases == {"waited": 3, "free": 2}

    explore(main, SEEDS)


# Out of memory, and a call that hangs


@both
def test_a_batch_that_took_too_much_memory_makes_the_next_smaller(colour):
    def greedy(xs):
        if len(xs) > 2:
            raise MemoryError
        return tenfold(xs)

    p = one_batch(colour(greedy), 4)
    assert answers([p.submit(n) for n in range(4)]) == [0, 10, 20, 30]
    assert answers([p.submit(n) for n in range(2)]) == [0, 10]  # full, by the smaller limit
    assert p.stats.releases == {"full": 2}
    p.close(timeout=LIMIT)
    with p:
        futures = [p.submit(n) for n in range(2)]
        assert p.stats.queued == 2  # as four go together again
    assert answers(futures) == [0, 10]


def test_those_put_back_run_before_those_who_came_later():
    async def main():
        calls = []

        async def predict(xs):
            calls.append(list(xs))
            if len(calls) == 1:
                raise ValueError("poison")
            if len(calls) == 2:
                await asyncio.sleep(HOUR)
            return xs

        p = ms.DynamicBatcher(predict, max_batch_size=4, max_run=2.0, clock=here().time)
        futures = [asyncio.wrap_future(p.submit(n)) for n in range(4)]
        await asyncio.sleep(1.0)
        futures += [asyncio.wrap_future(p.submit(n)) for n in range(4, 8)]
        ended = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(each) for each in ended[:2]] == [ms.Stuck] * 2
        assert ended[2:] == [2, 3, 4, 5, 6, 7]
        assert calls == [[0, 1, 2, 3], [0, 1], [2, 3, 4, 5], [6, 7]]
        assert (p.stats.queued, p.stats.running, p._queues.core._untold) == (0, 0, 0)

    explore(main, SEEDS)


# Room


def test_what_finds_no_room_and_tries_again_was_not_refused():
    p = ms.DynamicBatcher(same, max_batch_size=1, max_queue_size=1)

    assert list(p.map(range(20))) == list(range(20))
    assert p.stats.refusals in ({}, {"full": 0})
    assert p.stats.refused == 0


def test_what_a_layout_calls_too_much_is_no_refusal_to_take_back():
    class Fussy:
        def lane(self, item):
            if item == 2:
                raise ms.Overloaded("too much")

        def join(self, items):
            return items

        def cut(self, result, items):
            return result

    p = ms.DynamicBatcher(same, layout=Fussy())
    zero, one, two = p.map(range(3), return_exceptions=True)

    assert (zero, one, str(two)) == (0, 1, "too much")
    assert p.stats.refused == 0


@both_gates
def test_room_is_given_to_those_who_wait_on_other_loops(make, gates):
    gate = gates(make)
    p = ms.DynamicBatcher(gate, max_batch_size=1, max_queue_size=1, overflow="wait")
    first = p.submit("first")
    gate.wait_entered(1)
    second = p.submit("second")

    async def main():
        asking = asyncio.gather(p.acall(1), p.acall(2))
        await asyncio.sleep(0)
        second.cancel()
        gate.open()
        return await asking

    assert run(main) == [1, 2]
    assert outcome(first) == "first"


def test_room_is_given_to_those_on_other_loops_when_a_queue_is_cleared():
    gate = AsyncGatedPredictor()
    p = ms.DynamicBatcher(gate, max_batch_size=1, max_queue_size=1, overflow="wait")

    async def ends():
        futures.append(p.submit("running"))
        await gate.await_entered(1)
        futures.append(p.submit("queued"))
        other.start()
        await asyncio.to_thread(waits.wait, LIMIT)

    async def stays():
        asking = asyncio.ensure_future(p.acall("guest"))
        await asyncio.sleep(0)
        waits.set()
        await gate.await_entered(2)
        gate.open()
        assert await asking == "guest"
        told.append("guest")

    futures, told, waits = [], [], threading.Event()
    other = threading.Thread(target=run, args=(stays,))
    run(ends)
    other.join(LIMIT)

    assert told == ["guest"]
    assert [type(outcome(future)) for future in futures] == [ms.Closed] * 2
