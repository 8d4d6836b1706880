"""Where the queue has no room: refused, or waited for with ``overflow="wait"``."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import modelserve as ms
from modelserve.testing import AsyncGatedPredictor, GatedPredictor
from tests.batcher.asking import (
    LIMIT,
    both,
    both_gates,
    in_threads,
    outcome,
    run,
    taken,
    tenfold,
)
from tests.support.virtual import explore, here

SEEDS = range(20)


def waiting(gate, **options):
    """Make a batcher with a call at the gate, one queued, and no room for more."""
    options = {"max_batch_size": 1, "max_queue_size": 1, "overflow": "wait", **options}
    p = ms.DynamicBatcher(gate, name="rank", **options)
    futures = [p.submit("running")]
    gate.wait_entered(1)
    return p, [*futures, p.submit("queued")]


def start(call, *args):
    """Call on a thread of its own."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(call, *args)
    pool.shutdown(wait=False)
    return future


# Waiting for room


@both
def test_callers_on_threads_wait_for_room_and_get_their_own_answers(colour):
    p = ms.DynamicBatcher(
        colour(tenfold), max_batch_size=2, max_queue_size=3, overflow="wait", workers=2
    )

    def ask(face, begin):
        xs = range(begin, begin + 50)
        assert list(face(xs)) == tenfold(xs)

    def submitted(xs):
        return [future.result(LIMIT) for future in [p.submit(x) for x in xs]]

    def called(xs):
        return map(p, xs)

    faces = [called, submitted, p.map] * 4
    in_threads(*(lambda n=n, face=face: ask(face, 100 * n) for n, face in enumerate(faces)))
    assert (p.stats.calls, p.stats.items, p.stats.refused) == (600, 600, 0)
    p.close(timeout=LIMIT)


def test_tasks_wait_for_room_and_get_their_own_answers():
    async def predict(xs):
        await asyncio.sleep(1.0)
        assert p.stats.queued <= 20
        return tenfold(xs)

    async def main():
        nonlocal p
        p = ms.DynamicBatcher(
            predict, max_batch_size=2, max_queue_size=2, overflow="wait", clock=here().time
        )
        answers = asyncio.gather(*map(p.acall, range(10)), taken(p.amap(range(10, 20))))
        *alone, mapped = await answers
        assert alone + mapped == tenfold(range(20))
        assert (p.stats.calls, p.stats.refused, p.stats.queued) == (20, 0, 0)

    p = None
    explore(main, SEEDS)


def test_who_waits_for_room_is_served_in_turn():
    async def main():
        order = []

        async def predict(xs):
            order.extend(xs)
            await asyncio.sleep(1.0)
            return xs

        p = ms.DynamicBatcher(
            predict, max_batch_size=1, max_queue_size=1, overflow="wait", clock=here().time
        )

        async def ask(x):
            await asyncio.sleep(x / 100)
            return await p.acall(x)

        await asyncio.gather(*map(ask, range(8)))
        assert order == list(range(8))

    explore(main, SEEDS)


@both_gates
def test_those_who_wait_for_room_are_shown_as_queued_but_not_yet_accepted(make, gates):
    gate = gates(make)
    p, futures = waiting(gate)

    async def main():
        asking = asyncio.gather(p.acall(1), p.acall(2))
        await asyncio.sleep(0)
        assert (p.stats.queued, p.stats.calls) == (3, 2)
        gate.open()
        assert await asking == [1, 2]

    run(main)
    assert [outcome(future) for future in futures] == ["running", "queued"]
    assert (p.stats.queued, p.stats.calls, p.stats.refused) == (0, 4, 0)


@both_gates
def test_submit_returns_when_there_is_room(make, gates):
    gate = gates(make)
    p, futures = waiting(gate)

    def submit():
        future = p.submit("third")
        assert gate.entered >= 2, "there was no room before the second call began"
        return future

    third = start(submit)
    with ms.request(timeout=0.001), pytest.raises(ms.DeadlineExceeded):
        p("another")
    gate.open_one()
    futures.append(third.result(LIMIT))
    gate.open()

    assert [outcome(future) for future in futures] == ["running", "queued", "third"]


@both_gates
def test_who_is_late_while_waiting_for_room_is_let_go_and_never_runs(make, gates):
    gate = gates(make)
    p, futures = waiting(gate)
    for face in (p, p.submit):
        with (
            ms.request(timeout=0.001),
            pytest.raises(ms.DeadlineExceeded, match="waiting for 'rank'"),
        ):
            face("late")

    async def main():
        with ms.request(timeout=0.001):
            await p.acall("late")

    with pytest.raises(ms.DeadlineExceeded, match="waiting for 'rank'"):
        run(main)
    gate.open()
    assert [outcome(future) for future in futures] == ["running", "queued"]
    assert p("after") == "after"
    assert gate.calls == [["running"], ["queued"], ["after"]]
    assert p.stats.expired + p.stats.abandoned == 3


@both_gates
def test_who_left_while_waiting_for_room_never_runs(make, gates):
    gate = gates(make)
    p, futures = waiting(gate)

    async def main():
        left, stays = asyncio.ensure_future(p.acall("left")), asyncio.ensure_future(p.acall("b"))
        await asyncio.sleep(0)
        left.cancel()
        gate.open()
        return await stays

    assert run(main) == "b"
    assert [outcome(future) for future in futures] == ["running", "queued"]
    p.close(timeout=LIMIT)
    assert gate.calls == [["running"], ["queued"], ["b"]]
    assert p.stats.abandoned == 1


