import concurrent.futures
import contextlib
import gc
import itertools
import math
from contextvars import ContextVar

import pytest

import modelserve as ms
from modelserve.events import BatchDone
from modelserve.testing import EventLog, FakeClock, GatedPredictor
from tests.batcher.asking import LIMIT, both, one_batch, outcome, refusing, same, tenfold

# Who asks


@both
def test_the_batch_function_sees_nothing_of_its_callers(colour):
    seen = []
    secret = ContextVar("secret", default="nobody's")

    def look(xs):
        scope = ms.current_request()
        seen.append((scope.unit, scope.id, scope.tenant, scope.priority, secret.get()))
        return xs

    p = one_batch(colour(look), 2)
    futures = []
    for who in ("ann", "bob"):
        token = secret.set(who)
        with ms.request(unit=who, id=who, tenant=who, priority=7):
            futures.append(p.submit(who))
        secret.reset(token)

    assert [outcome(future) for future in futures] == ["ann", "bob"]
    assert seen == [(None, None, None, 0, "nobody's")]


@both
@pytest.mark.parametrize(
    ("timeouts", "expected"), [((3.0, 8.0), 8.0), ((3.0, None), math.inf), ((None,), math.inf)]
)
def test_a_batch_has_the_latest_deadline_of_its_items(colour, timeouts, expected):
    seen = []
    clock = FakeClock()

    def look(xs):
        seen.append(ms.current_request().remaining())
        return xs

    p = one_batch(colour(look), len(timeouts))
    futures = []
    for timeout in timeouts:
        with ms.request(timeout=timeout, clock=clock):
            futures.append(p.submit("x"))

    assert [outcome(future) for future in futures] == ["x"] * len(timeouts)
    assert seen == [expected]


@both
def test_what_a_hidden_loader_hands_out_reaches_the_record_of_every_caller(colour):
    model = ms.ModelLoader(lambda: tenfold, name="hidden", version="v7")

    def predict(xs):
        return model.get()(xs)

    p = one_batch(colour(predict), 3, name="rank")
    requests = [ms.request(unit=str(n)) for n in range(3)]
    futures = []
    for n, scope in enumerate(requests):
        with scope:
            futures.append(p.submit(n))

    assert [outcome(future) for future in futures] == [0, 10, 20]
    assert [scope.record["hidden.version"] for scope in requests] == ["v7"] * 3
    assert [scope.record["rank.batch_size"] for scope in requests] == [3] * 3


@both
def test_the_record_of_a_failed_call_names_the_version_that_failed(colour):
    model = ms.ModelLoader(lambda: tenfold, name="hidden", version="v7")
    p = one_batch(colour(lambda xs: model.get()([*xs, 5])), 1, name="rank")
    with ms.request() as r:
        error = outcome(p.submit(1))

    assert isinstance(error, ms.BadOutput)
    assert r.record["hidden.version"] == "v7"


@both
def test_the_record_tells_the_size_the_wait_and_the_run(colour):
    clock = FakeClock()

    def slow(xs):
        clock.advance(2.0)
        return xs

    p = one_batch(colour(slow), 2, clock=clock, name="rank")
    with ms.request() as first:
        futures = [p.submit("a")]
    clock.advance(0.5)
    with ms.request() as second:
        futures.append(p.submit("b"))

    assert [outcome(future) for future in futures] == ["a", "b"]
    facts = {"rank.batch_size": 2, "rank.run_seconds": 2.0}
    assert first.record == {**facts, "rank.queue_seconds": 0.5}
    assert second.record == {**facts, "rank.queue_seconds": 0.0}


def test_items_of_one_request_note_their_batch_once():
    p = one_batch(same, 3, name="rank")
    with ms.request() as r:
        futures = [p.submit(0), p.submit(1), p.submit(2)]
    concurrent.futures.wait(futures, LIMIT)

    assert len(r.trail) == 1
    assert r.record["rank.batch_size"] == 3


