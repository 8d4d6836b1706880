"""Asking the factory of a pool: one at a time for each name, with a hint for wrong ones."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from weakref import WeakValueDictionary


class Turns:
    """Locks by name, each there for as long as anybody holds it or waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.taken: WeakValueDictionary[str, Any] = WeakValueDictionary()

    def __call__(self, name: str) -> Any:
        """Return the lock of a name; a factory may ask for its own name again."""
        with self._lock:
            return self.taken.setdefault(name, threading.RLock())


def ask(
    factory: Callable[[str], Callable[[Any], Any]], name: str, pool: str, known: Iterable[str]
) -> Callable[[Any], Any]:
    """Have a model made. Raises KeyError with the names that come close for one it refuses."""
    try:
        return factory(name)
    except KeyError as error:
        names = dict.fromkeys((*known, *_keys_of(factory)))
        close = difflib.get_close_matches(str(name), names, n=3)
        hint = f": did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise KeyError(f"{pool!r} has no model {name!r}{hint}") from error


def _keys_of(factory: Callable[[str], Any]) -> list[str]:
    """Return the names that a factory has, if it is a method of a mapping."""
    of: Any = getattr(factory, "__self__", None)
    return [*map(str, of)] if issubclass(type(of), Mapping) else []
