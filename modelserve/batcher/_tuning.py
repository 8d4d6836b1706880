"""What was found out about settings: a table, a plot, and the one to take."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple, final

ALIKE = 0.99
"""The share of the highest load that is as good, for the sake of a simpler setting."""


class TuningRow(NamedTuple):
    """What one setting does: seconds, and requests a second.

    ``p50``, ``p99``, ``mean_batch_size``, ``utilisation`` (the share of the time that its workers
    are busy) and ``meets`` are at the load of the trace; ``max_load`` is the highest load at which
    p99 is within the SLO, or 0.
    """

    max_batch_size: int
    max_wait: float
    workers: int
    p50: float
    p99: float
    mean_batch_size: float
    utilisation: float
    max_load: float
    meets: bool

    def setting(self) -> str:
        """Name the setting in a few words."""
        workers = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        return f"up to {self.max_batch_size}, {self.max_wait * 1e3:g} ms, {workers}"


@final
class Tuning:
    """What :func:`tune` found: ``rows``, a setting each, and the ``best`` of them.

    ``best`` carries the highest load within the SLO, and is None where no setting meets it at any.
    ``load`` is that of the trace, in requests a second; ``slo`` is in seconds.
    """

    def __init__(
        self,
        slo: float,
        load: float,
        rows: Sequence[TuningRow],
        curves: Sequence[dict[float, float]],
    ) -> None:
        self.slo = slo
        self.load = load
        self.rows = tuple(rows)
        self._curves = curves

    @property
    def best(self) -> TuningRow | None:
        """The highest load; where loads are alike, the fewest workers, smallest batch and wait."""
        most = max(row.max_load for row in self.rows)
        good = [row for row in self.rows if row.max_load >= ALIKE * most > 0]
        return min(
            good, key=lambda row: (row.workers, row.max_batch_size, row.max_wait), default=None
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw p99 against load, a line for each setting, and the SLO; return the matplotlib axes.

        Raises ImportError without matplotlib.
        """
        if ax is None:
            try:
                _, ax = importlib.import_module("matplotlib.pyplot").subplots()
            except ImportError as error:
                raise ImportError("to plot, pip install 'modelserve[plot]'") from error
        for row, curve in zip(self.rows, self._curves, strict=True):
            loads = sorted(curve)
            ax.plot(loads, [curve[load] for load in loads], label=row.setting())
        ax.axhline(self.slo, color="black", linestyle="--", label="SLO")
        ax.set(xlabel="requests a second", ylabel="p99 latency, seconds", yscale="log")
        ax.legend()
        return ax

    def __repr__(self) -> str:
        best = self.best
        found = (
            "nothing meets it"
            if best is None
            else f"best {best.setting()}: {best.max_load:,.0f} a second"
        )
        return f"<Tuning for a p99 of {self.slo * 1e3:g} ms: {found}>"

    def __str__(self) -> str:
        cells = [HEADER, *map(self._cells, self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in cells]
        return "\n".join([self._title(), *lines])

    def _repr_html_(self) -> str:
        from html import escape

        head = "".join(f"<th>{escape(cell)}</th>" for cell in HEADER)
        rows = "".join(
            "<tr>" + "".join(f"<td>{cell}</td>" for cell in self._cells(row)) + "</tr>"
            for row in self.rows
        )
        return (
            f"<table><caption>{escape(self._title())}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )

    def _title(self) -> str:
        return f"p99 within {self.slo * 1e3:g} ms; at {self.load:,.4g} requests a second:"

    def _cells(self, row: TuningRow) -> list[str]:
        return [
            "best" if row == self.best else "",
            f"{row.max_batch_size:,}",
            f"{row.max_wait * 1e3:g}",
            f"{row.workers}",
            f"{row.p50 * 1e3:.3g}",
            f"{row.p99 * 1e3:.3g}",
            "yes" if row.meets else "no",
            f"{row.mean_batch_size:.1f}",
            f"{row.utilisation:.0%}",
            f"{row.max_load:,.0f}",
        ]


HEADER = (
    "",
    "max_batch_size",
    "max_wait ms",
    "workers",
    "p50 ms",
    "p99 ms",
    "meets",
    "mean size",
    "busy",
    "max load/s",
)
