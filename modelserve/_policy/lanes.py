"""Which items run together, and when: lanes of like items, cut when somebody is free to run them.

>>> lanes = Lanes(max_batch_size=2, max_wait=0.0)
>>> for item in "abc":
...     _ = lanes.push(item, lane=None, now=0.0)
>>> lanes.wait(now=0.0), lanes.cut(), lanes.cut()
(0.0, ['a', 'b'], ['c'])
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Lanes(Generic[Item]):
    """A FIFO queue that never puts items of different lanes into one batch."""

    def __init__(self, max_batch_size: int, max_wait: float) -> None:
        self._max_batch_size = max_batch_size
        self._max_wait = max_wait
        self._lanes: dict[Hashable, deque[tuple[float, Item]]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, item: Item, lane: Hashable, now: float) -> bool:
        """Queue an item; say whether whoever waits for work should look now."""
        queue = self._lanes.get(lane)
        if queue is None:
            queue = self._lanes[lane] = deque()
        queue.append((now, item))
        self._size += 1
        return self._max_wait <= 0 or self._size == 1 or len(queue) % self._max_batch_size == 0

    def wait(self, now: float) -> float:
        """Return how long a free worker should wait for company for the oldest item.

        Zero says cut now; infinity that there is nothing to wait with.
        """
        if not self._size:
            return math.inf
        if self._max_wait <= 0 or self._full() is not None:
            return 0.0
        return max(0.0, self._oldest()[0][0] + self._max_wait - now)

    def cut(self, keep: Callable[[Item], bool] = lambda _: True) -> list[Item]:
        """Take the next batch: a full lane's first, else the lane of the oldest item.

        Items that ``keep`` refuses are dropped and leave their place to others.
        """
        full = self._full() if self._max_wait > 0 else None
        queue = full if full is not None else self._oldest()
        batch: list[Item] = []
        while queue and len(batch) < self._max_batch_size:
            item = queue.popleft()[1]
            self._size -= 1
            if keep(item):
                batch.append(item)
        if not queue:
            self._lanes = {lane: queue for lane, queue in self._lanes.items() if queue}
        return batch

    def clear(self) -> list[Item]:
        """Take everything."""
        items = [item for queue in self._lanes.values() for _, item in queue]
        self._lanes.clear()
        self._size = 0
        return items

    def _full(self) -> deque[tuple[float, Item]] | None:
        for queue in self._lanes.values():
            if len(queue) >= self._max_batch_size:
                return queue
        return None

    def _oldest(self) -> deque[tuple[float, Item]]:
        if len(self._lanes) == 1:
            return next(iter(self._lanes.values()))
        return min(self._lanes.values(), key=lambda queue: queue[0][0])
