"""The books of a pool: what its memory spaces hold, and what is promised to loads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modelserve._policy.eviction import Held, Plan, plan
from modelserve._policy.sizing import Sizing
from modelserve.errors import ModelLoadError, Overloaded
from modelserve.pool._seat import Seat


class Room:
    """The budget and who takes how much of it; whoever asks holds the pool's lock."""

    def __init__(self, budget: Mapping[str, int], seats: Mapping[str, Seat], stay: float) -> None:
        self.budget = budget
        self.sizing = Sizing()
        self._seats = seats
        self._stay = stay

    def held(self) -> dict[str, int]:
        """Return the bytes in use, by memory space, also of models that are being let go."""
        return _total(seat.nbytes for seat in self._seats.values())

    def all_that_is_left(self) -> dict[str, int]:
        """Return the bytes that nobody has or was promised, by memory space."""
        return {space: max(-n, 0) for space, n in self.missing({}).items()}

    def check(self, seat: Seat, need: Mapping[str, int], takes: str) -> None:
        """Refuse a model that is larger than the whole budget."""
        for space, limit in self.budget.items():
            if need.get(space, 0) > limit:
                raise ModelLoadError(
                    f"{seat.name!r} {takes} {need[space]:,} bytes and the budget of the pool is "
                    f"{limit:,} bytes ({space}): raise the budget, or compress the model"
                )

    def missing(self, need: Mapping[str, int]) -> dict[str, int]:
        """Return the bytes that must come free for a promise, negative where some are left over.

        What is being let go counts as free, and what is promised already does not.
        """
        taken = _total(s.nbytes for s in self._seats.values() if s.drained is None)
        promised = _total(s.promised for s in self._seats.values())
        return {
            space: need.get(space, 0) + taken.get(space, 0) + promised.get(space, 0) - limit
            for space, limit in self.budget.items()
        }

    def plan(self, seat: Seat, need: Mapping[str, int], now: float) -> Plan:
        """Choose who goes for a model."""
        others = (s for s in self._seats.values() if s.live is not None and s is not seat)
        held = [
            Held(
                s.name,
                s.nbytes,
                0.0 if s.busy else now - s.used,
                now - s.since,
                s.cost,
                s.kept,
            )
            for s in others
        ]
        return plan(held, self.missing(need), residency=self._stay)

    def is_free(self, need: Mapping[str, int]) -> bool:
        """Whether the bytes of a promise are there now: nobody holds or fills them."""
        used = self.held()
        filled = _total(s.promised for s in self._seats.values() if s.loading)
        return all(
            need.get(space, 0) + used.get(space, 0) + filled.get(space, 0) <= limit
            for space, limit in self.budget.items()
        )


def overloaded(seat: Seat, need: Mapping[str, int], plan: Plan) -> Overloaded:
    """Return the error of a load without room."""
    missing = ", ".join(f"{n:,} bytes of {space}" for space, n in plan.short.items())
    wanted = ", ".join(f"{need.get(space, 0):,}" for space in plan.short)
    if plan.wait is None:
        reason, why = "leased", "all others are leased or pinned"
    else:
        reason, why = "residency", f"others may go in {plan.wait:.3g} s at the earliest"
    return Overloaded(
        f"{seat.name!r} takes {wanted} bytes and {missing} are missing: {why}",
        retry_after=plan.wait,
        reason=reason,
    )


def _total(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for nbytes in parts:
        for space, n in nbytes.items():
            total[space] = total.get(space, 0) + n
    return total
