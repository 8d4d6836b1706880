"""What the background does about one loader, and when."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, final

from modelserve._policy.reloads import SETTLE, Reloads
from modelserve.loader._source import Source, identity_of

if TYPE_CHECKING:
    from modelserve.loader._rules import ReloadRule
    from modelserve.typing import Clock


@final
class Care:
    """The policy of one loader, with a clock, a lock and a die; it never waits for a load."""

    def __init__(self, rule: ReloadRule | None, max_stale: float | None, clock: Clock) -> None:
        self.has_rule = rule is not None
        self.max_stale = max_stale
        if rule is None:
            self._policy = Reloads(math.inf)
        else:
            self._policy = rule.policy(math.inf if max_stale is None else max_stale)
        self._clock = clock
        self._attempts = self._asked = 0
        self.after_fork()

    def after_fork(self) -> None:
        """Expect nothing that another process began, and draw other numbers than it does."""
        from random import Random

        self._lock = threading.Lock()
        self._rng = Random()  # noqa: S311 - spreads load, keeps no secret
        self._busy = False

    def due(self) -> bool:
        """Say whether to look at the source now, and expect that."""
        with self._lock:
            now = self._clock()
            if self._busy or not self._policy.due(now):
                return False
            self._policy.begin(now)
            self._busy = True
            return True

    def wants(self, source: Source) -> bool:
        """Look at the source; say whether to load it now, and expect that."""
        identity = identity_of(source)  # this may take any time
        with self._lock:
            self._busy = self._policy.look(self._clock(), identity, self._rng.random())
            self._asked = self._attempts
            return self._busy

    def still_wants(self) -> bool:
        """Say whether nobody else has loaded since it was asked for."""
        return self._asked == self._attempts

    def over(self) -> None:
        """Expect no look and no load any more."""
        self._busy = False

    def loaded(self, identity: object) -> None:
        """Take in that the source was loaded, or serves already."""
        with self._lock:
            self._attempts += 1
            self._policy.loaded(self._clock(), identity, self._rng.random())

    def failed(self, identity: object, *, shun: bool) -> None:
        """Take in that the source could not be loaded."""
        with self._lock:
            self._attempts += 1
            self._policy.failed(self._clock(), identity, self._rng.random(), shun=shun)

    def unsettled(self) -> None:
        """Take in that the source changed while it was loaded."""
        with self._lock:
            self._policy.unsettled(self._clock())

    def shun(self, identity: object) -> None:
        """Take in that the source holds again what failed or was rolled back."""
        with self._lock:
            self._policy.shun(identity)

    def rolled_back(self) -> None:
        """Take in that what was loaded last is not wanted."""
        with self._lock:
            self._policy.rolled_back()

    def stale(self) -> bool:
        """Say whether the model is too old to be handed out."""
        with self._lock:
            return self._policy.stale(self._clock())

    def wait(self) -> float | None:
        """Return in how many seconds to look after it again; None for never.

        While it looks or loads nothing is due but to see whether the model is too old.
        """
        with self._lock:
            seconds = self._policy.wait(self._clock())
            if self._busy:
                seconds = max(seconds, SETTLE)
        return None if seconds == math.inf else seconds
