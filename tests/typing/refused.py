"""What both checkers refuse, and what they cannot see, so that it is refused at run time.

Each ignore must be needed, so an error that a checker no longer finds fails the check.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import modelserve as ms
from modelserve.typing import Predictor


def upper(text: str) -> str:
    return text.upper()


def length(text: str) -> int:
    return len(text)


def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


def look_up(model: dict[str, int], text: str) -> int:
    return model[text]


def no_input() -> int:
    return 1


def two_inputs(texts: list[str], limit: int) -> list[int]:
    return [len(text[:limit]) for text in texts]


def three_inputs(a: str, b: str, c: str) -> str:
    return a + b + c


def takes(
    *,
    number: int = 0,
    text: str = "",
    function: Callable[[int], int] | None = None,
    predictor: Predictor[str, str] | None = None,
    cache: ms.PredictionCache[str, str] | None = None,
) -> None: ...


class Service:
    @ms.batched()
    def lengths(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]


shout = ms.predictor(upper)
batcher = ms.DynamicBatcher(lengths)
cache = ms.PredictionCache(batcher, maxsize=10)
variant = ms.Variant("upper", upper)
splitter = ms.TrafficSplitter(variant, salt="demo")
service = Service()
loader: ms.ModelLoader[str, int] = ms.ModelLoader(lambda: {"a": 1}, predict=look_up)


def no_predictors() -> None:
    ms.predictor(3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.predictor(no_input)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.predictor(three_inputs)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.DynamicBatcher(no_input)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.batched()(three_inputs)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.PredictionCache(no_input, maxsize=10)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.cached(maxsize=10)("upper")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.Variant("three", three_inputs)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    takes(predictor=upper)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ms.describe(upper)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ms.health(upper)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def options_of_predictor() -> None:
    ms.predictor(upper, "name")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    ms.predictor(upper, nam="upper")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    ms.predictor(upper, name=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.predictor(upper, executor="threads")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.predictor(uses=[upper])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    ms.predictor(uses=shout)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def options_of_batchers() -> None:
    ms.DynamicBatcher()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    ms.DynamicBatcher(lengths, 8)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    ms.DynamicBatcher(lengths, batch_size=8)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    ms.DynamicBatcher(lengths, max_batch_size="8")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.DynamicBatcher(lengths, workers=None)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.DynamicBatcher(lengths, layout="stack")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.DynamicBatcher(lengths, on_error="ignore")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.DynamicBatcher(lengths, on_event=length)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.batched(lengths)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    ms.batched(batch_size=8)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ms.batched(max_wait="1 ms")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ms.batched(clock=1.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def options_of_caches() -> None:
    ms.PredictionCache()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    ms.PredictionCache(upper, 10)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    ms.PredictionCache(upper, max_size=10)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    ms.PredictionCache(upper, maxsize="10")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.PredictionCache(upper, store=[])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.PredictionCache(upper, maxsize=10, key="text")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.PredictionCache(upper, maxsize=10, version=1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.cached(upper)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    ms.cached(size=10)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ms.cached(maxsize=10, ttl="60 s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def options_of_splitters() -> None:
    ms.Variant("upper")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    ms.Variant(upper, "upper")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.Variant("upper", upper, weight="half")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ms.Variant("upper", upper, share=0.5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    ms.TrafficSplitter(variant)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ms.TrafficSplitter(upper, salt="demo")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ms.TrafficSplitter(variant, salt=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ms.TrafficSplitter(variant, salt="demo", unit="user")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ms.TrafficSplitter(variant, salt="demo", unit=length)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ms.TrafficSplitter(variant, salt="demo", policy="hash")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ms.TrafficSplitter(variant, salt="demo", overrides=["user-1"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ms.TrafficSplitter(variant, ms.Variant("length", length), salt="demo")  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    splitter.set_weights([1.0])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    splitter.assign(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def options_of_loaders() -> None:
    ms.ModelLoader()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ms.ModelLoader(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ms.ModelLoader("ranker.onnx", "lazy")  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    ms.ModelLoader("ranker.onnx", mode="now")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ms.ModelLoader("ranker.onnx", predict=no_input)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ms.ModelLoader("ranker.onnx", warmup=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ms.ModelLoader("ranker.onnx", predict=look_up, warmup=[1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def options_of_requests() -> None:
    ms.request("user-1")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ms.request(unit=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ms.request(timeout="1 s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ms.request(user="user-1")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with ms.request() as r:
        r.run(shout, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ms.current_request().remaining()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]


def inputs() -> None:
    shout(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    shout(text="a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    shout("a", "b")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    shout.map([1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    shout.map("a", 1)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    batcher(["a", "b"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    batcher.submit(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    batcher.amap([1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    service.lengths(["a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cache(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cache.map([b"a"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    splitter(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    loader(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ms.warm(cache, 1)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]


def outputs() -> None:
    takes(number=shout("a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    takes(text=batcher("a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    takes(text=service.lengths("a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    takes(text=next(cache.map(["a"])))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    takes(function=cache)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    takes(predictor=cache)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    takes(cache=cache)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cache.stats.hits = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


async def async_faces() -> None:
    await cache("a")  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    await cache.acall(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    takes(text=await cache.acall("a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for _ in cache.amap(["a"]):  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType]
        pass
    async for _ in cache.map(["a"]):  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType]
        pass


LEFT_TO_RUN_TIME: dict[str, Callable[[], Any]] = {
    "two inputs look like a method": lambda: ms.predictor(two_inputs),
    "two inputs under a decorator": lambda: ms.predictor()(two_inputs),
    "two inputs to batch": lambda: ms.batched()(two_inputs),
    "two inputs to remember": lambda: ms.cached(maxsize=10)(two_inputs),
    "no bound": lambda: ms.PredictionCache(upper),
    "two bounds": lambda: ms.PredictionCache(upper, maxsize=10, store={}),
    "out of range": lambda: ms.DynamicBatcher(lengths, max_batch_size=0),
    "an item predictor to batch": lambda: ms.DynamicBatcher(batcher),
    "a cache below a batcher": lambda: ms.DynamicBatcher(cache),
    "a splitter below a cache": lambda: ms.PredictionCache(splitter, maxsize=10),
    "no variants": lambda: ms.TrafficSplitter(salt="demo"),
}
"""What both checkers accept, by what is wrong with it."""
