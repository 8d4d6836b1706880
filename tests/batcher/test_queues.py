import asyncio
import threading

import pytest

import modelserve as ms
from modelserve.testing import AsyncGatedPredictor, GatedPredictor
from tests.batcher.asking import (
    HOUR,
    LIMIT,
    as_async,
    both,
    both_gates,
    in_threads,
    one_batch,
    outcome,
    run,
    same,
    tenfold,
    workers_of,
)

# Several loops


@both
def test_threads_and_several_loops_at_once_get_their_own_answers(colour):
    p = ms.DynamicBatcher(colour(tenfold), max_batch_size=8)

    def on_a_loop(start):
        async def main():
            return await asyncio.gather(*map(p.acall, range(start, start + 100)))

        assert run(main) == [n * 10 for n in range(start, start + 100)]

    def on_a_thread(start):
        assert list(p.map(range(start, start + 100))) == [n * 10 for n in range(start, start + 100)]

    in_threads(
        *(lambda k=k: on_a_loop(1000 * k) for k in range(4)),
        *(lambda k=k: on_a_thread(1000 * k) for k in range(4, 8)),
    )
    assert (p.stats.calls, p.stats.items, p.stats.queued) == (800, 800, 0)
    p.close(timeout=LIMIT)


def test_each_loop_runs_its_own_calls():
    ran_on = {}

    async def predict(xs):
        ran_on.update((x, asyncio.get_running_loop()) for x in xs)
        return xs

    p = ms.DynamicBatcher(predict)

    def on_a_loop(x):
        async def main():
            return await p.acall(x), asyncio.get_running_loop()

        assert run(main) == (x, ran_on[x])

    in_threads(*(lambda x=x: on_a_loop(x) for x in range(3)))
    assert p("none of these") == "none of these"
    assert len(set(ran_on.values())) == 4


@both_gates
def test_the_bound_is_that_of_all_loops_together(make, gates):
    gate = gates(make)
    p = ms.DynamicBatcher(gate, max_batch_size=1, max_queue_size=2)
    futures = [p.submit(0)]
    gate.wait_entered(1)
    futures += [p.submit(1), p.submit(2)]

    async def main():
        with pytest.raises(ms.Overloaded, match="2 calls queued"):
            await p.acall(3)

    run(main)
    with pytest.raises(ms.Overloaded, match="2 calls queued"):
        p(3)
    assert (p.stats.queued, p.stats.refused) == (2, 2)
    gate.open()
    assert [outcome(future) for future in futures] == [0, 1, 2]


def test_a_loop_that_ended_does_not_keep_its_neighbours_waiting():
    gate = GatedPredictor()
    p = ms.DynamicBatcher(gate, max_batch_size=8)
    first = p.submit("first")
    gate.wait_entered(1)

    async def leave():
        asking = asyncio.gather(*map(p.acall, range(3)))
        await asyncio.sleep(0)
        gate.open_one()
        await gate.await_entered(2)
        asking.cancel()

    ended = threading.Thread(target=run, args=(leave,))
    neighbour = p.submit("neighbour")
    ended.start()
    ended.join(LIMIT)
    assert not ended.is_alive()
    gate.open()

    assert (outcome(first), outcome(neighbour)) == ("first", "neighbour")
    assert gate.calls == [["first"], ["neighbour", 0, 1, 2]]
    assert p("again") == "again"


# Closing


@both
def test_close_finishes_what_was_accepted(colour):
    p = ms.DynamicBatcher(colour(same), max_batch_size=2)
    futures = [p.submit(n) for n in range(20)]
    p.close(timeout=LIMIT)

    assert all(future.done() for future in futures)
    assert [outcome(future) for future in futures] == list(range(20))
    with pytest.raises(ms.Closed, match="open it again"):
        p(1)
    with pytest.raises(ms.Closed, match="open it again"):
        p.submit(1)


@both
def test_close_does_not_wait_for_company(colour):
    p = one_batch(colour(same), 9, max_wait=HOUR)
    futures = [p.submit(n) for n in range(3)]
    p.close(timeout=LIMIT)

    assert [outcome(future) for future in futures] == [0, 1, 2]
    assert p.stats.batches == 1


@both_gates
def test_close_without_drain_refuses_what_has_not_started(make, gates):
    gate = gates(make)
    p = ms.DynamicBatcher(gate, max_batch_size=1, name="rank")
    running, *queued = [p.submit(n) for n in range(3)]
    gate.wait_entered(1)
    closing = threading.Thread(target=p.close, kwargs={"drain": False, "timeout": LIMIT})
    closing.start()

    assert [type(outcome(future)) for future in queued] == [ms.Closed] * 2
    assert "'rank' was closed before it ran" in str(outcome(queued[0]))
    gate.open()
    closing.join(LIMIT)
    assert not closing.is_alive()
    assert outcome(running) == 0
    assert gate.calls == [[0]]


