import re
import sys

import pytest

from modelserve.batcher._tuning import ALIKE, Tuning, TuningRow


def row(max_batch_size=8, max_wait=0.0, workers=1, max_load=100.0, *, meets=True):
    return TuningRow(
        max_batch_size=max_batch_size,
        max_wait=max_wait,
        workers=workers,
        p50=0.0111,
        p99=0.0222,
        mean_batch_size=3.33,
        utilisation=0.444,
        max_load=max_load,
        meets=meets,
    )


def tuning(*rows):
    curves = [{200.0: 0.3, 100.0: 0.02, 50.0: 0.01} for _ in rows]
    return Tuning(slo=0.1, load=50.0, rows=rows, curves=curves)


def test_the_best_carries_the_highest_load():
    rows = [row(1, max_load=90), row(64, 0.01, 4, max_load=100), row(2, max_load=95)]

    assert tuning(*rows).best == rows[1]


@pytest.mark.parametrize(
    ("simpler", "other"),
    [
        (row(workers=1, max_batch_size=64), row(workers=2, max_batch_size=1)),
        (row(max_batch_size=8, max_wait=0.1), row(max_batch_size=16, max_wait=0.0)),
        (row(max_wait=0.0), row(max_wait=0.1)),
    ],
)
def test_of_loads_that_are_alike_the_simpler_setting_is_the_best(simpler, other):
    slightly_less = simpler._replace(max_load=simpler.max_load * ALIKE * 1.001)

    assert tuning(other, simpler).best == tuning(simpler, other).best == simpler
    assert tuning(other, slightly_less).best == slightly_less


def test_where_nothing_meets_the_slo_nothing_is_the_best():
    assert tuning(row(max_load=0.0, meets=False)).best is None
    assert repr(tuning(row(max_load=0.0))) == "<Tuning for a p99 of 100 ms: nothing meets it>"


def test_the_repr_names_the_best():
    assert repr(tuning(row(8, 0.005, 2, max_load=1234.5))) == (
        "<Tuning for a p99 of 100 ms: best up to 8, 5 ms, 2 workers: 1,234 a second>"
    )


def test_the_table_has_a_line_for_each_setting_and_marks_the_best():
    title, head, *lines = str(tuning(row(8), row(1024, 0.005, max_load=50, meets=False))).split(
        "\n"
    )

    assert title == "p99 within 100 ms; at 50 requests a second:"
    assert re.split(r"  +", head.strip()) == [
        "max_batch_size",
        "max_wait ms",
        "workers",
        "p50 ms",
        "p99 ms",
        "meets",
        "mean size",
        "busy",
        "max load/s",
    ]
    assert [line.split() for line in lines] == [
        ["best", "8", "0", "1", "11.1", "22.2", "yes", "3.3", "44%", "100"],
        ["1,024", "5", "1", "11.1", "22.2", "no", "3.3", "44%", "50"],
    ]
    assert {len(line) for line in [head, *lines]} == {len(head)}


def test_a_notebook_shows_the_same_table():
    found = tuning(row(8), row(1024, 0.005, max_load=50))._repr_html_()

    assert "<caption>p99 within 100 ms; at 50 requests a second:</caption>" in found
    assert found.count("<tr>") == 3
    assert "<tr><td>best</td><td>8</td>" in found
    assert "<tr><td></td><td>1,024</td><td>5</td>" in found


def test_rows_and_what_was_asked_for_can_be_read():
    rows = [row(8), row(16)]
    found = tuning(*rows)

    assert (found.rows, found.slo, found.load) == (tuple(rows), 0.1, 50.0)


class Axes:
    """Axes that note what is drawn."""

    def __init__(self):
        self.lines = {}
        self.slo = None

    def plot(self, x, y, *, label):
        self.lines[label] = (x, y)

    def axhline(self, y, **style):
        self.slo = y

    def set(self, **labels):
        self.labels = labels

    def legend(self):
        self.has_legend = True


def test_a_plot_has_a_line_for_each_setting_in_the_order_of_load_and_the_slo():
    axes = Axes()

    assert tuning(row(8), row(16, 0.005, 2)).plot(axes) is axes
    assert axes.lines == {
        "up to 8, 0 ms, 1 worker": ([50.0, 100.0, 200.0], [0.01, 0.02, 0.3]),
        "up to 16, 5 ms, 2 workers": ([50.0, 100.0, 200.0], [0.01, 0.02, 0.3]),
    }
    assert axes.slo == 0.1
    assert axes.has_legend
    assert axes.labels["yscale"] == "log"


def test_a_plot_of_its_own_is_drawn_by_matplotlib(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    pytest.importorskip("matplotlib")
    axes = tuning(row(8), row(16)).plot()
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    axes.figure.canvas.draw()

    assert labels == ["up to 8, 0 ms, 1 worker", "up to 16, 0 ms, 1 worker", "SLO"]


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)

    with pytest.raises(ImportError, match=r"pip install 'modelserve\[plot\]'"):
        tuning(row()).plot()
