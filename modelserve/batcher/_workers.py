"""Worker threads that pull: a free one cuts the next batch itself, and parks when there is none.

A parked worker holds nothing of its batcher but a weak reference, so that a dropped batcher goes.
"""

from __future__ import annotations

import math
import threading
import weakref
from _thread import LockType, allocate_lock
from contextvars import Context
from typing import TYPE_CHECKING, Any

from modelserve._policy.lanes import Lanes
from modelserve.predictor._waiting import LONGEST

if TYPE_CHECKING:
    from modelserve.batcher._core import Core, Item


class Workers:
    """The queue of a sync batch function and the threads that serve it."""

    def __init__(self, core: Core) -> None:
        self.core = core
        settings = core.settings
        self._lanes: Lanes[Item] = Lanes(settings.max_batch_size, settings.max_wait)
        self._parked: list[LockType] = []
        self._alive = 0
        self._wake_all = weakref.finalize(self, _release, self._parked)
        self._wake_all.atexit = False

    def queued(self) -> int:
        return len(self._lanes)

    def push(self, item: Item, lane: Any) -> None:
        """Queue an item. Raises Closed or Overloaded."""
        core = self.core
        start = False
        with core.lock:
            core.accept(item, len(self._lanes))
            if self._lanes.push(item, lane, item.at):
                if self._parked:
                    self._parked.pop().release()
                elif self._alive < core.settings.workers:
                    self._alive += 1
                    start = True
        if start:
            self._start()

    def _start(self) -> None:
        name = f"modelserve-{self.core.settings.name}"
        thread = threading.Thread(target=_work, args=(weakref.ref(self),), name=name, daemon=True)
        try:
            Context().run(thread.start)
        except BaseException:
            with self.core.lock:
                self._alive -= 1
            self.cancel_queued()
            raise

    def take(self, token: LockType) -> tuple[list[Item], float]:
        """Cut the next batch, or park: what to run, else how long to sleep (0: end)."""
        core = self.core
        late: list[Item] = []
        batch: list[Item] = []
        pause = 0.0
        with core.lock:
            if token in self._parked:
                self._parked.remove(token)
            elif not token.locked():  # woken between its time-out and here
                token.acquire()
            while not batch:
                pause = (
                    0.0
                    if core.closing and len(self._lanes)
                    else self._lanes.wait(core.settings.clock())
                )
                if pause > 0:
                    break
                batch = self._lanes.cut(lambda item: core.keep(item, late))
            if not batch:
                if core.closing:
                    self._alive -= 1
                    pause = 0.0
                else:
                    self._parked.append(token)
        if late:
            core.expire(late)
        core.tell_if_empty()
        return batch, pause

    def wake(self) -> None:
        """Have every parked worker look again."""
        with self.core.lock:
            _release(self._parked)

    def cancel_queued(self) -> None:
        """Fail everything that has not started."""
        with self.core.lock:
            items = self._lanes.clear()
        self.core.refuse(items)


def _release(parked: list[LockType]) -> None:
    while parked:
        parked.pop().release()


def _work(ref: weakref.ref[Workers]) -> None:
    token = allocate_lock()
    token.acquire()
    while True:
        workers = ref()
        if workers is None:
            return
        batch, pause = workers.take(token)
        if batch:
            workers.core.run(batch)
            del workers, batch
            continue
        del workers
        if pause == 0:
            return
        token.acquire(timeout=-1 if pause == math.inf else min(pause, LONGEST))
