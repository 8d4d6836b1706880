"""Policies that learn from rewards which variant to choose."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, Protocol, final, runtime_checkable

from modelserve._policy.arms import Arms
from modelserve._policy.bandit import Bandit
from modelserve._policy.greedy import epsilon_greedy
from modelserve._policy.thompson import Thompson, bernoulli, gaussian
from modelserve._policy.ucb import kl_ucb, ucb1


@runtime_checkable
class Learning(Protocol):
    """What chooses by the rewards that came, for calls of any unit."""

    def bandit(self, size: int, /) -> Bandit:
        """Start to learn about so many variants."""
        ...


@final
class EpsilonGreedy:
    """The variant with the best mean reward, and at times, with probability ``epsilon``, any.

    Source: Sutton and Barto, Reinforcement Learning, section 2.2. Rewards lie in [low, high].
    Raises ValueError for an ``epsilon`` outside of [0, 1] and a range that is none.

    >>> EpsilonGreedy(0.05)
    EpsilonGreedy(epsilon=0.05, low=0.0, high=1.0)
    """

    def __init__(self, epsilon: float = 0.1, *, low: float = 0.0, high: float = 1.0) -> None:
        if not 0 <= epsilon <= 1:
            raise ValueError(f"epsilon={epsilon} is no probability in [0, 1]")
        _check_range(low, high)
        self.epsilon = epsilon
        self.low = low
        self.high = high

    def bandit(self, size: int, /) -> Bandit:
        """Start to learn about so many variants."""
        share_out = partial(epsilon_greedy, epsilon=self.epsilon)
        return Bandit(Arms(size, low=self.low, high=self.high), share_out)

    def __repr__(self) -> str:
        """Show how to write it."""
        return _shown(self)


@final
class UCB1:
    """The variant with the highest upper confidence bound of its mean reward.

    Source: Auer, Cesa-Bianchi and Fischer, Machine Learning 47, 2002, figure 1. The choice is
    certain, but for ties: propensities say so, and off-policy estimates cannot be made from them.
    Rewards lie in [low, high]. Raises ValueError for a range that is none.

    >>> UCB1(high=10.0)
    UCB1(low=0.0, high=10.0)
    """

    def __init__(self, *, low: float = 0.0, high: float = 1.0) -> None:
        _check_range(low, high)
        self.low = low
        self.high = high

    def bandit(self, size: int, /) -> Bandit:
        """Start to learn about so many variants."""
        return Bandit(Arms(size, low=self.low, high=self.high), ucb1)

    def __repr__(self) -> str:
        """Show how to write it."""
        return _shown(self)


@final
class KLUCB:
    """As :class:`UCB1` with the tighter bound of the Bernoulli divergence: less regret, more work.

    Source: Garivier and Cappé, COLT 2011, algorithm 1 with c = 0. Rewards lie in [low, high].
    Raises ValueError for a range that is none.

    >>> KLUCB()
    KLUCB(low=0.0, high=1.0)
    """

    def __init__(self, *, low: float = 0.0, high: float = 1.0) -> None:
        _check_range(low, high)
        self.low = low
        self.high = high

    def bandit(self, size: int, /) -> Bandit:
        """Start to learn about so many variants."""
        return Bandit(Arms(size, low=self.low, high=self.high), kl_ucb)

    def __repr__(self) -> str:
        """Show how to write it."""
        return _shown(self)


@final
class ThompsonSampling:
    """Each variant as often as it is probably the best.

    ``rewards`` says what they are like: "bernoulli" for yes and no, or "gaussian" for numbers. Both
    lie in [low, high]; a reward between the ends counts for "bernoulli" as that part of a yes.
    ``discount`` is what a reward weighs when another one comes: below 1, old ones fade and a
    variant that changes is found out. The probabilities that choices are drawn by are computed, so
    propensities are exact; they lag behind the rewards by at most one in 64.

    Source: Thompson, Biometrika 25, 1933. Raises ValueError for a ``discount`` outside of (0, 1]
    and a range that is none.

    >>> ThompsonSampling(discount=0.999)
    ThompsonSampling(rewards='bernoulli', discount=0.999, low=0.0, high=1.0)
    """

    def __init__(
        self,
        rewards: Literal["bernoulli", "gaussian"] = "bernoulli",
        *,
        discount: float = 1.0,
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        if rewards not in {"bernoulli", "gaussian"}:
            raise ValueError(f"rewards={rewards!r}: choose 'bernoulli' or 'gaussian'")
        if not 0 < discount <= 1:
            raise ValueError(f"discount={discount} lies outside of (0, 1]: 1 forgets nothing")
        _check_range(low, high)
        self.rewards = rewards
        self.discount = discount
        self.low = low
        self.high = high

    def bandit(self, size: int, /) -> Bandit:
        """Start to learn about so many variants."""
        arms = Arms(size, low=self.low, high=self.high, discount=self.discount)
        return Bandit(arms, Thompson(gaussian if self.rewards == "gaussian" else bernoulli))

    def __repr__(self) -> str:
        """Show how to write it."""
        return _shown(self)


def _shown(policy: object) -> str:
    options = ", ".join(f"{name}={value!r}" for name, value in vars(policy).items())
    return f"{type(policy).__name__}({options})"


def _check_range(low: float, high: float) -> None:
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"rewards in [{low}, {high}]: pass a finite low below a finite high")
