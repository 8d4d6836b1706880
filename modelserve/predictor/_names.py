"""Names of parts: where they come from, and that no two parts of a tree share one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelserve.predictor._life import postorder

if TYPE_CHECKING:
    from modelserve.predictor._base import Primitive


def name_of(fn: object) -> str:
    """Return the name a function goes by."""
    name = getattr(fn, "__name__", None)
    if name is None:
        inner = getattr(fn, "func", None)  # functools.partial
        return type(fn).__name__ if inner is None else name_of(inner)
    return str(name)


def check_names(root: Primitive[Any, Any]) -> None:
    """Refuse two parts of one kind with one name: the record could not tell them apart."""
    taken: dict[tuple[str, str], Primitive[Any, Any]] = {}
    for part in postorder(root):
        if part.records and taken.setdefault((part.kind, part.name), part) is not part:
            raise ValueError(
                f"two parts of {root.name!r} are a {part.kind} called {part.name!r}, and a record "
                "could not tell them apart: pass name= to one of them"
            )