@both_gates
def test_those_who_wait_for_room_get_that_of_all_who_left_the_queue(make, gates):
    gate = gates(make)
    p, (first, queued) = waiting(gate)

    async def main():
        third = asyncio.ensure_future(p.acall("third"))
        await asyncio.sleep(0)
        queued.cancel()
        gate.open()
        return await third

    assert run(main) == "third"
    assert outcome(first) == "running"
    p.close(timeout=LIMIT)
    assert gate.calls == [["running"], ["third"]]


@pytest.mark.parametrize("drain", [True, False])
def test_close_answers_those_who_wait_for_the_room_of_all_who_left_the_queue(drain, gates):
    gate = gates(GatedPredictor)
    p, (first, queued) = waiting(gate)

    async def main():
        third = asyncio.ensure_future(p.acall("third"))
        await asyncio.sleep(0)
        queued.cancel()
        closing = asyncio.ensure_future(p.aclose(drain=drain, timeout=LIMIT))
        await asyncio.sleep(0)
        gate.open()
        await closing
        return await asyncio.gather(third, return_exceptions=True)

    [third] = run(main)
    assert third == "third" if drain else isinstance(third, ms.Closed)
    assert outcome(first) == "running"


# Closing


@both_gates
def test_close_finishes_the_work_of_those_who_waited_for_room(make, gates):
    gate = gates(make)
    p, futures = waiting(gate)

    async def main():
        asking = asyncio.gather(p.acall(1), p.acall(2))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(p.aclose(timeout=LIMIT))
        await asyncio.sleep(0)
        with pytest.raises(ms.Closed):
            await p.acall(3)
        gate.open()
        await closing
        return await asking

    assert run(main) == [1, 2]
    assert [outcome(future) for future in futures] == ["running", "queued"]


@both_gates
def test_close_without_drain_refuses_those_who_waited_for_room(make, gates):
    gate = gates(make)
    p, futures = waiting(gate)
    third = start(p.submit, "third")

    async def main():
        asking = asyncio.gather(p.acall(1), p.acall(2), return_exceptions=True)
        await asyncio.sleep(0)
        await p.aclose(drain=False, timeout=0.001)
        return await asking

    errors = run(main)
    gate.open()

    assert [type(error) for error in errors] == [ms.Closed] * 2
    assert isinstance(outcome(futures[1]), ms.Closed)
    assert isinstance(third.exception(LIMIT) or outcome(third.result()), ms.Closed)
    assert outcome(futures[0]) == "running"
    assert p._queues.core._untold == 0


# Several loops


def test_room_made_on_one_loop_is_given_to_those_who_wait_on_another():
    gate = AsyncGatedPredictor()
    p = ms.DynamicBatcher(gate, max_batch_size=1, max_queue_size=1, overflow="wait")
    waits, answers = threading.Event(), []

    async def first():
        asking = asyncio.gather(*map(p.acall, range(2)))
        await gate.await_entered(1)
        other.start()
        await asyncio.to_thread(waits.wait, LIMIT)
        gate.open()
        answers.extend(await asking)

    async def second():
        asking = asyncio.gather(*map(p.acall, range(2, 4)))
        await asyncio.sleep(0)
        assert p.stats.queued == 3
        waits.set()
        answers.extend(await asking)

    other = threading.Thread(target=run, args=(second,))
    run(first)
    other.join(LIMIT)

    assert not other.is_alive()
    assert sorted(answers) == [0, 1, 2, 3]


def test_room_made_by_a_loop_that_ends_is_given_to_those_who_wait_on_another():
    gate = AsyncGatedPredictor(name="gated")
    p = ms.DynamicBatcher(gate, max_batch_size=1, max_queue_size=1, overflow="wait")
    waits, answers, queued = threading.Event(), [], []

    async def first():
        queued.append(p.submit(0))
        await gate.await_entered(1)
        queued.append(p.submit(1))
        other.start()
        await asyncio.to_thread(waits.wait, LIMIT)  # and then it ends, with all its work

    async def second():
        asking = asyncio.ensure_future(p.acall("other"))
        await asyncio.sleep(0)
        waits.set()
        await gate.await_entered(2)
        gate.open()
        answers.append(await asking)

    other = threading.Thread(target=run, args=(second,))
    run(first)
    other.join(LIMIT)

    assert answers == ["other"]
    assert [type(outcome(future)) for future in queued] == [ms.Closed] * 2


# Maps


def test_a_map_that_waits_for_its_own_answers_was_not_refused():
    p = ms.DynamicBatcher(tenfold, max_batch_size=2, max_queue_size=1)

    assert list(p.map(range(50))) == tenfold(range(50))
    assert run(lambda: taken(p.amap(range(50)))) == tenfold(range(50))
    assert (p.stats.refused, p.stats.calls) == (0, 100)


def test_submit_on_a_loop_is_refused_instead_of_blocking_it():
    async def main():
        p = ms.DynamicBatcher(AsyncGatedPredictor(), max_queue_size=1, overflow="wait")
        p.submit("queued")
        with ms.request(timeout=0.001), pytest.raises(ms.Overloaded):
            p.submit("no room")

    run(main)
