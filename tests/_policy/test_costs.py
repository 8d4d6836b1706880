import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.costs import (
    DOUBT,
    FORGET,
    LEAST,
    MEMORY,
    REFRESH,
    STRIKES,
    SURE,
    Costs,
)
from tests._policy.costing import POWERS, SHAPES, learned, linear, noise, of_shape

# What is known of nothing, of one size, and of two


def test_nothing_is_known_of_nothing():
    costs = Costs()

    assert (costs.knee(32), costs.largest(0.001, 32), costs.batches) == (32, 32, 0)
    assert math.isnan(costs.expected(1))
    assert math.isnan(costs.high(1))


@pytest.mark.parametrize(
    ("size", "seconds"), [(1, 0.010), (4, 0.010), (8, 0.020), (32, 0.080), (0, 0.010)]
)
def test_of_a_single_size_more_costs_in_proportion_and_less_costs_the_same(size, seconds):
    costs = learned([(4, 0.010)])

    assert costs.expected(size) == pytest.approx(seconds)
    assert costs.knee(32) == 32
    assert costs.largest(0.050, 32) == 20
    assert costs.largest(0.010, 32) == 4
    assert costs.largest(0.001, 32) == 1


def test_when_only_empty_batches_were_seen_all_cost_as_much():
    costs = learned([(0, 0.010)])

    assert (costs.expected(0), costs.expected(100)) == (0.010, 0.010)


@pytest.mark.parametrize("size", [0, 1, 2.5, 5, 10, 15, 64, 1000])
def test_two_sizes_make_a_line(size):
    costs = learned([(5, linear(5)), (10, linear(10))])

    assert costs.expected(size) == pytest.approx(linear(size))


def test_a_larger_batch_is_not_thought_to_cost_less_than_the_last_that_was_seen():
    costs = learned([(5, 0.020), (10, 0.010)] * SURE)

    assert costs.expected(7.5) == pytest.approx(0.015)
    assert (costs.expected(1), costs.expected(40)) == pytest.approx((0.020, 0.010))


def test_a_cost_below_zero_is_not_thought_possible():
    costs = learned([(5, 0.010), (10, 0.040)] * SURE)

    assert costs.expected(20) == pytest.approx(0.080)
    assert costs.expected(1) == pytest.approx(0.002)


def test_costs_between_two_sizes_lie_on_the_line_between_them():
    costs = of_shape(SHAPES["concave"])

    assert costs.expected(24) == pytest.approx((costs.expected(16) + costs.expected(32)) / 2)


def test_beyond_the_sizes_seen_the_line_of_the_least_relative_errors_goes_on():
    sizes, seconds = (1, 4, 16, 64), (0.011, 0.012, 0.030, 0.060)
    costs = learned([*zip(sizes, seconds, strict=True)] * 2)
    each, fixed = np.polyfit(sizes, seconds, 1, w=np.reciprocal(seconds))

    assert costs.expected(100) == pytest.approx(0.060 * (fixed + 100 * each) / (fixed + 64 * each))


def test_sizes_of_one_power_of_two_tell_their_slope():
    costs = learned([(n, linear(n)) for n in range(32, 64)] * 5)

    assert costs.deviation < 0.01
    assert costs.expected(48) == pytest.approx(linear(48), rel=0.05)


@pytest.mark.parametrize(
    ("size", "seconds"),
    [(-1, 1.0), (math.nan, 1.0), (math.inf, 1.0), (4, -1.0), (4, math.nan), (4, math.inf)],
)
def test_what_is_no_size_or_no_time_teaches_nothing(size, seconds):
    costs = learned([(4, 0.010), (size, seconds)])

    assert (costs.batches, costs.expected(4), costs.deviation) == (1, 0.010, 0.0)


def test_a_clock_that_sees_no_time_pass_breaks_nothing():
    costs = learned([(n, 0.0) for n in (1, 2, 4, 8)] * 50)

    assert costs.expected(3) == pytest.approx(LEAST)
    assert costs.knee(8) == 8
    assert costs.largest(0.0, 8) == 1


