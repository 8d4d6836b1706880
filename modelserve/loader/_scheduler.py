"""One thread that looks after all loaders of a process.

It sleeps until the next of them is due, holds none of them alive, and ends when there is none.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from contextvars import Context
from operator import itemgetter
from typing import TypeAlias, final
from weakref import WeakMethod

_log = logging.getLogger("modelserve")

Tick: TypeAlias = Callable[[], "float | None"]
"""A method that is called when due, and returns in how many seconds to call it again, or None."""

AGAIN = 60.0
"""Seconds until one that raised is called again."""


@final
class Scheduler:
    """Who is due when.

    A loader that is dropped says so, maybe in the midst of anything on any thread, be it the
    garbage collector's on this one: that takes no lock and leaves the table alone, and the thread
    sleeps on a raw lock that may be released at any time.
    """

    def __init__(self) -> None:
        self._due: dict[WeakMethod[Tick], float] = {}
        self._left: deque[WeakMethod[Tick]] = deque()
        """Who is not to be called any more, but stands in the table still."""
        self._hooked = False
        self._arm()

    def _arm(self) -> None:
        self._lock = threading.Lock()
        self._wake = allocate_lock()
        self._wake.acquire()
        self._thread: threading.Thread | None = None

    def after_fork(self) -> None:
        """Go on in the child, where everybody is looked after at once."""
        self._arm()
        self._forget()
        self._due = dict.fromkeys(self._due, 0.0)
        if self._due:
            self._start()

    def at(self, tick: Tick, seconds: float) -> None:
        """Call a method in so many seconds, if it would not be called earlier."""
        ref = WeakMethod(tick, self._gone)
        with self._lock:
            self._forget()
            due = time.monotonic() + seconds
            self._due[ref] = min(due, self._due.get(ref, math.inf))
            if self._thread is None:
                self._start()
        self._poke()

    def drop(self, tick: Tick) -> None:
        """Call a method no more."""
        ref = WeakMethod(tick)
        hash(ref)  # while it can be told: it is looked for later, perhaps when the loader has gone
        self._gone(ref)

    def _gone(self, ref: WeakMethod[Tick]) -> None:
        self._left.append(ref)
        self._poke()

    def _forget(self) -> None:
        while self._left:
            self._due.pop(self._left.popleft(), None)

    def _poke(self) -> None:
        try:  # noqa: SIM105 - at the end of a process there is no `contextlib` any more
            self._wake.release()
        except RuntimeError:  # it is awake
            pass

    def _start(self) -> None:
        if not self._hooked and hasattr(os, "register_at_fork"):
            # After what re-arms the loaders, which was registered when the first was made.
            os.register_at_fork(after_in_child=self.after_fork)
            self._hooked = True
        self._thread = threading.Thread(target=self._run, name="modelserve-reload", daemon=True)
        try:
            Context().run(self._thread.start)
        except RuntimeError:  # the system has no thread left
            self._thread = None
            _log.exception("models are not reloaded: no thread could be started")

    def _run(self) -> None:
        try:
            while (pause := self._step()) is not None:
                if pause > 0:
                    self._wake.acquire(timeout=min(pause, threading.TIMEOUT_MAX))
        except BaseException:  # noqa: BLE001 - it may lack memory; a loader asks again some time
            self._thread = None
            _log.exception("models are not reloaded until one of them is loaded")

    def _step(self) -> float | None:
        """Call who is due; return how long to sleep, None if nobody is left."""
        with self._lock:
            self._forget()
            first = min(self._due.items(), key=itemgetter(1), default=None)
            if first is None:
                self._thread = None
                return None
            ref, due = first
            pause = due - time.monotonic()
            if pause > 0:
                return pause
            self._due[ref] = math.inf  # until it says more
        seconds = self._call(ref)
        with self._lock:
            self._forget()
            asked = self._due.pop(ref, None)
            if asked is not None and (seconds is not None or asked < math.inf):
                again = math.inf if seconds is None else time.monotonic() + seconds
                self._due[ref] = min(asked, again)
        return 0.0

    def _call(self, ref: WeakMethod[Tick]) -> float | None:
        tick = ref()
        try:
            return None if tick is None else tick()
        except BaseException:  # noqa: BLE001 - whatever it is, all others are to be called, too
            _log.exception("a loader could not be looked after")
            return AGAIN


scheduler = Scheduler()
