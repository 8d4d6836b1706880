import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.pace import MARGIN, Pace

FIXED, EACH = 0.010, 0.001
"""What a batch costs, and each in it, in seconds."""
SIZES = (1, 2, 4, 8, 16, 32, 64)
COSTS = st.tuples(st.floats(0.001, 0.1), st.floats(0.0001, 0.01))


def cost(size, fixed=FIXED, each=EACH):
    return fixed + each * size


def learned(slo=1.0, limit=64, workers=1, costs=(FIXED, EACH), sizes=SIZES):
    """Make one that knows exact costs."""
    pace = Pace(slo, limit, workers)
    for size in sizes:
        for _ in range(12):
            run(pace, size, cost(size, *costs))
    return pace


def run(pace, size, seconds):
    pace.began("a run", 0.0, size)
    pace.ended("a run")
    pace.costs.observe(size, seconds)


# Without an objective, and without knowledge


@given(st.lists(st.tuples(st.sampled_from(SIZES), st.floats(0.001, 1.0)), max_size=20))
def test_without_slo_nothing_adapts(batches):
    pace = Pace(None, 64, 1)
    for size, seconds in batches:
        run(pace, size, seconds)

    assert {pace.cap(load, left) for load in (0, 1, 500) for left in (-1.0, 0.001, math.inf)} == {
        64
    }


def test_of_nothing_known_all_is_hoped():
    pace = Pace(0.1, 64, 1)
    pace.began("a run", 0.0, 1)

    assert (pace.cap(1, 0.1), pace.cap(500, 0.1), pace.next_end(), pace.reach(64)) == (
        64,
        64,
        None,
        0.0,
    )
    assert pace.lateness(0.0, 500, 1) == -0.1


def test_a_batch_has_run_within_what_a_full_one_costs():
    assert learned().next_end() == pytest.approx(cost(64))
    assert learned().next_end(each=10) == pytest.approx(cost(640))


# How large a batch may be


def test_a_batch_is_no_larger_than_the_knee():
    pace = learned(slo=10.0)
    knee = pace.costs.knee(64)

    assert 1 < knee < 64
    assert {pace.cap(load, 10.0) for load in (1, knee, knee + 1, 500)} == {knee}


def test_two_batches_take_no_longer_than_is_asked_for():
    pace = learned(slo=0.080)
    cap = pace.cap(500, 0.080)

    assert cost(cap) == pytest.approx(0.040, rel=0.03)


def test_who_is_not_behind_bounds_a_batch_by_what_its_first_has_left():
    pace = learned(slo=10.0)

    knee = pace.costs.knee(64)

    assert cost(pace.cap(30, 0.025)) == pytest.approx(0.025, rel=0.05)
    assert pace.cap(knee, 0.025) == pace.cap(30, 0.025)
    assert pace.cap(knee + 1, 0.025) == knee
    assert pace.cap(5, 0.0115) == 1


@pytest.mark.parametrize("left", [-5.0, 0.0, 0.009])
def test_a_backlog_whose_first_is_late_in_any_case_is_got_done_with(left):
    pace = learned(slo=0.080)

    assert [pace.cap(load, left) for load in (5, 500)] == [pace.costs.knee(64)] * 2


def test_where_the_smallest_batch_takes_long_a_larger_one_is_no_worse():
    pace = learned(slo=0.080, costs=(0.039, 0.001))

    assert cost(pace.cap(500, 0.080), 0.039) == pytest.approx(2 * 0.080 * 0.040 / 0.120, rel=0.03)


def test_where_not_even_one_is_in_time_a_batch_is_as_fast_as_can_be():
    pace = learned(slo=0.080, costs=(0.100, 0.001))
    knee = pace.costs.knee(64)

    assert pace.cap(500, 0.080) == knee
    ends = math.ceil(501 / knee) * cost(knee, 0.100)
    assert pace.lateness(0.0, 500, 1) == pytest.approx(ends - 0.080, rel=0.01)


def test_what_batches_cost_is_what_is_known_of_them():
    pace = Pace(0.080, 64, 1)
    for size in SIZES * 40:
        pace.costs.observe(size, cost(size))

    assert cost(pace.cap(500, 0.080)) == pytest.approx(0.040, rel=0.05)


@pytest.mark.parametrize("size", [1, 500])
def test_a_second_size_is_tried_where_only_one_is_known(size):
    pace = learned(slo=0.080, limit=4096, costs=(0.039, 0.0), sizes=[size])
    assert pace.cap(9999, 0.080) == 2 * size
    run(pace, 2 * size, 0.040)

    assert pace.cap(9999, 0.080) == 4 * size


