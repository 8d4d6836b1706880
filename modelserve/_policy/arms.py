"""What is known of each arm of a bandit: counts and moments of rewards, of a size that never grows.

Rewards are kept on the scale [0, 1], so that every policy reads them alike.

>>> arms = Arms(2, low=0.0, high=10.0)
>>> arms.update(1, 5.0)
>>> arms.mean, arms.count
([0.0, 0.5], [0.0, 1.0])
"""

from __future__ import annotations


class Arms:
    """Tries, and the count, mean and sum of squared deviations of rewards, an entry an arm.

    ``discount`` is what an old reward weighs when another one comes. The moments are updated as by
    Welford, "Note on a method for calculating corrected sums of squares", Technometrics 1962.
    """

    __slots__ = ("count", "deviations", "discount", "high", "low", "mean", "rewards", "tries")

    def __init__(self, size: int, *, low: float, high: float, discount: float = 1.0) -> None:
        self.low = low
        self.high = high
        self.discount = discount
        self.tries = [0] * size
        self.rewards = 0
        self.count = [0.0] * size
        self.mean = [0.0] * size
        self.deviations = [0.0] * size

    def check(self, reward: float) -> None:
        """Raise ValueError for a reward outside of the range."""
        if not self.low <= reward <= self.high:
            raise ValueError(
                f"reward={reward} lies outside of the declared range: "
                f"the policy has low={self.low} and high={self.high}"
            )

    def update(self, index: int, reward: float) -> None:
        """Learn the reward of one try. Raises ValueError outside of the range."""
        self.check(reward)
        self.rewards += 1
        if self.discount < 1:
            self.count = [n * self.discount for n in self.count]
            self.deviations = [d * self.discount for d in self.deviations]
        scaled = (reward - self.low) / (self.high - self.low)
        self.count[index] += 1
        off = scaled - self.mean[index]
        self.mean[index] += off / self.count[index]
        self.deviations[index] += off * (scaled - self.mean[index])

    def known(self, index: int) -> float:
        """How often an arm was tried, wherever that was: here, or where its rewards came from."""
        return max(self.tries[index], self.count[index])

    def untried(self) -> list[int]:
        """The arms that nobody tried yet."""
        return [i for i in range(len(self.tries)) if not self.known(i)]


def even(chosen: list[int], size: int) -> list[float]:
    """Share evenly between some arms.

    >>> even([0, 2], 3)
    [0.5, 0.0, 0.5]
    """
    shares = [0.0] * size
    for index in chosen:
        shares[index] = 1 / len(chosen)
    return shares


def best(values: list[float]) -> list[int]:
    """The arms of the largest value.

    >>> best([0.1, 0.7, 0.7])
    [1, 2]
    """
    largest = max(values)
    return [index for index, value in enumerate(values) if value == largest]