def test_the_record_of_an_isolated_item_is_that_of_its_last_run():
    p = one_batch(refusing({0}, ValueError("poison")), 4, name="rank")
    futures, scopes = [], []
    for n in range(4):
        with ms.request() as scope:
            futures.append(p.submit(n))
        scopes.append(scope)
    concurrent.futures.wait(futures, LIMIT)

    assert [scope.record["rank.batch_size"] for scope in scopes] == [1, 1, 2, 2]


# Deadlines, cancellation, bounds


@pytest.fixture
def busy():
    """A batcher whose one worker is at the gate, with the future of what it runs."""
    gate = GatedPredictor()
    p = ms.DynamicBatcher(gate, max_batch_size=4, max_queue_size=3, name="busy")
    first = p.submit("first")
    gate.wait_entered(1)
    yield p, gate, first
    gate.open()
    p.close(timeout=LIMIT)


def test_an_item_whose_time_is_over_never_runs(busy):
    p, gate, first = busy
    clock = FakeClock()
    with ms.request(timeout=1.0, clock=clock):
        late = p.submit("late")
    in_time = p.submit("in time")
    clock.advance(1.0)
    gate.open()

    assert isinstance(outcome(late), ms.DeadlineExceeded)
    assert "in the queue of 'busy'" in str(outcome(late))
    assert [outcome(first), outcome(in_time)] == ["first", "in time"]
    assert gate.calls == [["first"], ["in time"]]
    assert p.stats.expired == 1


def test_a_caller_that_left_at_its_deadline_counts_as_expired(busy):
    p, gate, first = busy
    with (
        ms.request(timeout=1.0, clock=lambda: float(p.stats.queued)),  # a second as it is queued
        pytest.raises(ms.DeadlineExceeded, match="waiting for 'busy'"),
    ):
        p("late")
    gate.open()

    assert outcome(first) == "first"
    p.close(timeout=LIMIT)
    assert gate.calls == [["first"]]
    assert (p.stats.expired, p.stats.abandoned) == (1, 0)


def test_a_call_that_is_already_late_is_not_accepted(busy):
    p, _, _ = busy
    with ms.request(timeout=0), pytest.raises(ms.DeadlineExceeded, match="before 'busy'"):
        p("late")

    assert (p.stats.calls, p.stats.queued) == (1, 0)


def test_a_cancelled_item_never_runs(busy):
    p, gate, first = busy
    left, stays = p.submit("left"), p.submit("stays")

    assert left.cancel()
    gate.open()
    assert [outcome(first), outcome(stays)] == ["first", "stays"]
    assert gate.calls == [["first"], ["stays"]]
    assert (p.stats.abandoned, p.stats.expired) == (1, 0)


def test_whoever_waits_for_a_cancelled_future_is_told(busy):
    p, gate, _ = busy
    left = p.submit("left")
    left.cancel()
    gate.open()

    assert concurrent.futures.wait([left], LIMIT).not_done == set()


def test_a_caller_cancelled_while_its_batch_runs_hurts_nobody(busy):
    p, gate, first = busy
    left, stays = p.submit("left"), p.submit("stays")
    gate.open_one()
    gate.wait_entered(2)

    assert left.cancel()
    gate.open()
    assert outcome(stays) == "stays"
    assert left.cancelled()
    assert concurrent.futures.wait([left], LIMIT).not_done == set()
    assert p.stats.abandoned == 0
    assert outcome(first) == "first"


def test_a_callers_clock_that_breaks_hurts_only_that_caller(busy):
    p, gate, first = busy
    looks = iter([0.0, 0.0])  # as the request is made, and as it asks
    before = p.submit("before")
    with ms.request(timeout=1.0, clock=lambda: next(looks)):
        broken = p.submit("broken")
    after = p.submit("after")
    gate.open()

    assert [outcome(future) for future in (first, before, after)] == ["first", "before", "after"]
    assert isinstance(outcome(broken), RuntimeError)
    assert gate.calls == [["first"], ["before", "after"]]


