"""Decorated methods: one predictor an instance, made at first access, kept by the instance."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from modelserve.predictor._fork import on_fork

if TYPE_CHECKING:
    from modelserve.predictor._base import Primitive

P = TypeVar("P", bound="Primitive[Any, Any]")

KEY = "<modelserve>"
"""Where an instance keeps its predictors: in its ``__dict__``, under a name no attribute has."""


class Guard:
    """One lock for all first accesses."""

    def __init__(self) -> None:
        self.after_fork()

    def after_fork(self) -> None:
        self.lock = threading.RLock()


_guard = Guard()
_slotted: dict[int, Home] = {}


class Home:
    """The predictors of one instance, by the decorated methods that they are made of."""

    __slots__ = ("instance", "made")

    def __init__(self, instance: Any = None) -> None:
        self.instance = instance
        self.made: dict[Primitive[Any, Any], Any] = {}

    def own(self, template: P) -> P:
        """Return the instance's own predictor, made at the first access by any thread."""
        on_fork(_guard)
        with _guard.lock:
            made: P | None = self.made.get(template)
            if made is None:
                made = template.rebuilt(self)
                if template.life.attribute is not None:
                    made.life.method = self.instance, template.life.attribute
                self.made[template] = made
            return made

    def __reduce__(self) -> tuple[type[Home], tuple[()]]:
        """Copy and pickle empty: another instance makes predictors of its own."""
        return Home, ()


def home_of(instance: object) -> Home:
    """Return where an instance keeps its predictors.

    Instances without ``__dict__`` need ``"__weakref__"`` among their slots. Their predictors are
    kept here and reach them by a proxy, as nothing kept here may keep them alive.
    """
    kept: dict[str, Any] | None = getattr(instance, "__dict__", None)
    with _guard.lock:
        if not isinstance(kept, dict):
            return _home_of_slotted(instance)
        home: Home | None = kept.get(KEY)
        if home is None or home.instance is not instance:  # copied along with all else
            home = kept[KEY] = Home(instance)
        return home


def _home_of_slotted(instance: object) -> Home:
    if id(instance) not in _slotted:
        try:
            gone = weakref.finalize(instance, _slotted.pop, id(instance), None)
        except TypeError:
            raise TypeError(
                f"{type(instance).__name__} has __slots__ without '__weakref__': add it, so "
                "that a decorated method can keep one predictor an instance"
            ) from None
        gone.atexit = False
        _slotted[id(instance)] = Home(weakref.proxy(instance))
    return _slotted[id(instance)]
