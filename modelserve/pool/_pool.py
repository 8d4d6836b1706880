"""ModelPool itself: a mapping of predictors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, final

from modelserve.pool._door import Door, Lease
from modelserve.pool._engine import Engine
from modelserve.pool._factory import Turns, ask
from modelserve.pool._handle import Pooled
from modelserve.pool._seat import Seat
from modelserve.pool._settings import Settings
from modelserve.pool._stats import PoolStats
from modelserve.pool._weigh import EVERYWHERE, Weight
from modelserve.predictor import (
    Health,
    Primitive,
    ThreadSink,
    aio,
    describe,
    hop,
    lift,
    on_fork,
    relieve,
    running_loop,
)

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from modelserve.events import Hook
    from modelserve.typing import Clock

RELIEF_SECONDS = 10.0
"""How long a load that is out of memory waits for models to leave."""


@final
class ModelPool(Mapping[str, Pooled]):
    """More models than fit into memory: each is there when it is called.

    ``pool[name]`` is a predictor, which stays good while its model comes and goes. The first ask
    for a name calls ``factory(name)``, which gives a predictor that loads when it is opened and
    lets go when it is closed, typically a :class:`~modelserve.ModelLoader`; it raises KeyError for
    names it refuses. However many callers come first, threads and tasks together, one load serves
    them all; different models load side by side.

    ``budget`` is the bytes that models may take, in all or by memory space, as in
    ``{"cpu": 8 << 30, "cuda:0": 40 << 30}``; a space that it does not name is unlimited. What a
    load will take is predicted and promised before it begins, from what the model took before, or
    from the size of its file (or ``size(name)``) times what others of its format took; it is
    measured when it has been loaded. The first load of its kind of which nothing is told runs
    alone. If one takes more than was predicted, the excess is there until others have gone, or
    until it goes itself where nobody else may.

    **What is measured**: ``weigh(predictor)``, in bytes or in bytes by memory space, if it is
    given. Else the arrays and tensors (torch modules too) that loaders hold, to the byte, but
    nothing that calls allocate beside them. Else, for ONNX sessions, estimators and whatever else,
    by how much resident memory grew while the model was loaded, at least the size of its file; it
    comes too small where the process had memory to spare, too large where other threads allocate,
    and while other models load or leave at the same time the prediction stands in its place. It
    is read on Linux only, and never on a GPU. A model that its loader renews is weighed again, by
    the first two, before the next load and for ``stats``; what a loader keeps to roll back to does
    not count.

    Models go by idle time x bytes / seconds of loading, the largest first, when their last call
    has ended; never those that are pinned, leased, or in memory for less than ``min_residency``
    seconds. They go also when nobody called them for ``keep_alive`` seconds. Freed memory is
    returned to the system. A load without room raises Overloaded at once and evicts nobody;
    ``retry_after`` says when others will have stayed for long enough. One that waits for room that
    calls or loads of others hold gives up after ``max_wait`` seconds.

    A failed load is told to all who waited, and the next call tries again; it evicts nobody for a
    pause that doubles from a second to a minute. A model that comes back has the version it had if
    its loader gives it the same one, as it does for an unchanged file or with ``version=``, and
    what caches remember of it counts on meanwhile, except of loaders with ``reload=``.

    Raises ValueError for a budget that is empty or not positive, and ModelLoadError at calls of a
    model that is larger than all of it.

    >>> import modelserve as ms
    >>> def load(name):
    ...     return ms.ModelLoader(lambda: [name] * 3, predict=lambda model, x: model[x])
    >>> with ms.ModelPool(load, budget=1_000_000) as pool:
    ...     pool["a"](0), pool["b"](1), pool.stats.loaded
    ('a', 'b', ('a', 'b'))
    """

    def __init__(  # noqa: PLR0913 - one word each, all of them of the field
        self,
        factory: Callable[[str], Callable[[Any], Any]],
        *,
        budget: int | Mapping[str, int],
        pinned: Iterable[str] = (),
        weigh: Callable[[Primitive[Any, Any]], Weight] | None = None,
        size: Callable[[str], Weight] | None = None,
        keep_alive: float | None = None,
        min_residency: float = 0.0,
        max_wait: float = 30.0,
        name: str = "pool",
        clock: Clock = time.monotonic,
        on_event: Hook | None = None,
    ) -> None:
        spaces = dict(budget) if isinstance(budget, Mapping) else {EVERYWHERE: budget}
        if not spaces or not all(n > 0 for n in spaces.values()):
            raise ValueError(f"budget={budget!r}: pass a positive number of bytes, or one a space")
        seconds = {"keep_alive": keep_alive, "min_residency": min_residency, "max_wait": max_wait}
        for word, value in seconds.items():
            if value is not None and not value >= 0:
                raise ValueError(f"{word}={value!r}: pass seconds, at least 0")
        self.name = name
        self._factory = factory
        self._pinned = set(pinned)
        self._options = {
            "budget": budget,
            "pinned": tuple(self._pinned),
            "weigh": weigh,
            "size": size,
            "keep_alive": keep_alive,
            "min_residency": min_residency,
            "max_wait": max_wait,
            "name": name,
            "clock": clock,
            "on_event": on_event,
        }
        self._engine = Engine(
            Settings(spaces, weigh, size, keep_alive, min_residency, max_wait, clock, on_event)
        )
        self._handles: dict[str, Pooled] = {}
        self._opens = 0
        self.after_fork()
        on_fork(self)
        relieve.add(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def after_fork(self) -> None:
        """Be usable in the child."""
        self._lock = threading.Lock()
        self._turns = Turns()

    def __getitem__(self, name: str) -> Pooled:
        """Return the predictor of a model; nothing is loaded. Raises KeyError for unknown names."""
        handle = self._handles.get(name)
        if handle is None or handle.life.closed:
            handle = self._made(name)
        return handle

    def _made(self, name: str) -> Pooled:
        with self._turns(name):
            seats = self._engine.seats
            if name not in seats:
                part = lift(ask(self._factory, name, self.name, tuple(seats)))
                self._engine.add(Seat(name, part, pinned=name in self._pinned))
            handle = self._handles.get(name)
            if handle is None or handle.life.closed:
                handle = Pooled(self, self._engine, self._engine.seats[name])
                self._handles[name] = handle
        return handle

    def __iter__(self) -> Iterator[str]:
        """Go through the names that were asked for so far."""
        return iter(tuple(self._handles))

    def __len__(self) -> int:
        return len(self._handles)

    def __repr__(self) -> str:
        shown = ", ".join(f"{key}={value!r}" for key, value in self.stats._asdict().items())
        return f"ModelPool({self.name!r}, {shown})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle cold, by the factory."""
        return _again, (self._factory, self._options)

    @property
    def stats(self) -> PoolStats:
        """A snapshot of what happened so far."""
        return self._engine.stats()

    def lease(self, name: str) -> Lease:
        """Keep a model in memory for a block: ``with pool.lease(name) as predictor:``.

        It is loaded if it is not there; ``async with`` does not block the event loop. A block that
        leases one model and waits for another can be told Overloaded, but never waits for itself.

        >>> import modelserve as ms
        >>> pool = ms.ModelPool(lambda name: str.upper, budget=1_000, weigh=lambda p: 10)
        >>> with pool.lease("shout") as shout:
        ...     shout("a")
        'A'
        """
        handle = self[name]
        return Lease(Door(self._engine, self._engine.seats[name], handle.blocked_loop))

    def pin(self, name: str) -> None:
        """Never let this model go for another's sake or for being idle; load it with the pool."""
        self._pinned.add(name)
        seat = self._engine.seats.get(name)
        if seat is not None:
            seat.pinned = True

    def unpin(self, name: str) -> None:
        """Let this model go like any other."""
        self._pinned.discard(name)
        seat = self._engine.seats.get(name)
        if seat is not None:
            seat.pinned = False

    def evict(self, name: str, *, timeout: float | None = None) -> bool:
        """Let a model go now, and wait until its calls have ended and it has gone.

        After ``timeout`` seconds it is closed with calls in progress. Returns False for one that
        is not in memory, leased or pinned. On the thread of an event loop with calls of it in
        progress use ``await pool.aevict(name)``.
        """
        self._refuse_here(self._seats(name), f"aevict({name!r})")
        return self._evict(name, timeout)

    async def aevict(self, name: str, *, timeout: float | None = None) -> bool:
        """Let a model go like :meth:`evict`, without blocking the event loop.

        >>> import asyncio
        >>> import modelserve as ms
        >>> pool = ms.ModelPool(lambda name: str.upper, budget=1_000, weigh=lambda p: 10)
        >>> pool["shout"]("a"), asyncio.run(pool.aevict("shout"))
        ('A', True)
        """
        sink = aio.sink()
        hop(sink, lambda _: self._evict(name, timeout), None, self.name)
        return bool(await sink.future)

    def _seats(self, name: str) -> list[Seat]:
        return [seat for seat in (self._engine.seats.get(name),) if seat is not None]

    def _evict(self, name: str, timeout: float | None) -> bool:
        gone = self._engine.evict(self._seats(name), "asked")
        self._engine.settle(gone, timeout, drain=True)
        return bool(gone)

    def sweep(self) -> tuple[str, ...]:
        """Let those go that nobody called for ``keep_alive`` seconds; return their names.

        A thread of the pool's own does so too, while anything is in memory. What the event loop of
        this thread is calling stays, as those calls could not end meanwhile.
        """
        idle = [seat for seat in self._engine.idle() if not seat.awaited.is_on(running_loop())]
        gone = self._engine.evict(idle, "idle")
        self._engine.settle(gone, None, drain=True)
        return tuple(seat.name for seat in gone)

    def relieve(self, device: str) -> bool:
        """Let those go from a device that nobody calls now; say whether any went.

        A load that runs out of memory there asks every pool of the process to. Those that are
        leased, pinned or in memory for less than ``min_residency`` seconds stay.
        """
        gone = self._engine.evict(self._engine.spare(device), "room")
        return self._engine.have_gone(gone, RELIEF_SECONDS)

    def describe(self) -> str:
        """Show the pool, and the tree of each model that was asked for, as text.

        >>> import modelserve as ms
        >>> pool = ms.ModelPool(lambda name: str.upper, budget=1_000, weigh=lambda p: 10)
        >>> pool["shout"]("a")
        'A'
        >>> print(pool.describe())
        ModelPool pool 10 of 1,000 bytes, 0 hits, 1 misses, 1 loads, 0 evictions
        Pooled shout [item] 10 bytes, 1 calls, 1 loads
           Function upper [item] 1 calls
        """
        stats = self.stats
        limits = self._engine.settings.budget
        held = ", ".join(
            f"{stats.nbytes.get(space, 0):,} of {limit:,} bytes"
            + (f" of {space}" if space != EVERYWHERE else "")
            for space, limit in limits.items()
        )
        counts = f"{stats.hits:,} hits, {stats.misses:,} misses, {stats.loads:,} loads"
        lines = [f"ModelPool {self.name} {held}, {counts}, {stats.evictions:,} evictions"]
        for name, handle in tuple(self._handles.items()):
            inner = describe(self._engine.seats[name].part).splitlines()
            lines += [describe(handle), *(f"   {line}" for line in inner)]
        return "\n".join(lines)

    def health(self) -> Health:
        """Tell the health of every model that was asked for, without touching one.

        A pool is ready while it is open: a model that cannot be loaded is that model's failure.
        """
        parts = {
            f"{self.name}/{name}": handle.health() for name, handle in tuple(self._handles.items())
        }
        return Health(live=True, ready=not self._engine.closed, parts=parts)

    def open(self) -> None:
        """Take calls, and load what is pinned. Counted, as every open is, unless that fails."""
        self._enter()
        try:
            for name in sorted(self._pinned):
                self[name].start()
        except BaseException:
            sink = ThreadSink()
            hop(sink, lambda _: self._close(drain=True, timeout=None), None, self.name)
            if not self._has_work_here(self._engine.seats.values()):  # else when that has ended
                sink.wait(None, self.name)
            raise

    async def aopen(self) -> None:
        """Open without blocking the event loop."""
        self._enter()
        try:
            for name in sorted(self._pinned):
                await self[name].astart()
        except BaseException:
            await self.aclose()
            raise

    def _enter(self) -> None:
        with self._lock:
            self._opens += 1
            self._engine.closed = False

    def close(self, *, drain: bool = True, timeout: float | None = None) -> None:
        """Undo one open; the last lets all models go when their calls and leases have ended.

        After ``timeout`` seconds, or at once without ``drain``, they are closed all the same. On
        the thread of an event loop with calls in progress use ``await pool.aclose()``.
        """
        self._refuse_here(self._engine.seats.values(), "aclose()")
        self._close(drain, timeout)

    def _has_work_here(self, seats: Iterable[Seat]) -> bool:
        """Whether calls are in progress that can only go on where this thread would wait."""
        loop = running_loop()
        return any(seat.awaited.is_on(loop) for seat in tuple(seats))

    def _refuse_here(self, seats: Iterable[Seat], instead: str) -> None:
        if self._has_work_here(seats):
            raise RuntimeError(
                f"{self.name!r} has work on the event loop of this thread: "
                f"use `await pool.{instead}`"
            )

    def _close(self, drain: bool, timeout: float | None) -> None:  # noqa: FBT001 - internal
        with self._lock:
            self._opens = max(self._opens - 1, 0)
            if self._opens:
                return
        self._engine.close(timeout, drain=drain)

    async def aclose(self, *, drain: bool = True, timeout: float | None = None) -> None:
        """Undo one open without blocking the event loop."""
        sink = aio.sink()
        hop(sink, lambda _: self._close(drain, timeout), None, self.name)
        await sink.future

    def __enter__(self) -> Self:
        """Open the pool."""
        self.open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the pool."""
        self.close()

    async def __aenter__(self) -> Self:
        """Open the pool."""
        await self.aopen()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the pool."""
        await self.aclose()


def _again(factory: Callable[[str], Any], options: Mapping[str, Any]) -> ModelPool:
    return ModelPool(factory, **options)
