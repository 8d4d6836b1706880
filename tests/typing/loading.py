"""What loaders infer: of a path nothing, so that they are annotated where types matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import modelserve as ms


def load() -> dict[str, int]:
    return {"a": 1}


def look_up(model: dict[str, int], text: str) -> int:
    return model[text]


assert_type(ms.ModelLoader(load), ms.ModelLoader[Any, Any])
assert_type(ms.ModelLoader(load, mode="lazy", version="1"), ms.ModelLoader[Any, Any])
assert_type(ms.ModelLoader(load, predict=look_up), ms.ModelLoader[str, int])
assert_type(ms.ModelLoader(load, predict=look_up, warmup=["a"]), ms.ModelLoader[str, int])
loader: ms.ModelLoader[str, int] = ms.ModelLoader(load, predict=lambda model, text: model[text])


def check_path() -> None:
    assert_type(ms.ModelLoader("ranker.onnx"), ms.ModelLoader[Any, Any])
    assert_type(ms.ModelLoader(Path("ranker.onnx")), ms.ModelLoader[Any, Any])


def check_faces() -> None:
    assert_type(loader("a"), int)
    assert_type(loader.get(), Any)
    assert_type(loader.version, str | None)
    assert_type(loader.reload(), str)
    assert_type(loader.stats.loads, int)


async def check_async_face() -> None:
    assert_type(await loader.acall("a"), int)
    assert_type(await loader.aget(), Any)
