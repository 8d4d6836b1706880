"""One model of a pool: who calls it, what it weighs, and what is done with it now."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Mapping
from typing import Any

from modelserve.errors import ModelLoadError
from modelserve.predictor import Counter, Primitive, Sink, Tally, walk
from modelserve.request import Stamp

_log = logging.getLogger("modelserve")
NOTHING: Mapping[str, int] = {}
PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds for which a model evicts nobody after a load that failed, and at most after several."""


class Seat:
    """What a pool knows of one model.

    ``live`` is its predictor while it may be called. A caller counts itself in and then looks at
    ``live`` again; who lets the model go clears ``live`` and then looks at the counts: so at least
    one of the two sees the other, without a lock.
    """

    __slots__ = (
        "awaited",
        "calls",
        "cost",
        "drained",
        "ends",
        "enter",
        "error",
        "exit",
        "forks",
        "guessed",
        "leases",
        "live",
        "loading",
        "loads",
        "misses",
        "name",
        "nbytes",
        "opens",
        "part",
        "pause",
        "pinned",
        "promised",
        "promised_to",
        "retry_at",
        "since",
        "stamps",
        "used",
        "waiting",
        "weighed",
    )

    def __init__(self, name: str, part: Primitive[Any, Any], *, pinned: bool) -> None:
        self.name = name
        self.part = part
        self.pinned = pinned
        self.live: Primitive[Any, Any] | None = None
        self.used = self.since = self.cost = 0.0
        self.nbytes = self.promised = NOTHING
        self.promised_to = False
        """Whether anything is promised, were it no bytes."""
        self.guessed = False
        """Whether what is promised is all there was, as nothing is known of the model."""
        self.loading = False
        """Whether what is promised may be in use."""
        self.opens = self.loads = 0
        self.retry_at, self.pause = 0.0, PAUSE
        self.error: BaseException | None = None
        """What the last load failed of."""
        self.stamps: tuple[Stamp, ...] = ()
        """The versions it had when it was let go."""
        self.weighed: tuple[Stamp, ...] = ()
        """The versions it had when it was weighed."""
        self.calls = Counter()
        self.ends = Counter()
        self.misses = Counter()
        self.awaited = Tally()
        """Awaited calls in progress; those of a loop that closes end with it."""
        self.enter = self.calls.numbers
        self.forks = 0
        """How many there were: what was counted in before the last is counted out nowhere."""
        self._arm()

    def _arm(self) -> None:
        self.ends.numbers = itertools.count(self.calls.read())
        self.exit = self.ends.numbers
        self.leases = 0
        self.waiting: list[Sink] | None = None
        self.drained: threading.Event | None = None

    def after_fork(self) -> None:
        """Forget the calls, the leases and the loads that were in progress.

        Most were those of threads that the child does not have; those of the thread that forked are
        forgotten too, as nothing tells them apart.
        A model that was being let go stays: nobody is there to close it.
        """
        if self.drained is not None:
            self.live = self.part
        self.unpromise()
        self.forks += 1
        self._arm()

    @property
    def busy(self) -> bool:
        """Whether calls or leases are in progress."""
        calls = self.calls.read() - self.ends.read()
        return calls > 0 or self.leases > 0 or not self.awaited.is_empty()

    def refuse_itself(self) -> None:
        """Refuse a model to its own load, which would wait for itself. Raises ModelLoadError."""
        if any(node.part.loads_here() for node in walk(self.part)):
            raise ModelLoadError(
                f"{self.name!r} is asked for by its own load, which would wait for itself: load "
                "without it, or ask for another model of the pool"
            )

    def tell(self) -> None:
        """Tell who waits for the last call that it has ended, if it has."""
        drained = self.drained
        if drained is not None and not self.busy:
            drained.set()

    def dismiss(self) -> None:
        """Let no more calls in."""
        self.drained = threading.Event()
        self.live = None
        self.tell()

    def unpromise(self) -> None:
        """Give up what was promised: the load has ended."""
        self.promised = NOTHING
        self.promised_to = self.loading = self.guessed = False

    @property
    def kept(self) -> bool:
        """Whether it stays, whoever else needs room."""
        return self.pinned or self.leases > 0

    @property
    def in_motion(self) -> bool:
        """Whether it is being loaded or let go."""
        return self.waiting is not None or self.drained is not None

    def admit(self, nbytes: Mapping[str, int], now: float, seconds: float) -> None:
        """Let callers in."""
        self.nbytes = nbytes
        self.since = self.used = now
        self.cost = (self.loads * self.cost + seconds) / (self.loads + 1)
        self.loads += 1
        self.error, self.pause = None, PAUSE
        fresh = self._returning()
        for stamp in self.stamps:
            if stamp not in fresh:  # it came back as another version
                stamp.retire()
        self.stamps = ()
        self.live = self.part

    def fail(self, error: BaseException, now: float) -> None:
        """Remember a failure: for a while, longer each time, trying anew may evict nobody."""
        self.error = error
        self.retry_at = now + self.pause
        self.pause = min(2 * self.pause, LONGEST_PAUSE)

    def open(self) -> None:
        """Open the predictor, and wait until its loaders have loaded, in the background too."""
        self.opens += 1
        try:
            self.part.open()
        except BaseException:
            self.opens -= 1
            raise
        try:
            for node in walk(self.part):
                getattr(node.part, "get", _nothing)()
        except BaseException:
            self.close(drain=False)
            raise

    def close(self, *, drain: bool, returns: bool = True) -> None:
        """Close the predictor; if it ``returns``, its versions count until others take their place.

        So a cache above goes on answering for a model that is out for want of room: were its
        stamps retired, every answer would bring the model back. Not where loaders look for newer
        versions by themselves: while they are out they do not, so nobody would tell a cache.
        """
        self.stamps = self.stamps or self._returning()
        while self.opens:
            self.opens -= 1
            try:
                self.part.close(drain=drain)
            except Exception:  # noqa: BLE001 - its memory counts as free all the same
                _log.exception("closing %r raised", self.name)
        for stamp in self.stamps if returns else ():
            stamp.retired = 0

    def versions(self) -> tuple[Stamp, ...]:
        """Return the versions that it hands out now."""
        stamps = (node.part.stamp() for node in walk(self.part))
        return tuple(stamp for stamp in stamps if stamp is not None)

    def _returning(self) -> tuple[Stamp, ...]:
        loaders = (node.part for node in walk(self.part) if not _follows(node.part))
        return tuple(stamp for part in loaders if (stamp := part.stamp()) is not None)


def _nothing() -> None:
    """Be what a part has to wait for that is no loader."""


def _follows(part: Primitive[Any, Any]) -> bool:
    """Whether it looks for newer versions by itself."""
    return part._spec.options.get("reload") is not None  # noqa: SLF001 - its own kind
