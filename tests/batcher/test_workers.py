import gc
import math
import threading
import weakref
from contextvars import ContextVar

import pytest

import modelserve as ms
from modelserve.batcher._core import Core, Settings
from modelserve.batcher._layout import Stack
from modelserve.batcher._workers import Place, Workers
from modelserve.testing import FakeClock, GatedPredictor
from tests.batcher.asking import (
    HOUR,
    LIMIT,
    in_threads,
    one_batch,
    outcome,
    same,
    tenfold,
    together,
    workers_of,
)


@pytest.fixture
def gate():
    gate = GatedPredictor()
    yield gate
    gate.open()


def sizes(gate):
    return [len(batch) for batch in gate.calls]


def ended(threads):
    for thread in threads:
        thread.join(LIMIT)
    return not any(thread.is_alive() for thread in threads)


# Just in time


def test_a_lone_request_runs_alone_at_once():
    calls = []
    p = ms.DynamicBatcher(lambda xs: calls.append(xs) or xs, max_batch_size=64)

    assert [p(1), p(2)] == [1, 2]
    assert calls == [[1], [2]]


def test_callers_accumulate_while_the_worker_is_busy(gate):
    p = ms.DynamicBatcher(gate, max_batch_size=4)
    futures = [p.submit(0)]
    gate.wait_entered(1)
    futures += [p.submit(n) for n in range(1, 11)]
    gate.open()

    assert [outcome(future) for future in futures] == list(range(11))
    assert gate.calls == [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]


def test_other_lanes_run_in_batches_of_their_own(gate):
    p = ms.DynamicBatcher(gate, max_batch_size=4)
    first = p.submit((0,))
    gate.wait_entered(1)
    layout = Stack()
    items = [dict.fromkeys("ab", n) if n % 2 else "text" for n in range(6)]
    assert {layout.lane(item) for item in items} == {None}
    futures = [p.submit(item) for item in items]
    gate.open()

    assert outcome(first) == (0,)
    assert [outcome(future) for future in futures] == items


def test_a_held_back_worker_runs_when_the_batch_is_full():
    p = one_batch(same, 3)
    held = [p.submit(1), p.submit(2)]

    assert p.stats.queued == 2
    full = p.submit(3)
    assert [outcome(future) for future in [*held, full]] == [1, 2, 3]
    assert (p.stats.batches, p.stats.queued) == (1, 0)


def test_a_held_back_worker_runs_when_the_oldest_item_has_waited_long_enough():
    clock = FakeClock()
    calls = []
    p = ms.DynamicBatcher(
        lambda xs: calls.append(xs) or xs, max_wait=0.001, max_batch_size=9, clock=clock
    )
    futures = [p.submit(1), p.submit(2)]
    clock.advance(0.001)

    assert [outcome(future) for future in futures] == [1, 2]
    assert calls == [[1, 2]]


def test_a_wait_longer_than_any_lock_can_is_no_error():
    assert together(same, range(2), max_wait=1e12) == [0, 1]


# Several workers


def test_at_most_so_many_batches_run_at_once(gate):
    p = ms.DynamicBatcher(gate, max_batch_size=1, workers=3, name="three")
    futures = [p.submit(n) for n in range(8)]
    gate.wait_entered(3)

    assert (gate.peak, len(workers_of(p)), p.stats.queued) == (3, 3, 5)
    gate.open()
    assert [outcome(future) for future in futures] == list(range(8))
    assert gate.peak == 3


def test_workers_are_started_only_when_all_are_busy(gate):
    p = ms.DynamicBatcher(gate, workers=3, name="lazy")
    assert workers_of(p) == []
    futures = [p.submit(0)]
    gate.wait_entered(1)
    assert len(workers_of(p)) == 1
    futures.append(p.submit(1))
    gate.wait_entered(2)
    assert len(workers_of(p)) == 2
    gate.open()

    assert [outcome(future) for future in futures] == [0, 1]


def by_kind(kind, n):
    return {"kind": kind, "n": n}


class Kinds:
    """A layout of lanes by the kind of an item."""

    def lane(self, item):
        return item["kind"]

    def join(self, items):
        return items

    def cut(self, result, n):
        return result


@pytest.mark.parametrize("spare", ["parked", "not started"])
def test_a_spare_worker_looks_after_what_another_leaves(gate, spare):
    clock = FakeClock()
    p = ms.DynamicBatcher(
        gate, max_batch_size=2, max_wait=0.001, workers=2, clock=clock, layout=Kinds()
    )
    futures = []
    if spare == "parked":
        futures = [p.submit(by_kind(lane, n)) for lane in "xy" for n in range(2)]
        gate.wait_entered(2)
        gate.open()
        assert [outcome(future) for future in futures]
        gate.close()
    entered = gate.entered
    futures += [p.submit(by_kind("a", 1)), p.submit(by_kind("b", 1)), p.submit(by_kind("a", 2))]
    gate.wait_entered(entered + 1)
    clock.advance(0.001)
    gate.wait_entered(entered + 2)  # while the first one is still at the gate

    assert gate.calls[-1] == [by_kind("b", 1)]
    gate.open()
    assert [outcome(future) for future in futures[-3:]] == [
        by_kind("a", 1),
        by_kind("b", 1),
        by_kind("a", 2),
    ]


# A call that comes just when a wait has timed out


def parts(workers=1):
    settings = Settings(
        name="parts",
        max_batch_size=2,
        max_wait=HOUR,
        max_queue_size=8,
        workers=workers,
        layout=Stack(),
        isolate=True,
        clock=FakeClock(),
        on_event=None,
    )
    return Workers(Core(settings, ms.predictor(same)))


def test_a_worker_that_was_called_after_its_time_out_is_called_once():
    workers = parts()
    place = Place(workers)
    place.lock.acquire()
    workers._take(place)
    assert workers._parked == [place]
    assert not workers._call()

    assert workers._take(place) == ([], float("inf"))
    assert place.lock.locked()
    assert place.workers is None
    assert workers._parked == [place]


def test_a_worker_whose_wait_timed_out_is_parked_once():
    workers = parts()
    place = Place(workers)
    place.lock.acquire()
    workers._take(place)
    workers._take(place)

    assert workers._parked == [place]


# Threads


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


# Many at once


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("max_wait", [0.0, 0.001])
def test_threads_get_their_own_answers(workers, max_wait):
    p = ms.DynamicBatcher(tenfold, max_batch_size=8, workers=workers, max_wait=max_wait)

    def ask(start):
        assert [p(n) for n in range(start, start + 50)] == [
            n * 10 for n in range(start, start + 50)
        ]

    in_threads(*(lambda k=k: ask(1000 * k) for k in range(16)))
    assert (p.stats.calls, p.stats.items, p.stats.queued) == (800, 800, 0)
    assert p.stats.mean_batch_size <= 8
    p.close(timeout=LIMIT)


class ClockThatBreaks:
    """A clock that fails at one of its calls."""

    def __init__(self):
        self.fails_in = math.inf

    def __call__(self):
        self.fails_in -= 1
        if not self.fails_in:
            raise OSError("the clock is broken")
        return 0.0


def test_a_clock_that_breaks_ends_no_call_in_silence_and_no_batcher():
    clock = ClockThatBreaks()
    batcher = ms.DynamicBatcher(same, clock=clock, name="timed")
    assert batcher("first") == "first"
    clock.fails_in = 2  # the caller looks once, the worker then
    with pytest.raises(RuntimeError, match="'timed' could not finish a batch") as caught:
        batcher("second")
    assert isinstance(caught.value.__cause__, OSError)
    assert batcher("third") == "third"
    assert batcher.stats.queued == 0
