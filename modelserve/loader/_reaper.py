"""One thread that closes models of a process once they are free.

A model may become free anywhere: on an event loop, in the midst of the garbage collector, under
any lock. What happens there must neither wait nor take a lock, not even to start a thread; a
``SimpleQueue`` takes things at any time. So the thread is there from when there is a model to be
closed one day, and ends with the last.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable
from contextvars import Context
from queue import SimpleQueue
from typing import TypeAlias, final

from modelserve.predictor import on_fork

_log = logging.getLogger("modelserve")

Job: TypeAlias = Callable[[], object]
"""What to do, which raises nothing."""

AT_EXIT = 10.0
"""Seconds that the end of a process waits for models to be closed."""


@final
class Reaper:
    """Does what becomes due, one after the other."""

    def __init__(self) -> None:
        self._expected = 0
        self._hooked = False
        self._arm()

    def _arm(self) -> None:
        self._lock = threading.Lock()
        self._due: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def after_fork(self) -> None:
        """Go on in the child with what becomes due there."""
        self._arm()
        if self._expected:
            self._start()

    def expect(self) -> None:
        """Be there for one more thing that becomes due one day."""
        with self._lock:
            if self._thread is None:
                self._start()
            self._expected += 1

    def put(self, job: Job | None) -> None:
        """Take one thing that is due, or None for one that never will be."""
        self._due.put(job)

    def finish(self, seconds: float | None = None) -> bool:
        """Wait until all is done that is due, or so long; say whether it is."""
        with self._lock:
            if self._thread is None:
                return True
            self._expected += 1
        done = threading.Event()
        self._due.put(done.set)
        return done.wait(seconds)

    def _at_exit(self) -> None:
        if not self.finish(AT_EXIT):
            _log.warning("a close= took more than %s s: not all models were closed", AT_EXIT)

    def _start(self) -> None:
        if not self._hooked:
            on_fork(self)
            atexit.register(self._at_exit)
            self._hooked = True
        thread = threading.Thread(target=self._run, name="modelserve-close", daemon=True)
        Context().run(thread.start)
        self._thread = thread

    def _run(self) -> None:
        while True:
            job = self._due.get()
            if job is not None:
                job()
            del job  # it holds a model
            with self._lock:
                self._expected -= 1
                if not self._expected:
                    self._thread = None
                    return


reaper = Reaper()
