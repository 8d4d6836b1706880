"""How callers wait: one sink a caller, whatever it runs on, and one way to settle many at once."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
from _thread import allocate_lock
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from modelserve.errors import DeadlineExceeded
from modelserve.predictor._fork import on_fork

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from concurrent.futures import Future as ThreadFuture

    from modelserve.request import Request

_log = logging.getLogger("modelserve")

LONGEST = 1e6
"""Seconds that a lock can be asked to wait at once on every platform."""


class Sink(Protocol):
    """Where one caller's answer goes."""

    loop: AbstractEventLoop | None

    def done(self) -> bool:
        """Whether nobody waits here any more."""
        ...

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Hand over the answer, on ``loop`` if there is one."""
        ...


Outcome: TypeAlias = tuple[Sink, Any, BaseException | None]


class ThreadSink:
    """A caller that blocks on a thread: one raw lock, no condition, no event."""

    __slots__ = ("_error", "_left", "_lock", "_settled", "_value", "loop")

    def __init__(self) -> None:
        self.loop: AbstractEventLoop | None = None
        self._lock = allocate_lock()
        self._lock.acquire()
        self._left = self._settled = False
        self._value: Any = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        return self._left or self._settled

    def settle(self, value: Any, error: BaseException | None) -> None:
        self._value, self._error = value, error
        self._settled = True
        self._lock.release()

    def leave(self) -> None:
        self._left = True

    def wait(self, scope: Request | None, name: str) -> Any:
        """Wait for the answer, at most until the deadline in force."""
        try:
            self._acquire(scope, name)
        except BaseException:
            self.leave()
            raise
        if self._error is not None:
            raise self._error
        return self._value

    def settles(self, timeout: float | None) -> bool:
        """Wait for at most ``timeout`` seconds; say whether the answer came."""
        return self._lock.acquire(timeout=-1 if timeout is None else _limited(timeout))

    def _acquire(self, scope: Request | None, name: str) -> None:
        while True:
            remaining = math.inf if scope is None else scope.remaining()
            if remaining <= 0 and self._lock.locked():
                raise DeadlineExceeded(f"the deadline passed while waiting for {name!r}")
            if remaining == math.inf:
                self._lock.acquire()
                return
            if self._lock.acquire(timeout=_limited(remaining)):
                return


def _limited(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST)


class LoopSink:
    """A caller that awaits a future of its own loop."""

    __slots__ = ("future", "loop")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop: AbstractEventLoop | None = loop
        self.future: Future[Any] = loop.create_future()

    def done(self) -> bool:
        return self.future.done()

    def settle(self, value: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(value)
        else:
            self.future.set_exception(error)


class FutureSink:
    """A caller that holds a ``concurrent.futures.Future``."""

    __slots__ = ("future", "loop")

    def __init__(self, future: ThreadFuture[Any]) -> None:
        self.loop: AbstractEventLoop | None = None
        self.future = future

    def done(self) -> bool:
        return self.future.done()

    def settle(self, value: Any, error: BaseException | None) -> None:
        try:
            if not self.future.set_running_or_notify_cancel():
                return
            if error is None:
                self.future.set_result(value)
            else:
                self.future.set_exception(error)
        except BaseException:  # noqa: BLE001 - a callback's, and others wait for their answers
            _log.exception("a callback of %r raised", self.future)


class Tally:
    """Calls in progress by the loop they run on, and who waits until there are none.

    Each loop counts its own, so no call takes a lock.
    """

    __slots__ = ("__weakref__", "_armed", "_emptied", "_inside")

    def __init__(self) -> None:
        self.after_fork()

    def after_fork(self) -> None:
        self._inside: dict[AbstractEventLoop, int] = {}
        self._emptied: list[Sink] = []
        self._armed = False

    def enter(self, loop: AbstractEventLoop) -> None:
        if not self._armed:
            self._armed = True
            on_fork(self)
        self._inside[loop] = self._inside.get(loop, 0) + 1

    def leave(self, loop: AbstractEventLoop) -> None:
        left = self._inside.get(loop, 1) - 1
        if left:
            self._inside[loop] = left
            return
        self._inside.pop(loop, None)
        if self._emptied:
            self._tell()

    def is_on(self, loop: AbstractEventLoop | None) -> bool:
        """Whether a call is in progress on this loop."""
        return loop in self._inside

    def when_empty(self, sink: Sink) -> None:
        """Settle a sink when nothing is in progress."""
        self._emptied.append(sink)
        self._tell()

    def is_empty(self) -> bool:
        """Whether no call is in progress, on any loop that has not closed."""
        for loop in list(self._inside):
            if loop.is_closed():  # its calls went with it
                self._inside.pop(loop, None)
        return not self._inside

    def _tell(self) -> None:
        self.is_empty()
        while not self._inside and self._emptied:
            with contextlib.suppress(IndexError):  # another thread told the last
                deliver([(self._emptied.pop(), None, None)])


def running_loop() -> AbstractEventLoop | None:
    """Return the loop that runs on this thread, or None, without importing asyncio."""
    events = sys.modules.get("asyncio.events")
    return None if events is None else events._get_running_loop()  # noqa: SLF001


def deliver(outcomes: Iterable[Outcome]) -> None:
    """Settle many callers: one wake-up a loop; a loop that has closed harms nobody else."""
    here = running_loop()
    loops: dict[AbstractEventLoop, list[Outcome]] = {}
    for outcome in outcomes:
        sink, value, error = outcome
        loop = sink.loop
        if loop is None or loop is here:
            sink.settle(value, error)
        else:
            loops.setdefault(loop, []).append(outcome)
    for loop, group in loops.items():
        try:
            loop.call_soon_threadsafe(_settle, group)
        except RuntimeError:  # closed: its callers went with it
            continue


def _settle(outcomes: list[Outcome]) -> None:
    for sink, value, error in outcomes:
        sink.settle(value, error)
