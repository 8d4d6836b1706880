"""Draw the figures of why-batching.md from what the benchmarks wrote, and write its table.

    python benchmarks/batching.py --json batching.json
    python benchmarks/knee.py --json knee.json
    python docs/figures.py batching.json knee.json

It needs matplotlib. The same figures make the same files.
"""  # noqa: INP001 - a script

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update(
    {
        "svg.fonttype": "none",  # text stays text, which makes a file a tenth as large
        "svg.hashsalt": "modelserve",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)

from matplotlib.figure import Figure  # noqa: E402 - after the settings

HERE = Path(__file__).parent / "figures"
OURS, PEER, LIMIT = "#1b5faa", "#b8b8b8", "#444444"
STYLES = ("-", "--", "-.", ":", (0, (1, 3)), (0, (6, 2)))
NULL = {"async": "null model, async on the loop", "sync": "null model, sync in a thread"}

Row = dict[str, Any]


class Tables:
    """The tables of one run of ``batching.py``."""

    def __init__(self, found: Row) -> None:
        self._tables: dict[str, list[Row]] = found["tables"]
        self.python, self.machine = found["python"], found["machine"]

    def rows(self, begins: str, ends: str = "") -> list[Row]:
        """Return the rows of the table whose title begins and ends so."""
        (rows,) = (
            rows
            for title, rows in self._tables.items()
            if title.startswith(begins) and title.endswith(ends)
        )
        return rows

    def overhead(self, kind: str) -> dict[str, float]:
        """CPU of a request at 64 callers, as a multiple of the limit."""
        rows = self.rows(NULL[kind], "max_wait=0 ms") + self.rows(NULL[kind], "max_wait=2 ms")
        return best(row for row in rows if row["callers"] == 64)  # noqa: PLR2004 - as it says

    def late(self) -> dict[str, dict[str, float]]:
        """Return p99 as a multiple of the oracle's, by load and contestant."""
        rows = self.rows("simulated device", "p99 beside an oracle")
        loads = dict.fromkeys(row["load"] for row in rows)
        return {
            load: best((row for row in rows if row["load"] == load), "figure") for load in loads
        }

    def sustained(self) -> dict[str, float]:
        """Return the share of the capacity that each sustains."""
        rows = self.rows("simulated device", "growing queue")
        return best(rows, "figure", pick=max)

    def overload(self, column: str) -> dict[str, float]:
        """Return a column of the table of overload."""
        return {
            row["contestant"]: row[column][0]
            for row in self.rows("overload", " ms")
            if is_figure(row[column])
        }


def is_figure(cell: Any) -> bool:
    """Whether something was measured."""
    return isinstance(cell, list)


def best(rows: Any, column: str = "x limit", pick: Any = min) -> dict[str, float]:
    """Return the figure of each contestant; of one that was given two waits the better one."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if is_figure(row[column]):
            found.setdefault(plain(row["contestant"]), []).append(row[column][0])
    return {name: pick(values) for name, values in found.items()}


def plain(contestant: str) -> str:
    """Name a contestant without its wait."""
    return contestant.removesuffix(", 2 ms").removesuffix(", 0 ms")


def colour(contestant: str) -> str:
    """Set ours off from the others."""
    return OURS if contestant.startswith("modelserve") else PEER


def save(figure: Figure, name: str) -> None:
    """Write a figure without a date."""
    figure.savefig(HERE / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight")


def draw_knee(rows: list[Row]) -> None:
    """Draw rate and time against the size of a batch."""
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    sizes = [row["batch"] for row in rows]
    for ax, column, label in zip(
        figure.subplots(1, 2),
        ("rows/s", "ms a batch"),
        ("rows a second", "milliseconds a batch"),
        strict=True,
    ):
        medians, lows, highs = zip(*(row[column] for row in rows), strict=True)
        ax.plot(sizes, medians, "o-", color=OURS, markersize=3)
        ax.fill_between(sizes, lows, highs, color=OURS, alpha=0.2, linewidth=0)
        ax.axvline(rows[0]["knee"], color=LIMIT, linestyle="--", linewidth=1)
        ax.annotate(
            "knee", (rows[0]["knee"], ax.get_ylim()[1]), (3, -8), textcoords="offset points"
        )
        ax.set_xscale("log", base=2)
        ax.set_xticks(sizes, map(str, sizes))
        ax.set(xlabel="inputs of a batch", ylabel=label, ylim=(0, None))
    save(figure, "knee")


def draw_load(late: dict[str, dict[str, float]]) -> None:
    """Draw p99 beside that of the oracle against the load."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    ax = figure.subplots()
    names = dict.fromkeys(name for of in late.values() for name in of)
    styles = itertools.cycle(STYLES)
    for name in names:
        points = [(load, of[name]) for load, of in late.items() if name in of]
        ours = colour(name) == OURS
        ax.plot(
            *zip(*points, strict=True),
            color=OURS if ours else LIMIT,
            linestyle="-" if ours else next(styles),
            linewidth=2.5 if ours else 1,
            label=name,
        )
    ax.axhline(1, color=PEER, linewidth=1)
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="load, of the capacity", ylabel="p99, times the oracle's")
    figure.legend(loc="outside right upper", frameon=False)
    save(figure, "load")


def draw_bars(name: str, panels: dict[str, dict[str, float]], line: float | None = None) -> None:
    """Draw a bar for each contestant in each panel."""
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))[::-1]
    figure = Figure(figsize=(7, 0.6 + 0.22 * len(names)), layout="constrained")
    for ax, (label, panel) in zip(
        figure.subplots(1, len(panels), sharey=True), panels.items(), strict=True
    ):
        values = [panel.get(name, 0.0) for name in names]
        ax.barh(names, values, color=[colour(name) for name in names])
        for place, name_ in enumerate(names):
            text = f" {panel[name_]:.2g}" if name_ in panel else " none"
            ax.annotate(text, (values[place], place), va="center", fontsize=8)
        if line is not None:
            ax.axvline(line, color=LIMIT, linestyle="--", linewidth=1)
        ax.set(xlabel=label, xlim=(0, 1.15 * max([*values, line or 0.0])))
    save(figure, name)


def table(found: Tables) -> str:
    """Write the figures of everybody as a table."""
    columns: dict[str, dict[str, float]] = {
        "CPU a call, async": found.overhead("async"),
        "CPU a call, sync": found.overhead("sync"),
        **{f"p99 at {load}": of for load, of in found.late().items()},
        "sustained": found.sustained(),
        "in time at 3x": found.overload("x saturated"),
        "wasted at 3x": found.overload("wasted"),
    }
    shares = {"sustained", "in time at 3x", "wasted at 3x"}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for name in names:
        cells = [
            "" if name not in of else f"{of[name]:.0%}" if label in shares else f"{of[name]:.2g}"
            for label, of in columns.items()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"CPython {found.python}, {found.machine}.", ""])


def main() -> None:
    """Draw everything."""
    batching, knee = (json.loads(Path(path).read_text()) for path in sys.argv[1:])
    found = Tables(batching)
    HERE.mkdir(exist_ok=True)
    draw_knee(knee["rows"])
    draw_load(found.late())
    draw_bars(
        "overhead",
        {f"{kind}: CPU, times the limit": found.overhead(kind) for kind in NULL},
        line=1.0,
    )
    draw_bars(
        "overload",
        {
            "answered in time, of the saturated rate": found.overload("x saturated"),
            "work wasted": found.overload("wasted"),
        },
    )
    (HERE / "measured.txt").write_text(table(found))


if __name__ == "__main__":
    main()
