"""Inputs to warm new versions with: one of each form that was seen."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, final

MOST = 16
"""How many forms are remembered."""


def form(x: Any) -> Hashable:
    """Return what makes a model run another way: shapes, dtypes, names and types."""
    shape = getattr(x, "shape", None)
    kind = x.__class__
    name = str(kind.__qualname__)
    if shape is not None:
        return name, tuple(shape), str(getattr(x, "dtype", ""))
    if issubclass(kind, Mapping):
        return name, frozenset((key, form(value)) for key, value in x.items())
    if issubclass(kind, list | tuple):
        return name, tuple(map(form, x))
    return name


@final
class Warmup:
    """The inputs that were given, and one of each other form that the loader was warmed with."""

    def __init__(self, given: Iterable[Any]) -> None:
        self.given = tuple(given)
        self._forms = {form(x) for x in self.given}
        self._met: dict[Hashable, Any] = {}

    def meet(self, x: Any) -> None:
        """Remember an input if it is of a new form and there is room."""
        key = form(x)
        if key not in self._forms and len(self._met) < MOST:
            self._met.setdefault(key, x)

    def through(self, call: Callable[[Any], Any], x: Any) -> Any:
        """Call with an input, and remember it if it was answered."""
        y = call(x)
        self.meet(x)
        return y

    def inputs(self) -> tuple[Any, ...]:
        """Return all of them."""
        return (*self.given, *list(self._met.values()))
