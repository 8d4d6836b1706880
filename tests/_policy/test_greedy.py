"""Epsilon-greedy: its shares, and what it loses."""

from functools import partial

import pytest

from modelserve._policy.greedy import epsilon_greedy
from tests._policy.bandits import TWO, arms, mean_loss


def test_arms_never_tried_go_first():
    assert epsilon_greedy(arms([1.0], [], []), 0.0) == [0.0, 0.5, 0.5]


def test_the_best_gets_all_but_epsilon():
    assert epsilon_greedy(arms([1.0], [0.0], [0.5], [0.2]), 0.2) == pytest.approx(
        [0.85, 0.05, 0.05, 0.05]
    )


def test_equals_share_what_the_best_gets():
    assert epsilon_greedy(arms([1.0], [1.0], [0.0]), 0.3) == pytest.approx([0.45, 0.45, 0.1])


def test_without_epsilon_it_is_greedy_and_with_all_of_it_even():
    known = arms([1.0], [0.0])

    assert epsilon_greedy(known, 0.0) == [1.0, 0.0]
    assert epsilon_greedy(known, 1.0) == [0.5, 0.5]


def test_it_loses_what_exploring_costs():
    lost = mean_loss(lambda: partial(epsilon_greedy, epsilon=0.1), TWO, 8)

    assert 45 < lost < 65  # half of 0.1 of 10,000 steps costs 0.1 each: 50
