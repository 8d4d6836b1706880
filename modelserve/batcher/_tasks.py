"""Async batch functions: one queue a loop, and tasks on it that end when it has been idle.

A parked task holds nothing of its batcher, so that a dropped batcher goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import warnings
import weakref
from collections import deque
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from modelserve.batcher._runs import Runs
from modelserve.batcher._watch import stuck
from modelserve.errors import Closed
from modelserve.predictor._aio import is_ours_to_end, spawn
from modelserve.request import enter

if TYPE_CHECKING:
    from modelserve._policy.lanes import Lanes
    from modelserve.batcher._core import Core, Gone
    from modelserve.batcher._item import Batch, Fields, Item
    from modelserve.predictor import Sink

IDLE = 1.0
"""Seconds without work after which tasks end, since to start one costs as much as five calls."""


class Place:
    """Where one task parks: on a future, which is settled by whoever has work."""

    __slots__ = ("future", "parked", "queue")

    future: asyncio.Future[None]

    def __init__(self, queue: LoopQueue) -> None:
        self.queue: LoopQueue | None = queue
        self.parked = False


class LoopQueue:
    """The queue of one loop. Any thread may push; what wakes or starts a task is for that loop."""

    def __init__(self, core: Core, loop: asyncio.AbstractEventLoop) -> None:
        self.core = core
        self.lanes: Lanes[Item] = core.lanes()
        self.staged: deque[Fields] = deque()
        self._most = core.settings.workers
        self._loop = weakref.ref(loop)
        self._ref: weakref.ref[LoopQueue] = weakref.ref(self)
        self.idle = True
        """Whether a task could do more."""
        self._alive = 0
        self._parked: list[Place] = []
        self._holds: set[asyncio.Future[None]] = set()
        self._running: set[Runs] = set()
        self._hanging: set[asyncio.Task[Any]] = set()
        self._worked = False
        """Whether there was work since somebody last looked whether there was."""
        self._timer = False

    def busy(self) -> bool:
        """Whether there is work here, queued or running."""
        return self.lanes.size + len(self.staged) + len(self._running) > 0

    def enter(
        self, item: Item, seated: Sink | None, loop: asyncio.AbstractEventLoop | None
    ) -> None:
        """Queue an item after a closer look, with its loop if that is not the one that runs here.

        Raises Closed or Overloaded.
        """
        core = self.core
        with core.lock:
            look, refusal = core.door.let_in(item, self, seated, busy=core.running > 0)
        if look and loop is not None:
            loop.call_soon_threadsafe(self.look)
        elif look:
            self.look()
        if refusal is not None:
            raise refusal

    def look(self) -> None:
        """Have a task look whether there is something to run."""
        if self._holds:
            for hold in self._holds:
                if not hold.done():
                    hold.set_result(None)
            return
        while self._parked:
            place = self._parked.pop()
            if not place.future.done():  # it is, of a task that was cancelled
                place.queue = self
                place.future.set_result(None)
                self._set_idle()
                return
        if self._alive < self._most:
            self._alive += 1
            self._set_idle()
            place = Place(self)
            task = spawn(_work(place))
            cast("Any", task)._log_destroy_pending = False  # noqa: SLF001 - as asyncio.gather does
            task.add_done_callback(partial(_ended, self._ref, place), context=Context())

    def attend(self) -> None:
        """See to it that what was staged is run."""
        core, look = self.core, True
        if self._holds:
            if not self.lanes.size and len(self.staged) < core.limit:
                return
            with core.lock:
                look = not self.lanes.size or core.door.stage(self, busy=core.running > 0)
        if look:
            self.look()

    def wake(self) -> None:
        """Have a task look, from any thread."""
        loop = self._loop()
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # closed: what it took along is told elsewhere
                loop.call_soon_threadsafe(self.look)

    def cancel_queued(self) -> None:
        """Fail everything that has not started."""
        self.core.refuse(self)

    def lose(self) -> None:
        """Fail everything, since the loop was closed, and say so; but not in a forked child."""
        if self.core.forked:
            return
        lost = self.core.refuse(self)
        with self.core.lock:
            self.core.door.remove(self)
        for runs in list(self._running):
            lost += runs.give_up(self._loop_ended())
        if lost and not sys.is_finalizing():
            name = self.core.settings.name
            warnings.warn(
                f"{name!r} lost {lost} accepted calls: their event loop was closed",
                ResourceWarning,
                stacklevel=2,
            )
        loop = self._loop()
        if loop is not None and self._parked:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_dismiss, self._parked)

    __del__ = lose

    def ended(self, place: Place, task: asyncio.Task[None]) -> None:
        """Take leave of a task: cancelled, even before its first step, it leaves nobody waiting."""
        self._alive -= 1
        self.idle = True
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self.core.fail(self, self.core.broken(error))
        elif error is not None or (task.cancelled() and not place.parked):  # the loop ends
            self.cancel_queued()
        elif self.lanes.size or self.staged:  # pushed after the task had looked for the last time
            self.look()

    async def serve(self, place: Place) -> bool:
        """Run batches as long as there are any; say whether to park then."""
        core = self.core
        while True:
            gone: list[Gone] = []
            with core.lock:
                if not (self.staged or self.lanes.size or core.closing):
                    self._park(place)  # who queues from another thread has this loop look after
                    return True
                batch, pause = core.cut(self, gone)
            if gone:
                core.dismiss(gone)
            if batch is not None:
                if self.lanes.size or self.staged:
                    self.look()
                await self._run(batch)
            elif pause < math.inf:
                await self._hold(pause)
            elif core.closing:
                return False

    def _park(self, place: Place) -> None:
        loop = cast("asyncio.AbstractEventLoop", self._loop())  # it runs this
        place.future = loop.create_future()
        place.parked = True
        self._parked.append(place)
        self.idle = True
        self._worked = True
        if not self._timer:
            self._timer = True
            loop.call_later(IDLE, _tire, self._ref, context=Context())

    def tire(self) -> None:
        """Let the parked tasks end if there was no work since this was last called."""
        self._timer = False
        if not self._worked:
            _dismiss(self._parked)
        elif self._parked:
            self._timer, self._worked = True, False
            loop = asyncio.get_running_loop()
            loop.call_later(IDLE, _tire, self._ref, context=Context())

    async def _hold(self, pause: float) -> None:
        loop = asyncio.get_running_loop()
        hold: asyncio.Future[None] = loop.create_future()
        self._holds.add(hold)
        self._set_idle()
        timer = loop.call_later(pause, self.look, context=Context())
        try:
            await hold
        finally:
            timer.cancel()
            self._holds.discard(hold)
            self._set_idle()

    def _set_idle(self) -> None:
        self.idle = len(self._parked) + len(self._holds) > 0 or self._alive < self._most

    async def _run(self, batch: Batch) -> None:
        core = self.core
        runs = Runs(core, batch, self._loop())
        self._running.add(runs)
        try:
            while runs.next():
                enter(runs.scope)
                try:
                    if core.settings.max_run is None:
                        runs.done(await core.predict.acall(runs.join()))
                    else:
                        runs.done(await self._watched(runs, core.settings.max_run))
                except BaseException as error:
                    if is_ours_to_end(error):
                        raise
                    runs.failed(error)
        except BaseException as error:
            ends = is_ours_to_end(error)
            runs.give_up(self._loop_ended() if ends else core.broken(error))
            if ends:
                raise
        finally:
            self._running.discard(runs)
            enter(None)

    async def _watched(self, runs: Runs, max_run: float) -> Any:
        core = self.core
        task = asyncio.get_running_loop().create_task(core.predict.acall(runs.join()))
        try:
            ended, _ = await asyncio.wait({task}, timeout=max_run)
        except BaseException:
            task.cancel()
            raise
        if ended:
            return task.result()
        self._abandon(task)
        left = runs.abandon(runs.started, stuck(core, max_run))
        if left:
            core.put_back(self, left)
        return None

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        """Cancel a call that lasts too long, and wait for nothing more of it."""
        self._hanging.add(task)

        def ended(_: object) -> None:
            self._hanging.discard(task)
            if not task.cancelled():
                task.exception()  # seen: nobody else will ask

        task.add_done_callback(ended, context=Context())
        task.cancel()

    def _loop_ended(self) -> Closed:
        return Closed(f"the event loop ended while {self.core.settings.name!r} ran")


async def _work(place: Place) -> None:
    while place.queue is not None:
        queue, place.queue = place.queue, None
        place.parked = False
        if not await queue.serve(place):
            return
        del queue
        await place.future


def _ended(ref: weakref.ref[LoopQueue], place: Place, task: asyncio.Task[None]) -> None:
    queue = ref()
    if queue is not None:
        queue.ended(place, task)


def _tire(ref: weakref.ref[LoopQueue]) -> None:
    queue = ref()
    if queue is not None:
        queue.tire()


def _dismiss(parked: list[Place]) -> None:
    while parked:
        future = parked.pop().future
        if not future.done():
            future.set_result(None)
