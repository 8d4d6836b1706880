"""The entries and flights of one cache, behind one lock. It runs nothing and waits for nobody."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from modelserve.cache._flight import Abandoned, Claim, Entry, Flight, new_scope
from modelserve.cache._freeze import freeze
from modelserve.predictor import Sink, deliver, running_loop
from modelserve.request import Request, Stamp, stamps, tick

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from modelserve.typing import Clock

Marks = tuple[Any, ...]


class CacheStats(NamedTuple):
    """Counts of a cache.

    ``hits`` were answered by an entry, ``joins`` by a run in progress, and ``misses`` ran the
    model. ``expired`` entries were too old and ``outdated`` ones made by a version that is no
    longer handed out; both were misses. ``unstored`` results were given but not kept.
    ``blocked_loop`` is sync calls that kept an event loop waiting for another's run.
    """

    entries: int
    hits: int
    misses: int
    joins: int
    expired: int
    outdated: int
    unstored: int
    blocked_loop: int = 0


class Table:
    """Entries by key, and the runs in progress. ``marks`` tells what no trail can carry."""

    def __init__(
        self,
        store: MutableMapping[Any, Entry],
        ttl: float,
        clock: Clock,
        marks: Callable[[], Marks],
    ) -> None:
        self._store = store
        self._ttl = ttl
        self._clock = clock
        self.marks = marks
        self._hits = self._misses = self._joins = 0
        self._expired = self._outdated = self._unstored = 0
        self.after_fork()

    def after_fork(self) -> None:
        """Forget the runs of the parent process; the entries are still true."""
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Flight] = {}
        self._emptied: list[Sink] = []

    def stats(self) -> CacheStats:
        with self._lock:
            return CacheStats(
                len(self._store),
                self._hits,
                self._misses,
                self._joins,
                self._expired,
                self._outdated,
                self._unstored,
            )

    def look(self, key: Hashable) -> Entry | None:
        """Find an entry that still counts."""
        with self._lock:
            entry = self._valid(key)
            if entry is not None:
                self._hits += 1
        return entry

    def claim(
        self,
        key: Hashable,
        scope: Request | None,
        sink: Sink,
        together: Flight | None = None,
    ) -> Claim:
        """Find an entry, join a flight with the sink, or lead one, ``together`` with another."""
        blocks_loop = sink.loop is None and running_loop() is not None
        self._land_lost(self._flights.get(key))
        with self._lock:
            entry = self._valid(key)
            if entry is not None:
                self._hits += 1
                return Claim(entry, None, leads=False, came=0)
            flight = self._flights.get(key)
            if flight is not None and self._can_join(flight, scope, blocks_loop=blocks_loop):
                self._joins += 1
                flight.sinks.append(sink)
                flight.scopes.append(scope)
                return Claim(None, flight, leads=False, came=tick())
            self._misses += 1
            if flight is not None:
                return Claim(None, None, leads=False, came=0)
            self._count_why(key)
            if together is None:
                scopes = [scope]
                flight = Flight(key, scopes, new_scope(scopes, self))
            else:
                flight = Flight(key, together.scopes, together.scope)
            flight.loop = sink.loop
            self._flights[key] = flight
            return Claim(None, flight, leads=True, came=0)

    def count_join(self) -> None:
        """Count a caller who shares a flight of its own."""
        with self._lock:
            self._joins += 1

    def land(self, flight: Flight, value: Any, error: BaseException | None, before: Marks) -> None:
        """Keep what a run gave, if it still counts, and wake who waits for it."""
        if flight.entry is not None or flight.error is not None:
            return
        entry, keep = None, False
        if error is None:
            try:
                entry, keep = self._made(flight, value, before)
            except Exception as raised:  # noqa: BLE001 - of the user's, for those who wait
                error = raised
        with self._lock:
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
            if entry is not None:
                self._keep(flight.key, entry, keep=keep)
            flight.entry, flight.error = entry, error
            sinks, flight.sinks = flight.sinks, []
            if not self._flights:
                sinks += self._emptied
                self._emptied = []
        deliver((sink, None, None) for sink in sinks)

    def flies_on(self, loop: AbstractEventLoop | None) -> bool:
        """Whether a run in progress needs a loop."""
        with self._lock:
            return loop is not None and any(f.loop is loop for f in self._flights.values())

    def when_empty(self, sink: Sink) -> None:
        """Settle a sink when no run is in progress."""
        with self._lock:
            flights = list(self._flights.values())
        self._land_lost(*flights)
        with self._lock:
            if self._flights:
                self._emptied.append(sink)
                return
        deliver([(sink, None, None)])

    def _land_lost(self, *flights: Flight | None) -> None:
        """Land what was left on a loop that has closed: nobody else will."""
        lost = [f for f in flights if f is not None and f.loop is not None and f.loop.is_closed()]
        self.fail(lost, Abandoned())

    def fail(self, flights: Sequence[Flight], error: BaseException) -> None:
        """Land flights that gave nothing."""
        for flight in flights:
            self.land(flight, None, error, ())

    def _valid(self, key: Hashable) -> Entry | None:
        try:
            entry = self._store[key]
        except KeyError:
            return None
        late = self._ttl < math.inf and entry.expires <= self._clock()
        return None if late or not entry.is_current() else entry

    def _can_join(self, flight: Flight, scope: Request | None, *, blocks_loop: bool) -> bool:
        """Nobody waits for a run that they are part of, or that needs the loop they block."""
        within = scope is not None and flight.scope in scope.inside
        return not within and not (blocks_loop and flight.loop is not None)

    def _count_why(self, key: Hashable) -> None:
        entry = self._store.get(key)
        if entry is not None and entry.is_current():
            self._expired += 1
        elif entry is not None:
            self._outdated += 1

    def _made(self, flight: Flight, value: Any, before: Marks) -> tuple[Entry, bool]:
        """Make an entry of a value, and say whether it may be kept."""
        after = self.marks()
        trail = flight.scope.trail
        if before == after:
            trail.extend(mark for mark in after if isinstance(mark, Stamp) and mark not in trail)
        frozen, thaw = freeze(value)
        entry = Entry(frozen, thaw, stamps(trail), self._clock() + self._ttl)
        return entry, before == after and entry.is_current()

    def _keep(self, key: Hashable, entry: Entry, *, keep: bool) -> None:
        if keep:
            try:
                self._store[key] = entry
            except ValueError:  # what cachetools says of a value larger than the whole cache
                keep = False
        self._unstored += not keep
