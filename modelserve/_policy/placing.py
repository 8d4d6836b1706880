"""Which model goes where: decided for all of them at once, from plain numbers.

>>> spaces = [Space("cuda:0", 100, free=100), Space("cuda:1", 100, free=60), Space("cpu", 500, 500)]
>>> plan = place([Ask("a", 50), Ask("b", 80), Ask("c", 90)], spaces, Policy(headroom=0.0))
>>> plan.places
{'a': ('cuda:1',), 'b': ('cpu',), 'c': ('cuda:0',)}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

CPU = "cpu"


class Space(NamedTuple):
    """A device that models can be put on, with its bytes in all and those that are free."""

    name: str
    total: int
    free: int


class Ask(NamedTuple):
    """A model, the bytes that one replica takes, and the device that it must stand on, if any.

    Bytes are those of weights and of what calls allocate at the most, as measured at a warm-up.
    """

    name: str
    nbytes: int
    replicas: int = 1
    pin: str | None = None


class Policy(NamedTuple):
    """How models are placed.

    ``headroom`` is the share of each device that stays free; ``spill`` lets what finds no room on
    another device stand on the CPU.
    """

    headroom: float = 0.1
    spill: bool = True


class Plan(NamedTuple):
    """Where the replicas of each model stand, what is left, and why others stand nowhere."""

    places: Mapping[str, tuple[str, ...]]
    left: Mapping[str, int]
    refused: Mapping[str, str]


def place(models: Iterable[Ask], devices: Iterable[Space], policy: Policy) -> Plan:
    """Put every replica on a device, or say why not.

    Pinned models come first, then the largest, each on the device where it leaves least free: best
    fit decreasing (Johnson, Demers, Ullman, Garey and Graham, "Worst-Case Performance Bounds for
    Simple One-Dimensional Packing Algorithms", SIAM J. Comput. 3(4), 1974). Replicas of one model
    stand on different devices where there is room, then together, and on the CPU last. All
    replicas of a model are placed, or none.
    """
    left = _left(devices, policy)
    places: dict[str, tuple[str, ...]] = {}
    refused: dict[str, str] = {}
    for model in sorted(models, key=lambda m: (m.pin is None, -m.nbytes, m.name)):
        tried = dict(left)
        found = _replicas(model, tried, policy)
        if len(found) == model.replicas:
            places[model.name], left = found, tried
        else:
            refused[model.name] = _why(model, left, len(found))
    return Plan(dict(sorted(places.items())), left, refused)


def order(nbytes: int | None, devices: Iterable[Space], policy: Policy) -> tuple[str, ...]:
    """Return the devices on which one model may be tried, the best first and the CPU last.

    The best is where it leaves least free, as in :func:`place`; where its bytes are not known, the
    one with most free.
    """
    left = _left(devices, policy)
    fits = [name for name in left if policy.spill or name != CPU]
    if nbytes is None:
        return tuple(sorted(fits, key=lambda name: (name == CPU, -left[name], name)))
    fits = [name for name in fits if left[name] >= nbytes]
    return tuple(sorted(fits, key=lambda name: (name == CPU, left[name], name)))


def _left(devices: Iterable[Space], policy: Policy) -> dict[str, int]:
    return {s.name: max(s.free - round(policy.headroom * s.total), 0) for s in devices}


def _replicas(model: Ask, left: dict[str, int], policy: Policy) -> tuple[str, ...]:
    """Take room for as many replicas as there is room for."""
    found: list[str] = []
    while len(found) < model.replicas:
        fits = [name for name, n in left.items() if n >= model.nbytes and _may(model, name, policy)]
        if not fits:
            break
        best = min(fits, key=lambda n: (n == CPU, n in found, left[n], n))
        left[best] -= model.nbytes
        found.append(best)
    return tuple(found)


def _may(model: Ask, device: str, policy: Policy) -> bool:
    if model.pin is not None:
        return device == model.pin
    return policy.spill or device != CPU


def _why(model: Ask, left: Mapping[str, int], found: int) -> str:
    many = f" for each of {model.replicas} replicas ({found} fit)" if model.replicas > 1 else ""
    where = ", ".join(f"{name} has {n:,}" for name, n in left.items() if model.pin in (None, name))
    pinned = f" on {model.pin}, to which it is pinned" if model.pin is not None else ""
    return f"needs {model.nbytes:,} bytes{pinned}{many}; {where or 'there is no such device'}"
