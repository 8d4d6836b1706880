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
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from modelserve.errors import DeadlineExceeded
from modelserve.predictor._waiting import LONGEST, LoopSink

if TYPE_CHECKING:
    from modelserve.request import Request

T = TypeVar("T")

here = asyncio.get_running_loop
TICK = 0.005
"""Seconds between two looks at the deadlines of a loop's callers."""


Waiter: TypeAlias = "asyncio.Future[Any] | asyncio.Timeout"
Kept: TypeAlias = "dict[Waiter, tuple[Request, str] | Kept]"
"""Who waits, with the request that has the deadline, and for what; or where they are kept now."""


class Wheel:
    """The callers of one loop by the tick in which their deadlines pass, and one timer for all."""

    def __init__(self) -> None:
        self._ticks: dict[int, Kept] = {}
        self._heap: list[int] = []
        self._timer: asyncio.TimerHandle | None = None

    def keep(self, waiter: Waiter, scope: Request, name: str, remaining: float, now: float) -> Kept:
        """Let a caller go after so many seconds, on the loop that runs here.

        Returns what it is to be forgotten from when it waits no longer.
        """
        tick = int((now + min(remaining, LONGEST)) / TICK) + 1
        waiting = self._ticks.get(tick)
        if waiting is None:
            waiting = self._ticks[tick] = {}
            heapq.heappush(self._heap, tick)
            if self._heap[0] == tick:
                self._wind()
        waiting[waiter] = scope, name
        return waiting

    def _wind(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop, due = asyncio.get_running_loop(), self._heap[0]
        self._timer = loop.call_at(due * TICK, self._turn, due, context=Context())

    def _turn(self, due: int) -> None:
        self._timer = None
        passed: list[Kept] = []
        while self._heap and self._heap[0] <= due:
            passed.append(self._ticks.pop(heapq.heappop(self._heap)))
        for kept in passed:
            self._look(kept)
        if self._heap:
            self._wind()

    def _look(self, kept: Kept) -> None:
        """Let those go whose time is over; keep the others elsewhere, and say there where."""
        now = asyncio.get_running_loop().time()
        for waiter, what in kept.items():
            scope, name = cast("tuple[Request, str]", what)
            try:
                remaining = scope.remaining()
            except Exception:  # noqa: BLE001 - of one caller's clock; others have theirs
                remaining = 0.0
            if remaining > 0:
                kept[waiter] = self.keep(waiter, scope, name, remaining, now)
            elif isinstance(waiter, asyncio.Timeout):
                waiter.reschedule(-math.inf)
            elif not waiter.done():
                waiter.set_exception(_late(name))


def forget(kept: Kept, waiter: Waiter) -> None:
    """Take out one who waits no longer, wherever it is kept now."""
    what = kept.pop(waiter, None)
    while isinstance(what, dict):
        what = what.pop(waiter, None)


_wheels: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[Wheel]]
_wheels = weakref.WeakKeyDictionary()
_last: tuple[Callable[[], object], Callable[[], Wheel | None]] = (lambda: None, lambda: None)
"""The loop that last asked for its wheel, and the wheel: mostly that is who asks next."""


def _wheel(loop: asyncio.AbstractEventLoop) -> Wheel:
    """Return the wheel of a loop, kept alive by its timer alone.

    That knows the loop: a wheel that were kept here would keep every loop that ever ran.
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


def keep(future: asyncio.Future[Any], scope: Request, name: str, remaining: float) -> Kept:
    """Have a future fail at the deadline in force, if it waits then; NaN: ask how far away that is.

    Returns what it is to be forgotten from when it was awaited.
    """
    if math.isnan(remaining):
        remaining = scope.remaining()
    if remaining == math.inf:
        return {}
    if remaining <= 0:
        future.cancel()
        raise _late(name)
    loop = future.get_loop()
    return _wheel(loop).keep(future, scope, name, remaining, loop.time())


async def wait(future: asyncio.Future[T], scope: Request | None, name: str) -> T:
    """Wait for a future's answer, at most until the deadline in force."""
    if scope is None or scope.plain or future.done():
        return await future
    kept = keep(future, scope, name, math.nan)
    try:
        return await future
    finally:
        forget(kept, future)


async def settles(sink: LoopSink, timeout: float | None) -> bool:
    """Wait for at most ``timeout`` seconds; say whether the answer came."""
    done, _ = await asyncio.wait([sink.future], timeout=timeout)
    return bool(done)


async def within(awaitable: Awaitable[T], scope: Request | None, name: str) -> T:
    """Await a user's coroutine in the caller's own task, at most until the deadline in force."""
    remaining = math.inf if scope is None else scope.remaining()
    if scope is None or remaining == math.inf:
        return await awaitable
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(None)
    try:
        async with limit:
            kept = _wheel(loop).keep(limit, scope, name, remaining, loop.time())
            try:
                return await awaitable
            finally:
                forget(kept, limit)
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
