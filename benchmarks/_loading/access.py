"""What reading a model through a loader costs, by one thread and by eight."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from _measure import figure, interleave

import modelserve as ms
from _loading.rows import Row, row

THREADS = 8
SECONDS = 0.25


class Model:
    """Something with a method."""

    def predict(self, x: Any) -> Any:
        """Return what is given."""
        return x


class Holder(NamedTuple):
    """What a service has without a loader: a place for its model."""

    model: Model


class TtlLoader:
    """A loader as it is often written by hand: a lock and a look at the clock for each call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model = Model()
        self._loaded = time.monotonic()

    def predict(self, x: Any) -> Any:
        """Answer by a model that is at most an hour old."""
        with self._lock:
            if time.monotonic() - self._loaded > 3600:  # noqa: PLR2004 - an hour
                self._model = Model()
            model = self._model
        return model.predict(x)


def ways() -> dict[str, Callable[[Any], Any]]:
    """Name the ways to ask a model."""
    holder, by_hand = Holder(Model()), TtlLoader()
    raw = ms.ModelLoader(lambda: holder.model, mode="eager", name="raw")
    loader: ms.ModelLoader[Any, Any] = ms.ModelLoader(
        lambda: holder.model.predict, mode="eager", name="loader"
    )
    return {
        "holder.model.predict(x)": lambda x: holder.model.predict(x),  # noqa: PLW0108 - as written
        "loader.get().predict(x)": lambda x: raw.get().predict(x),
        "loader(x)": lambda x: loader(x),  # noqa: PLW0108 - as deep as the others
        "a lock a call": lambda x: by_hand.predict(x),  # noqa: PLW0108 - as deep as the others
    }


def repeat(ask: Callable[[Any], Any]) -> Callable[[int], None]:
    """Return a loop of calls."""

    def run(calls: int) -> None:
        for _ in range(calls):
            ask(1)

    return run


def rate(ask: Callable[[Any], Any], seconds: float) -> float:
    """Return the calls a second of eight threads together."""
    counts, begun, ends = [0] * THREADS, threading.Barrier(THREADS + 1), threading.Event()

    def work(place: int) -> None:
        begun.wait()
        while not ends.is_set():
            for _ in range(100):
                ask(1)
            counts[place] += 100

    threads = [threading.Thread(target=work, args=(place,)) for place in range(THREADS)]
    for thread in threads:
        thread.start()
    begun.wait()
    started = time.perf_counter()
    time.sleep(seconds)
    ends.set()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def rows(*, quick: bool) -> list[Row]:
    """Measure."""
    asked = ways()
    loops = {name: repeat(ask) for name, ask in asked.items()}
    times = interleave(loops, calls=1_000 if quick else 20_000, rounds=5 if quick else 40)
    base = times["holder.model.predict(x)"]
    made = [
        row(
            f"{name}, ns more than holder.model.predict(x)",
            figure([(mine - plain) * 1e9 for mine, plain in zip(times[name], base, strict=True)]),
            "<=",
            bound,
        )
        for name, bound in (("loader.get().predict(x)", 50.0), ("loader(x)", 110.0))
    ]
    rounds = range(3 if quick else 9)
    pairs = [
        (rate(asked["loader(x)"], SECONDS), rate(asked["a lock a call"], SECONDS)) for _ in rounds
    ]
    label = f"rate of loader(x) by {THREADS} threads, times that of a lock a call"
    return [*made, row(label, figure([ours / theirs for ours, theirs in pairs]), ">=", 5.0)]
