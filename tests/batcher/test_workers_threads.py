"""The threads of a batcher: how they start, and when they end."""

import gc
import threading
import weakref
from collections import deque
from contextvars import ContextVar

import pytest

import modelserve as ms
from modelserve.batcher._item import Item
from modelserve.batcher._workers import Place
from modelserve.predictor import ThreadSink
from modelserve.testing import FakeClock
from tests.batcher.asking import (
    LIMIT,
    ended,
    outcome,
    same,
    workers_of,
)


def test_threads_are_daemons_with_a_name_and_start_without_a_callers_variables():
    secret = ContextVar("secret", default="nobody's")
    secret.set("ann's")
    seen = []
    p = ms.DynamicBatcher(lambda xs: seen.append(secret.get()) or xs, name="own")

    assert p(1) == 1
    assert [(t.name, t.daemon) for t in workers_of(p)] == [("modelserve-own", True)]
    assert seen == ["nobody's"]


def test_threads_end_when_it_is_closed():
    p = ms.DynamicBatcher(same, name="closed")
    p(1)
    threads = workers_of(p)
    p.close(timeout=LIMIT)

    assert threads
    assert ended(threads)
    with p:
        assert p(2) == 2
        assert len(workers_of(p)) == 1


def test_threads_of_a_dropped_batcher_end():
    p = ms.DynamicBatcher(same, name="dropped")
    p(1)
    threads = workers_of(p)
    gone = weakref.ref(p)
    del p

    assert threads
    assert gone() is None
    assert ended(threads)


def test_threads_of_a_batcher_in_a_cycle_end_when_it_is_collected():
    class Model:
        @ms.batched(name="cyclic")
        def predict(self, xs):
            return xs

    model = Model()
    assert model.predict(1) == 1
    threads = workers_of(model.predict)
    gone = weakref.ref(model)
    del model
    gc.collect()

    assert threads
    assert gone() is None
    assert ended(threads)


def test_work_that_was_accepted_is_finished_though_the_batcher_is_dropped():
    assert outcome(ms.DynamicBatcher(same).submit(1)) == 1


def test_queued_work_is_finished_though_the_batcher_is_dropped(gate):
    p = ms.DynamicBatcher(gate, max_batch_size=1, name="dropped early")
    futures = [p.submit(n) for n in range(5)]
    gate.wait_entered(1)
    threads = workers_of(p)
    del p
    gate.open()

    assert [outcome(future) for future in futures] == list(range(5))
    assert ended(threads)


def test_a_parked_worker_that_was_called_finishes_though_the_batcher_is_dropped():
    for n in range(20):  # each may lose the race between the call and the drop
        p = ms.DynamicBatcher(same)
        p(0)
        future = p.submit(n)
        del p
        assert outcome(future) == n


def test_held_back_work_is_finished_though_the_batcher_is_dropped():
    clock = FakeClock()
    p = ms.DynamicBatcher(same, max_batch_size=2, max_wait=0.001, clock=clock)
    future = p.submit(1)
    del p
    clock.advance(0.001)

    assert outcome(future) == 1


@pytest.fixture
def no_new_threads():
    """Let no thread start: none can have so large a stack."""
    default = threading.stack_size()
    threading.stack_size(1 << 46)
    yield lambda: threading.stack_size(default)
    threading.stack_size(default)


def test_a_thread_that_cannot_start_is_an_error_and_no_hang(no_new_threads):
    p = ms.DynamicBatcher(same)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        p(1)
    no_new_threads()

    assert p(2) == 2
    p.close(timeout=LIMIT)


def test_a_second_thread_that_cannot_start_leaves_the_work_to_the_first(gate, request):
    p = ms.DynamicBatcher(gate, max_batch_size=1, workers=2)
    futures = [p.submit(0)]
    gate.wait_entered(1)
    again = request.getfixturevalue("no_new_threads")
    futures.append(p.submit(1))
    again()
    gate.open()

    assert [outcome(future) for future in futures] == [0, 1]


def test_those_who_left_are_dismissed_by_the_worker(gate):
    p = ms.DynamicBatcher(gate, max_batch_size=1)
    first, left = p.submit(0), p.submit(1)
    gate.wait_entered(1)
    assert left.cancel()
    gate.open()

    assert outcome(first) == 0
    p.close(timeout=LIMIT)
    assert gate.calls == [[0]]
    assert (p.stats.abandoned, p._queues.core._untold) == (1, 0)


# Pushed between two looks of the worker, without its lock


class Watched(deque):
    """What is staged; at one look that finds nothing, a caller comes just after it."""

    looks = 0

    def __len__(self):
        found = super().__len__()
        if not found:
            self.looks -= 1
            if self.looks == 0:
                self.comes()
        return found


@pytest.mark.parametrize("look", range(1, 5))
def test_nobody_is_left_who_came_between_two_looks_of_the_worker(look):
    p = ms.DynamicBatcher(same)
    workers, item = p._queues.workers, Item("late", ThreadSink(), None, 0.0, None)
    place = Place(workers)
    workers._alive, workers.idle = 1, False

    def comes():
        deque.append(workers.staged, item)
        if workers.idle:
            workers.attend()

    workers.staged = Watched()
    workers.staged.comes, workers.staged.looks = comes, look
    batch, _ = workers._take(place)

    came = workers.staged.looks <= 0
    assert not came or batch == [item] or not place.lock.locked()
    assert came or look > 2
