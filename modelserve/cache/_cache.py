"""PredictionCache itself: its two faces, for one input and for many."""

from __future__ import annotations

import math
import time
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
)
from typing import TYPE_CHECKING, Any, Unpack, cast, final, overload

from modelserve._policy import keys
from modelserve.cache._bound import bounded
from modelserve.cache._fill import Filler
from modelserve.cache._flight import Claim, Entry, Run
from modelserve.cache._many import Ask, Found, Plan
from modelserve.cache._options import Options
from modelserve.cache._table import CacheStats, Table
from modelserve.cache._witness import Witness, used_by_functions
from modelserve.errors import DeadlineExceeded
from modelserve.predictor import (
    Primitive,
    Sink,
    Spec,
    ThreadSink,
    achunks,
    aio,
    check_call,
    chunks,
    end_pools,
    lift,
    on_fork,
    refuse_on_loop,
    running_loop,
    wraps,
)
from modelserve.request import Note, current
from modelserve.typing import In, Out

if TYPE_CHECKING:
    from modelserve.predictor import LoopSink
    from modelserve.request import Request
    from modelserve.typing import Clock


CHUNK = 256
"""Inputs of a ``map`` that are looked up together."""


@final
class PredictionCache(Primitive[In, Out]):
    """Remember predictions by input, for a time, as long as the models that made them serve.

    Inputs may be arrays, tensors, text, bytes, numbers, dates, None, and lists, tuples, dicts,
    dataclasses and pydantic models of such. ``key`` is a function from any other input to one of
    these, and ``encoders`` such functions by the type of a part. The tenant of the request in
    force is part of the key. An entry is no answer any more once a version that took part in it is
    retired, wherever in the tree below its loader stands. ``version``, a text or a function of no
    arguments, tells of changes that no loader knows.

    Threads and tasks that ask for the same input at once wait for one run, which no caller's
    cancellation or deadline ends for the others. Everyone gets the same value; arrays are copied
    once and read-only.

    One of ``maxsize``, in entries, ``max_bytes``, of keys, answers and what keeps them, and
    ``store``, any cache of ``cachetools`` or mutable mapping of its own, is required. By the first
    two, what is asked for once does not push out what is asked for often (S3-FIFO: Yang and others,
    SOSP 2023); an answer larger than ``max_bytes`` is given and not kept. A ``getsizeof`` of a
    store is given entries, whose ``value`` is the answer. ``ttl`` is in seconds, or a function
    from an answer to seconds; what gets 0 or less is not kept.

    Raises ValueError without a bound and :class:`~modelserve.NestingError` over a splitter; a call
    with an input that has no key raises TypeError.

    >>> import modelserve as ms
    >>> upper = ms.PredictionCache(str.upper, maxsize=2)
    >>> upper("a"), upper("a"), upper.stats.hits
    ('A', 'A', 1)
    """

    kind = "PredictionCache"
    shares = "flight"
    not_below = {"batch": "put the cache around the batcher"}  # noqa: RUF012 - never changed

    @overload
    def __init__(
        self, predict: Callable[[In], Awaitable[Out]], **options: Unpack[Options]
    ) -> None: ...
    @overload
    def __init__(self, predict: Callable[[In], Out], **options: Unpack[Options]) -> None: ...
    def __init__(  # noqa: PLR0913 - one word each, all of them of the field
        self,
        predict: Callable[[Any], Any],
        *,
        maxsize: int | None = None,
        max_bytes: int | None = None,
        store: MutableMapping[Any, Any] | None = None,
        ttl: float | Callable[[Any], float] | None = None,
        key: Callable[[Any], Any] | None = None,
        encoders: Mapping[type, Callable[[Any], Any]] | None = None,
        version: str | Callable[[], str] | None = None,
        name: str | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        kept = bounded(maxsize, max_bytes, store)
        if ttl is not None and not callable(ttl) and not ttl > 0:
            raise ValueError(f"ttl={ttl} is no time to live: pass seconds, more than 0")
        part = lift(predict)
        options = {
            "maxsize": maxsize,
            "max_bytes": max_bytes,
            "store": store,
            "ttl": ttl,
            "key": key,
            "encoders": encoders,
            "version": version,
            "name": name,
            "clock": clock,
        }
        spec = Spec(PredictionCache, (part,), options)
        super().__init__(name or part.name, {part.name: part}, spec)
        wraps(self, part)
        self._part = part
        self._maxsize = maxsize
        self._max_bytes = max_bytes
        self._encode = keys.by(key, encoders)
        self._told = version if version is None or callable(version) else lambda: version
        self._hit_note = Note(self.name, "cache", "hit")
        self._notes = {
            True: Note(self.name, "cache", "miss"),
            False: Note(self.name, "cache", "join"),
        }
        witness = Witness(used_by_functions(self), self._told)
        lives = math.inf if ttl is None else ttl
        self._table = Table(kept, lives, clock, witness, in_bytes=max_bytes is not None)
        self._filler = Filler(part, self._table, witness)
        self._look = self._table.look
        self._armed = False

    def after_fork(self) -> None:
        """Forget the runs of the parent process; the entries are still true."""
        self._table.after_fork()

    @property
    def stats(self) -> CacheStats:
        """A snapshot of what happened so far."""
        return self._table.stats(self.blocked_loop.read())

    def __call__(self, x: In, /) -> Out:
        """Answer from memory, or run the model and remember."""
        if self.is_async:
            refuse_on_loop(self.name)
        scope = current()
        if scope is None and self._told is None and not self.life.closed:
            key = self._encode(x)
        else:
            key = self._key_of(x, scope)
        if scope is not None and scope.warming:
            return cast("Out", self._part(x))
        entry = self._look(key)
        if entry is not None and scope is None and entry.thaw is None:
            value: Out = entry.value
            return value
        while entry is None:
            sink = ThreadSink()
            entry, flight, leads, came = self._claim(key, scope, sink)
            if flight is None:
                break
            if not leads or self._filler.lead([(flight, x)], sink, scope):
                sink.wait(scope, self.name)
            if not flight.is_older_than(came):
                flight.note(scope, self._notes[leads])
                return cast("Out", flight.result(self.name))
            self._table.count_join(-1)
        return cast("Out", self._part(x)) if entry is None else self._hit(entry, scope)

    async def acall(self, x: In, /) -> Out:
        """Answer from memory, or run the model and remember, without blocking the loop."""
        scope = current()
        if scope is None and self._told is None and not self.life.closed:
            key = self._encode(x)
        else:
            key = self._key_of(x, scope)
        if scope is not None and scope.warming:
            return cast("Out", await self._part.acall(x))
        entry = self._look(key)
        if entry is not None and scope is None and entry.thaw is None:
            value: Out = entry.value
            return value
        while entry is None:
            sink = aio.sink()
            entry, flight, leads, came = self._claim(key, scope, sink)
            if flight is None:
                break
            if leads:
                flight.sinks.append(sink)
                self._filler.spawn([(flight, x)])
            await aio.wait(sink.future, scope, self.name)
            if not flight.is_older_than(came):
                flight.note(scope, self._notes[leads])
                return cast("Out", flight.result(self.name))
            if not leads:
                self._table.count_join(-1)
        return cast("Out", await self._part.acall(x)) if entry is None else self._hit(entry, scope)

    def map(self, xs: Iterable[In], /, *, return_exceptions: bool = False) -> Iterator[Out]:
        """Answer for many inputs, in order: duplicates run once, misses are handed on together."""
        if self.is_async:
            refuse_on_loop(self.name)
        scope = current()
        if scope is not None and scope.warming:
            yield from self._part.map(xs, return_exceptions=return_exceptions)
            return
        for chunk in chunks(xs, CHUNK):
            plan = self._plan(chunk, scope, ThreadSink)
            self._fill(plan, scope, return_exceptions)
            for x, found in zip(chunk, plan.found, strict=True):
                try:
                    if found.sink is not None:
                        cast("ThreadSink", found.sink).wait(scope, self.name)
                    y = self._settled(found, plan, scope)
                    if y.__class__ is Ask:
                        y = y.p(x)
                except Exception as error:
                    if not return_exceptions:
                        raise
                    y = error
                yield cast("Out", y)

    async def amap(
        self, xs: Iterable[In] | AsyncIterable[In], /, *, return_exceptions: bool = False
    ) -> AsyncIterator[Out]:
        """Answer for many inputs like :meth:`map`, without blocking the event loop."""
        scope = current()
        if scope is not None and scope.warming:
            async for y in self._part.amap(xs, return_exceptions=return_exceptions):
                yield y
            return
        async for chunk in achunks(xs, CHUNK):
            plan = self._plan(chunk, scope, aio.sink)
            await self._afill(plan, scope, return_exceptions)
            for x, found in zip(chunk, plan.found, strict=True):
                try:
                    if found.sink is not None:
                        await aio.wait(cast("LoopSink", found.sink).future, scope, self.name)
                    y = self._settled(found, plan, scope)
                    if y.__class__ is Ask:
                        y = await y.p.acall(x)
                except Exception as error:
                    if not return_exceptions:
                        raise
                    y = error
                yield cast("Out", y)

    def summary(self) -> str:
        """Configuration and counts in a few words."""
        stats = self.stats
        bound = "" if self._maxsize is None else f" of {self._maxsize:,}"
        size = (
            "" if self._max_bytes is None else f" in {stats.bytes / self._max_bytes:.0%} of memory"
        )
        joins = f", {stats.joins:,} joins" if stats.joins else ""
        counts = f"{stats.hits:,} hits{joins}, {stats.misses:,} misses"
        return f"{stats.entries:,}{bound} entries{size}, {counts}"

    def needs_this_loop(self) -> bool:
        """Whether a run is in progress on the loop of this thread."""
        return self._table.flies_on(running_loop())

    def stop(self, drain: bool, timeout: float | None) -> None:  # noqa: FBT001 - internal
        """Let the runs in progress land; the entries are kept."""
        if drain:
            sink = ThreadSink()
            self._table.when_empty(sink)
            sink.settles(timeout)
        end_pools(self._table)

    async def astop(self, drain: bool, timeout: float | None) -> None:  # noqa: FBT001 - internal
        """Let the runs in progress land without blocking the loop."""
        if drain:
            sink = aio.sink()
            self._table.when_empty(sink)
            await aio.settles(sink, timeout)
        end_pools(self._table)

    def _key_of(self, x: In, scope: Request | None) -> Hashable:
        if self.life.closed:
            raise self.closed_error()
        key = self._encode(x)
        if scope is not None:
            if scope.shared is not None:
                check_call(self, scope)
            if scope.tenant is not None:
                key = (scope.tenant, key)
        return key if self._told is None else (self._told(), key)

    def _hit(self, entry: Entry, scope: Request | None) -> Out:
        if scope is not None:
            scope.trail.extend((*entry.stamps, self._hit_note))
        value: Out = entry.value if entry.thaw is None else entry.thaw(entry.value)
        return value

    def _claim(
        self, key: Hashable, scope: Request | None, sink: Sink, run: Run | None = None
    ) -> Claim:
        if not self._armed:
            self._armed = True
            on_fork(self)
        if scope is not None:
            scope.check(self.name)
        blocks_loop = sink.loop is None and running_loop() is not None
        if blocks_loop:  # what it would wait for may need this very loop, be it a thread's
            self.blocked_loop.add()
        return self._table.claim(key, scope, sink, run, may_wait=not blocks_loop)

    def _plan(self, chunk: list[In], scope: Request | None, make_sink: Callable[[], Sink]) -> Plan:
        """Look many inputs up at once: what was found for each, and what there is to run."""
        plan = Plan(Run(scope, self._table, alone=len(chunk) == 1))
        try:
            for x in chunk:
                try:
                    found = self._find(x, scope, make_sink, plan)
                except Exception as error:  # noqa: BLE001 - it stands in this input's place
                    found = Found(error=error)
                plan.found.append(found)
        except BaseException:
            self._filler.abandon(plan.leads)
            raise
        return plan

    def _find(
        self, x: In, scope: Request | None, make_sink: Callable[[], Sink], plan: Plan
    ) -> Found:
        key = self._key_of(x, scope)
        if key in plan.led:
            self._table.count_join(1)
            return Found(flight=plan.led[key], joins=True)
        entry = self._table.look(key)
        if entry is not None:
            return Found(entry=entry)
        sink = make_sink()
        entry, flight, leads, came = self._claim(key, scope, sink, plan.run)
        if flight is None or not leads:
            waits = sink if flight else None
            return Found(entry=entry, flight=flight, sink=waits, came=came, joins=bool(flight))
        plan.led[key] = flight
        plan.leads.append((flight, x))
        return Found(flight=flight)

    def _fill(self, plan: Plan, scope: Request | None, return_exceptions: bool) -> None:  # noqa: FBT001
        if not plan.leads:
            return
        sink = ThreadSink()
        try:
            if self._filler.lead(plan.leads, sink, scope):
                sink.wait(scope, self.name)
        except DeadlineExceeded:
            if not return_exceptions:
                raise

    async def _afill(self, plan: Plan, scope: Request | None, return_exceptions: bool) -> None:  # noqa: FBT001
        if not plan.leads:
            return
        sink = aio.sink()
        plan.leads[-1][0].sinks.append(sink)
        self._filler.spawn(plan.leads)
        try:
            await aio.wait(sink.future, scope, self.name)
        except DeadlineExceeded:
            if not return_exceptions:
                raise

    def _settled(self, found: Found, plan: Plan, scope: Request | None) -> Any:
        """Give one input of many its answer, or whom to ask for it alone."""
        if found.error is not None:
            raise found.error
        if found.entry is not None:
            return self._hit(found.entry, scope)
        flight = found.flight
        if flight is None:
            return Ask(self._part)
        if flight.is_older_than(found.came):
            self._table.count_join(-found.joins)
            return Ask(self)
        if flight.run not in plan.noted:  # a trail that many share is told once
            plan.noted.add(flight.run)
            flight.note(scope, self._notes[flight.run is plan.run])
        return flight.result(self.name)
