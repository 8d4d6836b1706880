"""Costs of some shapes, and what is learned of them."""

import math
import random

from hypothesis import strategies as st

from modelserve._policy.costs import Costs

SIZES = st.one_of(st.integers(1, 300), st.floats(0, 1e6), st.just(0))
SECONDS = st.one_of(st.floats(0, 100), st.floats(0.001, 0.1))
BATCHES = st.lists(st.tuples(SIZES, SECONDS), min_size=1, max_size=60)
POWERS = (1, 2, 4, 8, 16, 32, 64)


def linear(n):
    return 0.010 + 0.001 * n


SHAPES = {
    "flat": lambda n: 0.010,
    "linear": linear,
    "proportional": lambda n: 0.001 * n,
    "concave": lambda n: 0.002 * math.sqrt(n),
    "convex": lambda n: 0.010 + 0.001 * n + 0.00002 * n * n,
    "U": lambda n: 0.010 + 0.00001 * (n - 24) ** 2,
    "V": lambda n: 0.005 + 0.001 * abs(n - 32),
}


def learned(batches):
    costs = Costs()
    for size, seconds in batches:
        costs.observe(size, seconds)
    return costs


def of_shape(shape, sizes=POWERS, times=2):
    return learned([(n, shape(n)) for n in sizes] * times)


def noise(seed, deviation):
    """Make a function that gives positive numbers of mean 1."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    return lambda: rng.lognormvariate(-(deviation**2) / 2, deviation)
