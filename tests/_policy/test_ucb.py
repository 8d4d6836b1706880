"""Upper bounds: by their definitions, and what they lose."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.ucb import _kl_bound, kl_ucb, ucb1
from tests._policy.bandits import TEN, TWO, arms, mean_loss

both = pytest.mark.parametrize("policy", [ucb1, kl_ucb])


@both
def test_arms_never_tried_go_first(policy):
    assert policy(arms([1.0], [], [])) == [0.0, 0.5, 0.5]


@both
def test_equals_share(policy):
    assert policy(arms([1.0, 0.0], [0.0, 1.0], [0.0, 0.0])) == [0.5, 0.5, 0.0]


@both
def test_of_equal_means_the_less_tried_is_chosen(policy):
    assert policy(arms([1.0, 0.0] * 5, [1.0, 0.0])) == [0.0, 1.0]


@both
def test_an_arm_whose_rewards_are_late_is_not_tried_for_ever(policy):
    known = arms([1.0, 1.0, 1.0, 0.0] * 5, [])
    known.tries[1] = 200

    assert policy(known) == [1.0, 0.0]


def test_ucb1_is_as_published():
    known = arms([1.0] * 3 + [0.0], [1.0])  # 0.75 + sqrt(2 ln 5 / 4), 1 + sqrt(2 ln 5)
    assert ucb1(known) == [0.0, 1.0]
    known = arms([1.0] * 40, [0.0] * 3)
    bounds = [1 + math.sqrt(2 * math.log(43) / 40), math.sqrt(2 * math.log(43) / 3)]

    assert ucb1(known) == [float(bounds[0] > bounds[1]), float(bounds[0] < bounds[1])]


@given(mean=st.floats(0, 1), n=st.integers(1, 10_000), t=st.integers(2, 10**6))
def test_the_bound_of_kl_ucb_is_where_the_divergence_is_used_up(mean, n, t):
    log_t = math.log(t)
    bound = _kl_bound(mean, n, log_t)
    p = min(max(mean, 1e-12), 1 - 1e-12)

    def divergence(q):
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    assert p <= bound < 1
    assert divergence(bound) * n <= log_t * (1 + 1e-9) + 1e-6 * n
    beyond = bound + 1e-5 * math.sqrt(log_t / n)
    assert beyond >= 1 or divergence(beyond) * n >= log_t * (1 - 1e-9) - 1e-6 * n


def test_the_bound_of_sure_rewards_is_sure():
    assert _kl_bound(1.0, 5.0, 3.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("policy", "chances", "runs", "least", "most"),
    [  # published runs have means of 86.0, 500 and 12.8 at 10,000 steps
        (ucb1, TWO, 8, 76, 96),
        (ucb1, TEN, 3, 485, 515),
        (kl_ucb, TWO, 4, 3, 25),
    ],
)
def test_losses_are_those_of_the_field(policy, chances, runs, least, most):
    assert least < mean_loss(lambda: policy, chances, runs) < most


@both
def test_late_rewards_cost_little(policy):
    assert mean_loss(lambda: policy, TWO, 3, steps=2_000, delay=100) < 75
