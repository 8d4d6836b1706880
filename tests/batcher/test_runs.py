"""What is run again when a batch fails: halves, smaller batches, and how often at most."""

import pytest

import modelserve as ms
from modelserve._policy.reruns import MOST
from modelserve.testing import EventLog, FakeClock
from tests.batcher.asking import (
    HOUR,
    LIMIT,
    both,
    both_gates,
    one_batch,
    outcome,
    refusing,
    tenfold,
    together,
)


def noting(calls, fn):
    """Make a batch function that notes the batches it is called with."""

    def predict(xs):
        calls.append(list(xs))
        return fn(xs)

    return predict


def kinds(outcomes):
    return [type(each) for each in outcomes]


# How often


@both
def test_one_bad_item_is_found_by_halves(colour):
    calls = []
    answers = together(colour(noting(calls, refusing({5}, ValueError("poison")))), range(8))

    assert kinds(answers) == [int] * 5 + [ValueError] + [int] * 2
    assert calls == [
        [*range(8)],
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [4, 5],
        [4],
        [5],
        [6, 7],
    ]


@both
def test_nothing_but_bad_items_makes_no_more_than_a_bounded_number_of_runs(colour):
    calls = []
    p = one_batch(colour(noting(calls, refusing({0}, ValueError("poison")))), 32)
    batches = 10
    for _ in range(batches):
        before = len(calls)
        futures = [p.submit(0) for _ in range(32)]
        assert kinds(map(outcome, futures)) == [ValueError] * 32
        last = len(calls) - before

    own = 2 * 5  # to find one item of 32
    assert last == 1 + own
    assert len(calls) <= batches * (1 + own) + MOST
    assert p.stats.reruns == len(calls) - batches


@both
def test_one_bad_item_is_found_though_others_made_too_many_runs(colour):
    p = one_batch(colour(refusing({0}, ValueError("poison"))), 32)
    for _ in range(10):
        for future in [p.submit(0) for _ in range(32)]:
            assert isinstance(outcome(future), ValueError)
    answers = [outcome(future) for future in [p.submit(n) for n in range(32)]]

    assert kinds(answers) == [ValueError] + [int] * 31


def test_what_must_not_run_twice_is_not_even_when_memory_is_short():
    calls = []
    answers = together(noting(calls, refusing({0}, MemoryError())), range(4), on_error="batch")

    assert kinds(answers) == [MemoryError] * 4
    assert len(calls) == 1


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_a_model_that_wants_everything_to_end_is_not_asked_again(error):
    calls = []
    answers = together(noting(calls, refusing({0}, error)), range(4))

    assert kinds(answers) == [RuntimeError] * 4
    assert len(calls) == 1


@both
def test_reruns_are_counted_and_each_is_an_event(colour):
    log = EventLog()
    p = one_batch(colour(refusing({0}, ValueError("poison"))), 4, on_event=log)
    futures = [p.submit(n) for n in range(4)]

    assert kinds(map(outcome, futures)) == [ValueError, int, int, int]
    p.close(timeout=LIMIT)
    assert [(event.size, type(event.error)) for event in log] == [
        (4, ValueError),
        (2, ValueError),
        (1, ValueError),
        (1, type(None)),
        (2, type(None)),
    ]
    assert (p.stats.batches, p.stats.reruns, p.stats.errors, p.stats.running) == (5, 4, 1, 0)
    assert p.stats.batch_sizes == {1: 2, 2: 2, 4: 1}


@both
def test_a_hook_that_wants_to_exit_as_a_run_fails_leaves_nobody_waiting(colour):
    def leave(event):
        if event.error is not None:
            raise SystemExit(3)

    p = one_batch(colour(refusing({0}, ValueError("poison"))), 4, on_event=leave, name="rank")
    answers = [outcome(future) for future in [p.submit(n) for n in range(4)]]

    assert [str(answer) for answer in answers] == ["'rank' could not finish a batch"] * 4
    assert [outcome(future) for future in [p.submit(n) for n in range(1, 5)]] == [10, 20, 30, 40]
    assert (p.stats.running, p._queues.core._untold) == (0, 0)


@both
def test_a_deadline_in_the_model_is_nobodys_error(colour):
    p = one_batch(colour(refusing({0}, ms.DeadlineExceeded("late"))), 2)
    answers = [outcome(future) for future in [p.submit(0), p.submit(1)]]

    assert kinds(answers) == [ms.DeadlineExceeded] * 2
    assert (p.stats.errors, p.stats.batches) == (0, 1)


@both
def test_those_who_would_probably_be_late_are_run_again_all_the_same(colour):
    clock = FakeClock()

    def slow(xs):
        clock.advance(1.0)
        return refusing({0}, ValueError("poison"))(xs)

    p = one_batch(colour(slow), 2, clock=clock)
    for _ in range(3):
        assert kinds(map(outcome, [p.submit(0), p.submit(1)])) == [ValueError, int]
    with ms.request(timeout=1.5, clock=clock):  # for the first run, and not for one more
        futures = [p.submit(0), p.submit(1)]

    assert ms.DeadlineExceeded in kinds(map(outcome, futures))
    p.close(timeout=LIMIT)
    assert p.stats.running == 0


