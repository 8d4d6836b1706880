"""Requests that arrive whatever happens, while models are swapped under them."""

from __future__ import annotations

import gc
import itertools
import math
import statistics
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Self

import numpy as np

import modelserve as ms
from _loading.rows import Row, row

THREADS = 8
GAP = 0.001
"""Seconds between two requests of a thread."""


class Model:
    """A megabyte that answers."""

    def __init__(self) -> None:
        self.weights = np.ones((512, 256), np.float32)

    def __call__(self, x: Any) -> float:
        """Use it a little."""
        return float(self.weights[int(x) % 512] @ self.weights[0])


class Source:
    """Loads models, of which every tenth is bad, and knows which of them are alive."""

    def __init__(self) -> None:
        self.loads = 0
        self.made: list[weakref.ref[Model]] = []

    def __call__(self) -> Model:
        """Load one. Raises OSError for every tenth."""
        self.loads += 1
        if not self.loads % 10:
            raise OSError("a bad file")
        model = Model()
        self.made.append(weakref.ref(model))
        return model

    def alive(self) -> int:
        """Count the models that are still there."""
        gc.collect()
        return sum(ref() is not None for ref in self.made)


class Load:
    """Open-loop load: each request has its time, from which its latency counts."""

    def __init__(self, ask: Callable[[Any], Any], calls: int) -> None:
        self.latencies: list[list[float]] = [[] for _ in range(THREADS)]
        self.failed: list[BaseException] = []
        self._ask = ask
        self._each = math.ceil(calls / THREADS)
        self._threads = [threading.Thread(target=self._run, args=(k,)) for k in range(THREADS)]

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the last."""
        for thread in self._threads:
            thread.join()

    def _run(self, place: int) -> None:
        began = time.perf_counter() + place * GAP / THREADS
        for number in range(self._each):
            due = began + number * GAP
            wait = due - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            try:
                self._ask(number)
            except Exception as error:  # noqa: BLE001 - counted
                self.failed.append(error)
            self.latencies[place].append(time.perf_counter() - due)

    def p99(self) -> float:
        """Return the 99th percentile, in seconds."""
        return statistics.quantiles(itertools.chain(*self.latencies), n=100)[-1]


def first_callers() -> int:
    """Have 64 threads come first together; return how often it loaded."""
    source, start = Source(), threading.Barrier(64)
    loader: ms.ModelLoader[Any, Any] = ms.ModelLoader(source, name="first")

    def ask() -> None:
        start.wait()
        loader(1)

    threads = [threading.Thread(target=ask) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return source.loads


def rows(*, quick: bool) -> list[Row]:
    """Measure."""
    calls, swaps = (4_000, 20) if quick else (100_000, 200)
    source = Source()
    loader: ms.ModelLoader[Any, Any] = ms.ModelLoader(source, mode="eager", name="swapped")
    with Load(loader, calls) as steady:
        pass
    bad = 0
    with Load(loader, calls) as swapped:
        for _ in range(swaps):
            try:
                loader.reload()
            except ms.ModelLoadError:
                bad += 1
            time.sleep(calls / THREADS * GAP / swaps * 0.9)
    loads, kept = source.loads - 1, 2  # what serves, and what a rollback would bring back
    what = f"failed of {calls:,} calls during {swaps} swaps, every tenth load bad ({bad})"
    late = swapped.p99() / steady.p99()
    return [
        row(what, len(swapped.failed), "<=", 0),
        row("p99 during swaps, times that without", late, "<=", 1.25),
        row("loads a change", loads / swaps, "<=", 1),
        row("old versions alive afterwards", source.alive() - kept, "<=", 0),
        row("loads for 64 callers who came first together", first_callers(), "<=", 1),
    ]
