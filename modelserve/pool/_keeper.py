"""Letting models go that nobody calls: one thread a pool, while there is anything to watch."""

from __future__ import annotations

import threading
import weakref
from contextvars import Context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelserve.pool._engine import Engine


class Keeper:
    """Looks after a pool when the next model may have been idle for long enough."""

    def __init__(self, engine: Engine) -> None:
        self._wake = threading.Event()
        self._engine = weakref.ref(engine, lambda _: self._wake.set())

    def start(self) -> None:
        """Begin to look."""
        thread = threading.Thread(target=self._keep, name="modelserve-pool-keeper", daemon=True)
        Context().run(thread.start)

    def stop(self) -> None:
        """Look no more."""
        self._wake.set()

    def _keep(self) -> None:
        while True:
            left = self._look()
            if left is None or self._wake.wait(left):
                return

    def _look(self) -> float | None:
        """Let go who is idle; return the seconds until the next look, None if there is no need."""
        engine = self._engine()
        if engine is None:
            return None
        engine.evict(engine.idle(), "idle")
        return engine.next_look(self)
