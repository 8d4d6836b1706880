"""Opening, closing and forking a batcher, and what it shows meanwhile."""

import asyncio
import os
import threading

import pytest

import modelserve as ms
from modelserve.batcher._watch import MOST
from modelserve.testing import FakeClock, GatedPredictor
from tests.batcher.asking import LIMIT, both, both_gates, one_batch, outcome, run, same, tenfold
from tests.support.processes import in_child

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="a system that forks")


@both
def test_it_is_opened_and_closed_again_and_again(colour):
    p = ms.DynamicBatcher(colour(tenfold), name="again")
    for n in range(3):
        with p:
            assert p(n) == 10 * n
        with pytest.raises(ms.Closed, match="'again' is closed: open it again"):
            p(n)

    assert p.stats.calls == 3


@both
def test_it_is_opened_and_closed_on_a_loop(colour):
    p = ms.DynamicBatcher(colour(tenfold))

    async def main():
        for n in range(3):
            async with p:
                assert await p.acall(n) == 10 * n
            with pytest.raises(ms.Closed):
                await p.acall(n)
        return p.stats.calls

    assert run(main) == 3


@both_gates
def test_close_gives_up_after_its_timeout_and_tells_those_who_are_queued(make, gates):
    gate = gates(make)
    p = ms.DynamicBatcher(gate, max_batch_size=1)
    running, queued = p.submit(0), p.submit(1)
    gate.wait_entered(1)
    p.close(timeout=0.001)

    assert isinstance(outcome(queued), ms.Closed)
    gate.open()
    assert outcome(running) == 0


@both_gates
def test_aclose_gives_up_after_its_timeout_and_tells_those_who_are_queued(make, gates):
    gate = gates(make)

    async def main():
        p = ms.DynamicBatcher(gate, max_batch_size=1)
        running = asyncio.ensure_future(p.acall(0))
        await gate.await_entered(1)
        queued = asyncio.ensure_future(p.acall(1))
        await asyncio.sleep(0)
        await p.aclose(timeout=0.001)
        with pytest.raises(ms.Closed):
            await queued
        gate.open()
        return await running

    assert run(main) == 0


@both
def test_close_waits_for_what_is_run_again(colour):
    calls = []

    def fails(xs):
        calls.append(list(xs))
        if len(xs) > 1:
            raise ValueError("together")
        return xs

    p = one_batch(colour(fails), 9)
    futures = [p.submit(n) for n in range(5)]
    p.close(timeout=LIMIT)

    assert [outcome(future) for future in futures] == list(range(5))
    assert len(calls) == 9
    assert p.stats.releases == {"drain": 1}


@forks
@both
def test_a_child_begins_anew_and_leaves_the_work_of_its_parent_alone(colour, gates):
    gate = gates(GatedPredictor)

    def predict(xs):
        return gate(xs) if "parent's" in xs else xs

    p = ms.DynamicBatcher(colour(predict) if colour.__name__ == "as_is" else predict)
    running, queued = p.submit("parent's"), p.submit("parent's too")
    gate.wait_entered(1)

    def work():
        return p("child's"), p.stats.calls, p.stats.queued

    assert in_child(work) == '("child\'s", 1, 0)'
    gate.open()
    assert [outcome(running), outcome(queued)] == ["parent's", "parent's too"]
    assert p.stats.calls == 2


@forks
@both
def test_a_child_serves_with_its_own_threads_and_loops(colour):
    p = ms.DynamicBatcher(colour(tenfold), max_batch_size=4)
    assert list(p.map(range(8))) == tenfold(range(8))

    def work():
        return list(p.map(range(3))), run(lambda: p.acall(3)), threading.active_count() < 5

    assert in_child(work) == "([0, 10, 20], 30, True)"
    assert p(5) == 50


@forks
def test_what_was_closed_is_closed_in_a_child_until_it_is_opened():
    p = ms.DynamicBatcher(tenfold)
    assert p(1) == 10
    p.close(timeout=LIMIT)

    def work():
        try:
            p(2)
        except ms.Closed:
            with p:
                return p(3)

    assert in_child(work) == "30"


# What it shows


def test_its_health_tells_that_batches_take_too_much_memory():
    def greedy(xs):
        if len(xs) > 2:
            raise MemoryError
        return xs

    p = one_batch(greedy, 4, name="rank")
    assert [outcome(future) for future in [p.submit(n) for n in range(4)]] == [0, 1, 2, 3]

    assert p.health() == ("degraded", "out of memory with more than 2 together")
    p.close(timeout=LIMIT)
    assert p.health().state == "closed"
    with p:
        assert p.health() == ("ready", "")


def test_its_health_tells_that_too_many_calls_hang(gates):
    gate, clock = gates(lambda: GatedPredictor(name="model")), FakeClock()
    p = ms.DynamicBatcher(gate, max_batch_size=1, workers=MOST, max_run=0.001, clock=clock)
    futures = [p.submit(n) for n in range(MOST)]
    gate.wait_entered(MOST)
    clock.advance(1.0)
    assert {type(outcome(future)) for future in futures} == {ms.Stuck}
    with pytest.raises(ms.Stuck, match="16 calls of 'model' hang"):
        p("more")

    assert p.health() == ("failed", "16 calls of 'model' hang: no more are made")


def test_what_batches_cost_is_a_copy_of_what_was_learned():
    p = ms.DynamicBatcher(same)
    p(1)
    costs = p.costs()
    assert costs.batches == 1
    costs.observe(1, 1.0)

    assert p.costs().batches == 1


@both_gates
def test_submit_waits_for_room_if_told_to(make, gates):
    gate = gates(make)
    p = ms.DynamicBatcher(gate, max_batch_size=1, max_queue_size=1, overflow="wait")
    futures = [p.submit(0)]
    gate.wait_entered(1)
    futures.append(p.submit(1))
    with ms.request(timeout=0.001), pytest.raises(ms.DeadlineExceeded):
        p.submit("late")
    gate.open()
    futures += [p.submit(n) for n in range(2, 9)]

    assert [outcome(future) for future in futures] == list(range(9))
    assert gate.calls == [[n] for n in range(9)]


def test_submit_on_a_loop_does_not_wait_for_room(gates):
    gate = gates(GatedPredictor)
    p = ms.DynamicBatcher(gate, max_queue_size=1, max_batch_size=1, overflow="wait")

    async def main():
        running = p.submit("running")
        await gate.await_entered(1)
        queued = p.submit("queued")
        with pytest.raises(ms.Overloaded):
            p.submit("no room")
        waits = asyncio.ensure_future(p.acall("waits"))
        await asyncio.sleep(0)
        gate.open()
        assert await waits == "waits"
        return running, queued

    assert [outcome(future) for future in run(main)] == ["running", "queued"]
    assert p.stats.refusals == {"full": 1}
