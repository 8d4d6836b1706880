"""Who goes so that another has room: decided in full before anybody goes.

>>> small = Held("small", {"cpu": 10}, idle=60.0, age=90.0, cost=1.0)
>>> large = Held("large", {"cpu": 90}, idle=60.0, age=90.0, cost=1.0)
>>> plan([small, large], {"cpu": 50}).victims
('large',)
>>> plan([small, large], {"cpu": 500})
Plan(victims=(), short={'cpu': 400}, wait=None)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

LEAST = 1e-9
"""Seconds that a load costs at the least, where a clock saw none pass."""


class Held(NamedTuple):
    """A model in memory: bytes by memory space, and seconds.

    ``idle`` is since its last call ended, 0 while one is in progress; ``age`` since it was loaded,
    and ``cost`` what loading it took. What is ``kept`` is leased or pinned, and never goes.
    """

    name: str
    nbytes: Mapping[str, int]
    idle: float
    age: float
    cost: float
    kept: bool = False


class Plan(NamedTuple):
    """Who goes, or why nobody does.

    ``short`` is what would be missing by memory space if all who may go went; nobody does then.
    ``wait`` is the seconds after which enough will have been there for long enough, or None if no
    time will do.
    """

    victims: tuple[str, ...]
    short: Mapping[str, int]
    wait: float | None


def plan(held: Iterable[Held], need: Mapping[str, int], *, residency: float = 0.0) -> Plan:
    """Choose who goes so that ``need`` bytes by memory space come free.

    They go by idle time x bytes / cost of loading, the largest first. Bytes over cost is the order
    of GreedyDual-Size (Cao and Irani, "Cost-Aware WWW Proxy Caching Algorithms", USITS 1997,
    section 4), where an inflation that grows with each eviction stands in place of the idle time.
    Who turns out not to be needed stays, those least worth evicting first. Nobody goes who is kept,
    or younger than ``residency`` seconds, and nobody at all if that is not enough.
    """
    free = [model for model in held if not model.kept]
    old = [model for model in free if model.age >= residency]
    chosen = _enough(old, need)
    if chosen is not None:
        return Plan(tuple(model.name for model in chosen), {}, None)
    return Plan((), _short(old, need), _until_enough(free, need, residency))


def _enough(models: list[Held], need: Mapping[str, int]) -> list[Held] | None:
    """Choose of those who may go as few as will do, or None if all of them are too little."""
    left, chosen = {space: n for space, n in need.items() if n > 0}, list[Held]()
    for model in sorted(models, key=lambda m: (-_worth(m, left), m.name)):
        if any(model.nbytes.get(space, 0) > 0 and n > 0 for space, n in left.items()):
            chosen.append(model)
            left = {space: n - model.nbytes.get(space, 0) for space, n in left.items()}
    if any(n > 0 for n in left.values()):
        return None
    for model in reversed(tuple(chosen)):
        without = {space: n + model.nbytes.get(space, 0) for space, n in left.items()}
        if all(n <= 0 for n in without.values()):
            chosen.remove(model)
            left = without
    return chosen


def _worth(model: Held, need: Mapping[str, int]) -> float:
    """Seconds of memory that its absence gives, for each second that its return costs."""
    return model.idle * sum(model.nbytes.get(space, 0) for space in need) / max(model.cost, LEAST)


def _short(models: list[Held], need: Mapping[str, int]) -> dict[str, int]:
    free = {space: sum(m.nbytes.get(space, 0) for m in models) for space in need}
    return {space: n - free[space] for space, n in need.items() if n > free[space]}


def _until_enough(free: list[Held], need: Mapping[str, int], residency: float) -> float | None:
    """Return the seconds until those who may go by then are enough."""
    for model in sorted(free, key=lambda m: -m.age):
        old = [each for each in free if each.age >= model.age]
        if not _short(old, need):
            return max(residency - model.age, 0.0) if residency < math.inf else None
    return None
