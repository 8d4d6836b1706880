"""What holds of every predictor: the protocol, life, requests and the walks over a tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_type

import modelserve as ms
from modelserve.predictor import Function
from modelserve.testing import AsyncGatedPredictor, EventLog, FakeClock, GatedPredictor
from modelserve.typing import AsyncPredictFn, Clock, PredictFn, Predictor


def length(text: str) -> int:
    return len(text)


async def slow_length(text: str) -> int:
    return len(text)


def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


def lookup(model: Any, text: str) -> int:
    return len(text)


fn: PredictFn[str, int] = length
slow_fn: AsyncPredictFn[str, int] = slow_length
clock: Clock = FakeClock()

function = ms.predictor(length)
loader = ms.ModelLoader(lambda: None, predict=lookup)
batcher = ms.DynamicBatcher(lengths, clock=clock, on_event=EventLog())
cache = ms.PredictionCache(batcher, maxsize=10, clock=clock)
splitter = ms.TrafficSplitter(ms.Variant("only", cache), salt="demo", clock=clock)

predictors: list[Predictor[str, int]] = [function, loader, batcher, cache, splitter]
wider: list[Predictor[str, object]] = [function, loader, batcher, cache, splitter]
callables: list[Callable[[str], int]] = [function, loader, batcher, cache, splitter]


def ask(predictor: Predictor[str, int]) -> int:
    return predictor("a")


async def ask_async(predictor: Predictor[str, int]) -> int:
    return await predictor.acall("a")


def check_protocol(predictor: Predictor[str, int]) -> None:
    assert_type(ask(cache), int)
    assert_type(list(predictor.map(["a"])), list[int])
    assert_type(ms.predictor(predictor), Function[str, int])
    assert_type(ms.PredictionCache(predictor, maxsize=10), ms.PredictionCache[str, int])
    assert_type(ms.Variant("protocol", predictor), ms.Variant[str, int])


def check_life() -> None:
    with function as opened:
        assert_type(opened, Function[str, int])
    with cache as opened_cache:
        assert_type(opened_cache, ms.PredictionCache[str, int])
    splitter.close(drain=False, timeout=1.0)


async def check_async_life() -> None:
    async with splitter as opened:
        assert_type(opened, ms.TrafficSplitter[str, int])
    async with batcher as opened_batcher:
        assert_type(opened_batcher, ms.DynamicBatcher[str, int])
    await loader.aclose(drain=False, timeout=1.0)


def check_request() -> None:
    with ms.request(unit="user-1", timeout=0.1, priority=1, tenant="shop", debug=True) as r:
        assert_type(r, ms.Request)
        assert_type(r.record, dict[str, Any])
        assert_type(r.run(cache, "a"), int)
        assert_type(r.run(length, "a"), int)
        assert_type(r.remaining(), float)
        assert_type(r.unit, str | None)
    assert_type(ms.current_request(), ms.Request | None)


def check_walks() -> None:
    assert_type(ms.describe(splitter), str)
    assert_type(ms.health(splitter), ms.Health)
    assert_type(ms.health(splitter).ready, bool)
    ms.warm(splitter, "a")


async def check_async_walks() -> None:
    await ms.awarm(splitter, "a")


gated = GatedPredictor(length)
slow_gated = GatedPredictor.asynchronous(length)
assert_type(gated, GatedPredictor[str, int])
assert_type(slow_gated, AsyncGatedPredictor[str, int])
assert_type(ms.predictor(gated), Function[str, int])
assert_type(ms.predictor(slow_gated), Function[str, int])
