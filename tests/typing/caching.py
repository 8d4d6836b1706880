"""What caches infer: whatever they stand over, in and out are its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeAlias, assert_type

import cachetools
import numpy as np
import numpy.typing as npt

import modelserve as ms

Floats: TypeAlias = npt.NDArray[np.float64]


def upper(text: str) -> str:
    return text.upper()


async def slow_upper(text: str) -> str:
    return text.upper()


def with_default(text: str, limit: int = 3) -> int:
    return len(text[:limit])


async def slow_with_default(text: str, limit: int = 3) -> int:
    return len(text[:limit])


def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


async def slow_embed(texts: list[str]) -> Floats:
    return np.ones(len(texts))


def maybe(text: str) -> str | None:
    return text or None


store: cachetools.LRUCache[Any, Any] = cachetools.LRUCache(10)
loader: ms.ModelLoader[Any, Any] = ms.ModelLoader(lambda: upper)
typed_loader: ms.ModelLoader[Floats, Floats] = ms.ModelLoader(lambda: upper)

assert_type(ms.PredictionCache(upper, maxsize=10), ms.PredictionCache[str, str])
assert_type(ms.PredictionCache(slow_upper, store=store), ms.PredictionCache[str, str])
assert_type(ms.PredictionCache(with_default, maxsize=10), ms.PredictionCache[str, int])
assert_type(ms.PredictionCache(maybe, store={}), ms.PredictionCache[str, str | None])
assert_type(ms.PredictionCache(loader, maxsize=10), ms.PredictionCache[Any, Any])
assert_type(ms.PredictionCache(typed_loader, maxsize=10), ms.PredictionCache[Floats, Floats])
assert_type(
    ms.PredictionCache(ms.DynamicBatcher(lengths), maxsize=10, ttl=60.0, version="1"),
    ms.PredictionCache[str, int],
)
assert_type(ms.PredictionCache(ms.DynamicBatcher(loader), maxsize=10), ms.PredictionCache[Any, Any])
assert_type(
    ms.PredictionCache(ms.DynamicBatcher(typed_loader), maxsize=10),
    ms.PredictionCache[Floats, Any],
)
assert_type(ms.PredictionCache(lambda x: x, maxsize=10), ms.PredictionCache[Any, Any])
annotated: ms.PredictionCache[str, int] = ms.PredictionCache(lambda x: len(x) + 1, maxsize=10)

cached = ms.cached(maxsize=10, key=str.lower, version=lambda: "1", name="cache")
assert_type(cached(upper), ms.PredictionCache[str, str])
assert_type(cached(slow_upper), ms.PredictionCache[str, str])
assert_type(cached(with_default), ms.PredictionCache[str, int])
assert_type(cached(slow_with_default), ms.PredictionCache[str, int])
assert_type(cached(loader), ms.PredictionCache[Any, Any])
assert_type(cached(ms.batched()(lengths)), ms.PredictionCache[str, int])
assert_type(cached(ms.batched()(slow_embed)), ms.PredictionCache[str, Any])


@ms.cached(maxsize=10)
def square(x: float) -> float:
    return x * x


@ms.cached(maxsize=10)
@ms.batched(max_batch_size=64)
def count(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


@ms.cached(maxsize=10)
@ms.batched()
async def embed(texts: list[str]) -> Floats:
    return np.ones(len(texts))


@ms.cached(maxsize=10)
@ms.predictor(name="inner")
async def asked(text: str) -> int:
    return await count.acall(text)


assert_type(square, ms.PredictionCache[float, float])
assert_type(count, ms.PredictionCache[str, int])
assert_type(embed, ms.PredictionCache[str, Any])
assert_type(asked, ms.PredictionCache[str, int])


class Service:
    @ms.cached(maxsize=10)
    def length(self, text: str) -> int:
        return len(text)

    @ms.cached(maxsize=10)
    async def slow_length(self, text: str) -> int:
        return len(text)

    @ms.cached(maxsize=10)
    @ms.batched()
    def lengths(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]

    @ms.cached(maxsize=10)
    @ms.batched()
    async def slow_lengths(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]


service = Service()
assert_type(Service.length, ms.PredictionCache[str, int])
assert_type(Service.slow_lengths, ms.PredictionCache[str, int])
assert_type(service.length, ms.PredictionCache[str, int])
assert_type(service.slow_length, ms.PredictionCache[str, int])
assert_type(service.lengths, ms.PredictionCache[str, int])
assert_type(service.slow_lengths, ms.PredictionCache[str, int])


def check_faces() -> None:
    assert_type(square(2.0), float)
    assert_type(count("a"), int)
    assert_type(embed("a"), Any)
    assert_type(service.slow_lengths("a"), int)
    assert_type(count.map(["a"], return_exceptions=True), Iterator[int])
    assert_type(count.amap(["a"]), AsyncIterator[int])
    assert_type(count.stats.hits, int)


async def check_async_face() -> None:
    assert_type(await count.acall("a"), int)
    assert_type(await service.slow_length.acall("a"), int)
    assert_type([n async for n in count.amap(["a"])], list[int])
