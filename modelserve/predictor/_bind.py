"""Decorated methods: one predictor an instance, made at first access, kept by the instance."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from modelserve.predictor._base import Primitive

P = TypeVar("P", bound="Primitive[Any, Any]")

_lock = threading.RLock()
_slotted: weakref.WeakKeyDictionary[object, dict[Primitive[Any, Any], Primitive[Any, Any]]]
_slotted = weakref.WeakKeyDictionary()


def bound(template: P, instance: object) -> P:
    """Return the instance's own predictor, made at the first access by any thread.

    It lies in the instance's ``__dict__`` under the method's name, where Python finds it next
    time without asking. Instances with ``__slots__`` need ``"__weakref__"`` among them.
    """
    attribute = template.life.attribute
    with _lock:
        kept: Any = getattr(instance, "__dict__", None)
        key: Any = attribute
        if kept is None or attribute is None:
            try:
                kept = _slotted.setdefault(instance, {})
            except TypeError:
                raise TypeError(
                    f"{type(instance).__name__} has __slots__ without '__weakref__': add it, so "
                    f"that {template.name!r} can keep one predictor an instance"
                ) from None
            key = template
        made = kept.get(key)
        if made is None:
            made = kept[key] = template.bind(instance)
        return made  # type: ignore[no-any-return]
