"""What happens between two steps of one thread, by the hand of another."""

import asyncio
import os
import threading

import pytest

import modelserve as ms
from modelserve.batcher import _watch
from modelserve.batcher._runs import Runs
from modelserve.testing import FakeClock
from tests.batcher.asking import HOUR, LIMIT, as_async, in_threads, outcome, run, same
from tests.support.processes import in_child


def spin(until):
    """Wait for another thread, without sleep; the fixture no_hang limits it."""
    while not until():
        pass


def of_tenant(p):
    with ms.request(tenant="acme"):
        p.submit("special")


def refused(p):
    with pytest.raises(ms.Overloaded):
        p.submit("too many")


@pytest.mark.parametrize(
    ("other", "options"),
    [(of_tenant, {"max_wait": 0.001}), (refused, {"max_queue_size": 1})],
)
def test_who_was_staged_is_seen_to_by_whoever_puts_it_into_a_lane(other, options):
    p = ms.DynamicBatcher(same, **options)
    assert p("first") == "first"
    workers = p._queues.workers
    spin(lambda: workers._parked)
    attend = workers.attend

    def attend_later():
        del workers.attend
        in_threads(lambda: other(p))
        attend()

    workers.attend = attend_later
    assert outcome(p.submit("between")) == "between"


def test_who_fills_a_lane_from_another_thread_ends_its_hold():
    async def main():
        p = ms.DynamicBatcher(as_async(same), max_batch_size=2, max_wait=HOUR, clock=FakeClock())
        held = asyncio.create_task(p.acall("held"))
        await asyncio.sleep(0)
        queue = p._queues.loops[asyncio.get_running_loop()]
        attend, queue.attend = queue.attend, lambda: None
        staged = asyncio.create_task(p.acall("staged"))
        await asyncio.sleep(0)
        queue.attend = attend
        large = asyncio.create_task(p.acall(bytes(100_000)))
        assert await asyncio.gather(held, staged) == ["held", "staged"]
        large.cancel()

    run(main)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_a_fork_while_another_thread_holds_the_lock_harms_no_child():
    p = ms.DynamicBatcher(as_async(same))
    assert p(1) == 1
    held, go = threading.Event(), threading.Event()

    def hold():
        with p._queues.core.lock:
            held.set()
            go.wait(LIMIT)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert held.wait(LIMIT)
    try:
        assert in_child(lambda: p(2)) == "2"
    finally:
        go.set()


def test_who_was_put_back_while_the_batcher_closed_is_run(monkeypatch):
    gate = threading.Event()

    def predict(xs):
        if len(xs) > 1:
            raise ValueError("poison")
        if xs == [1]:
            gate.wait(LIMIT)
        return xs

    p = ms.DynamicBatcher(predict, max_run=0.01)
    workers, closing = p._queues.workers, threading.Thread(target=p.close, daemon=True)
    abandon = Runs.abandon

    def abandon_and_return(runs, since, failure):
        left = abandon(runs, since, failure)
        if left:
            closing.start()
            spin(lambda: p._queues.core.closing)
            gate.set()
            spin(lambda: not workers._alive)  # the call came back after all, and its thread ended
        return left

    monkeypatch.setattr(Runs, "abandon", abandon_and_return)
    with p._queues.core.lock:
        workers._alive = 1  # nobody starts until both are there
        futures = [p.submit(1), p.submit(2)]
        workers._alive, workers.idle = 0, True
    workers.attend()

    assert isinstance(outcome(futures[0]), ms.Stuck)
    assert outcome(futures[1]) == 2
    closing.join(LIMIT)
    assert not closing.is_alive()


def test_a_batch_that_cannot_be_watched_fails_instead_of_hanging(monkeypatch):
    def broken():
        raise RuntimeError("can't start new thread")

    p = ms.DynamicBatcher(same, max_run=1.0)
    with monkeypatch.context() as patch:
        patch.setattr(_watch, "background_loop", broken)
        assert isinstance(outcome(p.submit(1)), RuntimeError)

    assert (p.stats.running, p._queues.core._untold) == (0, 0)
    assert p(2) == 2


class Measured:
    """A layout that pads, until it breaks."""

    breaks = False

    def lane(self, item):
        return None

    def length(self, item):
        return 1

    def padded(self, length):
        if self.breaks:
            raise ValueError("no such length")
        return 1

    def join(self, items):
        return items

    def cut(self, result, items):
        return result


def test_a_layout_that_breaks_while_a_run_begins_fails_its_callers():
    layout = Measured()
    p = ms.DynamicBatcher(same, layout=layout, slo=HOUR)
    assert p(1) == 1
    layout.breaks = True

    assert isinstance(outcome(p.submit(2)), RuntimeError)
    assert p.stats.running == 0
