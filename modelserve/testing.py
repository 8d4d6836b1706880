"""Stand-ins that put a test in charge: a clock, a predictor behind a gate, a log of events.

None sleeps or polls, and none waits for ever: a gate that nobody opens is an error, not a hang.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Any, Generic

from typing_extensions import TypeVar

from modelserve.events import Event

__all__ = ["AsyncGatedPredictor", "EventLog", "FakeClock", "GatedPredictor"]

_In = TypeVar("_In", default=Any)
_Out = TypeVar("_Out", default=Any)
_E = TypeVar("_E")


class FakeClock:
    """A clock that moves when told to, for ``clock=``. Safe to share between threads.

    >>> clock = FakeClock(now=100.0)
    >>> clock.advance(0.5)
    >>> clock()
    100.5
    """

    def __init__(self, now: float = 0.0) -> None:
        self._lock = threading.Lock()
        self._now = now

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move on. Raises ValueError unless ``seconds`` is finite and at least zero."""
        if not 0 <= seconds < math.inf:
            raise ValueError(f"cannot advance by {seconds} s: a clock only moves on")
        with self._lock:
            self._now += seconds


def _same(x: Any) -> Any:
    return x


class _Gate(Generic[_In, _Out]):
    """Who came, who waits and who may pass, for callers on threads and on loops alike."""

    def __init__(
        self, fn: Callable[[_In], _Out] = _same, *, name: str = "gated", limit: float = 30.0
    ) -> None:
        self.__name__ = name
        self._fn = fn
        self._limit = limit
        self._lock = threading.Lock()
        self._calls: list[_In] = []
        self._inside = self._peak = 0
        self._passes = 0.0
        self._waiting: deque[Future[None]] = deque()
        self._watching: list[tuple[int, Future[None]]] = []

    @property
    def calls(self) -> list[_In]:
        """The inputs of all calls so far, in order of arrival."""
        with self._lock:
            return list(self._calls)

    @property
    def entered(self) -> int:
        """How many calls have come so far."""
        return len(self._calls)

    @property
    def peak(self) -> int:
        """The most calls that were in progress at once, waiting at the gate or running."""
        return self._peak

    def open(self) -> None:
        """Let all calls pass, those that wait and those to come."""
        with self._lock:
            self._passes = math.inf
            while self._waiting:
                _settle(self._waiting.popleft())

    def open_one(self) -> None:
        """Let one call pass: the one that has waited longest, else the next to come."""
        with self._lock:
            while self._waiting:
                if _settle(self._waiting.popleft()):
                    return
            self._passes += 1

    def close(self) -> None:
        """Hold the calls to come, also those that ``open_one`` let pass before they came."""
        with self._lock:
            self._passes = 0.0

    def wait_entered(self, n: int = 1, timeout: float = 10.0) -> None:
        """Block until ``n`` calls have come in all; TimeoutError after ``timeout`` seconds."""
        _wait(*self._watch(n, timeout))

    async def await_entered(self, n: int = 1, timeout: float = 10.0) -> None:
        """Wait as ``wait_entered`` does, without blocking the event loop."""
        await _await(*self._watch(n, timeout))

    @contextmanager
    def _turn(self, x: _In) -> Generator[tuple[Future[None], float, str], None, None]:
        ticket: Future[None] = Future()
        with self._lock:
            self._calls.append(x)
            self._inside += 1
            self._peak = max(self._peak, self._inside)
            if self._passes:
                self._passes -= 1
                _settle(ticket)
            else:
                self._waiting.append(ticket)
            for n, entry in self._watching:
                if n == len(self._calls):
                    _settle(entry)
        try:
            yield ticket, self._limit, f"nobody opened {self.__name__!r}"
        finally:
            with self._lock:
                self._inside -= 1

    def _watch(self, n: int, timeout: float) -> tuple[Future[None], float, str]:
        entry: Future[None] = Future()
        with self._lock:
            if n > len(self._calls):
                self._watching.append((n, entry))
            else:
                _settle(entry)
        return entry, timeout, f"fewer than {n} calls came to {self.__name__!r}"


def _settle(ticket: Future[None]) -> bool:
    """Let a waiter go on; False if it has given up."""
    if waits := ticket.set_running_or_notify_cancel():
        ticket.set_result(None)
    return waits


def _wait(ticket: Future[None], limit: float, late: str) -> None:
    wait([ticket], limit)
    if ticket.cancel():
        raise TimeoutError(f"{late} within {limit} s")


async def _await(ticket: Future[None], limit: float, late: str) -> None:
    import asyncio

    try:
        await asyncio.wait([asyncio.wrap_future(ticket)], timeout=limit)
    finally:  # also of a caller that was cancelled, which else would take another's turn
        left = ticket.cancel()
    if left:
        raise TimeoutError(f"{late} within {limit} s")


class AsyncGatedPredictor(_Gate[_In, _Out]):
    """The async twin of :class:`GatedPredictor`; any thread or task may open its gate.

    >>> import asyncio
    >>> async def main():
    ...     gated = GatedPredictor.asynchronous(str.upper)
    ...     answer = asyncio.create_task(gated("a"))
    ...     await gated.await_entered()
    ...     gated.open_one()
    ...     return await answer
    >>> asyncio.run(main())
    'A'
    """

    async def __call__(self, x: _In, /) -> _Out:
        """Wait at the gate, then answer."""
        with self._turn(x) as turn:
            await _await(*turn)
            return self._fn(x)


class GatedPredictor(_Gate[_In, _Out]):
    """A sync function whose calls wait at a gate until the test lets them pass.

    ``fn`` answers, by default with the input itself. A call that is not let pass within ``limit``
    seconds raises TimeoutError. ``GatedPredictor.asynchronous(...)`` makes the async twin.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> gated = GatedPredictor(str.upper)
    >>> with ThreadPoolExecutor() as threads:
    ...     answers = threads.map(gated, ["a", "b"])
    ...     gated.wait_entered(2)
    ...     gated.open()
    >>> list(answers), gated.peak
    (['A', 'B'], 2)
    """

    asynchronous = AsyncGatedPredictor

    def __call__(self, x: _In, /) -> _Out:
        """Wait at the gate, then answer."""
        with self._turn(x) as turn:
            _wait(*turn)
            return self._fn(x)


class EventLog:
    """A hook that keeps the events it is told, for ``on_event=``.

    >>> from modelserve.events import Loaded
    >>> log = EventLog()
    >>> log(Loaded("ranker", "v1", 0.5))
    >>> [event.version for event in log.of(Loaded)]
    ['v1']
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[Event] = []

    def __call__(self, event: Event, /) -> None:
        """Keep an event."""
        with self._lock:
            self._events.append(event)

    def of(self, kind: type[_E]) -> list[_E]:
        """Return the events of one type so far, in order."""
        return [event for event in self if isinstance(event, kind)]

    def clear(self) -> None:
        """Forget all events."""
        with self._lock:
            self._events.clear()

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[Event]:
        with self._lock:
            return iter(list(self._events))
