import math
from concurrent.futures import Future

import pytest

import modelserve as ms
from modelserve.batcher._core import Core
from modelserve.batcher._layout import Stack
from modelserve.batcher._workers import Place, Workers
from modelserve.predictor import ThreadSink
from modelserve.testing import FakeClock
from tests.batcher.asking import (
    LIMIT,
    ended,
    in_threads,
    one_batch,
    outcome,
    same,
    tenfold,
    together,
    workers_of,
)

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


def parts(**options):
    settings = one_batch(same, 2, name="parts", **options)._settings
    return Workers(Core(settings, ms.predictor(same)))


def test_a_worker_that_was_called_after_its_time_out_is_called_once():
    workers = parts()
    place = Place(workers)
    place.lock.acquire()
    workers._take(place)
    assert workers._parked == [place]
    assert not workers._call()

    assert workers._take(place) == (None, float("inf"))
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


def test_a_parked_worker_is_called_for_what_another_leaves():
    workers = parts(workers=2, max_wait=0.0)
    first, second = places = Place(workers), Place(workers)
    for place in places:
        place.lock.acquire()
        workers._alive += 1
        workers._take(place)
    stage(workers, "a", "b", "a")

    assert workers._take(first)[0].lanes == ("a", "a")
    assert not second.lock.locked()


def held_back(lanes):
    """Return workers of whom one is held back, for calls of these lanes."""
    workers = parts(max_wait=60.0, clock=FakeClock())
    place = Place(workers)
    place.lock.acquire()
    workers._alive = 1
    stage(workers, *lanes)
    assert workers._take(place) == (None, 60.0)
    return workers, place


def stage(workers, *lanes):
    for lane in lanes:
        workers.staged.append(("x", ThreadSink(), None, 0.0, lane, None, math.inf))


def test_a_worker_that_is_held_back_is_called_when_a_batch_is_full_and_not_before():
    workers, place = held_back("a")
    workers.attend()
    assert place.lock.locked()
    stage(workers, "a")
    workers.attend()

    assert not place.lock.locked()
    place.lock.acquire()
    assert workers._take(place)[0].lanes == ("a", "a")


def test_a_worker_that_is_held_back_is_called_when_one_of_many_lanes_is_full():
    workers, place = held_back("a")
    workers.core.door.stage(workers, busy=False)
    stage(workers, "b")
    workers.attend()
    assert place.lock.locked()
    stage(workers, "a")
    workers.attend()

    assert not place.lock.locked()
    place.lock.acquire()
    assert workers._take(place)[0].lanes == ("a", "a")


def test_what_fills_a_lane_just_when_a_worker_is_held_back_for_it_is_run():
    workers = parts(max_wait=60.0, clock=FakeClock())
    place = Place(workers)
    place.lock.acquire()
    workers._alive = 1
    stage(workers, "a")
    workers.core.door.stage(workers, busy=False)
    wait = workers.lanes.wait
    workers.lanes.wait = lambda now: [wait(now), stage(workers, "a")][0]

    assert workers._take(place) == (None, 60.0)
    assert not place.lock.locked()


def test_what_fills_a_batch_just_when_a_worker_is_held_back_is_run():
    workers = parts(max_wait=60.0, clock=FakeClock())
    hold = workers.lanes.hold
    workers.lanes.hold = lambda *asked: stage(workers, "a") or hold(*asked)
    place = Place(workers)
    place.lock.acquire()
    workers._alive = 1
    stage(workers, "a")
    batch, pause = workers._take(place)

    assert (batch, pause) == (None, 60.0)
    assert not place.lock.locked()


def test_what_was_staged_while_a_worker_was_about_to_park_is_run():
    """Whoever stages an item without the lock has seen that somebody was busy."""
    looks, late = [], Future()

    def clock():
        looks.append("a look at the clock")
        if len(looks) == look:
            p.submit("late").add_done_callback(lambda future: late.set_result(future.result()))
        return 0.0

    look = 0
    p = ms.DynamicBatcher(same, clock=clock)
    assert p("first") == "first"
    p.close(timeout=LIMIT)
    with p:
        looks.clear()
        look = 5  # staged, cut, begun, ended; and then nothing is found
        assert p("second") == "second"
        assert outcome(late) == "late"


# Calls that hang


@pytest.mark.parametrize("queued", [0, 3])
def test_a_worker_whose_call_hangs_is_replaced(gate, queued):
    clock = FakeClock()
    name = f"hangs with {queued} queued"
    p = ms.DynamicBatcher(gate, max_batch_size=1, max_run=0.001, clock=clock, name=name)
    stuck = p.submit("stuck")
    gate.wait_entered(1)
    [late] = workers_of(p)
    futures = [p.submit(n) for n in range(queued)]
    clock.advance(0.002)
    assert isinstance(outcome(stuck), ms.Stuck)
    futures.append(p.submit("after"))
    gate.wait_entered(2)
    assert late in workers_of(p)
    gate.open()

    assert [outcome(future) for future in futures] == [*range(queued), "after"]
    assert ended([late])
    assert len(workers_of(p)) == 1


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
