"""The benchmark of overheads runs, and says against what it measures."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_overhead_sets_every_primitive_beside_a_base_of_the_same_run(tmp_path):
    figures = tmp_path / "figures.json"
    script = BENCHMARKS / "overhead.py"
    subprocess.run([sys.executable, script, "--quick", "--json", figures], check=True, timeout=120)
    rows = {row["call"]: row for row in json.loads(figures.read_text())["rows"]}
    assert {row["against"] for row in rows.values()} <= set(rows)
    for primitive in ("lifted function", "loader", "splitter", "cache, hit", "batcher, lone call"):
        low, high = rows[primitive]["times"][1:]
        assert 0 < low <= high
    assert rows["bare function"]["times"] == [1.0, 1.0, 1.0]
