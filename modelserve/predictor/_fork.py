"""Re-arming after a fork: threads are gone in the child, and locks may be held by nobody.

>>> callable(on_fork)
True
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Rearms(Protocol):
    """Something that had threads, locks or sessions before the fork."""

    def after_fork(self) -> None:
        """Become usable in the child."""


_live: weakref.WeakSet[Rearms] = weakref.WeakSet()
_registered: list[bool] = []


def on_fork(thing: Rearms) -> None:
    """Have ``thing.after_fork()`` called in every forked child, for as long as it lives."""
    if not _registered and hasattr(os, "register_at_fork"):
        _registered.append(True)
        os.register_at_fork(after_in_child=_rearm)
    _live.add(thing)


def _rearm() -> None:
    for thing in list(_live):
        thing.after_fork()