def test_a_second_size_that_is_too_dear_is_not_tried_again():
    pace = learned(slo=0.080, limit=64, costs=(0.0, 0.039), sizes=[1])
    run(pace, 2, 0.078)

    assert pace.cap(500, 0.080) == 1


@given(COSTS, st.floats(0.01, 2.0), st.integers(1, 64), st.integers(0, 500), st.floats(-1.0, 2.0))
def test_a_batch_is_within_the_limit_and_the_knee(costs, slo, limit, load, left):
    pace = learned(slo, limit, costs=costs)

    assert 1 <= pace.cap(load, left) <= pace.costs.knee(limit) <= limit


@given(COSTS, st.floats(0.02, 2.0), st.integers(1, 500))
def test_the_first_is_in_time_where_it_can_be(costs, left, load):
    pace = learned(slo=2.0, costs=costs)
    size = pace.cap(load, left)

    assert load > size or pace.costs.high(1) > left or pace.costs.high(size) <= left * 1.001


# Who would be late


def test_nobody_is_late_where_nobody_waits_and_a_worker_is_free():
    pace = learned(slo=0.001, workers=2)
    assert pace.lateness(0.0, 0, 1) == -math.inf
    pace.began("first", 0.0, 8)
    assert pace.lateness(0.0, 0, 1, left=0.0) == -math.inf
    pace.began("second", 0.0, 8)

    assert pace.lateness(0.0, 0, 1) > 0
    assert pace.lateness(0.0, 1, 1) > 0
    pace.ended("second")
    assert pace.lateness(0.0, 0, 1) == -math.inf
    assert pace.lateness(0.0, 1, 1) > 0


def test_an_item_is_answered_after_what_runs_and_what_is_before_it():
    pace = learned(slo=10.0)
    cap = pace.cap(500, 10.0)
    pace.began("a run", 100.0, 16)

    for load, batches in [(0, 1), (cap - 1, 1), (cap, 2), (5 * cap, 6), (6 * cap - 1, 6)]:
        ends = pace.lateness(100.0, load, 1) + 10.0
        assert ends == pytest.approx(cost(16) + batches * cost(cap), rel=0.01)
    assert pace.lateness(100.01, 0, 1) == pytest.approx(pace.lateness(100.0, 0, 1) - 0.01)


def test_what_should_have_ended_long_ago_is_expected_now():
    pace = learned(slo=10.0)
    pace.began("a run", 0.0, 16)

    assert pace.lateness(500.0, 0, 1) + 10.0 == pytest.approx(cost(pace.cap(500, 10.0)), rel=0.01)


def test_the_less_time_an_item_has_the_later_it_is():
    pace = learned(slo=1.0)
    late = pace.lateness(0.0, 500, 1)

    assert pace.lateness(0.0, 500, 1, left=5.0) == late
    assert pace.lateness(0.0, 500, 1, left=0.25) == pytest.approx(late + 0.75)


def test_an_item_larger_than_a_batch_runs_alone_behind_the_others():
    pace = learned(slo=10.0)
    cap = pace.cap(500, 10.0)

    assert pace.lateness(0.0, 1, 200) + 10.0 == pytest.approx(cost(cap) + cost(200), rel=0.01)


def test_an_item_that_fits_no_more_into_a_batch_runs_in_the_next():
    pace = learned(slo=10.0)
    cap = pace.cap(500, 10.0)
    one = pace.lateness(0.0, cap - 5, 5)
    two = pace.lateness(0.0, cap - 5, 6)

    assert two - one == pytest.approx(cost(cap), rel=0.01)


def test_where_lengths_cost_a_batch_holds_as_many_of_the_mean_length():
    lengths, counts = learned(10.0, limit=8, sizes=SIZES), learned(10.0, limit=64)

    assert lengths.lateness(0.0, 300, 8, each=8.0) == counts.lateness(0.0, 300, 8)
    assert lengths.lateness(0.0, 300, 8) > counts.lateness(0.0, 300, 8)


def test_what_varies_is_expected_later():
    steady, varied = learned(slo=10.0), Pace(10.0, 64, 1)
    for size in SIZES:
        for n in range(40):
            run(varied, size, cost(size) * (0.7 if n % 2 else 1.3))

    assert varied.costs.deviation > 0.2
    assert varied.lateness(0.0, 64, 1) > steady.lateness(0.0, 64, 1) + 0.5 * cost(64)


@pytest.mark.parametrize(("load", "rounds"), [(0, 0), (7, 0), (8, 1), (39, 4), (40, 5)])
def test_what_varies_adds_up_as_independent_errors_do(load, rounds):
    """Two workers run, and take two batches of 4 each round."""
    pace = Pace(10.0, 4, 2)
    for n in range(100):
        run(pace, 4, 0.7 if n % 2 else 1.3)
    mean, high = pace.costs.expected(4), pace.costs.high(4)
    for worker in range(2):
        pace.began(worker, 0.0, 4)
    spread = MARGIN * (high - mean) * math.sqrt(1 + rounds)

    assert pace.lateness(0.0, load, 1) + 10.0 == pytest.approx((2 + rounds) * mean + spread)


