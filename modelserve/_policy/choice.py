"""Which of several equals answers next.

>>> least([2, 0, 1], turn=0), least([1, 1, 1], turn=2), least([1, 0, 0], turn=3)
(1, 2, 1)
"""

from __future__ import annotations

from collections.abc import Sequence


def least(outstanding: Sequence[int], turn: int) -> int:
    """Return the index of one with the fewest calls in progress; those that tie take turns.

    ``turn`` grows by one a choice. To join the shortest queue is optimal among equal servers whose
    service times do not tell their rest (Winston, "Optimality of the Shortest Line Discipline",
    J. Appl. Probab. 14(1), 1977).
    """
    n = len(outstanding)
    return min(range(n), key=lambda i: (outstanding[i], (i - turn) % n))
