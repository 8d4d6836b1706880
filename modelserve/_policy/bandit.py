"""A bandit: arms, and a policy that shares the next try out between them.

>>> from modelserve._policy.ucb import ucb1
>>> bandit = Bandit(Arms(2, low=0.0, high=1.0), ucb1)
>>> bandit.choose(0.7)
(1, 0.5)
>>> bandit.tried(1), bandit.choose(0.7)
(None, (0, 1.0))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from modelserve._policy.arms import Arms
from modelserve._policy.buckets import pick


class Bandit:
    """What is known of the arms, and what follows from it."""

    __slots__ = ("_share_out", "arms")

    def __init__(self, arms: Arms, share_out: Callable[[Arms], Sequence[float]]) -> None:
        self.arms = arms
        self._share_out = share_out

    def shares(self) -> Sequence[float]:
        """With what probability each arm is to be tried next; they sum to 1."""
        return self._share_out(self.arms)

    def choose(self, u: float) -> tuple[int, float]:
        """Return an arm and its propensity, by a number drawn evenly from [0, 1)."""
        shares = self.shares()
        index = pick(shares, u)
        return index, shares[index]

    def tried(self, index: int) -> None:
        """Note that an arm is tried, whose reward may come at any time or never."""
        self.arms.tries[index] += 1

    def update(self, index: int, reward: float) -> None:
        """Learn a reward. Raises ValueError outside of the declared range."""
        self.arms.update(index, reward)
