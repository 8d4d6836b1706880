"""Thompson sampling: probabilities against closed forms, and what it loses."""

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.arms import Arms
from modelserve._policy.thompson import Thompson, bernoulli, gaussian
from tests._policy.bandits import TEN, TWO, arms, mean_loss

both = pytest.mark.parametrize("model", [bernoulli, gaussian])


def known(*wins_and_losses):
    return arms(*([1.0] * wins + [0.0] * losses for wins, losses in wins_and_losses))


def first_is_better(wins, losses, other_wins, other_losses):
    """P(X > Y) of X ~ Beta(a, b) and Y ~ Beta(c, d), with c whole: a sum, exactly."""
    a, b, c, d = wins + 1, losses + 1, other_wins + 1, other_losses + 1

    def log_beta(x, y):
        return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)

    below = 0.0  # P(Y > X) = sum over i < c of B(a + i, b + d) / ((d + i) B(1 + i, d) B(a, b))
    for i in range(c):
        below += math.exp(
            log_beta(a + i, b + d) - math.log(d + i) - log_beta(1 + i, d) - log_beta(a, b)
        )
    return 1 - below


counts = st.tuples(st.integers(0, 400), st.integers(0, 400))


@given(one=counts, other=counts)
def test_two_arms_agree_with_the_closed_form(one, other):
    shares = bernoulli(known(one, other))

    assert shares[0] == pytest.approx(first_is_better(*one, *other), abs=2e-3)
    assert math.fsum(shares) == pytest.approx(1.0, abs=1e-12)


def test_of_three_untried_arms_and_one_that_never_failed():
    # P(best) of Beta(4, 1) among two uniform ones: the integral of 4 x^3 x^2
    shares = bernoulli(known((3, 0), (0, 0), (0, 0)))

    assert shares[0] == pytest.approx(float(Fraction(4, 6)), abs=2e-3)
    assert shares[1] == pytest.approx(shares[2], abs=1e-12)


def test_gaussian_arms_agree_with_the_closed_form():
    tried = arms([0.2, 0.4, 0.6], [0.5, 0.7])
    means = [(1.2 + 0.5) / 4, (1.2 + 0.5) / 3]
    variances = [(0.08 + 0.25) / 16, (0.02 + 0.25) / 9]
    z = (means[0] - means[1]) / math.sqrt(sum(variances))

    assert gaussian(tried)[0] == pytest.approx(0.5 * math.erfc(-z / math.sqrt(2)), abs=2e-3)


@both
def test_untried_arms_share_evenly(model):
    assert model(Arms(4, low=0.0, high=1.0)) == pytest.approx([0.25] * 4)


@both
@given(given_=st.lists(st.lists(st.floats(0, 1), max_size=8), min_size=1, max_size=12))
def test_shares_are_shares_whatever_came(model, given_):
    shares = model(arms(*given_))

    assert all(0 <= share <= 1 for share in shares)
    assert math.fsum(shares) == pytest.approx(1.0)


@both
def test_a_million_rewards_are_no_trouble(model):
    tried = arms([1.0, 0.0], [1.0, 0.0])
    tried.count, tried.deviations = [1e6, 1e6], [2.5e5, 2.5e5]
    tried.mean = [0.501, 0.5]
    z = 0.001 / math.sqrt(2 * 0.25 / 1e6)

    assert model(tried)[0] == pytest.approx(0.5 * math.erfc(-z / math.sqrt(2)), abs=3e-3)


def test_probabilities_are_computed_anew_when_rewards_grew_by_a_share():
    asked = []

    def model(tried):
        asked.append(tried.rewards)
        return [1.0]

    policy, tried = Thompson(model), arms([])
    for _ in range(1_000):
        policy(tried)
        tried.update(0, 1.0)

    assert asked[:64] == list(range(64))
    assert all(later - early <= early / 64 + 1 for early, later in itertools.pairwise(asked))
    assert 200 < len(asked) < 300


@pytest.mark.parametrize(
    ("model", "chances", "runs", "most"),
    [  # published runs have means of 10.1 (standard error .5) and 80.2 (1.2) at 10,000 steps
        (bernoulli, TWO, 40, 10.1 + 2 * 1.2),
        (bernoulli, TEN, 15, 80.2 + 2 * 3.5),
        (gaussian, TWO, 20, 10.1 + 2 * 2.0),
    ],
)
def test_losses_are_those_of_the_field(model, chances, runs, most):
    assert 4 < mean_loss(lambda: Thompson(model), chances, runs) < most


def test_rewards_that_come_late_cost_little():
    assert mean_loss(lambda: Thompson(bernoulli), TWO, 10, steps=5_000, delay=100) < 20


def test_a_discount_finds_out_that_the_best_arm_changed():
    steady, fading = arms([], []), arms([], [], discount=0.99)
    for tried in (steady, fading):
        for _ in range(500):
            tried.update(0, 1.0)
            tried.update(1, 0.5)
        for _ in range(250):
            tried.update(0, 0.0)
            tried.update(1, 0.5)

    assert bernoulli(steady)[0] > 0.9
    assert bernoulli(fading)[0] < 0.1
