"""Thompson sampling: each arm as often as it is probably the best (Thompson, Biometrika 1933).

The probabilities themselves are computed, by quadrature, and an arm is drawn by them: so the
propensity of a choice is exactly known, which it is not where posteriors are sampled. They are
computed anew when rewards have grown by a small share, so choices stay cheap however many come.

>>> from modelserve._policy.arms import Arms
>>> arms = Arms(2, low=0.0, high=1.0)
>>> for _ in range(3):
...     arms.update(0, 1.0)
>>> [round(share, 3) for share in bernoulli(arms)]  # of Beta(4, 1) against Beta(1, 1)
[0.8, 0.2]
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from modelserve._policy.arms import Arms

Floats = NDArray[np.float64]

_FRESH = 1 / 64
"""The share by which rewards grow until probabilities are computed anew."""
_NODES = np.linspace(-7.0, 7.0, 57)
_COARSE = np.linspace(0.0, 1.0, 33)


class Thompson:
    """Probabilities that follow the rewards, with a lag of at most a sixty-fourth of them."""

    __slots__ = ("_due", "_model", "_shares")

    def __init__(self, model: Callable[[Arms], list[float]]) -> None:
        self._model = model
        self._due = 0.0
        self._shares: list[float] = []

    def __call__(self, arms: Arms) -> list[float]:
        """With what probability each arm is to be tried next."""
        if arms.rewards >= self._due:
            self._shares = self._model(arms)
            self._due = arms.rewards + max(1.0, sum(arms.count) * _FRESH)
        return self._shares


def bernoulli(arms: Arms) -> list[float]:
    """How probably each arm is best, of rewards 0 and 1, from a uniform prior."""
    n, mean = np.array(arms.count), np.array(arms.mean)
    a, b = 1 + n * mean, 1 + n * (1 - mean)
    centre = a / (a + b)
    spread = np.sqrt(centre * (1 - centre) / (a + b + 1))
    near = (centre[:, None] + spread[:, None] * _NODES).ravel()
    grid = np.unique(np.concatenate([np.clip(near, 0, 1), _COARSE]))
    inside = np.clip(grid, 1e-300, 1 - 1e-16)
    logs = (a - 1)[:, None] * np.log(inside) + (b - 1)[:, None] * np.log1p(-inside)
    return _best(grid, logs)


def gaussian(arms: Arms) -> list[float]:
    """How probably each arm has the best mean, of rewards of unknown scale.

    Means are normal about what was seen; the prior weighs as one reward in the middle of the range,
    with the largest variance that the range allows.
    """
    n, mean, deviations = map(np.array, (arms.count, arms.mean, arms.deviations))
    centre = (n * mean + 0.5) / (n + 1)
    spread = np.sqrt((deviations + 0.25) / (n + 1) / (n + 1))
    grid = np.unique(centre[:, None] + spread[:, None] * _NODES)
    logs = -0.5 * ((grid - centre[:, None]) / spread[:, None]) ** 2
    return _best(grid, logs)


def _best(grid: Floats, logs: Floats) -> list[float]:
    """Integrate the density of each arm times the chance that all others lie below."""
    density = np.exp(logs - logs.max(axis=1, keepdims=True))
    slices = (density[:, 1:] + density[:, :-1]) / 2 * np.diff(grid)
    mass = slices / slices.sum(axis=1, keepdims=True)
    below = np.cumsum(mass, axis=1) - mass / 2
    ones = np.ones_like(below[:1])
    before = np.cumprod(np.concatenate([ones, below[:-1]]), axis=0)
    after = np.cumprod(np.concatenate([ones, below[:0:-1]]), axis=0)[::-1]
    found = (mass * before * after).sum(axis=1)
    shares: list[float] = (found / found.sum()).tolist()
    return shares
