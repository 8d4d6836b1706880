"""Which waits each contestant is given."""

from __future__ import annotations

WAIT = 0.002
"""Seconds; what the packages and tutorials suggest is between 1 and 10 ms."""


def variants(names: list[str]) -> dict[str, tuple[str, float]]:
    """Give each contestant the waits that it can have: ours its default, peers 2 ms and 0."""
    found: dict[str, tuple[str, float]] = {}
    for name in names:
        if name == "modelserve":
            found[name] = (name, 0.0)
        elif name == "BentoML":  # it knows no wait
            found[name] = (name, WAIT)
        else:
            found[f"{name}, {WAIT * 1e3:g} ms"] = (name, WAIT)
            if name != "MLServer":  # it knows no 0
                found[f"{name}, 0 ms"] = (name, 0.0)
    return found
