"""What a call of each primitive adds over a bare function: nanoseconds and a ratio.

The bare function returns what it is given. A call of a lifted function should add at most 150 ns,
and a layer that reads the request in force at most 25 ns while nobody has opened one.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
from _measure import figure, interleave, options, report

import modelserve as ms
from modelserve.request import current

Loop = Callable[[int], object]
ROW = np.zeros(64)
IMAGE = np.zeros((3, 224, 224), np.float32)
FEATURES = {f"feature_{n}": n / 7 for n in range(20)}


def identity(x: Any) -> Any:
    """Return what is given."""
    return x


async def aidentity(x: Any) -> Any:
    """Return what is given."""
    return x


def reads_scope(x: Any) -> Any:
    """Do what a layer does when it reads the request: nothing, if there is none."""
    scope = current()
    if scope is not None:
        scope.check("layer")
    return x


def repeat(fn: Callable[[Any], object], x: object = ROW) -> Loop:
    """Return a loop of calls."""

    def run(calls: int) -> None:
        for _ in range(calls):
            fn(x)

    return run


def arepeat(fn: Callable[[Any], Awaitable[object]], x: object = ROW) -> Loop:
    """Return a loop of awaited calls, on an event loop of its own."""

    async def run(calls: int) -> None:
        for _ in range(calls):
            await fn(x)

    return lambda calls: asyncio.run(run(calls))


def in_request(loop: Loop) -> Loop:
    """Run a loop of calls inside a request."""

    def run(calls: int) -> None:
        with ms.request(unit="user-42"):
            loop(calls)

    return run


class HandOff:
    """The limit of a batcher with threads: a queue there, a queue back, and nothing else."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[object, SimpleQueue[object]]] = SimpleQueue()
        Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            x, back = self._queue.get()
            back.put(x)

    def __call__(self, x: object) -> object:
        """Answer by the worker."""
        back: SimpleQueue[object] = SimpleQueue()
        self._queue.put((x, back))
        return back.get()


async def future_round_trip(x: object) -> object:
    """Wait for a future that the loop settles next: the limit of an async batcher."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[object] = loop.create_future()
    loop.call_soon(future.set_result, x)
    return await future


def lru_with_key() -> Callable[[Any], object]:
    """Remember arrays by a key written by hand: the peer of a cache's hit."""

    @functools.lru_cache(maxsize=1_000)
    def remembered(shape: tuple[int, ...], dtype: str, raw: bytes) -> object:
        return shape, dtype, raw

    return lambda x: remembered(x.shape, x.dtype.str, x.tobytes())


def lru_with_items() -> Callable[[Any], object]:
    """Remember dicts by a key written by hand."""

    @functools.lru_cache(maxsize=1_000)
    def remembered(items: tuple[tuple[str, float], ...]) -> object:
        return items

    return lambda x: remembered(tuple(sorted(x.items())))


def split(fn: Callable[[Any], Any]) -> ms.TrafficSplitter[Any, Any]:
    """Make a split of two variants by a unit that is the input."""
    variants = (ms.Variant("a", fn, 0.9), ms.Variant("b", fn, 0.1))
    return ms.TrafficSplitter(*variants, salt="overhead", unit=str)


def pooled(loader: ms.ModelLoader[Any, Any]) -> Callable[[Any], Any]:
    """Look a model of a pool up at each call, over a loader of its own."""
    pool = ms.ModelPool(lambda _: loader, budget=1_000, weigh=lambda _: 1)
    pool["loader"].start()

    def ask(x: object) -> object:
        return pool["loader"](x)

    return ask


def comparisons() -> list[tuple[int, dict[str, Loop]]]:
    """List what is set side by side, the base first, with calls a round."""
    lifted, loader = ms.predictor(identity), ms.ModelLoader(lambda: identity, name="loader")
    cache = ms.PredictionCache(identity, maxsize=1_000)
    acache = ms.PredictionCache(aidentity, maxsize=1_000)
    batcher, abatcher = ms.DynamicBatcher(identity), ms.DynamicBatcher(aidentity)
    sync = {
        "bare function": repeat(identity),
        "reading the request": repeat(reads_scope),
        "lifted function": repeat(lifted),
        "lifted function, in a request": in_request(repeat(lifted)),
        "loader": repeat(loader),
        "loader, in a request": in_request(repeat(loader)),
        "model of a pool, hit": repeat(pooled(loader)),
        "splitter": repeat(split(identity), "user-42"),
        "splitter, in a request": in_request(repeat(split(identity), "user-42")),
    }
    hits = {
        "lru_cache, key by hand, hit": repeat(lru_with_key()),
        "cache, hit": repeat(cache),
        "cache, hit, in a request": in_request(repeat(cache)),
    }
    images = {
        "lru_cache, key by hand, hit, image": repeat(lru_with_key(), IMAGE),
        "cache, hit, image": repeat(cache, IMAGE),
    }
    dicts = {
        "lru_cache, key by hand, hit, dict": repeat(lru_with_items(), FEATURES),
        "cache, hit, dict": repeat(ms.PredictionCache(lambda _: 1.0, maxsize=1_000), FEATURES),
    }
    awaited = {
        "bare coroutine": arepeat(aidentity),
        "lifted coroutine": arepeat(ms.predictor(aidentity).acall),
        "cache, awaited hit": arepeat(acache.acall),
        "splitter, awaited": arepeat(split(aidentity).acall, "user-42"),
    }
    handed = {"bare hand-off to a thread": repeat(HandOff()), "batcher, lone call": repeat(batcher)}
    futures = {
        "bare future round trip": arepeat(future_round_trip),
        "batcher, lone awaited call": arepeat(abatcher.acall),
    }
    return [
        (20_000, sync),
        (20_000, hits),
        (200, images),
        (10_000, dicts),
        (20_000, awaited),
        (2_000, handed),
        (2_000, futures),
    ]


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    asked = options(__doc__ or "")
    rows: list[dict[str, object]] = []
    for calls, loops in comparisons():
        seconds = interleave(
            loops, calls=calls // 20 if asked.quick else calls, rounds=5 if asked.quick else 40
        )
        base = next(iter(loops))
        for name, values in seconds.items():
            pairs = list(zip(values, seconds[base], strict=True))
            added = figure([(value - other) * 1e9 for value, other in pairs])
            ratio = figure([value / other for value, other in pairs])
            rows.append({"call": name, "ns added": added, "times": ratio, "against": base})
    report(rows, asked.json)


if __name__ == "__main__":
    main()
