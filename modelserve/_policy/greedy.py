"""Epsilon-greedy: mostly the arm that is best so far, at times any (Sutton and Barto, section 2.2).

>>> from modelserve._policy.arms import Arms
>>> arms = Arms(2, low=0.0, high=1.0)
>>> arms.update(0, 1.0), arms.update(1, 0.0)
(None, None)
>>> epsilon_greedy(arms, 0.5)
[0.75, 0.25]
"""

from __future__ import annotations

from modelserve._policy.arms import Arms, best, even


def epsilon_greedy(arms: Arms, epsilon: float) -> list[float]:
    """With what probability each arm is to be tried next; those never tried go first."""
    size = len(arms.mean)
    if untried := arms.untried():
        return even(untried, size)
    greedy = even(best(arms.mean), size)
    return [epsilon / size + (1 - epsilon) * share for share in greedy]
