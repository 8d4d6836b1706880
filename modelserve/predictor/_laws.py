"""The two laws of nesting, at construction and, where a closure hid it, at the first call.

Below a batcher one call speaks for many callers; below a cache an answer depends on the input,
the tenant and the model versions alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelserve.errors import NestingError
from modelserve.predictor._life import postorder

if TYPE_CHECKING:
    from modelserve.predictor._base import Primitive
    from modelserve.request import Request

REASONS = {
    "batch": "in which one call speaks for many callers",
    "flight": "whose answers are shared by callers of every unit",
}


def check_nesting(root: Primitive[Any, Any]) -> None:
    """Refuse a part that must not stand below ``root``."""
    if root.shares is None:
        return
    for part in postorder(root):
        remedy = part.not_below.get(root.shares) if part is not root else None
        if remedy is not None:
            raise NestingError(
                f"{part.kind} {part.name!r} stands below {root.kind} {root.name!r}, "
                f"{REASONS[root.shares]}: {remedy}"
            )


def check_call(part: Primitive[Any, Any], scope: Request) -> None:
    """Refuse a call from inside what the part must not stand below."""
    shared = scope.shared
    if shared is not None and shared in part.not_below:
        raise NestingError(
            f"{part.kind} {part.name!r} was called from inside a {shared} {REASONS[shared]}: "
            f"{part.not_below[shared]}"
        )