def test_more_than_the_queue_holds_are_refused(busy):
    p, gate, first = busy
    queued = [p.submit(n) for n in range(3)]
    with pytest.raises(ms.Overloaded, match="'busy' has 3 calls queued: raise max_queue_size"):
        p("too many")
    with pytest.raises(ms.Overloaded):
        p.submit("too many")

    assert (p.stats.queued, p.stats.refused, p.stats.calls) == (3, 2, 4)
    assert ms.health(p).parts["busy"] == ("degraded", "the queue is full: 3 calls")
    gate.open()
    assert [outcome(f) for f in [first, *queued]] == ["first", 0, 1, 2]
    assert p("welcome") == "welcome"


# Counts and events


def counts_of(p):
    """Return the plain counts of a batcher, without those of reasons and durations."""
    return {k: v for k, v in p.stats._asdict().items() if k in COUNTS}


COUNTS = {
    *("calls", "batches", "items", "mean_batch_size", "queued"),
    *("expired", "abandoned", "refused", "errors", "blocked_loop"),
}


@both
def test_counts_tell_exactly_what_happened(colour):
    def predict(xs):
        if 1 in xs:
            raise ValueError("poison")
        return [ValueError("bad") if x == 2 else x for x in xs]

    p = one_batch(colour(predict), 4, name="rank")
    for future in [p.submit(n) for n in range(4)]:
        outcome(future)

    assert counts_of(p) == {
        "calls": 4,
        "batches": 5,  # 0123, 01, 0, 1, 23
        "items": 10,
        "mean_batch_size": 2.0,
        "queued": 0,
        "expired": 0,
        "abandoned": 0,
        "refused": 0,
        "errors": 2,
        "blocked_loop": 0,
    }


def test_before_the_first_batch_there_is_no_mean():
    assert math.isnan(ms.DynamicBatcher(same).stats.mean_batch_size)


@both
def test_every_run_is_an_event(colour):
    clock, log = FakeClock(), EventLog()

    def predict(xs):
        clock.advance(2.0)
        return refusing({0}, ValueError("poison"))(xs)

    p = one_batch(colour(predict), 2, clock=clock, on_event=log, name="rank")
    futures = [p.submit(0)]
    clock.advance(0.5)
    futures.append(p.submit(1))
    concurrent.futures.wait(futures, LIMIT)

    assert [event[:4] for event in log.of(BatchDone)] == [
        ("rank", 2, 0.5, 2.0),
        ("rank", 1, 2.5, 2.0),
        ("rank", 1, 4.0, 2.0),
    ]
    assert [type(event.error) for event in log] == [ValueError, ValueError, type(None)]


def test_warm_calls_are_counted_nowhere_even_when_they_fail():
    log = EventLog()
    p = ms.DynamicBatcher(refusing({0}, ValueError("poison")), on_event=log, name="rank")
    with pytest.raises(ValueError, match="poison"):
        ms.warm(p, 0)
    ms.warm(p, 1)

    assert p.stats[:3] == (0, 0, 0)
    assert p.stats.errors == 0
    assert len(log) == 0


def test_errors_hold_on_to_nothing_once_they_are_gone():
    class Input:
        alive = 0

        def __init__(self):
            Input.alive += 1

        def __del__(self):
            Input.alive -= 1

    def predict(xs):
        raise ValueError("poison")

    p = one_batch(predict, 4)
    for future in [p.submit(Input()) for _ in range(4)]:
        with contextlib.suppress(ValueError):
            future.result(LIMIT)
    del future
    p.close(timeout=LIMIT)
    gc.collect()

    assert Input.alive == 0


def test_results_of_many_batches_are_counted_once_each():
    numbers = itertools.count()
    p = ms.DynamicBatcher(lambda xs: [next(numbers) for _ in xs], max_batch_size=8)

    assert sorted(p.map(range(1000))) == list(range(1000))
    assert (p.stats.calls, p.stats.items) == (1000, 1000)
