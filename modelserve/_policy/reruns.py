"""How often a batch that failed may be run again in parts, so that its bad items fail alone.

One bad item is always found: 2 log2 n runs are every batch's own. What many bad items take beyond
that comes from a store, which batches without any fill up: whoever sends nothing but bad items
makes no more than that of extra work.

>>> reruns = Reruns()
>>> Reruns.own(32), reruns.take(), reruns.left
(10, True, 255)
"""

from __future__ import annotations

from typing import final

MOST = 256
"""Reruns that batches share beyond their own."""


@final
class Reruns:
    """The store of reruns that the batches of one batcher share."""

    def __init__(self) -> None:
        self.left = MOST

    @staticmethod
    def own(size: int) -> int:
        """Return how many runs a batch of that size may add in any case."""
        return 2 * (size - 1).bit_length()

    def take(self) -> bool:
        """Take one more, if there is any."""
        if not self.left:
            return False
        self.left -= 1
        return True

    def refill(self) -> None:
        """Add one, for a batch without a failure."""
        self.left = min(MOST, self.left + 1)
