"""Which variant a unit gets: a salted hash, the same in every process and for ever.

Two variants share a line of 2**64 buckets in the order of their names, so that a share that grows
keeps everybody it had. Three and more are drawn by weighted rendezvous hashing (Schindelhauer and
Schomaker, "Weighted distributed hash tables", SPAA 2005, section 2): when weights change, a unit
moves only to a variant whose share grew by a larger factor than that of the one it had. In which
order the variants are given does not matter.

>>> split = Buckets("demo", ("a", "b"), (0.5, 0.5))
>>> split.choose("user-42")
(0, 8577771041494427454)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b

BUCKETS = 2**64
_TOLERANCE = 1e-9


class Buckets:
    """Variants, their shares and a salt."""

    __slots__ = ("_arms", "_base", "_first", "_threshold")

    def __init__(self, salt: str, names: Sequence[str], weights: Sequence[float]) -> None:
        self._base = _base(salt)
        self._arms = [
            (index, _base(salt, name), weight)
            for index, (name, weight) in enumerate(zip(names, weights, strict=True))
            if weight > 0
        ]
        self._first = names.index(min(names)) if len(names) == 2 else None  # noqa: PLR2004
        self._threshold = 0 if self._first is None else _threshold(weights, self._first)

    def choose(self, unit: str) -> tuple[int, int]:
        """Return the index of a unit's variant, and the unit's bucket."""
        raw = unit.encode("utf-8", "surrogatepass")
        bucket = _bucket(self._base, raw)
        first = self._first
        if first is None:
            return self._rendezvous(raw), bucket
        return first if bucket < self._threshold else 1 - first, bucket

    def _rendezvous(self, raw: bytes) -> int:
        best, chosen = math.inf, 0
        for index, base, weight in self._arms:
            score = -math.log((_bucket(base, raw) + 0.5) / BUCKETS) / weight
            if score < best:
                best, chosen = score, index
        return chosen


def pick(weights: Sequence[float], u: float) -> int:
    """Return the index that a number in [0, 1) falls to."""
    total = 0.0
    for index, weight in enumerate(weights):
        total += weight
        if u < total:
            return index
    return max(index for index, weight in enumerate(weights) if weight > 0)


def shares(names: Sequence[str], weights: Sequence[float | None]) -> tuple[float, ...]:
    """Check weights and return them; without any, equal shares. Raises ValueError."""
    given = [weight for weight in weights if weight is not None]
    if not given:
        return (1.0 / len(names),) * len(names)
    if len(given) < len(names):
        missing = names[list(weights).index(None)]
        raise ValueError(f"variant {missing!r} has no weight and others do: give all or none")
    for name, weight in zip(names, given, strict=True):
        if not 0 <= weight <= 1:
            raise ValueError(f"weight={weight} of variant {name!r} is not a share in [0, 1]")
    total = math.fsum(given)
    if abs(total - 1) > _TOLERANCE:
        raise ValueError(
            f"the weights sum to {total:.12g} and not to 1: {dict(zip(names, given, strict=True))}"
        )
    return tuple(map(float, given))


def _threshold(weights: Sequence[float], first: int) -> int:
    """A share of zero gets nobody, even if the other is no more than nearly one."""
    return round(weights[first] * BUCKETS) if weights[1 - first] > 0 else BUCKETS


def _base(*parts: str) -> blake2b:
    base = blake2b(digest_size=8)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        base.update(len(raw).to_bytes(8, "little") + raw)
    return base


def _bucket(base: blake2b, raw: bytes) -> int:
    hasher = base.copy()
    hasher.update(raw)
    return int.from_bytes(hasher.digest(), "little")
