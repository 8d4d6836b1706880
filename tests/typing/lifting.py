"""What ``predictor`` infers: functions, methods, options, both faces and both kinds of many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, assert_type

import modelserve as ms
from modelserve.predictor import Function


def plain(text: str) -> int:
    return len(text)


async def slow(text: str) -> int:
    return len(text)


def with_default(text: str, limit: int = 3) -> int:
    return len(text[:limit])


class Model:
    def __call__(self, text: str) -> int:
        return len(text)


class SlowModel:
    async def __call__(self, text: str) -> int:
        return len(text)


assert_type(ms.predictor(plain), Function[str, int])
assert_type(ms.predictor(slow), Function[str, int])
assert_type(ms.predictor(with_default), Function[str, int])
assert_type(ms.predictor(Model()), Function[str, int])
assert_type(ms.predictor(SlowModel()), Function[str, int])
assert_type(ms.predictor(str.upper), Function[str, str])
assert_type(ms.predictor(lambda x: x), Function[Any, Any])
annotated: Function[str, int] = ms.predictor(lambda text: len(text) + 1)

assert_type(ms.predictor(plain, name="plain"), Function[str, int])
assert_type(ms.predictor(slow, uses=[annotated], name=None), Function[str, int])
assert_type(ms.predictor(plain, executor=ms.inline), Function[str, int])
assert_type(ms.predictor(plain, executor=ThreadPoolExecutor()), Function[str, int])


@ms.predictor
def bare(text: str) -> int:
    return len(text)


@ms.predictor
async def bare_slow(text: str) -> int:
    return len(text)


@ms.predictor(uses=[bare], name="ranked")
def ranked(text: str) -> float:
    return bare(text) / 2


@ms.predictor(executor=ms.inline)
async def ranked_slow(text: str, limit: int = 3) -> float:
    return await bare.acall(text[:limit]) / 2


assert_type(bare, Function[str, int])
assert_type(bare_slow, Function[str, int])
assert_type(ranked, Function[str, float])
assert_type(ranked_slow, Function[str, float])


class Service:
    @ms.predictor
    def bare(self, text: str) -> int:
        return len(text)

    @ms.predictor()
    def rank(self, text: str) -> int:
        return len(text)

    @ms.predictor(name="slow")
    async def slow(self, text: str, limit: int = 3) -> int:
        return len(text[:limit])


assert_type(Service.rank, Function[str, int])
assert_type(Service().bare, Function[str, int])
assert_type(Service().rank, Function[str, int])
assert_type(Service().slow, Function[str, int])
assert_type(Service().rank("a"), int)
assert_type(Service().slow("a"), int)

assert_type(bare("a"), int)
assert_type(bare_slow("a"), int)
assert_type(bare.map(["a"]), Iterator[int])
assert_type(bare_slow.amap(["a"]), AsyncIterator[int])
assert_type(bare.name, str)
assert_type(bare.stats.calls, int)


async def check_async_face() -> None:
    assert_type(await bare.acall("a"), int)
    assert_type(await bare_slow.acall("a"), int)
    assert_type(await Service().slow.acall("a"), int)
    assert_type([n async for n in bare.amap(["a"])], list[int])
    assert_type([n async for n in bare.amap(["a"], return_exceptions=True)], list[int])
