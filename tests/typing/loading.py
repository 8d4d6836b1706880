"""Loaders as type checkers see them."""

from __future__ import annotations

from typing import Any, assert_type

import modelserve as ms
from modelserve.loader.checks import Candidate, Check


def upper(text: str) -> str:
    return text.upper()


def passes(new: Candidate, old: Candidate | None) -> None:
    assert_type(new.answers(), list[Any])


def forget(model: Any) -> None: ...


assert_type(ms.ModelLoader(lambda: upper), ms.ModelLoader[Any, Any])
assert_type(ms.checks.finite(), Check)
hourly: ms.ModelLoader[str, str] = ms.ModelLoader(
    lambda: upper, reload=3600.0, max_stale=7200.0, check=passes, close=forget
)
changing: ms.ModelLoader[str, str] = ms.ModelLoader(
    "ranker.onnx", reload=ms.OnChange(), check=[ms.checks.drift(0.1), passes, lambda new, old: None]
)
spread: ms.ModelLoader[str, str] = ms.ModelLoader(lambda: upper, reload=ms.Every(60, jitter=0.5))
pinned: ms.ModelLoader[str, str] = ms.ModelLoader("models/ranker", version="3")
registry = ms.Registry("models/ranker")
assert_type(registry.versions, list[str])
assert_type(registry.aliases, dict[str, str])
followed: ms.ModelLoader[str, str] = ms.ModelLoader(registry.at("prod"), reload=ms.OnChange())


async def lends() -> None:
    with hourly.lease() as model:
        assert_type(model, Any)
    async with hourly.lease() as model:
        assert_type(model, Any)
    assert_type(hourly.rollback(), str)
