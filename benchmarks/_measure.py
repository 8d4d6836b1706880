"""Timing in pairs on a noisy machine: what is compared runs in turn, round after round.

A round times each candidate once, in an order that changes; a figure is the median over the
rounds, a ratio the median of the ratios within rounds, and the spread their middle half.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Figure(NamedTuple):
    """A median and its middle half."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        """Show the median with its spread."""
        return f"{self.median:,.2f} ({self.low:,.2f}-{self.high:,.2f})"


def figure(values: list[float]) -> Figure:
    """Sum up repeats."""
    low, median, high = statistics.quantiles(values, n=4)
    return Figure(median, low, high)


def interleave(
    candidates: dict[str, Callable[[int], object]], *, calls: int, rounds: int
) -> dict[str, list[float]]:
    """Time ``candidate(calls)`` of each, in turn; give seconds a call, by name and round."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for candidate in candidates.values():
        candidate(max(1, calls // 10))
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            names = names[1:] + names[:1]
            for name in names:
                started = time.perf_counter()
                candidates[name](calls)
                seconds[name].append((time.perf_counter() - started) / calls)
    finally:
        gc.enable()
    return seconds


def options(description: str) -> argparse.Namespace:
    """Read the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


def report(rows: list[dict[str, Any]], to: Path | None) -> None:
    """Print rows as a table, and write them as JSON if asked to."""
    columns = list(rows[0])
    shown = [[str(row[column]) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *shown, strict=True)]
    for line in [columns, *shown]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    if to is not None:
        about = {"python": sys.version.split()[0], "machine": platform.machine()}
        to.write_text(json.dumps({**about, "rows": rows}, indent=1))
