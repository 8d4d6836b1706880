"""Calls of the model that last too long are given up: their callers are told, others served.

A thread cannot be ended from outside. The one that hangs is left to itself, and another takes its
place; should the call come back after all, nobody hears of it and the thread ends.
"""

from __future__ import annotations

import contextlib
import math
import weakref
from contextvars import Context
from typing import TYPE_CHECKING

from modelserve.errors import Stuck
from modelserve.predictor import background_loop

if TYPE_CHECKING:
    from modelserve.batcher._core import Core
    from modelserve.batcher._runs import Runs
    from modelserve.batcher._workers import Workers

MOST = 16
"""Threads of one batcher that may hang at once before it starts no more."""


class Watch:
    """What runs on the threads of one batcher, looked at when a run may be over."""

    def __init__(self, workers: Workers, core: Core, max_run: float) -> None:
        self._workers = weakref.ref(workers)
        self._core = core
        self._max_run = max_run
        self._running: set[Runs] = set()
        self._replaced: set[Runs] = set()
        self._armed = False

    def began(self, runs: Runs) -> None:
        """Watch a batch from now on."""
        with self._core.lock:
            self._running.add(runs)
            arm = not self._armed
            self._armed = True
        if arm:
            try:
                background_loop().call_soon_threadsafe(self._wait, self._max_run)
            except BaseException:
                with self._core.lock:
                    self._running.discard(runs)
                    self._armed = False
                raise

    def ended(self, runs: Runs) -> bool:
        """Watch a batch no longer; say whether its thread is still one of the batcher's."""
        with self._core.lock:
            self._running.discard(runs)
            if runs not in self._replaced:
                return True
            self._replaced.discard(runs)
            self._core.door.hang(None)
            return False

    def _wait(self, seconds: float) -> None:
        background_loop().call_later(seconds, self._look, context=Context())

    def _look(self) -> None:
        """Give up what has lasted too long, and look again when something may have."""
        core, now = self._core, -math.inf
        with contextlib.suppress(Exception):  # of a clock that breaks: nobody is late by it
            now = core.settings.clock()
        with core.lock:
            began = {runs: runs.started for runs in self._running}
            left = {runs: since + self._max_run - now for runs, since in began.items()}
            waits = (seconds if seconds > 0 else self._max_run for seconds in left.values())
            pause = min(waits, default=None)
            self._armed = pause is not None
        if pause is not None:
            self._wait(min(pause, self._max_run))  # some may not have begun
        for runs, seconds in left.items():
            if seconds <= 0:
                self._give_up(runs, began[runs])

    def _give_up(self, runs: Runs, since: float) -> None:
        core, workers = self._core, self._workers()
        again = runs.abandon(since, stuck(core, self._max_run))
        if again is None or workers is None:
            return
        with core.lock:
            hangs = runs in self._running  # unless it came back just now
            if hangs:
                self._running.discard(runs)
                self._replaced.add(runs)
            hang = len(self._replaced) >= MOST
            why = Stuck(f"{MOST} calls of {core.predict.name!r} hang: no more are made")
            core.door.hang(why if hang else None)
        core.put_back(workers, again)
        if hang:
            core.fail(workers, why)
        workers.replace(1 if hangs else 0)


def stuck(core: Core, max_run: float) -> Stuck:
    """Say that a call was given up."""
    return Stuck(f"a call of {core.predict.name!r} had not ended after {max_run} s: given up")
