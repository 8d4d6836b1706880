"""What variants and splitters infer, of one kind and of mixed ones."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

import modelserve as ms


def upper(text: str) -> str:
    return text.upper()


async def slow_upper(text: str) -> str:
    return text.upper()


def uppers(texts: list[str]) -> list[str]:
    return [text.upper() for text in texts]


def serve(model: ms.ModelLoader[Any, Any]) -> ms.PredictionCache[Any, Any]:
    return ms.PredictionCache(ms.DynamicBatcher(model, max_batch_size=64), maxsize=10, ttl=60.0)


loader: ms.ModelLoader[Any, Any] = ms.ModelLoader(lambda: upper, name="v1")
other_loader: ms.ModelLoader[Any, Any] = ms.ModelLoader(lambda: upper, name="v2")

sync = ms.Variant("sync", upper, weight=0.5)
asynchronous = ms.Variant("async", slow_upper, 0.5)
stacked = ms.Variant("stacked", ms.PredictionCache(ms.DynamicBatcher(uppers), maxsize=10), 0.5)
loaded = ms.Variant("loaded", loader)

assert_type(sync, ms.Variant[str, str])
assert_type(asynchronous, ms.Variant[str, str])
assert_type(stacked, ms.Variant[str, str])
assert_type(loaded, ms.Variant[Any, Any])
assert_type(ms.Variant("keyword", predict=upper), ms.Variant[str, str])
assert_type(ms.Variant("lambda", lambda x: x), ms.Variant[Any, Any])
annotated: ms.Variant[str, int] = ms.Variant("annotated", lambda x: len(x) + 1)

split = ms.TrafficSplitter(sync, asynchronous, salt="demo")
assert_type(split, ms.TrafficSplitter[str, str])
assert_type(ms.TrafficSplitter(sync, stacked, salt="demo"), ms.TrafficSplitter[str, str])
assert_type(
    ms.TrafficSplitter(
        sync,
        asynchronous,
        salt="demo",
        unit=lambda text: text[:2],
        policy=ms.HashSplit(),
        overrides={"user-1": "async"},
        rng=random.Random(1),  # noqa: S311 - no secret
        name="split",
    ),
    ms.TrafficSplitter[str, str],
)
mixed: ms.TrafficSplitter[str, str] = ms.TrafficSplitter(
    ms.Variant("typed", upper), loaded, salt="demo"
)
assert_type(ms.TrafficSplitter(loaded, salt="demo"), ms.TrafficSplitter[Any, Any])
assert_type(
    ms.TrafficSplitter(
        ms.Variant("stable", serve(loader), weight=0.95),
        ms.Variant("candidate", serve(other_loader), weight=0.05),
        salt="demo",
    ),
    ms.TrafficSplitter[Any, Any],
)
assert_type(
    ms.TrafficSplitter(ms.Variant("nested", split), ms.Variant("flat", slow_upper), salt="outer"),
    ms.TrafficSplitter[str, str],
)


def check_faces() -> None:
    assert_type(split("a"), str)
    assert_type(split.map(["a"]), Iterator[str])
    assert_type(split.amap(["a"]), AsyncIterator[str])
    assert_type(split.weights, dict[str, float])
    assert_type(split.assign("user-1"), ms.Assignment)
    assert_type(split.assign("user-1").propensity, float)
    assert_type(split.stats.variants["sync"].calls, int)


async def check_async_face() -> None:
    assert_type(await split.acall("a"), str)
    assert_type([text async for text in split.amap(["a"])], list[str])
