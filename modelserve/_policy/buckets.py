"""Which variant a unit gets: a salted hash, the same in every process and for ever.

Weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA
2005, section 2): a unit has a hash for each variant, and gets the one with the least of
``-log(hash) / weight``. When weights change, or variants come and go, a unit moves only to a
variant whose share grew by a larger factor than that of the one it had. So of two variants the one
that grows keeps everybody, a third takes from both and swaps nobody between them, and the order in
which variants are given does not matter.

>>> split = Buckets("demo", ("a", "b"), (0.5, 0.5))
>>> split.choose("user-42")
(0, 18384776302400301567)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b

BUCKETS = 2**64
_WIDTH = 1 / BUCKETS
_TOLERANCE = 1e-9


class Buckets:
    """Variants, their shares and a salt."""

    __slots__ = ("_arms",)

    def __init__(self, salt: str, names: Sequence[str], weights: Sequence[float]) -> None:
        self._arms = [
            (names.index(name), _base(salt, name), -weight)
            for name, weight in sorted(zip(names, weights, strict=True))  # so that ties do not turn
            if weight > 0
        ]

    def choose(self, unit: str) -> tuple[int, int]:
        """Return the index of a unit's variant, and the unit's bucket there."""
        raw = unit.encode("utf-8", "surrogatepass")
        least, chosen, where = math.inf, 0, 0
        for index, base, falling in self._arms:
            hasher = base.copy()
            hasher.update(raw)
            bucket = int.from_bytes(hasher.digest(), "little")
            score = math.log((bucket + 0.5) * _WIDTH) / falling
            if score < least:
                least, chosen, where = score, index, bucket
        return chosen, where


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


def _base(*parts: str) -> blake2b:
    base = blake2b(digest_size=8)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        base.update(len(raw).to_bytes(8, "little") + raw)
    return base