def test_a_copy_stays_as_it_was():
    costs = of_shape(linear)
    copied = costs.copy()
    for _ in range(100):
        costs.observe(64, 1.0)

    assert copied.expected(64) == pytest.approx(linear(64))
    assert (copied.batches, costs.batches) == (14, 114)


# Noise


@pytest.mark.parametrize("deviation", [0.1, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_noise_is_averaged_out_and_told(deviation, seed):
    factor = noise(seed, deviation)
    costs = learned([(n, linear(n) * factor()) for n in POWERS * 50])

    assert [costs.expected(n) for n in POWERS] == pytest.approx(
        [linear(n) for n in POWERS], rel=5 * deviation / math.sqrt(MEMORY)
    )
    assert costs.deviation == pytest.approx(deviation, rel=0.5)


@pytest.mark.parametrize("deviation", [0.05, 0.2, 0.4])
def test_high_is_not_exceeded_about_95_of_100_times(deviation):
    factor, costs, within = noise(1, deviation), of_shape(linear), []
    for n in POWERS * 300:
        seconds = linear(n) * factor()
        within.append(seconds <= costs.high(n))
        costs.observe(n, seconds)

    assert 0.91 <= statistics.mean(within[700:]) <= 0.985


def test_one_odd_batch_changes_little():
    costs = of_shape(linear, times=MEMORY)
    costs.observe(8, 1000 * linear(8))

    assert costs.expected(8) == pytest.approx(linear(8), rel=2 * (DOUBT - 1) / MEMORY)
    assert costs.high(8) < 2 * linear(8)


# First calls


@pytest.mark.parametrize("slow", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 8, 32])
def test_slow_first_calls_of_a_size_are_soon_made_up_for(slow, size):
    costs = learned([(size, 100 * linear(size))] * slow + [(size, linear(size))] * STRIKES)

    assert costs.expected(size) == pytest.approx(linear(size))
    assert costs.high(size) < 2 * linear(size)


@pytest.mark.parametrize("slow", [1, SURE - 1])
def test_slow_first_calls_do_not_keep_a_size_from_being_tried_again(slow):
    costs = learned([(32, 100 * linear(32))] * slow + [(1, linear(1)), (2, linear(2))] * SURE)

    assert costs.expected(4) < 2 * linear(4)
    assert costs.knee(32) == costs.largest(1.0, 32) == 4


def test_what_stays_slow_is_believed():
    fast, slow = [(1, linear(1)), (2, linear(2))] * SURE, [(32, 100 * linear(32))] * SURE
    costs = learned(fast + slow)

    assert costs.expected(32) == pytest.approx(100 * linear(32))
    assert costs.knee(32) == 2
    assert costs.largest(1.0, 32) < 16


# Change


@pytest.mark.parametrize("factor", [10.0, 0.1])
def test_when_a_model_becomes_slower_or_faster_a_few_batches_tell(factor):
    costs = of_shape(linear, times=MEMORY)
    for _ in range(STRIKES):
        for n in POWERS:
            costs.observe(n, factor * linear(n))

    assert [costs.expected(n) for n in POWERS] == pytest.approx(
        [factor * linear(n) for n in POWERS]
    )


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_smaller_change_is_followed(factor):
    costs = of_shape(linear, times=MEMORY)
    for _ in range(4 * MEMORY):
        costs.observe(8, factor * linear(8))

    assert costs.expected(8) == pytest.approx(factor * linear(8), rel=0.05)


@given(ratios=st.lists(st.floats(1.5 * DOUBT, 50), min_size=STRIKES, max_size=STRIKES))
def test_of_odd_batches_in_a_row_the_mildest_is_believed(ratios):
    slow, fast = of_shape(linear, (8,), 4 * MEMORY), of_shape(linear, (8,), 4 * MEMORY)
    for ratio in ratios:
        slow.observe(8, linear(8) * ratio)
        fast.observe(8, linear(8) / ratio)

    assert slow.expected(8) == pytest.approx(linear(8) * min(ratios), rel=0.25)
    assert fast.expected(8) == pytest.approx(linear(8) / min(ratios), rel=0.25)


@pytest.mark.parametrize(
    "ratios", [(20, 1, 1, 1, 1), (20, 20, *[1] * 10), (20, 0.05, 20, 0.05, 1, 1, 1, 1)]
)
def test_odd_batches_with_others_between_them_change_little(ratios):
    costs = of_shape(linear, (8,), 2 * MEMORY)
    for ratio in ratios * 20:
        costs.observe(8, linear(8) * ratio)
        assert 0.5 * linear(8) < costs.expected(8) < 2 * linear(8)


def test_a_change_is_seen_at_once_and_then_soon_exactly():
    costs, seen = of_shape(linear, (8,), 4 * MEMORY), []
    for ratio in (10, 12, 14, *[14] * 10):
        costs.observe(8, ratio * linear(8))
        seen.append(costs.expected(8) / linear(8))

    assert seen[1] < 2
    assert 10 <= seen[2] <= 12
    assert seen[-1] == pytest.approx(14, rel=0.05)


def test_the_slope_inside_a_power_of_two_changes_with_the_costs():
    costs = learned([(n, 0.001 * n) for n in range(32, 64)] * 5)
    (bucket,) = costs._buckets.values()
    before = bucket.slope
    for n in (40, 50, 60, 45, 55):
        costs.observe(n, 0.010 * n)

    assert before == pytest.approx(0.001, rel=0.1)
    assert 0.005 < bucket.slope < 0.015


@pytest.mark.parametrize("factor", [10.0, 0.1])
@pytest.mark.parametrize("deviation", [0.0, 0.1])
@pytest.mark.parametrize("slo", [0.050, 0.5, 5.0])
def test_sizes_within_a_time_recover_when_a_model_changes(factor, deviation, slo):
    costs, around = Costs(), noise(2, deviation)
    for n in POWERS * MEMORY:
        costs.observe(n, linear(n) * around())
    sizes = []
    for _ in range(FORGET + 200):
        sizes.append(costs.largest(slo, 256))
        costs.observe(sizes[-1], factor * linear(sizes[-1]) * around())
    fit = max(n for n in range(1, 257) if n == 1 or factor * linear(n) <= slo)

    assert all(0.5 * fit <= size <= max(2, fit * 1.2) for size in sizes[-100:])


def test_costs_known_well_are_reckoned_anew_now_and_then():
    costs = of_shape(linear, (8,), times=2 * MEMORY)
    for _ in range(REFRESH):
        costs.observe(8, 1.2 * linear(8))
        costs.expected(8)

    assert 1.05 * linear(8) < costs.expected(8) < 1.2 * linear(8)


# Forgetting


def test_sizes_that_none_had_for_long_are_tried_again():
    costs = of_shape(SHAPES["convex"], (1, 4, 16, 64), times=SURE)
    before = costs.knee(64)
    for _ in range(FORGET + 1):
        costs.observe(16, 0.010)

    assert before < 32 <= costs.knee(64) <= 64


def test_a_size_that_none_had_for_long_begins_anew():
    costs = of_shape(linear, (4, 16), times=SURE)
    for _ in range(FORGET + 1):
        costs.observe(16, linear(16))
    costs.observe(4, 0.5 * linear(4))

    assert costs.expected(4) == pytest.approx(0.5 * linear(4))


def test_a_size_that_comes_again_and_again_does_not_begin_anew():
    costs = of_shape(linear, (4,), times=FORGET)
    for _ in range(10):
        costs.observe(4, linear(4))
        costs.observe(4, 2 * linear(4))

    assert linear(4) < costs.expected(4) < 1.8 * linear(4)
    assert costs._buckets[3].count == FORGET + 20


def test_memory_does_not_grow_with_the_sizes_seen():
    sizes = random.Random(3)  # noqa: S311 - no secret
    costs = learned([(sizes.uniform(1, 1e6), 0.001) for _ in range(5000)])

    assert len(costs._buckets) <= 20
