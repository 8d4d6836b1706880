"""Serve one model a customer from less memory than they take together.

Writes the models of many customers to a folder, and answers their requests from many threads by a
pool that holds a few of them at a time. Some customers ask far more often than others, so most
calls find their model in memory. Fails if any answer differs from that of the bare model.

    python examples/many_models.py [--models FOLDER]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import modelserve as ms
from modelserve.pool import PoolStats

CUSTOMERS = 40
IN_MEMORY = 8
WIDTH = 256
THREADS = 8

Vector = NDArray[np.float64]


class Outcome(NamedTuple):
    """What the pool counted, the share of calls that found their model, and wrong answers."""

    stats: PoolStats
    hit_rate: float
    differing: int


def write_models(folder: Path) -> None:
    """Write a matrix for each customer."""
    rng = np.random.default_rng(0)
    for number in range(CUSTOMERS):
        np.save(folder / f"customer-{number}.npy", rng.standard_normal((WIDTH, WIDTH)))


def multiply(weights: Vector, x: Vector) -> Vector:
    """Answer by a customer's matrix."""
    return x @ weights


def serve(folder: Path) -> ms.ModelPool:
    """Hold the models of a few customers at a time."""

    def size(name: str) -> int:
        return (folder / f"{name}.npy").stat().st_size

    def factory(name: str) -> ms.ModelLoader[Any, Any]:
        path = folder / f"{name}.npy"
        if not path.exists():
            raise KeyError(name)
        return ms.ModelLoader(partial(np.load, path), predict=multiply, name=name, version="1")

    return ms.ModelPool(factory, budget=IN_MEMORY * WIDTH * WIDTH * 8 + 10_000, size=size)


def run(folder: Path, requests: int) -> Outcome:
    """Answer requests of many threads, and check each answer."""
    write_models(folder)
    rng = np.random.default_rng(1)
    customers = rng.zipf(2.0, size=requests) % CUSTOMERS
    row = rng.standard_normal(WIDTH)
    expected = [row @ np.load(folder / f"customer-{n}.npy") for n in range(CUSTOMERS)]

    def ask(number: int) -> bool:
        return np.array_equal(pool[f"customer-{number}"](row), expected[number])

    with serve(folder) as pool, ThreadPoolExecutor(THREADS) as threads:
        right = list(threads.map(ask, customers.tolist()))
        print(pool)
        stats = pool.stats
    return Outcome(stats, stats.hits / requests, right.count(False))


def main(folder: Path | None = None, requests: int = 4_000) -> Outcome:
    """Run, print what happened, and return it."""
    with tempfile.TemporaryDirectory() as temporary:
        outcome = run(folder or Path(temporary), requests)
    stats = outcome.stats
    print(
        f"{requests:,} requests for {CUSTOMERS} models with room for {IN_MEMORY}: "
        f"{outcome.hit_rate:.0%} found theirs in memory, {stats.loads:,} loads, "
        f"{stats.evictions:,} evictions, {outcome.differing} other answers than offline"
    )
    return outcome


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, help="keep the models in this folder")
    sys.exit(1 if main(parser.parse_args().models).differing else 0)
