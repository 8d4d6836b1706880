"""Async batch functions: one queue a loop, and tasks on it that live while there is work."""

from __future__ import annotations

import asyncio
import math
import sys
import warnings
from contextvars import Context
from typing import TYPE_CHECKING, Any

from modelserve._policy.lanes import Lanes
from modelserve.batcher._core import Core, Item, Runs
from modelserve.errors import Closed
from modelserve.predictor._aio import is_ours_to_end, spawn

if TYPE_CHECKING:
    from modelserve.predictor import Outcome


class LoopQueue:
    """The queue of one loop. Any thread may push; what wakes or starts a task is for that loop."""

    def __init__(self, core: Core) -> None:
        self.core = core
        settings = core.settings
        self._lanes: Lanes[Item] = Lanes(settings.max_batch_size, settings.max_wait)
        self._free = settings.workers
        self._tasks: set[asyncio.Task[None]] = set()
        self._holds: set[asyncio.Future[None]] = set()
        self._running: set[Runs] = set()

    def busy(self) -> bool:
        """Whether there is work here, queued or running."""
        return len(self._lanes) > 0 or len(self._running) > 0

    def push(self, item: Item, lane: Any, loop: asyncio.AbstractEventLoop | None) -> None:
        """Queue an item, with its loop if that is not the one that runs here.

        Raises Closed or Overloaded.
        """
        with self.core.lock:
            look = self.core.accept(item, lane, self._lanes)
        if look:
            if loop is None:
                self.look()
            else:
                loop.call_soon_threadsafe(self.look)

    def look(self) -> None:
        """Have a task look whether there is something to run."""
        if self._holds:
            self.wake()
        elif self._free:
            self._free -= 1
            task = spawn(self._drain())
            self._tasks.add(task)
            task.add_done_callback(self._ended, context=Context())

    def wake(self) -> None:
        """Have every task that holds a batch back look again."""
        for hold in self._holds:
            if not hold.done():
                hold.set_result(None)

    def cancel_queued(self) -> None:
        """Fail everything that has not started."""
        self.core.refuse(self._lanes)

    def lose(self) -> None:
        """Fail everything, since the loop was closed, and say so."""
        lost = self.core.refuse(self._lanes)
        for runs in list(self._running):
            lost += runs.give_up(self._loop_ended())
            runs.hand_over()
        if lost and not sys.is_finalizing():
            name = self.core.settings.name
            warnings.warn(
                f"{name!r} lost {lost} accepted calls: their event loop was closed",
                ResourceWarning,
                stacklevel=2,
            )

    __del__ = lose

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Take leave of a task: cancelled, even before its first step, it leaves nobody waiting."""
        self._tasks.discard(task)
        self._free += 1
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self.core.fail(self._lanes, error)
        elif task.cancelled() or error is not None:  # the loop ends
            self.cancel_queued()
        elif len(self._lanes):  # pushed after the task had looked for the last time
            self.look()

    async def _drain(self) -> None:
        core = self.core
        while True:
            gone: list[Outcome] = []
            with core.lock:
                batch, pause = core.cut(self._lanes, gone)
            if gone:
                core.settle(gone)
            if batch:
                if len(self._lanes):
                    self.look()
                await self._run(batch)
            elif pause == math.inf:
                return
            else:
                await self._hold(pause)

    async def _hold(self, pause: float) -> None:
        loop = asyncio.get_running_loop()
        hold: asyncio.Future[None] = loop.create_future()
        self._holds.add(hold)
        timer = loop.call_later(pause, self.wake, context=Context())
        try:
            await hold
        finally:
            timer.cancel()
            self._holds.discard(hold)

    async def _run(self, batch: list[Item]) -> None:
        core = self.core
        runs = Runs(core, batch)
        self._running.add(runs)
        try:
            for run in runs:
                try:
                    with run.scope:
                        result = await core.predict.acall(run.batch())
                    runs.done(run, result)
                except BaseException as error:
                    if is_ours_to_end(error):
                        raise
                    runs.failed(run, error)
        except BaseException as error:
            if is_ours_to_end(error):
                runs.give_up(self._loop_ended())
                raise
            runs.give_up(core.broken(error))
        finally:
            self._running.discard(runs)
            runs.hand_over()

    def _loop_ended(self) -> Closed:
        return Closed(f"the event loop ended while {self.core.settings.name!r} ran")
