"""What is known of arms: moments that agree with the plain formulas, and nothing more is kept."""

import re
import statistics
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserve._policy.arms import Arms, best, even
from tests._policy.bandits import arms

rewards = st.lists(st.floats(-3, 7), min_size=1, max_size=30)


@given(first=rewards, second=rewards)
def test_moments_are_those_of_the_rewards_on_the_scale_of_the_range(first, second):
    known = arms(first, second, low=-3.0, high=7.0)

    for index, given_ in enumerate((first, second)):
        scaled = [(reward + 3) / 10 for reward in given_]
        assert known.count[index] == len(scaled)
        assert known.mean[index] == pytest.approx(statistics.fmean(scaled), abs=1e-12)
        spread = statistics.pvariance(scaled) * len(scaled)
        assert known.deviations[index] == pytest.approx(spread, abs=1e-9)


@given(given_=rewards, discount=st.floats(0.1, 0.99))
def test_discounted_moments_weigh_rewards_by_their_age(given_, discount):
    known = arms(given_, low=-3.0, high=7.0, discount=discount)
    ages = range(len(given_) - 1, -1, -1)
    weights = [discount**age for age in ages]
    scaled = [(reward + 3) / 10 for reward in given_]
    mean = sum(w * x for w, x in zip(weights, scaled, strict=True)) / sum(weights)
    spread = sum(w * (x - mean) ** 2 for w, x in zip(weights, scaled, strict=True))

    assert known.count[0] == pytest.approx(sum(weights))
    assert known.mean[0] == pytest.approx(mean, abs=1e-9)
    assert known.deviations[0] == pytest.approx(spread, abs=1e-9)


def test_the_rewards_of_one_arm_age_those_of_all():
    known = arms([1.0], [1.0, 1.0], discount=0.5)

    assert known.count == [0.25, 1.5]


@pytest.mark.parametrize("reward", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_reward_outside_of_the_range_is_refused_and_changes_nothing(reward):
    known = arms([1.0])
    message = f"reward={reward} lies outside of the declared range: the policy has low=0.0 and"
    with pytest.raises(ValueError, match=re.escape(message)):
        known.update(0, reward)

    assert (known.count, known.rewards) == ([1.0], 1)


def test_an_arm_is_tried_when_it_was_chosen_or_a_reward_came_from_elsewhere():
    known = Arms(3, low=0.0, high=1.0)
    known.tries[0] += 1
    known.update(1, 0.0)

    assert known.untried() == [2]
    assert [known.known(i) for i in range(3)] == [1, 1, 0]


def test_what_is_kept_does_not_grow():
    known, more = arms([1.0]), arms([1.0] * 10_000)

    assert {slot: sys.getsizeof(getattr(more, slot)) for slot in Arms.__slots__} == {
        slot: sys.getsizeof(getattr(known, slot)) for slot in Arms.__slots__
    }


def test_even_shares_and_best_values():
    assert even([1], 2) == [0.0, 1.0]
    assert best([0.2, 0.2]) == [0, 1]
    assert even(best([0.3, 0.1, 0.3]), 3) == [0.5, 0.0, 0.5]
