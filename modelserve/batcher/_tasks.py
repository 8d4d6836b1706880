"""Async batch functions: one queue a loop, and tasks on it that live while there is work."""

from __future__ import annotations

import asyncio
import math
import warnings
from contextvars import Context
from typing import Any

from modelserve._policy.lanes import Lanes
from modelserve.batcher._core import Core, Item, Runs
from modelserve.errors import Closed
from modelserve.predictor._aio import is_ours_to_end, spawn


class LoopQueue:
    """The queue of one loop. Every method but ``queued`` is called on that loop."""

    def __init__(self, core: Core) -> None:
        self.core = core
        settings = core.settings
        self._lanes: Lanes[Item] = Lanes(settings.max_batch_size, settings.max_wait)
        self._tasks: set[asyncio.Task[None]] = set()
        self._holds: set[asyncio.Future[None]] = set()

    def queued(self) -> int:
        return len(self._lanes)

    def busy(self) -> bool:
        """Whether there is work here, queued or running."""
        return bool(self._tasks)

    def push(self, item: Item, lane: Any) -> None:
        """Queue an item. Raises Closed or Overloaded."""
        core = self.core
        with core.lock:
            core.accept(item, len(self._lanes))
            look = self._lanes.push(item, lane, item.at)
        if look:
            if self._holds:
                self.wake()
            elif len(self._tasks) < core.settings.workers:
                self._spawn()

    def push_from_thread(self, item: Item, lane: Any) -> None:
        """Queue an item of a caller elsewhere, who gets what :meth:`push` raises as the answer."""
        try:
            self.push(item, lane)
        except Exception as error:  # noqa: BLE001 - handed to the caller
            item.sink.settle(None, error)

    def wake(self) -> None:
        """Have every task that holds a batch back look again."""
        for hold in self._holds:
            if not hold.done():
                hold.set_result(None)

    def cancel_queued(self) -> None:
        """Fail everything that has not started."""
        with self.core.lock:
            items = self._lanes.clear()
        self.core.refuse(items)

    def _spawn(self) -> None:
        task = spawn(self._drain())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Take leave of a task: cancelled, even before its first step, it leaves nobody waiting."""
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is not None:
            self.cancel_queued()
        elif len(self._lanes):  # pushed after the task had looked for the last time
            self._spawn()
        self.core.tell_if_empty()

    async def _drain(self) -> None:
        core = self.core
        while True:
            late: list[Item] = []
            batch: list[Item] = []
            pause = 0.0
            with core.lock:
                while not batch:
                    pause = self._pause()
                    if pause > 0:
                        break
                    batch = self._lanes.cut(lambda item: core.keep(item, late))
            if late:
                core.expire(late)
            core.tell_if_empty()
            if batch:
                await self._run(batch)
            elif pause == math.inf:
                return
            else:
                await self._hold(pause)

    def _pause(self) -> float:
        if self.core.closing and len(self._lanes):
            return 0.0
        return self._lanes.wait(self.core.settings.clock())

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
        runs = Runs(self.core, batch)
        try:
            for run in runs:
                try:
                    with run.scope:
                        result = await self.core.predict.acall(run.batch())
                    run.finish(result)
                except BaseException as error:
                    if is_ours_to_end(error):
                        raise
                    runs.failed(run, error)
        finally:
            answered = {id(sink) for sink, _, _ in runs.outcomes}
            lost = Closed(f"the event loop ended while {self.core.settings.name!r} ran")
            left = [item.sink for item in batch if id(item.sink) not in answered]
            self.core.settle([*runs.outcomes, *((sink, None, lost) for sink in left)])

    def __del__(self) -> None:
        items = self._lanes.clear()
        if items:
            name = self.core.settings.name
            warnings.warn(
                f"{name!r} lost {len(items)} accepted calls: their event loop was closed",
                ResourceWarning,
                stacklevel=2,
            )
            self.core.refuse(items)