@both
def test_no_run_is_expected_to_end_that_has_ended(colour):
    p = one_batch(colour(refusing({0}, ValueError("poison"))), 4, slo=1.0)
    with ms.request(timeout=0.5):
        futures = [p.submit(n) for n in range(4)]

    assert kinds(map(outcome, futures)) == [ValueError, int, int, int]
    p.close(timeout=LIMIT)
    assert p._queues.core.pace._ends == {}
    assert p.stats.reruns == 4


class ClockThatBreaks:
    """A clock that fails at one of its looks."""

    def __init__(self):
        self.fails_in = 0

    def __call__(self):
        self.fails_in -= 1
        if not self.fails_in:
            raise OSError("the clock is broken")
        return 0.0


@both_gates
@pytest.mark.parametrize("slo", [None, 1.0])
@pytest.mark.parametrize("look", range(1, 13))
def test_a_clock_that_breaks_at_any_look_takes_nobody_along(make, gates, slo, look):
    clock = ClockThatBreaks()
    gate = gates(lambda: make(refusing({0}, ValueError("poison"))))
    p = ms.DynamicBatcher(gate, max_batch_size=2, clock=clock, slo=slo)
    futures = [p.submit(2)]
    gate.wait_entered(1)
    futures += [p.submit(0), p.submit(1)]
    clock.fails_in = look
    gate.open()

    assert {*kinds(map(outcome, futures))} <= {ValueError, OSError, RuntimeError, int}
    p.close(timeout=LIMIT)
    assert (p.stats.running, p.stats.queued, p._queues.core._untold) == (0, 0, 0)
    clock.fails_in = 0
    with p:
        assert p(4) == 40


# Out of memory


def greedy(calls, most):
    """Make a batch function that has memory for so many items."""

    def predict(xs):
        calls.append(len(xs))
        if len(xs) > most:
            raise MemoryError
        return tenfold(xs)

    return predict


@both
def test_a_batch_that_needs_too_much_memory_is_run_in_smaller_ones_from_then_on(colour):
    calls = []
    p = one_batch(colour(greedy(calls, 5)), 16, name="rank")
    assert [outcome(future) for future in [p.submit(n) for n in range(16)]] == tenfold(range(16))
    assert calls == [16, 8, 4, 4, 8, 4, 4]
    assert ms.health(p).parts["rank"] == ("degraded", "out of memory with more than 4 together")
    assert ms.health(p).ready
    calls.clear()

    assert [outcome(future) for future in [p.submit(n) for n in range(12)]] == tenfold(range(12))
    assert calls == [4, 4, 4]
    assert p.stats.errors == 0


@both
def test_reopening_a_batcher_tries_full_batches_again(colour):
    calls, most = [], 2

    def predict(xs):
        return greedy(calls, most)(xs)

    p = one_batch(colour(predict), 4)
    assert [outcome(future) for future in [p.submit(n) for n in range(4)]] == tenfold(range(4))
    assert p.health().state == "degraded"
    p.close(timeout=LIMIT)
    calls.clear()
    most = 4
    with p:
        assert p.health() == ("ready", "")
        futures = [p.submit(n) for n in range(4)]
        assert [outcome(future) for future in futures] == tenfold(range(4))

    assert calls == [4]


def test_one_item_that_alone_needs_too_much_memory_is_told():
    calls = []
    p = ms.DynamicBatcher(greedy(calls, 0), max_batch_size=4)

    assert isinstance(outcome(p.submit(1)), MemoryError)
    assert isinstance(outcome(p.submit(2)), MemoryError)
    assert calls == [1, 1]
    assert p.health() == ("degraded", "out of memory with more than 1 together")


def test_batches_are_made_smaller_though_others_took_all_reruns():
    """There is memory for the half of a batch: that is no item's fault."""

    def predict(xs):
        if len(xs) > 1:
            raise MemoryError if max(xs) < 32 else ValueError("poison")
        return tenfold(xs)

    p = one_batch(predict, 32)
    while p._queues.core.reruns.left > 1:
        for future in [p.submit(n) for n in range(32, 64)]:
            outcome(future)

    assert [outcome(f) for f in [p.submit(n) for n in range(32)]] == tenfold(range(32))


@both
def test_the_limit_of_sizes_is_halved_too(colour):
    sizes = []

    def predict(xs):
        sizes.append(sum(xs))
        if sum(xs) > 60:
            raise MemoryError
        return xs

    p = ms.DynamicBatcher(
        colour(predict), max_batch_size=100, max_wait=HOUR, clock=FakeClock(), size=float
    )
    assert [outcome(future) for future in [p.submit(x) for x in (40, 30, 30)]] == [40, 30, 30]
    assert sizes == [100, 40, 60]
    sizes.clear()
    futures = [p.submit(x) for x in (30, 30)]
    p.close(timeout=LIMIT)

    assert [outcome(future) for future in futures] == [30, 30]
    assert sizes == [30, 30]  # as 60 are more than half of what did not fit


def test_a_warm_call_that_needs_too_much_memory_says_so_and_halves_the_limit():
    p = ms.DynamicBatcher(greedy([], 4), max_batch_size=16)
    with pytest.raises(MemoryError):
        p.warm(1)

    assert p._queues.core.limit == 8
    assert (p.stats.batches, p.stats.errors) == (0, 0)
