"""The benchmark of batch sizes runs, and finds a knee among them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_knee_is_one_of_the_sizes_that_batches_may_have(tmp_path):
    figures = tmp_path / "figures.json"
    script = BENCHMARKS / "knee.py"
    subprocess.run([sys.executable, script, "--quick", "--json", figures], check=True, timeout=120)
    rows = json.loads(figures.read_text())["rows"]
    sizes = [row["batch"] for row in rows]
    assert sizes == sorted(sizes)
    assert sizes[0] <= rows[0]["knee"] <= sizes[-1]
    assert all(0 < low <= high for row in rows for _, low, high in [row["ms a batch"]])
