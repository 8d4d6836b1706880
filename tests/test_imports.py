"""What ``import modelserve`` brings along and costs, seen in fresh interpreters."""

import os
import subprocess
import sys

import pytest

EXTRAS = {
    "blake3",
    "fastapi",
    "fsspec",
    "httpx",
    "joblib",
    "lightgbm",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "pydantic",
    "redis",
    "safetensors",
    "skl2onnx",
    "sklearn",
    "skops",
    "starlette",
    "torch",
    "tqdm",
    "transformers",
    "uvicorn",
    "xgboost",
}
LIMIT = 0.040


def fresh(code):
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


def test_import_loads_no_extra():
    loaded = set(fresh("import modelserve, sys; print(*sys.modules)").split())

    assert "modelserve" in loaded
    assert not loaded & EXTRAS


def test_import_starts_no_thread():
    code = "import modelserve, threading; print(threading.active_count())"

    assert int(fresh(code)) == 1


def seconds_to_import(name):
    # The thread's own time: others on the machine, and numpy's spinning workers, do not count.
    code = f"import time; t = time.thread_time(); import {name}; print(time.thread_time() - t)"
    return float(fresh(code))


def test_import_costs_little_more_than_numpy():
    numpy, ours = [], []
    for attempt in range(20):
        numpy.append(seconds_to_import("numpy"))
        ours.append(seconds_to_import("modelserve"))
        if attempt >= 3 and min(ours) - min(numpy) <= LIMIT:
            return
    pytest.fail(f"numpy takes {min(numpy):.3f} s, modelserve {min(ours):.3f} s")
