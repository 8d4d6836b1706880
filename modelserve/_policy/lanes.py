"""Which items run together, and when: lanes of like items, cut when somebody is free to run them.

>>> class Item(str):
...     at, size = 0.0, 1
>>> lanes = Lanes(limit=2, max_wait=0.0)
>>> for letter in "abc":
...     _ = lanes.push(Item(letter), lane=None)
>>> lanes.wait(now=0.0), lanes.cut(now=0.0), lanes.cut(now=0.0)
(0.0, ['a', 'b'], ['c'])
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeAlias, TypeVar

from modelserve._policy.lines import Line, Queued, Rank, Ranked, ranked

Item = TypeVar("Item", bound=Queued)
Sift: TypeAlias = Callable[[list[Item]], list[Item]]
Choose: TypeAlias = Callable[[Sequence[float], float], Sequence[int]]

WINDOW = 256
"""Items of a long queue among which the company of the oldest is chosen."""


class Lanes(Generic[Item]):
    """A queue that never puts items of different lanes into one batch.

    ``limit`` bounds a batch: the number of its items or, ``sized``, the sum of their sizes; an
    item that alone is larger goes alone. With ``choose`` the one who is next goes with those that
    it picks: of the sizes of some queued items, that one's first, it returns the places of those
    that run, the first among them.

    A free worker is held back for company for at most ``max_wait`` seconds after the oldest item
    came. If nobody came, nobody is held back again until calls overlap.
    """

    def __init__(
        self,
        limit: float,
        max_wait: float,
        *,
        sized: bool = False,
        choose: Choose | None = None,
    ) -> None:
        self.limit = limit
        self.max_wait = max_wait
        self.full = self.waited = False
        """Whether the last batch had no room left or left some of its lane behind, and whether the
        oldest of all had waited for ``max_wait``."""
        self._sized = sized
        self._choose = choose
        self._lines: dict[Hashable, Line[Item] | Ranked[Item]] = {}
        self.size = 0
        """How many are queued."""
        self._alone = False

    @property
    def mixed(self) -> bool:
        """Whether items that cannot run together are queued."""
        return len(self._lines) > 1

    def push(
        self, item: Item, lane: Hashable, rank: Rank | None = None, *, busy: bool = False
    ) -> bool:
        """Queue an item; say whether whoever waits for work should look now.

        ``rank`` is None for no priority and no tenant; ``busy`` says that a batch is running.
        """
        line = self._line(lane, rank)
        if isinstance(line, Line):
            line.append(item)
        else:
            line.push(item, rank)
        self.size += 1
        if self.max_wait <= 0:
            return True
        if busy or self.size > 1:
            self._alone = False
        return self.size == 1 or self._is_full(line)

    def hold(self, came: float, now: float) -> float:
        """Return how long a free worker should wait for company for one who came then."""
        return 0.0 if self.max_wait <= 0 or self._alone else max(0.0, came + self.max_wait - now)

    def overlap(self) -> None:
        """Note that calls overlapped which were never queued here."""
        self._alone = False

    def held(self, *, alone: bool) -> None:
        """Note whether one who was never queued here was held back in vain."""
        self._alone = alone

    def put_back(self, item: Item, lane: Hashable, rank: Rank | None) -> None:
        """Queue an item again that was taken and not run: before the others of its lane."""
        line = self._line(lane, rank)
        if isinstance(line, Line):
            line.appendleft(item)
        else:
            line.put_back(item, rank)
        self.size += 1

    def _line(self, lane: Hashable, rank: Rank | None) -> Line[Item] | Ranked[Item]:
        line = self._lines.get(lane)
        if line is None:
            line = self._lines[lane] = Line()
        if rank is not None and isinstance(line, Line):
            line = self._lines[lane] = ranked(line)
        return line

    def wait(self, now: float) -> float:
        """Return how long a free worker should wait for company for the oldest item.

        Zero says cut now; infinity that there is nothing to wait with.
        """
        if not self.size:
            return math.inf
        if self.max_wait <= 0 or self._full() is not None:
            return 0.0
        return self.hold(self._came(), now)

    def head(self) -> Item:
        """Return who is next."""
        return self._next()[1].next()

    def cut(self, now: float, sift: Sift[Item] = lambda items: items) -> list[Item]:
        """Take the next batch: a full lane's, unless the oldest item has waited long enough.

        Items that ``sift`` leaves out are dropped and give their place to others.
        """
        self.waited = 0 < self.max_wait <= now - self._came()
        full = self._full() if self.max_wait > 0 and not self.waited else None
        lane, line = full or self._next()
        before = len(line)
        batch = self._take(line, sift)
        taken = before - len(line)
        self.size -= taken
        self.full = len(line) > 0 or self._is_full(batch)
        if not line:
            del self._lines[lane]
        if self.waited:
            self._alone = taken == 1 and not self.size
        return batch

    def clear(self) -> list[Item]:
        """Take everything."""
        items = [item for line in self._lines.values() for item in line]
        self._lines.clear()
        self.size = 0
        return items

    def _take(self, line: Line[Item] | Ranked[Item], sift: Sift[Item]) -> list[Item]:
        if self._choose is not None:
            return self._company(line, self._choose, sift)
        if self._sized:
            return self._fitting(line, sift)
        limit = int(self.limit)
        batch = sift(line.take(limit))
        while line and len(batch) < limit:
            batch += sift(line.take(limit - len(batch)))
        return batch

    def _fitting(self, line: Line[Item] | Ranked[Item], sift: Sift[Item]) -> list[Item]:
        batch: list[Item] = []
        room = self.limit
        while line and room > 0:
            size = line.next().size
            if size > room and batch:
                break
            if kept := sift(line.take(1)):
                batch += kept
                room -= size
        return batch

    def _company(
        self, line: Line[Item] | Ranked[Item], choose: Choose, sift: Sift[Item]
    ) -> list[Item]:
        batch: list[Item] = []
        while line and not batch:
            batch = sift(line.take(1))
        if batch and line:
            window = list(itertools.islice(line, WINDOW))
            kept = sift(window)
            places = choose([item.size for item in (*batch, *kept)], self.limit)
            chosen = [kept[place - 1] for place in places if place]
            stay = {id(item) for item in kept} - {id(item) for item in chosen}
            line.drop({id(item) for item in window} - stay)
            batch += chosen
        return batch

    def _came(self) -> float:
        return min(line.came() for line in self._lines.values())

    def _next(self) -> tuple[Hashable, Line[Item] | Ranked[Item]]:
        if len(self._lines) == 1:
            return next(iter(self._lines.items()))
        return min(self._lines.items(), key=lambda lane: lane[1].urgency())

    def _full(self) -> tuple[Hashable, Line[Item] | Ranked[Item]] | None:
        return next((lane for lane in self._lines.items() if self._is_full(lane[1])), None)

    def _is_full(self, items: Line[Item] | Ranked[Item] | list[Item]) -> bool:
        taken = sum(item.size for item in items) if self._sized else len(items)
        return taken >= self.limit
