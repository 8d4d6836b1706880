"""What batchers infer: the type of an item and of its result, from that of a batch function."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeAlias, assert_type

import numpy as np
import numpy.typing as npt

import modelserve as ms
from modelserve.predictor import Function

Floats: TypeAlias = npt.NDArray[np.float64]


class Tensor:
    """What a type checker sees of a tensor: its rows are tensors."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int | slice) -> Tensor:
        return self

    def __setitem__(self, index: int | slice, value: Tensor | float) -> None: ...


class Scores(NamedTuple):
    mean: Floats
    spread: Floats


def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


async def slow_lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


def any_sequence(texts: Sequence[str], limit: int = 3) -> list[int]:
    return [len(text[:limit]) for text in texts]


def embed(texts: list[str]) -> Floats:
    return np.ones((len(texts), 2))


async def slow_embed(texts: list[str]) -> Floats:
    return np.ones((len(texts), 2))


def double(rows: Floats) -> Floats:
    return rows * 2


async def slow_double(rows: Floats) -> Floats:
    return rows * 2


def labels(rows: Floats) -> list[str]:
    return ["label"] * len(rows)


async def slow_labels(rows: Floats) -> list[str]:
    return ["label"] * len(rows)


def by_name(rows: dict[str, Floats]) -> dict[str, Floats]:
    return rows


async def slow_by_name(rows: dict[str, Floats]) -> dict[str, Floats]:
    return rows


def outputs(texts: list[str]) -> dict[str, Floats]:
    return {"length": np.ones(len(texts))}


async def slow_outputs(texts: list[str]) -> tuple[Floats, Floats]:
    return np.ones(len(texts)), np.ones(len(texts))


def scores(rows: Floats) -> Scores:
    return Scores(rows, rows)


def forward(rows: Tensor) -> Tensor:
    return rows


async def slow_forward(rows: Tensor) -> Tensor:
    return rows


def nested(bags: list[list[str]]) -> list[list[int]]:
    return [[len(word) for word in words] for words in bags]


def untyped(rows: Any) -> Any:
    return rows


class Model:
    def __call__(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]


loader: ms.ModelLoader[Any, Any] = ms.ModelLoader(lambda: double)
typed_loader: ms.ModelLoader[Floats, Floats] = ms.ModelLoader(lambda: double)

assert_type(ms.DynamicBatcher(lengths), ms.DynamicBatcher[str, int])
assert_type(ms.DynamicBatcher(slow_lengths, workers=2), ms.DynamicBatcher[str, int])
assert_type(ms.DynamicBatcher(any_sequence), ms.DynamicBatcher[str, int])
assert_type(ms.DynamicBatcher(embed, max_batch_size=8), ms.DynamicBatcher[str, Any])
assert_type(ms.DynamicBatcher(slow_embed), ms.DynamicBatcher[str, Any])
assert_type(ms.DynamicBatcher(double), ms.DynamicBatcher[Floats, Any])
assert_type(ms.DynamicBatcher(slow_double), ms.DynamicBatcher[Floats, Any])
assert_type(ms.DynamicBatcher(labels), ms.DynamicBatcher[Floats, str])
assert_type(ms.DynamicBatcher(slow_labels), ms.DynamicBatcher[Floats, str])
assert_type(ms.DynamicBatcher(by_name), ms.DynamicBatcher[dict[str, Floats], Any])
assert_type(ms.DynamicBatcher(slow_by_name), ms.DynamicBatcher[dict[str, Floats], Any])
assert_type(ms.DynamicBatcher(outputs), ms.DynamicBatcher[str, Any])
assert_type(ms.DynamicBatcher(slow_outputs), ms.DynamicBatcher[str, Any])
assert_type(ms.DynamicBatcher(scores), ms.DynamicBatcher[Floats, Any])
assert_type(ms.DynamicBatcher(forward), ms.DynamicBatcher[Tensor, Tensor])
assert_type(ms.DynamicBatcher(slow_forward), ms.DynamicBatcher[Tensor, Tensor])
assert_type(ms.DynamicBatcher(nested), ms.DynamicBatcher[list[str], list[int]])
assert_type(ms.DynamicBatcher(untyped), ms.DynamicBatcher[Any, Any])
assert_type(ms.DynamicBatcher(Model()), ms.DynamicBatcher[str, int])
assert_type(ms.DynamicBatcher(lambda rows: rows * 2), ms.DynamicBatcher[Any, Any])
assert_type(ms.DynamicBatcher(loader), ms.DynamicBatcher[Any, Any])
assert_type(ms.DynamicBatcher(typed_loader), ms.DynamicBatcher[Floats, Any])
assert_type(ms.DynamicBatcher(ms.predictor(lengths)), ms.DynamicBatcher[str, int])
annotated: ms.DynamicBatcher[str, int] = ms.DynamicBatcher(lambda texts: [len(t) for t in texts])

