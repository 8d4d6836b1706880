"""Estimates for another policy: by hand, by enumeration, and by how often their bounds hold."""

import itertools
import random

import numpy as np
import pytest

import modelserve as ms
from modelserve.splitter import off_policy
from tests.splitter.arms import splitter

REWARDS = [1.0, 0.0, 1.0, 1.0]
PROPENSITIES = [0.5, 0.5, 0.25, 0.25]
TARGETS = [1.0, 0.0, 1.0, 0.5]  # weights 2, 0, 4, 2
Z = 1.959963984540054


def test_ips_by_hand():
    found = off_policy.ips(REWARDS, PROPENSITIES, TARGETS)
    reach = Z * (8 / 3 / 4) ** 0.5  # terms 2, 0, 4, 2

    assert found == pytest.approx((2.0, 2.0 - reach, 2.0 + reach, 64 / 24, 2.0))


def test_snips_by_hand():
    found = off_policy.snips([1.0, 0.0, 0.0, 1.0], PROPENSITIES, TARGETS)
    # 4 / 8; terms .5 + w (r - .5) / 2 are 1, .5, -.5, 1, their variance .5
    reach = Z * (0.5 / 4) ** 0.5

    assert found == pytest.approx((0.5, 0.5 - reach, 0.5 + reach, 64 / 24, 2.0))


def test_doubly_robust_by_hand():
    predicted, expected = [0.5, 0.5, 0.5, 1.0], [0.4, 0.6, 0.4, 0.6]
    found = off_policy.doubly_robust(REWARDS, PROPENSITIES, TARGETS, predicted, expected)

    assert found.value == pytest.approx((1.4 + 0.6 + 2.4 + 0.6) / 4)


def test_without_a_model_doubly_robust_is_ips():
    nothing = [0.0] * 4

    assert off_policy.doubly_robust(
        REWARDS, PROPENSITIES, TARGETS, nothing, nothing
    ) == off_policy.ips(REWARDS, PROPENSITIES, TARGETS)


def test_a_perfect_model_needs_no_weights():
    found = off_policy.doubly_robust(REWARDS, PROPENSITIES, TARGETS, REWARDS, [0.75] * 4)

    assert found[:3] == (0.75, 0.75, 0.75)


@pytest.mark.parametrize("model", [(0.0, 0.0), (0.3, 0.9), (-5.0, 2.0)])
def test_ips_and_doubly_robust_are_unbiased_over_all_logs(model):
    logging, other, chances = (0.8, 0.2), (0.3, 0.7), (0.4, 0.9)
    outcomes = [
        (arm, reward, logging[arm] * (chances[arm] if reward else 1 - chances[arm]))
        for arm, reward in itertools.product((0, 1), (0.0, 1.0))
    ]
    expected = sum(other[arm] * model[arm] for arm in (0, 1))
    mean_ips = mean_dr = 0.0
    for log in itertools.product(outcomes, repeat=3):
        chance = np.prod([each[2] for each in log])
        rewards = [reward for _, reward, _ in log]
        p, t = [logging[arm] for arm, *_ in log], [other[arm] for arm, *_ in log]
        mean_ips += chance * off_policy.ips(rewards, p, t).value
        said = [model[arm] for arm, *_ in log]
        mean_dr += chance * off_policy.doubly_robust(rewards, p, t, said, [expected] * 3).value

    assert mean_ips == pytest.approx(0.3 * 0.4 + 0.7 * 0.9)
    assert mean_dr == pytest.approx(0.3 * 0.4 + 0.7 * 0.9)


def logged(dice, size):
    """A log of two arms, as arrays of rewards, propensities and targets, and the arms."""
    arms = (dice.random(size) < 0.2).astype(int)
    rewards = (dice.random(size) < np.array([0.4, 0.9])[arms]).astype(float)
    return rewards, np.array([0.8, 0.2])[arms], np.array([0.3, 0.7])[arms], arms


def by_model(rewards, propensities, targets, arms):
    model = np.array([0.5, 0.8])
    expected = np.full(len(rewards), 0.3 * model[0] + 0.7 * model[1])
    return off_policy.doubly_robust(rewards, propensities, targets, model[arms], expected)


@pytest.mark.parametrize(
    "estimate",
    [
        lambda r, p, t, arms: off_policy.ips(r, p, t),
        lambda r, p, t, arms: off_policy.snips(r, p, t),
        by_model,
    ],
    ids=["ips", "snips", "doubly-robust"],
)
def test_the_bounds_hold_as_often_as_they_say(estimate):
    dice = np.random.default_rng(1)
    truth = 0.3 * 0.4 + 0.7 * 0.9
    found = [estimate(*logged(dice, 500)) for _ in range(1_000)]
    held = sum(each.low <= truth <= each.high for each in found)

    assert 930 <= held <= 970  # three standard errors about 950
    assert all(abs(each.weight - 1) < 0.5 for each in found)


def test_the_log_of_a_splitter_tells_what_another_policy_would_have_earned():
    split = splitter(
        weights={"a": None, "b": None},
        policy=ms.EpsilonGreedy(0.3),
        rng=random.Random(2),  # noqa: S311 - no secret
    )
    dice = random.Random(4)  # noqa: S311 - no secret
    choices, rewards = [], []
    for _ in range(3_000):
        with ms.request() as r:
            split("x")
        choices.append(ms.Assignment(**r.record["demo.assignment"]))
        rewards.append(float(dice.random() < {"a": 0.6, "b": 0.4}[choices[-1].variant]))
        split.reward(choices[-1], rewards[-1])
    found = ms.off_policy.snips(
        rewards,
        [choice.propensity for choice in choices],
        [float(choice.variant == "b") for choice in choices],
    )

    assert found.low < 0.4 < found.high < 0.5


def test_a_log_that_never_did_what_the_other_would_do_shows_in_its_weight():
    found = off_policy.ips([1.0, 0.0], [1.0, 1.0], [0.0, 0.0])

    assert (found.weight, found.effective) == (0.0, 0.0)
    with pytest.raises(ValueError, match="would have made none of the logged choices"):
        off_policy.snips([1.0, 0.0], [1.0, 1.0], [0.0, 0.0])


@pytest.mark.parametrize(
    ("rewards", "propensities", "targets", "level", "message"),
    [
        ([1.0], [1.0], [1.0], 0.95, "1 logged choices are too few"),
        ([1.0, 0.0], [1.0], [1.0, 1.0], 0.95, r"propensities have the shape \(1,\): pass 2 num"),
        ([1.0, 0.0], [1.0, 1.0], [[1.0, 1.0]], 0.95, r"targets have the shape \(1, 2\)"),
        ([1.0, np.nan], [1.0, 1.0], [1.0, 1.0], 0.95, "rewards are not all finite"),
        ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0], 0.95, r"propensities lie in \(0, 1\]"),
        ([1.0, 0.0], [1.5, 1.0], [1.0, 1.0], 0.95, r"propensities lie in \(0, 1\]"),
        ([1.0, 0.0], [1.0, 1.0], [1.5, 1.0], 0.95, r"targets lie in \[0, 1\]"),
        ([1.0, 0.0], [1.0, 1.0], [-0.5, 1.0], 0.95, r"targets lie in \[0, 1\]"),
        ([1.0, 0.0], [1.0, 1.0], [1.0, 1.0], 95, r"level=95 is no confidence in \(0, 1\)"),
    ],
)
def test_what_is_no_log_is_refused(rewards, propensities, targets, level, message):
    with pytest.raises(ValueError, match=message):
        off_policy.ips(rewards, propensities, targets, level=level)
