"""When to look at a model's source, when to load it again, and when its model is too old.

A source shows an identity: any value, compared with ``!=``, so that going back to an older file is
a change too. A change counts once two looks in a row saw the same. What was loaded once, well or
in vain, is not loaded again for a look's sake until it changes.

>>> reloads = Reloads(interval=1.0)
>>> reloads.loaded(now=0.0, identity="v1")
>>> [reloads.look(now, seen, draw=0.5) for now, seen in [(1.0, "v1"), (2.0, "v2"), (3.0, "v2")]]
[False, False, True]
"""

from __future__ import annotations

import math
from typing import Final, final

FIRST = 1.0
"""Seconds within which a load that failed once is tried again."""
MOST = 300.0
"""Seconds within which one that fails on and on is."""
SETTLE = 1.0
"""Seconds between two looks at a source that changed, where looks are further apart."""
UNSEEN: Final = object()
"""The identity of a source at which nobody has looked."""


def backoff(failures: int, draw: float) -> float:
    """Return in how many seconds to try again after so many failures in a row.

    It is drawn evenly between none and a bound that doubles, so that processes that failed at once
    do not come back at once: "full jitter" of Marc Brooker, "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015. ``draw`` is a number in [0, 1).

    >>> [backoff(failures, draw=0.5) for failures in (1, 2, 3, 30)]
    [0.5, 1.0, 2.0, 150.0]
    """
    return draw * min(MOST, FIRST * 2.0 ** min(failures - 1, 60))


@final
class Reloads:
    """What is known of one source, and what follows of it.

    It is looked at each ``interval`` seconds, give or take the share ``jitter`` of it. With
    ``reread`` a source that looks unchanged is loaded again then. A model is too old once
    ``max_stale`` seconds have passed since it was last known to be what the source holds, if loads
    fail, or since that is in doubt, if the source changes again and again or does not answer.
    """

    def __init__(
        self,
        interval: float,
        *,
        jitter: float = 0.0,
        reread: bool = False,
        max_stale: float = math.inf,
    ) -> None:
        self.failures = 0
        """Failures since the last good load."""
        self._interval = interval
        self._jitter = jitter
        self._reread = reread
        self._max_stale = max_stale
        self._tried: object = UNSEEN
        """What was loaded last, or is not to be loaded."""
        self._shunned = False
        """Whether it is the latter."""
        self._seen: object = UNSEEN
        self._vain: object = UNSEEN
        """What could not be loaded last, nor can before ``_retry``."""
        self._due = self._retry = -math.inf
        self._good = math.inf
        """When the model was last known to be what the source holds."""
        self._doubt = math.inf
        """Since when that is in doubt: a look does not end, or the source never settles."""

    def begin(self, now: float) -> None:
        """Take in that a look begins, which may take any time."""
        self._doubt = min(self._doubt, now)

    def look(self, now: float, identity: object, draw: float) -> bool:
        """Take in what the source looks like; say whether to load it now."""
        too_old = self.stale(now)
        changed = identity != self._tried
        settled = identity == self._seen
        self._seen = identity
        calm = settled or not changed
        self._due = now + (self._spread(draw) if calm else min(SETTLE, self._interval))
        if self.failures:
            self._due = min(self._due, max(self._retry, now + backoff(self.failures, draw)))
        elif not changed:
            self._good = now
        self._doubt = min(self._doubt, now) if changed else math.inf
        again = (self._reread or self.failures > 0 or too_old) and not self._shunned
        in_vain = identity == self._vain and now < self._retry
        return (settled if changed else again) and not in_vain

    def loaded(self, now: float, identity: object, draw: float = 0.5) -> None:
        """Take in that what the source holds was loaded, or serves already."""
        self._tried = self._seen = identity
        self._shunned = False
        self.failures = 0
        self._good, self._doubt = now, math.inf
        self._vain = UNSEEN
        self._due = now + self._spread(draw)

    def failed(self, now: float, identity: object, draw: float, *, shun: bool) -> None:
        """Take in that it could not be loaded; ``shun`` it if it never can be."""
        self.failures += 1
        self._seen = self._vain = identity
        if shun:
            self._tried, self._shunned = identity, True
        self._retry = now + backoff(self.failures, draw)
        self._due = min(self._due, self._retry) if self._due > now else self._retry

    def unsettled(self, now: float) -> None:
        """Take in that it changed while it was loaded."""
        self._seen = UNSEEN
        self._due = now + min(SETTLE, self._interval)

    def shun(self, identity: object) -> None:
        """Take in that it holds what is not wanted, as it did when it looked otherwise."""
        self._tried = self._seen = identity
        self._shunned = True

    def rolled_back(self) -> None:
        """Take in that what was loaded last is not wanted."""
        self._shunned = True
        self.failures = 0

    def stale(self, now: float) -> bool:
        """Say whether the model is too old: it was in vain, and for long, to make it younger."""
        return now >= self._stale_at()

    def wait(self, now: float) -> float:
        """Return in how many seconds to look again, or the model is too old."""
        stale_at = self._stale_at()
        return max(0.0, min(self._due, stale_at if stale_at > now else math.inf) - now)

    def due(self, now: float) -> bool:
        """Say whether it is time to look."""
        return now >= self._due

    def _stale_at(self) -> float:
        good = self._good if self.failures else math.inf
        doubt = math.inf if self._shunned else self._doubt
        return min(good, doubt) + self._max_stale

    def _spread(self, draw: float) -> float:
        return self._interval * (1 + self._jitter * (2 * draw - 1))
