"""Upper confidence bounds: the arm that could be best, as far as is known.

>>> from modelserve._policy.arms import Arms
>>> arms = Arms(2, low=0.0, high=1.0)
>>> arms.update(0, 1.0), arms.update(1, 0.0)
(None, None)
>>> ucb1(arms), kl_ucb(arms)
([1.0, 0.0], [1.0, 0.0])
"""

from __future__ import annotations

import math
from collections.abc import Callable

from modelserve._policy.arms import Arms, best, even

_HALVINGS = 20
_EDGE = 1e-12
_UNKNOWN = 0.5
"""What counts as the mean of an arm that was tried and whose rewards are all still to come."""


def ucb1(arms: Arms) -> list[float]:
    """UCB1 of Auer, Cesa-Bianchi and Fischer, Machine Learning 47, 2002, figure 1."""
    return _by_bound(arms, lambda mean, n, log_t: mean + math.sqrt(2 * log_t / n))


def kl_ucb(arms: Arms) -> list[float]:
    """KL-UCB of Garivier and Cappé, COLT 2011, algorithm 1 with c = 0, for rewards in [0, 1]."""
    return _by_bound(arms, _kl_bound)


def _by_bound(arms: Arms, bound: Callable[[float, float, float], float]) -> list[float]:
    size = len(arms.mean)
    if untried := arms.untried():
        return even(untried, size)
    tries = [arms.known(i) for i in range(size)]
    log_t = math.log(math.fsum(tries))
    means = [mean if n else _UNKNOWN for mean, n in zip(arms.mean, arms.count, strict=True)]
    return even(best([bound(m, n, log_t) for m, n in zip(means, tries, strict=True)]), size)


def _kl_bound(mean: float, n: float, log_t: float) -> float:
    """Return the largest q whose divergence from the mean, times n, is at most ``log_t``.

    Pinsker's inequality bounds it from above, and halving finds it to a millionth of that.
    """
    p = min(max(mean, _EDGE), 1 - _EDGE)
    level = log_t / n - p * math.log(p) - (1 - p) * math.log(1 - p)
    low, high = p, min(1 - _EDGE, p + math.sqrt(log_t / n / 2))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if -p * math.log(middle) - (1 - p) * math.log(1 - middle) <= level:
            low = middle
        else:
            high = middle
    return low
