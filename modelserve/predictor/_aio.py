"""What needs asyncio, imported when the first coroutine or loop is there.

Deadlines of a loop's callers are kept by one wheel: a timer a tick, not a timer a caller.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import weakref
from collections.abc import Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from modelserve.errors import DeadlineExceeded
from modelserve.predictor._waiting import LoopSink

if TYPE_CHECKING:
    from modelserve.request import Request

T = TypeVar("T")

TICK = 0.005
"""Seconds between two looks at the deadlines of a loop's callers."""


class Wheel:
    """The callers of one loop by the tick in which their deadlines pass."""

    def __init__(self) -> None:
        self._ticks: dict[int, dict[asyncio.Future[Any], tuple[Request, str]]] = {}
        self._heap: list[int] = []

    def add(self, future: asyncio.Future[Any], scope: Request, name: str) -> int:
        loop = asyncio.get_running_loop()
        tick = math.floor((loop.time() + scope.remaining()) / TICK) + 1
        waiting = self._ticks.get(tick)
        if waiting is None:
            waiting = self._ticks[tick] = {}
            if not self._heap or tick < self._heap[0]:
                loop.call_at(tick * TICK, self._turn, tick, context=Context())
            heapq.heappush(self._heap, tick)
        waiting[future] = (scope, name)
        return tick

    def discard(self, tick: int, future: asyncio.Future[Any]) -> None:
        waiting = self._ticks.get(tick)
        if waiting is not None:
            waiting.pop(future, None)

    def _turn(self, due: int) -> None:
        if not self._heap or self._heap[0] > due:
            return
        while self._heap and self._heap[0] <= due:
            for future, (scope, name) in self._ticks.pop(heapq.heappop(self._heap)).items():
                if future.done():
                    continue
                if scope.remaining() > 0:
                    self.add(future, scope, name)
                else:
                    future.set_exception(_late(name))
        if self._heap:
            loop = asyncio.get_running_loop()
            loop.call_at(self._heap[0] * TICK, self._turn, self._heap[0], context=Context())


_wheels: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Wheel] = weakref.WeakKeyDictionary()


def _late(name: str) -> DeadlineExceeded:
    return DeadlineExceeded(f"the deadline passed while waiting for {name!r}")


async def wait(sink: LoopSink, scope: Request | None, name: str) -> Any:
    """Wait for a sink's answer, at most until the deadline in force."""
    future = sink.future
    remaining = math.inf if scope is None else scope.remaining()
    if scope is None or remaining == math.inf:
        return await future
    if remaining <= 0:
        future.cancel()
        raise _late(name)
    loop = future.get_loop()
    wheel = _wheels.get(loop)
    if wheel is None:
        wheel = _wheels[loop] = Wheel()
    tick = wheel.add(future, scope, name)
    try:
        return await future
    finally:
        wheel.discard(tick, future)


async def within(coroutine: Coroutine[Any, Any, T], scope: Request | None, name: str) -> T:
    """Await a user's coroutine in the caller's own task, at most until the deadline in force."""
    remaining = math.inf if scope is None else scope.remaining()
    if remaining == math.inf:
        return await coroutine
    limit = asyncio.timeout(remaining)
    try:
        async with limit:
            return await coroutine
    except TimeoutError:
        if limit.expired():
            raise _late(name) from None
        raise


def sink() -> LoopSink:
    """Make a sink on the running loop."""
    return LoopSink(asyncio.get_running_loop())


def spawn(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start a task of the library's own: it sees no caller's variables."""
    return asyncio.get_running_loop().create_task(coroutine, context=Context())


def is_ours_to_end(error: BaseException) -> bool:
    """Whether an error ends the running task itself, rather than being the model's."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, GeneratorExit | KeyboardInterrupt)
