"""Variants, and what a unit was given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, NamedTuple, Protocol, final, overload

from modelserve._policy.buckets import Buckets
from modelserve.predictor import Counter, Home, Primitive, lift
from modelserve.typing import In, Out


@final
class Variant(Generic[In, Out]):
    """A predictor under the name and with the weight it has in a split.

    >>> import modelserve as ms
    >>> ms.Variant("stable", str.upper, weight=0.95)
    Variant('stable', weight=0.95)
    """

    @overload
    def __init__(
        self,
        name: str,
        predict: Callable[[In], Awaitable[Out]],
        weight: float | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        predict: Callable[[In], Out],
        weight: float | None = None,
    ) -> None: ...
    def __init__(
        self, name: str, predict: Callable[[Any], Any], weight: float | None = None
    ) -> None:
        self.name = name
        self.predict: Primitive[In, Out] = lift(predict)
        self.weight = weight

    def bind(self, home: Home) -> Variant[Any, Any]:
        """Make this anew over a method of an instance."""
        return Variant(self.name, self.predict.bind(home), self.weight)

    def __repr__(self) -> str:
        """Show name and weight."""
        return f"Variant({self.name!r}, weight={self.weight})"


class Assignment(NamedTuple):
    """Which variant a unit was given, and with what probability. A JSON-able value.

    ``bucket`` is where the unit's hash falls, one of 2**64 places, and None where no hash decided:
    the unit was forced, or there was none and the draw was at random. ``at`` is wall-clock time.

    >>> import modelserve as ms
    >>> split = ms.TrafficSplitter(ms.Variant("only", str.upper), salt="demo")
    >>> split.assign("user-42").variant
    'only'
    """

    variant: str
    propensity: float
    bucket: int | None
    unit: str | None
    id: str
    at: float


class Policy(Protocol):
    """How a unit's variant is chosen."""

    def table(self, salt: str, names: tuple[str, ...], weights: tuple[float, ...], /) -> Buckets:
        """Prepare the choice for variants, weights and a salt."""
        ...


@final
class HashSplit:
    """The same unit always gets the same variant, in every process, while weights stand.

    Salted BLAKE2b and weighted rendezvous hashing (Schindelhauer and Schomaker, SPAA 2005): when
    weights change, or variants come and go, a unit moves only to a variant whose share grew by a
    larger factor than its own's. So of two variants the one that grows keeps everybody it had, and
    a third takes from both without moving anybody between them. The order of the variants does not
    matter, their names do.

    >>> HashSplit()
    HashSplit()
    """

    def table(self, salt: str, names: tuple[str, ...], weights: tuple[float, ...], /) -> Buckets:
        """Prepare the choice."""
        return Buckets(salt, names, weights)

    def __repr__(self) -> str:
        """Show how to write it."""
        return "HashSplit()"


class VariantStats(NamedTuple):
    """Counts of one variant: its weight now, calls answered by it and calls that failed."""

    weight: float
    calls: int
    errors: int


class SplitterStats(NamedTuple):
    """Counts of a splitter; ``random`` calls had no unit and were drawn at random."""

    variants: dict[str, VariantStats]
    random: int


class Arm(NamedTuple):
    """A variant with its counters."""

    name: str
    predict: Primitive[Any, Any]
    calls: Counter
    errors: Counter


class Snapshot(NamedTuple):
    """Weights and the choice made ready for them: one value, swapped at once."""

    weights: tuple[float, ...]
    buckets: Buckets
    before: Snapshot | None


class AssignmentFact(NamedTuple):
    """What a record says of an assignment."""

    part: str
    assignment: Assignment

    def write(self, record: dict[str, Any]) -> None:
        """Add variant, propensity and the whole assignment to a record."""
        record[f"{self.part}.variant"] = self.assignment.variant
        record[f"{self.part}.propensity"] = self.assignment.propensity
        record[f"{self.part}.assignment"] = self.assignment._asdict()
