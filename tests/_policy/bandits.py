"""Simulated arms: rewards of 0 and 1 with fixed chances, and what a policy loses to the best."""

import random
from statistics import mean

from modelserve._policy.arms import Arms
from modelserve._policy.bandit import Bandit

TWO = (0.9, 0.8)
TEN = (0.1, 0.05, 0.05, 0.05, 0.02, 0.02, 0.02, 0.01, 0.01, 0.01)


def arms(*rewards, low=0.0, high=1.0, discount=1.0):
    """Make arms that had these lists of rewards."""
    made = Arms(len(rewards), low=low, high=high, discount=discount)
    for index, given in enumerate(rewards):
        for reward in given:
            made.tries[index] += 1
            made.update(index, reward)
    return made


def loss(policy, chances, seed, *, steps=10_000, delay=0):
    """What a policy loses to the best arm in one run, with rewards that come some steps late."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    bandit = Bandit(Arms(len(chances), low=0.0, high=1.0), policy())
    late, lost = [], 0.0
    for _ in range(steps):
        index, propensity = bandit.choose(dice.random())
        assert 0 < propensity <= 1
        bandit.tried(index)
        late.append((index, float(dice.random() < chances[index])))
        if len(late) > delay:
            bandit.update(*late.pop(0))
        lost += max(chances) - chances[index]
    return lost


def mean_loss(policy, chances, runs, **options):
    """The mean loss over some seeded runs."""
    return mean(loss(policy, chances, seed, **options) for seed in range(runs))
