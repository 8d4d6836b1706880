"""The benchmark of loading runs, and sets every figure beside its target."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    figures = tmp_path_factory.mktemp("loading") / "figures.json"
    script = BENCHMARKS / "loading.py"
    subprocess.run([sys.executable, script, "--quick", "--json", figures], check=True, timeout=120)
    return {row["what"]: row for row in json.loads(figures.read_text())["rows"]}


def test_every_figure_is_measured_or_says_what_it_needs(rows):
    assert len(rows) == 13
    for row in rows.values():
        assert row["target"]
        if row["verdict"] == "not measured":
            assert row["figure"].startswith("needs ")
        else:
            assert isinstance(row["figure"], int | float | list)


def test_no_call_fails_and_no_version_is_loaded_twice_or_stays(rows):
    (failed,) = (row["figure"] for what, row in rows.items() if what.startswith("failed of"))

    assert failed == 0
    assert rows["loads a change"]["figure"] == 1.0
    assert rows["old versions alive afterwards"]["figure"] == 0
    assert rows["loads for 64 callers who came first together"]["figure"] == 1