batched = ms.batched(max_batch_size=8, max_wait=0.001, layout=ms.AsList(), on_error="batch")
assert_type(batched(lengths), ms.DynamicBatcher[str, int])
assert_type(batched(slow_lengths), ms.DynamicBatcher[str, int])
assert_type(batched(any_sequence), ms.DynamicBatcher[str, int])
assert_type(batched(embed), ms.DynamicBatcher[str, Any])
assert_type(batched(slow_embed), ms.DynamicBatcher[str, Any])
assert_type(batched(double), ms.DynamicBatcher[Floats, Any])
assert_type(batched(slow_double), ms.DynamicBatcher[Floats, Any])
assert_type(batched(labels), ms.DynamicBatcher[Floats, str])
assert_type(batched(slow_labels), ms.DynamicBatcher[Floats, str])
assert_type(batched(by_name), ms.DynamicBatcher[dict[str, Floats], Any])
assert_type(batched(outputs), ms.DynamicBatcher[str, Any])
assert_type(batched(slow_outputs), ms.DynamicBatcher[str, Any])
assert_type(batched(scores), ms.DynamicBatcher[Floats, Any])
assert_type(batched(forward), ms.DynamicBatcher[Tensor, Tensor])
assert_type(batched(slow_forward), ms.DynamicBatcher[Tensor, Tensor])
assert_type(batched(loader), ms.DynamicBatcher[Any, Any])
assert_type(batched(ms.predictor(lengths)), ms.DynamicBatcher[str, int])


@ms.batched(max_batch_size=64)
def decorated(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


@ms.batched()
async def decorated_slow(texts: list[str]) -> Floats:
    return np.ones(len(texts))


@ms.batched()
@ms.predictor(name="inner")
def stacked(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


assert_type(decorated, ms.DynamicBatcher[str, int])
assert_type(decorated_slow, ms.DynamicBatcher[str, Any])
assert_type(stacked, ms.DynamicBatcher[str, int])


class Service:
    @ms.batched()
    def lengths(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]

    @ms.batched()
    async def slow_lengths(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]

    @ms.batched()
    def embed(self, texts: list[str]) -> Floats:
        return np.ones(len(texts))

    @ms.batched()
    def double(self, rows: Floats) -> Floats:
        return rows * 2

    @ms.batched()
    async def labels(self, rows: Floats) -> list[str]:
        return ["label"] * len(rows)

    @ms.batched()
    def outputs(self, texts: list[str]) -> dict[str, Floats]:
        return {"length": np.ones(len(texts))}

    @ms.batched()
    def by_name(self, rows: dict[str, Floats]) -> dict[str, Floats]:
        return rows

    @ms.batched()
    @ms.predictor()
    def stacked(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]


service = Service()
assert_type(Service.lengths, ms.DynamicBatcher[str, int])
assert_type(service.lengths, ms.DynamicBatcher[str, int])
assert_type(service.slow_lengths, ms.DynamicBatcher[str, int])
assert_type(service.embed, ms.DynamicBatcher[str, Any])
assert_type(service.double, ms.DynamicBatcher[Floats, Any])
assert_type(service.labels, ms.DynamicBatcher[Floats, str])
assert_type(service.outputs, ms.DynamicBatcher[str, Any])
assert_type(service.by_name, ms.DynamicBatcher[dict[str, Floats], Any])
assert_type(service.stacked, ms.DynamicBatcher[str, int])


def check_faces() -> None:
    assert_type(decorated("a"), int)
    assert_type(decorated_slow("a"), Any)
    assert_type(service.labels(np.ones(2)), str)
    assert_type(decorated.submit("a"), Future[int])
    assert_type(decorated.map(["a"]), Iterator[int])
    assert_type(decorated.amap(["a"]), AsyncIterator[int])
    assert_type(decorated.stats.mean_batch_size, float)
    assert_type(ms.predictor(decorated), Function[str, int])


async def check_async_face() -> None:
    assert_type(await decorated.acall("a"), int)
    assert_type(await service.labels.acall(np.ones(2)), str)
    assert_type([n async for n in decorated.amap(["a"])], list[int])