@both_gates
def test_close_gives_up_after_its_timeout(make, gates):
    gate = gates(make)
    p = ms.DynamicBatcher(gate, max_batch_size=1)
    running, queued = p.submit(0), p.submit(1)
    gate.wait_entered(1)
    p.close(timeout=0.001)

    assert isinstance(outcome(queued), ms.Closed)
    assert not running.done()
    gate.open()
    assert outcome(running) == 0


@both
def test_a_closed_batcher_opens_again(colour):
    p = ms.DynamicBatcher(colour(same), name="again")
    with p:
        assert p(1) == 1
    p.close()
    with p:
        assert p(2) == 2
        assert len(workers_of(p)) <= 1
    with pytest.raises(ms.Closed):
        p(3)


@both_gates
def test_aclose_finishes_what_was_accepted_on_its_own_loop(make, gates):
    gate = gates(make)

    async def main():
        p = ms.DynamicBatcher(gate, max_batch_size=2)
        asking = asyncio.gather(*map(p.acall, range(5)))
        await gate.await_entered(1)
        closing = asyncio.create_task(p.aclose(timeout=LIMIT))
        await asyncio.sleep(0)
        with pytest.raises(ms.Closed):
            await p.acall(5)
        gate.open()
        await closing
        assert await asking == list(range(5))

    run(main)


@both_gates
def test_aclose_gives_up_after_its_timeout(make, gates):
    gate = gates(make)

    async def main():
        p = ms.DynamicBatcher(gate, max_batch_size=1)
        running, queued = p.submit(0), p.submit(1)
        await gate.await_entered(1)
        await p.aclose(timeout=0.001)
        gate.open()
        return await asyncio.wrap_future(running), queued

    running, queued = run(main)
    assert running == 0
    assert isinstance(outcome(queued), ms.Closed)


def test_close_on_the_loop_that_has_the_work_says_aclose_and_closes_nothing():
    gate = AsyncGatedPredictor()

    async def main():
        p = ms.DynamicBatcher(gate, max_batch_size=1, name="rank")
        asking = asyncio.gather(*map(p.acall, range(3)))
        await gate.await_entered(1)
        with pytest.raises(
            RuntimeError, match=r"has work on the event loop .* `await p.aclose\(\)`"
        ):
            p.close()
        gate.open()
        assert await asking == [0, 1, 2]
        assert await p.acall(3) == 3
        p.close(timeout=LIMIT)
        with pytest.raises(ms.Closed):
            await p.acall(4)

    run(main)


def test_close_on_a_loop_says_aclose_before_the_work_has_begun():
    async def main():
        p = ms.DynamicBatcher(as_async(same))
        future = p.submit(1)
        with pytest.raises(RuntimeError, match="aclose"):
            p.close()
        await p.aclose(timeout=LIMIT)
        return future

    assert outcome(run(main)) == 1


def test_a_sync_batcher_is_closed_on_a_loop_at_once():
    async def main():
        p = ms.DynamicBatcher(same)
        asking = asyncio.gather(*map(p.acall, range(5)))
        await asyncio.sleep(0)
        p.close(timeout=LIMIT)
        return await asking

    assert run(main) == list(range(5))


def test_close_from_elsewhere_finishes_the_work_of_a_loop():
    gate = AsyncGatedPredictor()
    p = ms.DynamicBatcher(gate, max_batch_size=1)
    answers = []

    async def main():
        answers.extend(await asyncio.gather(*map(p.acall, range(3))))

    on_loop = threading.Thread(target=run, args=(main,))
    on_loop.start()
    gate.wait_entered(1)
    closing = threading.Thread(target=p.close, kwargs={"timeout": LIMIT})
    closing.start()
    gate.open()
    for thread in (on_loop, closing):
        thread.join(LIMIT)
        assert not thread.is_alive()

    assert answers == [0, 1, 2]


def test_a_loop_closed_by_hand_without_work_is_forgotten_silently():
    p = ms.DynamicBatcher(as_async(same))
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(p.acall(1)) == 1
    loop.close()

    assert p(2) == 2
    assert loop not in p._queues.loops
    p.close(timeout=LIMIT)


def test_close_is_not_held_up_by_a_loop_that_was_closed():
    p = ms.DynamicBatcher(as_async(same))
    assert run(lambda: p.acall(1)) == 1
    assert len(p._queues.loops) == 1
    p.close(timeout=LIMIT)

    assert p._queues.loops == {}
