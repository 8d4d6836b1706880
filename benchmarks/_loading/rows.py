"""A figure beside its target."""

from __future__ import annotations

from typing import Any

from _measure import Figure

Row = dict[str, Any]


def row(what: str, value: Figure | float | str, sign: str = "", bound: float | None = None) -> Row:
    """Make a row; what was not measured says why instead of a number."""
    verdict = ""
    if isinstance(value, str):
        verdict = "not measured"
    elif bound is not None:
        number = value.median if isinstance(value, Figure) else value
        verdict = "holds" if (number <= bound if sign == "<=" else number >= bound) else "does not"
    shown = value if isinstance(value, Figure | str) else round(value, 3)
    target = "" if bound is None else f"{sign} {bound:g}"
    return {"what": what, "figure": shown, "target": target, "verdict": verdict}
