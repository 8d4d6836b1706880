import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.costs import GOOD, REACH, SURE, Costs
from tests._policy.costing import (
    BATCHES,
    SECONDS,
    SHAPES,
    SIZES,
    learned,
    linear,
    noise,
    of_shape,
)

LIMITS = st.integers(1, 300)


def capped_by_its_knee(shape, *, limit, factor, seed, batches=600):
    """Serve random, then full load in batches of the knee; return the sizes under full load.

    The first three calls are 300 times as slow.
    """
    costs, sizes = Costs(), []
    load = random.Random(seed)  # noqa: S311 - no secret
    for number in range(2 * batches):
        waiting = load.randint(1, 2 * limit) if number < batches else limit
        sizes.append(min(waiting, costs.knee(limit)))
        costs.observe(sizes[-1], shape(sizes[-1]) * factor() * (300 if number < 3 else 1))
    return sizes[batches:]


def rate(shape, sizes):
    return sum(sizes) / sum(map(shape, sizes))


@pytest.mark.parametrize(
    ("shape", "knee"),
    [("flat", 63), ("linear", 53), ("proportional", 1), ("concave", 61), ("V", 32)],
)
def test_knees_of_known_costs(shape, knee):
    assert of_shape(SHAPES[shape], times=SURE).knee(64) == pytest.approx(knee, abs=1)


@given(batches=BATCHES, limit=LIMITS)
def test_a_knee_is_the_smallest_size_with_nearly_the_best_rate(batches, limit):
    costs = learned(batches)
    limit = min(limit, max(1, math.floor(costs._known()._sizes[-1])))
    knee = costs.knee(limit)
    rates = [n / costs.expected(n) for n in range(1, limit + 1)]
    enough = GOOD * max(rates) * (1 - 1e-9)

    if len(costs._known()) > 1:
        assert knee == next(n for n, rate in enumerate(rates, 1) if rate >= enough) or (
            rates[knee - 2] == pytest.approx(enough)
        )
    else:
        assert knee == limit


@given(batches=BATCHES, limit=LIMITS, seconds=SECONDS)
def test_the_largest_is_the_largest_that_takes_no_longer(batches, limit, seconds):
    costs = learned(batches)
    known = costs._known()._sizes
    top = limit if len(known) == 1 else max(1, min(limit, math.ceil(REACH * known[-1])))
    largest = costs.largest(seconds, limit)

    assert 1 <= largest <= top
    assert largest == 1 or costs.high(largest) <= seconds * (1 + 1e-9)
    assert largest == top or costs.high(largest + 1) >= seconds * (1 - 1e-9)
    assert all(costs.high(n) >= seconds * (1 - 1e-9) for n in range(largest + 1, top + 1))


@given(batches=BATCHES, size=SIZES)
def test_whatever_was_seen_costs_are_positive_and_finite(batches, size):
    costs = learned(batches)

    assert 0 <= costs.expected(size) <= costs.high(size) < math.inf
    assert costs.expected(1 + size) > 0


@pytest.mark.parametrize("shape", sorted(set(SHAPES) - {"V"}))
@pytest.mark.parametrize("deviation", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_under_load_the_knee_gives_a_good_rate_in_spite_of_slow_first_calls(shape, deviation, seed):
    cost = SHAPES[shape]
    sizes = capped_by_its_knee(cost, limit=64, factor=noise(seed, deviation), seed=seed)
    best = max(n / cost(n) for n in range(1, 65))

    assert rate(cost, sizes) >= 0.8 * best


def test_a_larger_size_is_tried_while_it_might_be_better():
    costs, tried = of_shape(linear, (1, 2)), []
    for _ in range(9):
        tried.append(costs.knee(1024))
        costs.observe(tried[-1], linear(tried[-1]))

    assert tried == [4, 8, 16, 32, 64, 128, 256, 512, 1024]


def test_a_larger_size_that_would_be_worse_at_the_same_cost_is_not_tried():
    costs = learned([(1, 0.001), (2, 0.010)] * SURE)

    assert costs.knee(64) == 1
