"""From the answers of rounds to rows that set a figure beside its target."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import _measure

from _batching.fleet import Answer

Row = dict[str, Any]
Values = list[float | None]


class Figure(_measure.Figure):
    """A median and its middle half, shown by three digits."""

    __slots__ = ()

    def __str__(self) -> str:
        """Show the median with its spread."""
        return f"{brief(self.median)} ({brief(self.low)}-{brief(self.high)})"


def brief(value: float) -> str:
    """Write a number by three digits, or all those before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - digits


class Table(NamedTuple):
    """Rows of the same columns."""

    title: str
    rows: list[Row]


class Target(NamedTuple):
    """What a figure must not exceed, or must reach."""

    sign: str
    bound: float

    def __str__(self) -> str:
        """Show it as it is written in a sentence."""
        return f"{self.sign} {self.bound:g}"

    def holds(self, value: float) -> bool:
        """Whether a value meets it."""
        return value <= self.bound if self.sign == "<=" else value >= self.bound


def at_most(bound: float) -> Target:
    """Make a ceiling."""
    return Target("<=", bound)


def at_least(bound: float) -> Target:
    """Make a floor."""
    return Target(">=", bound)


def of(answers: Sequence[Answer], field: str) -> Values:
    """One figure of each round; None where the contestant failed."""
    return [answer.get("figures", {}).get(field) for answer in answers]


def ratios(mine: Values, base: Values) -> Values:
    """Divide within rounds."""
    return [a / b if a is not None and b else None for a, b in zip(mine, base, strict=True)]


def differences(mine: Values, base: Values) -> Values:
    """Subtract within rounds."""
    pairs = zip(mine, base, strict=True)
    return [a - b if a is not None and b is not None else None for a, b in pairs]


def sum_up(values: Values) -> Figure | None:
    """Give the median and the middle half, or None where nothing was measured."""
    there = [value for value in values if value is not None]
    if not there:
        return None
    low, median, high = statistics.quantiles(
        there if len(there) > 1 else there * 2, n=4, method="inclusive"
    )
    return Figure(median, low, high)


def worst(values: Values) -> Figure | None:
    """Give the largest in place of the median, for what must never happen."""
    there = [value for value in values if value is not None]
    return Figure(max(there), min(there), max(there)) if there else None


def shown(value: Figure | None) -> Figure | str:
    """Put a dash where nothing was measured."""
    return "-" if value is None else value


def judged(what: str, value: Figure | None, target: Target | None) -> Row:
    """Give the cells that say whether a row's figure meets its target."""
    row: Row = {"judged": what, "figure": shown(value) if what else "", "target": "", "verdict": ""}
    if target is not None:
        verdict = "not measured"
        if value is not None:
            verdict = "holds" if target.holds(value.median) else "does not hold"
        row |= {"target": str(target), "verdict": verdict}
    return row


def note(answers: Sequence[Answer]) -> str:
    """Say what went wrong, and how often."""
    errors = [answer["error"] for answer in answers if "error" in answer]
    return f"{errors[0]} ({len(errors)} of {len(answers)} rounds)" if errors else ""
