"""Who saw which variant, for the analysis of an experiment."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import NamedTuple, final

from modelserve.predictor import on_fork
from modelserve.splitter._variant import Assignment


class Exposure(NamedTuple):
    """A unit was answered by a variant of a split.

    >>> import modelserve as ms
    >>> seen = ms.Exposures()
    >>> split = ms.TrafficSplitter(ms.Variant("only", str.upper), salt="demo", exposures=seen)
    >>> with ms.request(unit="user-42"):
    ...     answer = split("a")
    >>> [(e.split, e.assignment.unit, e.assignment.variant) for e in seen.drain()]
    [('demo', 'user-42', 'only')]
    """

    split: str
    assignment: Assignment


class ExposuresStats(NamedTuple):
    """Counts: ``waiting`` to be drained, ``noted``, ``repeats`` that were not, and ``dropped``."""

    waiting: int
    noted: int
    repeats: int
    dropped: int


@final
class Exposures:
    """Keep who saw which variant until somebody takes it away; callers never wait for that.

    One serves any number of splitters, as ``TrafficSplitter(..., exposures=seen)``. A thread of
    yours calls ``drain()`` and writes where it likes. A unit that sees the same variant again is
    noted again only if ``remember`` others came between, the least recent being forgotten first.
    When ``maxsize`` exposures wait, more are dropped and counted, and noted when their unit comes
    again. Calls without a unit are noted each; units forced by ``overrides`` never, since nothing
    was drawn for them.

    Raises ValueError unless ``maxsize`` is at least 1 and ``remember`` at least 0.

    >>> import modelserve as ms
    >>> seen = ms.Exposures(maxsize=1_000, remember=10_000)
    >>> split = ms.TrafficSplitter(ms.Variant("only", str.upper), salt="demo", exposures=seen)
    >>> with ms.request(unit="user-42"):
    ...     split("a"), split("b")
    ('A', 'B')
    >>> len(seen.drain()), seen.stats.repeats
    (1, 1)
    """

    def __init__(self, *, maxsize: int = 10_000, remember: int = 100_000) -> None:
        if maxsize < 1:
            raise ValueError(f"maxsize={maxsize} keeps nothing: pass at least 1")
        if remember < 0:
            raise ValueError(f"remember={remember}: pass 0 to note every call, or more")
        self._maxsize = maxsize
        self._remember = remember
        self._noted = self._repeats = self._dropped = 0
        self._recent: OrderedDict[tuple[str, str, str], None] = OrderedDict()
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        """Start with nothing waiting: what waited at the fork is the parent's to drain."""
        self._lock = threading.Lock()
        self._waiting: deque[Exposure] = deque()

    @property
    def stats(self) -> ExposuresStats:
        """A snapshot of what happened so far."""
        with self._lock:
            return ExposuresStats(len(self._waiting), self._noted, self._repeats, self._dropped)

    def note(self, split: str, assignment: Assignment) -> None:
        """Note that a unit saw a variant, unless it is known or there is no room."""
        unit = assignment.unit
        key = None if unit is None else (split, unit, assignment.variant)
        with self._lock:
            if key is not None and key in self._recent:
                self._recent.move_to_end(key)
                self._repeats += 1
            elif len(self._waiting) >= self._maxsize:
                self._dropped += 1
            else:
                self._waiting.append(Exposure(split, assignment))
                self._noted += 1
                if key is not None:
                    self._recent[key] = None
                    if len(self._recent) > self._remember:
                        self._recent.popitem(last=False)

    def drain(self) -> list[Exposure]:
        """Take away what waits, in order of time; safe to call from any thread."""
        with self._lock:
            taken, self._waiting = self._waiting, deque()
        return list(taken)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle empty, as predictors pickle cold."""
        return _again, (self._maxsize, self._remember)

    def __repr__(self) -> str:
        """Show configuration and counts."""
        shown = ", ".join(f"{key}={value}" for key, value in self.stats._asdict().items())
        return f"Exposures(maxsize={self._maxsize}, remember={self._remember}: {shown})"


def _again(maxsize: int, remember: int) -> Exposures:
    return Exposures(maxsize=maxsize, remember=remember)
