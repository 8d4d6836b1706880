"""What another policy would have earned, from the choices and rewards that were logged.

Each logged choice has its reward, the propensity that its assignment names, and the probability
with which the other policy would have chosen the same. Their ratio is the weight of the reward.

>>> from modelserve.splitter import off_policy
>>> log = [("a", 0.8, 0.0), ("a", 0.8, 1.0), ("b", 0.2, 1.0), ("a", 0.8, 0.0), ("b", 0.2, 1.0)]
>>> variants, propensities, rewards = zip(*log)
>>> always_b = [float(variant == "b") for variant in variants]
>>> off_policy.snips(rewards, propensities, always_b).value
1.0
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "Numbers", "doubly_robust", "ips", "snips"]

Floats: TypeAlias = NDArray[np.float64]
Numbers: TypeAlias = Sequence[float] | Floats
"""One number a logged choice."""


class Estimate(NamedTuple):
    """A mean reward between two bounds, and what it rests on.

    ``effective`` is how many unweighted rewards would tell as much (Kish, Survey Sampling, 1965).
    ``weight`` is the mean weight, which is near 1 where the log can answer at all: far below it,
    the policy that was logged hardly ever did what the other one would do.

    >>> Estimate(0.5, 0.4, 0.6, effective=100.0, weight=1.0).value
    0.5
    """

    value: float
    low: float
    high: float
    effective: float
    weight: float


def ips(
    rewards: Numbers, propensities: Numbers, targets: Numbers, *, level: float = 0.95
) -> Estimate:
    """Weigh each reward by inverse propensity: unbiased, and of large variance.

    Source: Horvitz and Thompson, Journal of the American Statistical Association 47, 1952. Bounds
    are those of the normal distribution at a confidence of ``level``. Raises ValueError for inputs
    of unlike length, fewer than two, propensities outside of (0, 1] and targets outside of [0, 1].

    >>> ips([1.0, 0.0, 1.0, 0.0], [0.5] * 4, [1.0, 0.0, 0.0, 1.0]).value
    0.5
    """
    r, w = _weighted(rewards, propensities, targets)
    return _estimate(w * r, w, level)


def snips(
    rewards: Numbers, propensities: Numbers, targets: Numbers, *, level: float = 0.95
) -> Estimate:
    """Divide by the sum of the weights: a small bias, and a much smaller variance.

    Source: Swaminathan and Joachims, "The self-normalized estimator", NIPS 2015; the bounds are
    those of the delta method. Raises ValueError as :func:`ips`, and where no weight is above zero.

    >>> snips([1.0, 0.0, 1.0], [0.5, 0.5, 0.25], [1.0, 1.0, 1.0]).value
    0.75
    """
    r, w = _weighted(rewards, propensities, targets)
    if not w.any():
        raise ValueError("the other policy would have made none of the logged choices")
    value = float((w * r).sum() / w.sum())
    return _estimate(value + w * (r - value) / w.mean(), w, level)


def doubly_robust(  # noqa: PLR0913 - one word each, all of them of the field
    rewards: Numbers,
    propensities: Numbers,
    targets: Numbers,
    predicted: Numbers,
    expected: Numbers,
    *,
    level: float = 0.95,
) -> Estimate:
    """Correct a model of the rewards by the weighted errors that it made.

    ``predicted`` is what the model says of the logged choice, ``expected`` what it says of the
    other policy: its predictions of all variants, weighted by the other policy's probabilities. The
    estimate is consistent if either the propensities or the model are right; with both zero it is
    that of :func:`ips`. The model must not have been fitted to the same log.

    Source: Dudík, Langford and Li, "Doubly robust policy evaluation", ICML 2011. Raises ValueError
    as :func:`ips`.

    >>> doubly_robust([1.0, 0.0], [0.5, 0.5], [1.0, 0.0], [0.5, 0.5], [0.5, 0.5]).value
    1.0
    """
    r, w = _weighted(rewards, propensities, targets)
    said, instead = _numbers("predicted", predicted, r.size), _numbers("expected", expected, r.size)
    return _estimate(instead + w * (r - said), w, level)


def _weighted(rewards: Numbers, propensities: Numbers, targets: Numbers) -> tuple[Floats, Floats]:
    r = _numbers("rewards", rewards, len(rewards))
    p = _numbers("propensities", propensities, r.size)
    t = _numbers("targets", targets, r.size)
    if r.size < 2:  # noqa: PLR2004 - of one there is no variance
        raise ValueError(f"{r.size} logged choices are too few: pass at least two")
    if not ((p > 0) & (p <= 1)).all():
        raise ValueError("propensities lie in (0, 1]: what had no chance cannot have been logged")
    if not ((t >= 0) & (t <= 1)).all():
        raise ValueError("targets lie in [0, 1]: they are the other policy's probabilities")
    return r, t / p


def _numbers(name: str, values: Numbers, size: int) -> Floats:
    made = np.asarray(values, dtype=np.float64)
    if made.shape != (size,):
        raise ValueError(f"{name} have the shape {made.shape}: pass {size} numbers, one a choice")
    if not np.isfinite(made).all():
        raise ValueError(f"{name} are not all finite")
    return made


def _estimate(terms: Floats, w: Floats, level: float) -> Estimate:
    """Return the mean of terms with normal bounds."""
    from statistics import NormalDist

    if not 0 < level < 1:
        raise ValueError(f"level={level} is no confidence in (0, 1)")
    value = float(terms.mean())
    error = float(terms.std(ddof=1)) / math.sqrt(terms.size)
    reach = NormalDist().inv_cdf((1 + level) / 2) * error
    squares = float((w * w).sum())
    effective = float(w.sum()) ** 2 / squares if squares else 0.0
    return Estimate(value, value - reach, value + reach, effective, float(w.mean()))
