"""What needs asyncio, imported when the first coroutine or loop is there.

Deadlines of a loop's callers are kept by one wheel: one timer a loop, not one a caller.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from modelserve.errors import DeadlineExceeded
from modelserve.predictor._waiting import LONGEST, LoopSink

if TYPE_CHECKING:
    from modelserve.request import Request

T = TypeVar("T")

here = asyncio.get_running_loop
TICK = 0.005
"""Seconds between two looks at the deadlines of a loop's callers."""


class Caller:
    """One who waits, how long for, and what lets them go."""

    __slots__ = ("leave", "scope", "tick")

    def __init__(self, scope: Request, leave: Callable[[], object]) -> None:
        self.scope = scope
        self.leave = leave
        self.tick = 0


class Wheel:
    """The callers of one loop by the tick in which their deadlines pass, and one timer for all."""

    def __init__(self) -> None:
        self._ticks: dict[int, dict[Caller, None]] = {}
        self._heap: list[int] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(
        self, caller: Caller, remaining: float, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """Let a caller go after so many seconds, on the loop that runs here."""
        loop = loop or asyncio.get_running_loop()
        tick = caller.tick = int((loop.time() + min(remaining, LONGEST)) / TICK) + 1
        waiting = self._ticks.get(tick)
        if waiting is None:
            waiting = self._ticks[tick] = {}
            heapq.heappush(self._heap, tick)
            if self._heap[0] == tick:
                self._wind()
        waiting[caller] = None

    def discard(self, caller: Caller) -> None:
        waiting = self._ticks.get(caller.tick)
        if waiting is not None:
            waiting.pop(caller, None)

    def _wind(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop, due = asyncio.get_running_loop(), self._heap[0]
        self._timer = loop.call_at(due * TICK, self._turn, due, context=Context())

    def _turn(self, due: int) -> None:
        self._timer = None
        passed: list[Caller] = []
        while self._heap and self._heap[0] <= due:
            passed += self._ticks.pop(heapq.heappop(self._heap))
        for caller in passed:
            try:
                remaining = caller.scope.remaining()
            except Exception:  # noqa: BLE001 - of one caller's clock; others have theirs
                remaining = 0.0
            if remaining > 0:
                self.add(caller, remaining)
            else:
                caller.leave()
        if self._heap:
            self._wind()


_wheels: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[Wheel]]
_wheels = weakref.WeakKeyDictionary()
_last: tuple[Callable[[], object], Callable[[], Wheel | None]] = (lambda: None, lambda: None)
"""The loop that last asked for its wheel, and the wheel: mostly that is who asks next."""


def _wheel(loop: asyncio.AbstractEventLoop) -> Wheel:
    """Return the wheel of a loop, kept alive by its timer and its callers alone.

    Both know the loop: a wheel that were kept here would keep every loop that ever ran.
    """
    global _last  # noqa: PLW0603 - a cache of one, replaced as a whole
    asked, found = _last
    wheel = found() if asked() is loop else None
    if wheel is None:
        kept = _wheels.get(loop)
        wheel = None if kept is None else kept()
        if wheel is None:
            wheel = Wheel()
            _wheels[loop] = weakref.ref(wheel)
        _last = weakref.ref(loop), _wheels[loop]
    return wheel


def _late(name: str) -> DeadlineExceeded:
    return DeadlineExceeded(f"the deadline passed while waiting for {name!r}")


async def wait(
    future: asyncio.Future[T], scope: Request | None, name: str, remaining: float = math.nan
) -> T:
    """Wait for a future's answer, at most until the deadline in force, if known so far away."""
    if scope is None or scope.plain or future.done():
        return await future
    if math.isnan(remaining):
        remaining = scope.remaining()
    if remaining == math.inf:
        return await future
    if remaining <= 0:
        future.cancel()
        raise _late(name)
    loop = future.get_loop()
    wheel = _wheel(loop)

    def leave() -> None:
        if not future.done():
            future.set_exception(_late(name))

    caller = Caller(scope, leave)
    wheel.add(caller, remaining, loop)
    try:
        return await future
    finally:
        wheel.discard(caller)


async def settles(sink: LoopSink, timeout: float | None) -> bool:
    """Wait for at most ``timeout`` seconds; say whether the answer came."""
    done, _ = await asyncio.wait([sink.future], timeout=timeout)
    return bool(done)


async def within(awaitable: Awaitable[T], scope: Request | None, name: str) -> T:
    """Await a user's coroutine in the caller's own task, at most until the deadline in force."""
    remaining = math.inf if scope is None else scope.remaining()
    if scope is None or remaining == math.inf:
        return await awaitable
    wheel = _wheel(asyncio.get_running_loop())
    limit = asyncio.timeout(None)
    caller = Caller(scope, lambda: limit.reschedule(-math.inf))
    try:
        async with limit:
            wheel.add(caller, remaining)
            try:
                return await awaitable
            finally:
                wheel.discard(caller)
    except TimeoutError:
        if limit.expired():
            raise _late(name) from None
        raise


def leave(future: asyncio.Future[Any]) -> None:
    """Wait no longer: nobody is told of what may still come."""
    if not future.cancel() and not future.cancelled():
        future.exception()  # seen: nobody else will ask


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
