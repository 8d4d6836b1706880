"""Who is next within one lane: first come first served, by priority with ageing, tenants in turn.

>>> class Item(str):
...     at, size = 0.0, 1
>>> line = ranked(Line([Item("a")]))
>>> line.push(Item("b"), Rank(0, "acme"))
>>> line.push(Item("c"), Rank(0, "acme"))
>>> line.push(Item("urgent"), Rank(1, None))
>>> line.push(Item("d"), None)
>>> line.take(5)
['urgent', 'a', 'b', 'd', 'c']
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar

AGEING = 1.0
"""Seconds of waiting that count as much as one level of priority."""


class Queued(Protocol):
    """What is queued: when it came, and what it takes of a batch's room."""

    @property
    def at(self) -> float: ...
    @property
    def size(self) -> float: ...


Item = TypeVar("Item", bound=Queued)


class Rank(NamedTuple):
    """How urgent an item is, the higher the sooner, and on whose behalf it came."""

    priority: int
    tenant: str | None


PLAIN = Rank(0, None)


class Line(deque[Item]):
    """The items of one lane, all of the default rank: first come, first served."""

    def next(self) -> Item:
        """Return who is next."""
        return self[0]

    def urgency(self) -> float:
        """When the oldest came, earlier by what its priority is worth."""
        return self[0].at

    def came(self) -> float:
        """When the oldest came."""
        return self[0].at

    def take(self, count: int) -> list[Item]:
        """Take at most so many, in their order."""
        if count >= len(self):
            items = list(self)
            self.clear()
            return items
        return [self.popleft() for _ in range(count)]

    def drop(self, items: set[int]) -> None:
        """Take out the items of these ``id``."""
        _drop(self, items)


class Ranked(Generic[Item]):
    """The items of one lane by priority and tenant.

    A higher priority goes first, but an item that has waited :data:`AGEING` seconds longer
    counts as one level higher. Tenants of one level take turns, an item each, also where one has
    older items. So nobody starves: the most urgent of all waits for a turn of each other tenant of
    its level at most.
    """

    def __init__(self) -> None:
        self._levels: dict[int, dict[str | None, deque[Item]]] = {}

    def __len__(self) -> int:
        return sum(len(queue) for level in self._levels.values() for queue in level.values())

    def __iter__(self) -> Iterator[Item]:
        """List the most urgent level first, and tenants of a level in turn."""
        for priority in sorted(self._levels, key=self._urgency):
            turns = itertools.zip_longest(*self._levels[priority].values())
            yield from (item for turn in turns for item in turn if item is not None)

    def push(self, item: Item, rank: Rank | None) -> None:
        """Queue an item behind those of its rank."""
        priority, tenant = rank or PLAIN
        self._levels.setdefault(priority, {}).setdefault(tenant, deque()).append(item)

    def put_back(self, item: Item, rank: Rank | None) -> None:
        """Queue an item again, before those of its rank."""
        priority, tenant = rank or PLAIN
        self._levels.setdefault(priority, {}).setdefault(tenant, deque()).appendleft(item)

    def next(self) -> Item:
        """Return who is next."""
        return next(iter(self._levels[self._level()].values()))[0]

    def urgency(self) -> float:
        """When the most urgent came, earlier by what its priority is worth."""
        return self._urgency(self._level())

    def came(self) -> float:
        """When the oldest came."""
        return min(map(self._oldest, self._levels))

    def take(self, count: int) -> list[Item]:
        """Take at most so many, in their order."""
        items: list[Item] = []
        while self._levels and len(items) < count:
            priority = self._level()
            tenants = self._levels[priority]
            tenant = next(iter(tenants))
            queue = tenants.pop(tenant)
            items.append(queue.popleft())
            if queue:
                tenants[tenant] = queue  # behind the others
            self._tidy(priority)
        return items

    def drop(self, items: set[int]) -> None:
        """Take out the items of these ``id``."""
        for priority, tenants in list(self._levels.items()):
            for tenant, queue in list(tenants.items()):
                _drop(queue, items)
                if not queue:
                    del tenants[tenant]
            self._tidy(priority)

    def _level(self) -> int:
        if len(self._levels) == 1:
            return next(iter(self._levels))
        return min(self._levels, key=self._urgency)

    def _urgency(self, priority: int) -> float:
        return self._oldest(priority) - priority * AGEING

    def _oldest(self, priority: int) -> float:
        return min(queue[0].at for queue in self._levels[priority].values())

    def _tidy(self, priority: int) -> None:
        if not self._levels[priority]:
            del self._levels[priority]


def ranked(line: Line[Item]) -> Ranked[Item]:
    """Give the items of a plain line the default rank."""
    made: Ranked[Item] = Ranked()
    for item in line:
        made.push(item, PLAIN)
    return made


def _drop(queue: deque[Item], items: set[int]) -> None:
    kept = [item for item in queue if id(item) not in items]
    queue.clear()
    queue.extend(kept)
