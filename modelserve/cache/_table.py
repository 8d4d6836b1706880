"""The entries and flights of one cache, behind one lock. It runs nothing and waits for nobody."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

from modelserve.cache._flight import Abandoned, Claim, Entry, Flight, Run
from modelserve.cache._freeze import freeze
from modelserve.cache._s3fifo import VISITS, S3Fifo
from modelserve.cache._weigh import ENTRY, weigh
from modelserve.predictor import Counter, Sink, deliver
from modelserve.request import Request, Stamp, tick

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from modelserve.cache._witness import Witness
    from modelserve.typing import Clock

_NEVER = math.inf
_owners: WeakValueDictionary[int, Table] = WeakValueDictionary()


class CacheStats(NamedTuple):
    """Counts of a cache.

    ``hits`` were answered by an entry, ``joins`` by a run in progress, and ``misses`` ran the
    model. ``expired`` entries were too old and ``outdated`` ones made by a version that is no
    longer handed out; both were misses. ``unstored`` results were given but not kept.
    ``blocked_loop`` is sync calls that kept an event loop waiting for the model. ``bytes`` are
    those that entries hold, where ``max_bytes`` bounds them, else 0. ``evicted`` entries were
    dropped when others came.
    """

    entries: int
    hits: int
    misses: int
    joins: int
    expired: int
    outdated: int
    unstored: int
    blocked_loop: int = 0
    bytes: int = 0
    evicted: int = 0


class Table:
    """Entries by key, and the flights that are up."""

    def __init__(
        self,
        store: MutableMapping[Any, Entry],
        ttl: float | Callable[[Any], float],
        clock: Clock,
        witness: Witness,
        *,
        in_bytes: bool,
    ) -> None:
        if _owners.setdefault(id(store), self) is not self:
            raise ValueError(
                "store= belongs to another cache, and one would give the other's answers: pass "
                "each cache a store of its own, and over a decorated method maxsize="
            )
        self._store = store
        self._ttl = ttl
        self._clock = clock
        self._witness = witness
        self._in_bytes = in_bytes
        self._nodes = store.nodes if isinstance(store, S3Fifo) else None
        self._hits = Counter()
        self._misses = self._joins = 0
        self._expired = self._outdated = self._unstored = self._evicted = 0
        self.after_fork()

    def after_fork(self) -> None:
        """Forget the flights of the parent process; the entries are still true."""
        self._lock = threading.RLock()  # what is collected under it may come back here
        self._flights: dict[Hashable, Flight] = {}
        self._emptied: list[Sink] = []

    def stats(self, blocked_loop: int) -> CacheStats:
        with self._lock:
            return CacheStats(
                len(self._store),
                self._hits.read(),
                self._misses,
                self._joins,
                self._expired,
                self._outdated,
                self._unstored,
                blocked_loop,
                getattr(self._store, "currsize", 0) if self._in_bytes else 0,
                self._evicted,
            )

    def look(self, key: Hashable) -> Entry | None:
        """Find an entry that still counts; in the default store without a lock."""
        if self._nodes is None:
            with self._lock:
                try:
                    entry = self._store[key]
                except KeyError:
                    return None
        else:
            node = self._nodes.get(key)
            if node is None or node.value is None:
                return None
            entry = node.value
            node.visits = VISITS[node.visits]
        if entry.expires != _NEVER and entry.expires <= self._clock():
            return None
        for stamp in entry.stamps:
            if stamp.retired:
                return None
        next(self._hits.numbers)
        return entry

    def claim(
        self,
        key: Hashable,
        scope: Request | None,
        sink: Sink,
        run: Run | None,
        *,
        may_wait: bool,
    ) -> Claim:
        """Find an entry, join a flight with the sink, or lead one, in ``run`` if that is given."""
        self._land_lost([self._flights.get(key)])
        with self._lock:
            entry = self.look(key)
            if entry is not None:
                return Claim(entry, None, leads=False, came=0)
            flight = self._flights.get(key)
            if flight is not None and may_wait and flight.run.can_join(scope):
                self._joins += 1
                flight.sinks.append(sink)
                flight.run.waiters.append(scope)
                return Claim(None, flight, leads=False, came=tick())
            self._misses += 1
            if flight is not None:
                return Claim(None, None, leads=False, came=0)
            self._count_why(key)
            flight = self._flights[key] = Flight(key, run or Run(scope, self), sink.loop)
            return Claim(None, flight, leads=True, came=0)

    def count_join(self, n: int) -> None:
        """Count one who shares a flight of its own, or with -1 one who joined in vain."""
        with self._lock:
            self._joins += n

    def land(self, flights: list[Flight], ys: list[Any]) -> None:
        """Keep what a run gave, as far as it still counts, and wake who waits for it."""
        run = flights[0].run
        self._witness.end(run)
        told = None if self._witness.told is None else self._witness.told()
        now = _NEVER if self._ttl == _NEVER else self._clock()
        entries = [_made(y, run.by, now, self._ttl, many=len(ys) > 1) for y in ys]
        if self._in_bytes:
            entries = [_weighed(f.key, entry) for f, entry in zip(flights, entries, strict=True)]
        self._settle(list(zip(flights, entries, strict=True)), told)

    def fail(self, flights: list[Flight], error: BaseException) -> None:
        """Land flights that gave nothing."""
        for run in {flight.run for flight in flights}:
            self._witness.end(run)
        self._settle([(flight, error) for flight in flights], None)

    def flies_on(self, loop: AbstractEventLoop | None) -> bool:
        """Whether a run in progress needs a loop."""
        with self._lock:
            return loop is not None and any(f.loop is loop for f in self._flights.values())

    def when_empty(self, sink: Sink) -> None:
        """Settle a sink when no run is in progress."""
        with self._lock:
            flights = list(self._flights.values())
        self._land_lost(flights)
        with self._lock:
            if self._flights:
                self._emptied.append(sink)
                return
        deliver([(sink, None, None)])

    def _land_lost(self, flights: Iterable[Flight | None]) -> None:
        """Land what was left on a loop that has closed: nobody else will."""
        lost = [f for f in flights if f is not None and f.loop is not None and f.loop.is_closed()]
        if lost:
            self.fail(lost, Abandoned())

    def _settle(
        self, outcomes: Iterable[tuple[Flight, Entry | BaseException]], told: str | None
    ) -> None:
        """Give flights their outcomes, those that have none yet."""
        sinks: list[Sink] = []
        with self._lock:
            for flight, outcome in outcomes:
                if flight.entry is not None or flight.error is not None:
                    continue
                if self._flights.get(flight.key) is flight:
                    del self._flights[flight.key]
                kept = self._kept(flight, outcome, told) if isinstance(outcome, Entry) else outcome
                if isinstance(kept, Entry):
                    flight.entry = kept
                else:
                    flight.error = kept
                sinks += flight.sinks
                flight.sinks = []
            if not self._flights:
                sinks += self._emptied
                self._emptied = []
        deliver((sink, None, None) for sink in sinks)

    def _kept(self, flight: Flight, entry: Entry, told: str | None) -> Entry | Exception:
        """Store what still counts; return it, or the error of a store that fails."""
        key: Any = flight.key
        if (
            entry.expires == -_NEVER
            or not entry.is_current()
            or (told is not None and told != key[0])
        ):
            self._unstored += 1
            return entry
        try:
            before = len(self._store) + (key not in self._store)
            self._store[key] = entry
            self._evicted += max(0, before - len(self._store))
        except ValueError:  # what cachetools says of a value larger than the whole cache
            self._unstored += 1
        except Exception as error:  # noqa: BLE001 - of the user's, for those who wait
            return error
        return entry

    def _count_why(self, key: Hashable) -> None:
        entry = self._store.get(key)
        if entry is not None and entry.is_current():
            self._expired += 1
        elif entry is not None:
            self._outdated += 1


def _made(
    y: Any,
    by: tuple[Stamp, ...],
    now: float,
    ttl: float | Callable[[Any], float],
    *,
    many: bool,
) -> Entry | Exception:
    """Make an entry of a value; of many, some may be errors."""
    if many and isinstance(y, Exception):
        return y
    try:
        value, thaw = freeze(y)
        seconds = ttl(y) if callable(ttl) else ttl
    except Exception as error:  # noqa: BLE001 - of the user's, for those who wait
        return error
    return Entry(value, thaw, by, now + seconds if seconds > 0 else -_NEVER)


def _weighed(key: Hashable, entry: Entry | Exception) -> Entry | Exception:
    """Tell an entry what it takes with its key, outside of the lock."""
    if isinstance(entry, Entry):
        try:
            entry.nbytes = ENTRY + weigh((key, entry.value))
        except Exception as error:  # noqa: BLE001 - of the user's, for those who wait
            return error
    return entry
