"""One flight a key: callers that ask for the same at once wait for one run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from modelserve.errors import Closed, DeadlineExceeded, Overloaded, own
from modelserve.request import Note, Request, Stamp, shared_scope

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Hashable

    from modelserve.cache._freeze import Thaw
    from modelserve.predictor import Sink

PERSONAL = (DeadlineExceeded, Overloaded, Closed)
"""Errors that belong to one caller: those who joined ask anew."""


class Abandoned(Exception):
    """The run was cancelled with its event loop, or its thread interrupted."""


class Entry:
    """A value, what made it and until when it counts; its size, where bytes are bounded."""

    __slots__ = ("expires", "nbytes", "stamps", "thaw", "value")

    def __init__(
        self, value: Any, thaw: Thaw | None, by: tuple[Stamp, ...], expires: float
    ) -> None:
        self.value = value
        self.thaw = thaw
        self.stamps = by
        self.expires = expires
        self.nbytes = 0

    def is_current(self) -> bool:
        """Whether every version that made it is still handed out."""
        return not any(stamp.retired for stamp in self.stamps)

    def give(self) -> Any:
        return self.value if self.thaw is None else self.thaw(self.value)

    def __reduce__(self) -> tuple[type[Entry], tuple[Any, ...]]:
        """Pickle and copy expired: nobody would tell the other of a version that retires."""
        return Entry, (None, None, (), -math.inf)


class Run:
    """One run of the model, for one flight or for several that fill together.

    ``waiters`` are the requests of all who wait, read live by ``scope``: who joins raises the
    deadline. Of its callers the scope knows the tenant, which is part of the key. Once it has
    ended, ``by`` names the versions that took part.
    """

    __slots__ = ("alone", "before", "began", "by", "scope", "waiters")

    def __init__(self, scope: Request | None, owner: object, *, alone: bool = True) -> None:
        self.waiters = [scope]
        self.scope = shared_scope(self.waiters, "flight", owner)
        self.scope.tenant = None if scope is None else scope.tenant
        self.alone = alone
        self.began = 0
        self.before: tuple[Stamp | None, ...] = ()
        self.by: tuple[Stamp, ...] = ()

    def can_join(self, scope: Request | None) -> bool:
        """Whether one may wait who asks in that scope.

        Nobody waits for a run that they are part of. Nor does anybody who is part of any run wait
        for one that fills several flights: what it does first may wait for them.
        """
        if scope is None:
            return True
        return self.scope not in scope.inside and (self.alone or scope.shared is None)


class Flight:
    """What all who ask for one key wait for."""

    __slots__ = ("entry", "error", "key", "loop", "run", "sinks")

    def __init__(self, key: Hashable, run: Run, loop: AbstractEventLoop | None) -> None:
        self.key = key
        self.run = run
        self.loop = loop
        self.sinks: list[Sink] = []
        self.entry: Entry | None = None
        self.error: BaseException | None = None

    def is_older_than(self, came: int) -> bool:
        """Whether one who came at that tick must ask anew; the leader came at 0.

        So it is when the run was abandoned, and for those who joined also when it failed of
        something that was the leader's alone, or when a version that took part was retired before
        they came. Where several flights share a trail, it does not say which of two
        versions answered for whom, so none that has retired since will do.
        """
        if isinstance(self.error, Abandoned):
            return True
        if not came:
            return False
        if isinstance(self.error, PERSONAL):
            return True
        limit = came if self.run.alone else math.inf
        return any(0 < stamp.retired < limit for stamp in self.run.by)

    def note(self, scope: Request | None, note: Note) -> None:
        """Extend a caller's trail by the run's."""
        if scope is not None:
            scope.trail.extend((*self.run.scope.trail, note))

    def result(self, name: str) -> Any:
        """Give what it landed with to one caller."""
        if self.error is not None:
            raise own(self.error)
        if self.entry is None:
            raise DeadlineExceeded(f"the deadline passed while waiting for {name!r}")
        return self.entry.give()


class Claim(NamedTuple):
    """What a caller finds: an entry, or a flight to lead or to wait for, or neither.

    Neither is for those who must not wait. ``came`` is the tick of a joiner.
    """

    entry: Entry | None
    flight: Flight | None
    leads: bool
    came: int