def test_an_item_should_have_twice_the_step_to_the_95th_percentile_left():
    pace = Pace(1.0, 64, 1)
    for n in range(100):
        run(pace, 8, 0.7 if n % 2 else 1.3)
    mean, high = pace.costs.expected(8), pace.costs.high(8)

    assert high > 1.2 * mean
    assert pace.reach(8) == pytest.approx(mean + MARGIN * (high - mean))


RUNS = st.lists(st.integers(1, 64), max_size=4)


@given(COSTS, RUNS, st.integers(1, 4), st.integers(1, 400), st.integers(1, 64))
def test_who_comes_behind_more_is_answered_later_and_by_more_workers_sooner(
    costs, runs, workers, load, more
):
    def lateness(load, workers):
        pace = learned(1.0, workers=workers, costs=costs)
        for number, size in enumerate(runs[:workers]):
            pace.began(number, 0.0, size)
        return pace.lateness(0.0, load, 1)

    assert lateness(load, workers) <= lateness(load + more, workers) + 1e-9
    assert lateness(load, workers + 1) <= lateness(load, workers) + 1e-9


def served(pace, costs, begun, load, workers):
    """Serve ``load`` items and one more, and those behind it, in full batches; return its end."""
    cap = pace.cap(10_000, math.inf)
    free = sorted([*begun, *[0.0] * (workers - len(begun))])
    ended = 0.0
    for _ in range(load // cap + 1):
        ended = free[0] + cost(cap, *costs)
        free = sorted([ended, *free[1:]])
    return ended


@given(COSTS, RUNS, st.integers(1, 4), st.integers(1, 600), st.floats(0.05, 2.0))
def test_the_estimate_is_what_comes_of_it(costs, runs, workers, load, slo):
    pace = learned(slo, workers=workers, costs=costs)
    begun = runs[:workers]
    for number, size in enumerate(begun):
        pace.began(number, 0.0, size)
    ends = served(pace, costs, [cost(size, *costs) for size in begun], load, workers)

    assert pace.lateness(0.0, load, 1) == pytest.approx(ends - slo, rel=0.02, abs=0.02 * ends)


class Replay:
    """A batcher with ``slo`` under load, in simulated time: who is let in, and who is late."""

    def __init__(self, pace, costs, rate, capacity):
        self.pace, self.costs = pace, costs
        self.gap = 1 / (rate * capacity)
        self.queue, self.ends = [], []
        self.came = self.refused = self.late = self.in_time = 0

    def serve(self, workers, count):
        now, number = 0.0, 0
        while self.came < count or self.ends:
            coming = self.came * self.gap if self.came < count else math.inf
            if self.ends and self.ends[0][0] <= coming:
                now, number_, batch = self.ends.pop(0)
                self.pace.ended(number_)
                self.pace.costs.observe(len(batch), cost(len(batch), *self.costs))
                for at in batch:
                    self.in_time += now - at <= self.pace.slo
                    self.late += now - at > self.pace.slo
            else:
                now = coming
                self.came += 1
                if self.pace.lateness(now, len(self.queue), 1) > 0:
                    self.refused += 1
                else:
                    self.queue.append(now)
            while self.queue and len(self.ends) < workers:
                size = self.pace.cap(len(self.queue), self.pace.slo - (now - self.queue[0]))
                batch, self.queue = self.queue[:size], self.queue[size:]
                number += 1
                self.pace.began(number, now, len(batch))
                self.ends.append((now + cost(len(batch), *self.costs), number, batch))
                self.ends.sort()
        return now


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("rate", [0.5, 1.2, 3.0])
@pytest.mark.parametrize(("fixed", "share"), [(0.001, 0.9), (0.010, 0.9), (0.045, 0.7)])
def test_under_overload_as_many_are_in_time_as_there_is_room_for(workers, rate, fixed, share):
    """It starts from nothing known. Of those who are let in hardly anybody is late."""
    costs, slo = (fixed, 0.001), 0.300
    capacity = workers * 64 / cost(64, *costs)
    replay = Replay(Pace(slo, 64, workers), costs, rate, capacity)
    seconds = replay.serve(workers, 6000)

    assert replay.in_time + replay.late + replay.refused == 6000
    assert replay.late <= 0.1 * replay.in_time
    assert replay.in_time / seconds >= share * min(rate, 1.0) * capacity
    assert rate > 1 or replay.refused <= 0.01 * 6000  # while it learns
