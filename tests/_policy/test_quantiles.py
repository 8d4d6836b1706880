import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.quantiles import ERROR, HIGH, LOW, ROOM, Quantiles

DURATIONS = st.one_of(st.floats(LOW, HIGH), st.sampled_from([LOW, 0.001, 1.0, HIGH]))
ANYTHING = st.one_of(DURATIONS, st.floats(-1e9, 1e9), st.sampled_from([math.inf, math.nan]))
SOME = [0.0, 0.1, 0.5, 0.9, 0.99, 1.0]
SHARES = st.one_of(st.floats(0, 1), st.sampled_from(SOME))


def of(values):
    times = Quantiles()
    for value in values:
        times.add(value)
    return times


def exact(values, q):
    return sorted(values)[max(1, math.ceil(q * len(values))) - 1]


def seen(times):
    return [*map(times.quantile, SOME), times.count, times.sum, times.min, times.max]


@pytest.mark.parametrize("q", [0, 0.5, 1])
def test_nothing_has_no_quantiles_and_no_extremes(q):
    times = Quantiles()

    assert all(map(math.isnan, (times.quantile(q), times.min, times.max)))
    assert (times.count, times.sum) == (0, 0.0)


@given(values=st.lists(DURATIONS, min_size=1, max_size=200), q=SHARES)
def test_a_quantile_is_right_to_within_the_stated_error(values, q):
    truth = exact(values, q)

    assert of(values).quantile(q) == pytest.approx(truth, rel=ERROR * (1 + 1e-9))


@given(
    spans=st.lists(st.tuples(st.floats(0, 1e3), st.lists(st.floats(0, 1e3), max_size=9))),
)
def test_what_ends_together_lasted_as_long_as_since_it_began(spans):
    times, lasted = Quantiles(), Quantiles()
    for end, begun in spans:
        times.since(end, begun)
        for begin in begun:
            lasted.add(end - begin)

    assert times.count == lasted.count
    assert times.quantile(0.5) == pytest.approx(lasted.quantile(0.5), nan_ok=True)
    assert (times.count, times.sum) == (lasted.count, pytest.approx(lasted.sum))


def test_a_clock_that_says_infinity_counts_as_no_time():
    times = Quantiles()
    times.since(math.inf, [math.inf, 1.0])

    assert (times.count, times.min, times.max) == (2, 0.0, math.inf)


def test_as_many_as_come_together_are_counted_however_many():
    times = Quantiles()
    for _ in range(3):
        times.since(1.0, [0.0] * (ROOM - 1))

    assert (times.count, times.sum) == (3 * (ROOM - 1), 3.0 * (ROOM - 1))


@given(values=st.lists(DURATIONS, min_size=1, max_size=200))
def test_count_sum_and_extremes_are_exact(values):
    times = of(values)

    assert (times.count, times.min, times.max) == (len(values), min(values), max(values))
    assert (times.quantile(0), times.quantile(1)) == (min(values), max(values))
    assert times.sum == pytest.approx(math.fsum(values))


@given(values=st.lists(ANYTHING, min_size=1, max_size=50), q=SHARES)
def test_whatever_comes_a_quantile_lies_between_the_extremes(values, q):
    times = of(values)

    assert 0 <= times.min <= times.quantile(q) <= times.max
    assert times.count == len(values)


@given(values=st.lists(DURATIONS, min_size=1), p=SHARES, q=SHARES)
def test_a_greater_share_has_no_smaller_quantile(values, p, q):
    times = of(values)

    assert times.quantile(min(p, q)) <= times.quantile(max(p, q))


@given(parts=st.lists(st.lists(DURATIONS, max_size=50), max_size=5), in_one=st.booleans())
def test_parts_merged_or_added_one_by_one_are_as_the_whole(parts, in_one):
    times = Quantiles()
    for part in parts:
        if in_one:
            times.merge(of(part))
        else:
            for value in part:
                times.add(value)
    whole = of([value for part in parts for value in part])

    assert seen(times) == pytest.approx(seen(whole), nan_ok=True)


@pytest.mark.parametrize("value", [-1.0, -1e-9, -math.inf, math.nan])
def test_a_clock_that_steps_back_counts_as_zero(value):
    times = of([value])

    assert (times.quantile(0.5), times.min, times.max, times.sum, times.count) == (0, 0, 0, 0, 1)


def test_values_beyond_the_range_are_clamped_but_not_the_extremes():
    small, large = of([LOW / 100, LOW / 10, LOW]), of([HIGH, HIGH * 10, HIGH * 100])

    assert (small.min, large.max) == (LOW / 100, HIGH * 100)
    assert LOW / 100 <= small.quantile(0.5) <= LOW
    assert large.quantile(0.5) == HIGH


def test_the_last_percent_of_a_few_is_the_largest():
    assert of([1.0, 2.0, 3.0]).quantile(0.99) == 3.0


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_what_is_no_share_is_refused(q):
    with pytest.raises(ValueError, match=r"pass a number from 0 to 1"):
        of([1.0]).quantile(q)


def test_a_copy_stays_as_it_was():
    times = of([1.0, 2.0])
    copied = times.copy()
    times.add(100.0)

    assert (copied.count, copied.max, times.count, times.max) == (2, 2.0, 3, 100.0)
    assert copied.quantile(0.5) == 1.0


def test_merging_leaves_the_other_as_it_was():
    times, other = of([1.0]), of([2.0])
    times.merge(other)

    assert (times.count, times.max, other.count, other.min) == (2, 2.0, 1, 2.0)


def memory(times):
    return sum(sys.getsizeof(getattr(times, name)) for name in Quantiles.__slots__)


@pytest.mark.parametrize("many", ["add", "since"])
def test_memory_does_not_grow(many):
    times, most = Quantiles(), 0
    for number in range(5 * ROOM):
        if many == "add":
            times.add(0.001 * number)
        else:
            times.since(0.0, [-0.001 * number, -0.002 * number])
        most = max(most, memory(times))

    assert most < memory(Quantiles()) + 16 * ROOM
    assert times.count == 5 * ROOM * (1 if many == "add" else 2)
