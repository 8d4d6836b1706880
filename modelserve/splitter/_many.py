"""Many inputs at once: to each variant its own, and back in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelserve.typing import In


def by_arm(chunk: list[In], order: list[int | Exception]) -> dict[int, list[In]]:
    groups: dict[int, list[In]] = {}
    for x, index in zip(chunk, order, strict=True):
        if not isinstance(index, Exception):
            groups.setdefault(index, []).append(x)
    return groups


def in_order(
    order: list[int | Exception],
    answers: dict[int, Iterator[Any]],
    return_exceptions: bool,  # noqa: FBT001 - internal
) -> Iterator[Any]:
    for index in order:
        y = index if isinstance(index, Exception) else next(answers[index])
        if isinstance(y, Exception) and not return_exceptions:
            raise y
        yield y
