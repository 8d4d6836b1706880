"""Which items run together, and when: lanes of like items, cut when somebody is free to run them.

>>> lanes = Lanes(max_batch_size=2, max_wait=0.0)
>>> for item in "abc":
...     _ = lanes.push(item, lane=None, now=0.0)
>>> lanes.wait(now=0.0), lanes.cut(now=0.0), lanes.cut(now=0.0)
(0.0, ['a', 'b'], ['c'])
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class _Lane(Generic[Item]):
    __slots__ = ("items", "key")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.items: deque[tuple[float, Item]] = deque()


class Lanes(Generic[Item]):
    """A FIFO queue that never puts items of different lanes into one batch."""

    def __init__(self, max_batch_size: int, max_wait: float) -> None:
        self._max_batch_size = max_batch_size
        self._max_wait = max_wait
        self._lanes: dict[Hashable, _Lane[Item]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, item: Item, lane: Hashable, now: float) -> bool:
        """Queue an item; say whether whoever waits for work should look now."""
        queue = self._lanes.get(lane)
        if queue is None:
            queue = self._lanes[lane] = _Lane(lane)
        queue.items.append((now, item))
        self._size += 1
        return (
            self._max_wait <= 0 or self._size == 1 or len(queue.items) % self._max_batch_size == 0
        )

    def wait(self, now: float) -> float:
        """Return how long a free worker should wait for company for the oldest item.

        Zero says cut now; infinity that there is nothing to wait with.
        """
        if not self._size:
            return math.inf
        if self._max_wait <= 0 or self._full() is not None:
            return 0.0
        return self._left(self._oldest(), now)

    def cut(self, now: float, keep: Callable[[Item], bool] = lambda _: True) -> list[Item]:
        """Take the next batch: a full lane's, unless the oldest item has waited long enough.

        Items that ``keep`` refuses are dropped and leave their place to others.
        """
        lane = self._oldest()
        if self._left(lane, now) > 0:
            lane = self._full() or lane
        batch: list[Item] = []
        while lane.items and len(batch) < self._max_batch_size:
            item = lane.items.popleft()[1]
            self._size -= 1
            if keep(item):
                batch.append(item)
        if not lane.items:
            del self._lanes[lane.key]
        return batch

    def clear(self) -> list[Item]:
        """Take everything."""
        items = [item for lane in self._lanes.values() for _, item in lane.items]
        self._lanes.clear()
        self._size = 0
        return items

    def _left(self, lane: _Lane[Item], now: float) -> float:
        return max(0.0, lane.items[0][0] + self._max_wait - now)

    def _full(self) -> _Lane[Item] | None:
        for lane in self._lanes.values():
            if len(lane.items) >= self._max_batch_size:
                return lane
        return None

    def _oldest(self) -> _Lane[Item]:
        if len(self._lanes) == 1:
            return next(iter(self._lanes.values()))
        return min(self._lanes.values(), key=lambda lane: lane.items[0][0])
