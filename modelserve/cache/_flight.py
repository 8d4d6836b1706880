"""One flight a key: callers that ask for the same at once wait for one run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from modelserve.errors import Closed, DeadlineExceeded, Overloaded, own
from modelserve.request import Note, Request, Stamp, shared_scope, stamps

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
    """A value, what made it and until when it counts."""

    __slots__ = ("expires", "stamps", "thaw", "value")

    def __init__(
        self, value: Any, thaw: Thaw | None, by: tuple[Stamp, ...], expires: float
    ) -> None:
        self.value = value
        self.thaw = thaw
        self.stamps = by
        self.expires = expires

    def is_current(self) -> bool:
        """Whether every version that made it is still handed out."""
        return not any(stamp.retired for stamp in self.stamps)

    def give(self) -> Any:
        return self.value if self.thaw is None else self.thaw(self.value)


class Flight:
    """One run for everybody who asks for its key while it lasts.

    ``scopes`` are the requests of all who wait, read live by ``scope``: who joins raises the
    deadline. Flights that fill together share both.
    """

    __slots__ = ("entry", "error", "key", "loop", "scope", "scopes", "sinks")

    def __init__(self, key: Hashable, scopes: list[Request | None], scope: Request) -> None:
        self.key = key
        self.scopes = scopes
        self.scope = scope
        self.loop: AbstractEventLoop | None = None
        self.sinks: list[Sink] = []
        self.entry: Entry | None = None
        self.error: BaseException | None = None

    def is_older_than(self, came: int) -> bool:
        """Whether one who came at that tick must ask anew; the leader came at 0.

        So it is when the run was abandoned, and for those who joined also when it failed of
        something that was the leader's alone, or landed with a version retired before they came.
        """
        if isinstance(self.error, Abandoned) or (came and isinstance(self.error, PERSONAL)):
            return True
        return any(0 < stamp.retired < came for stamp in stamps(self.scope.trail))

    def note(self, scope: Request | None, note: Note) -> None:
        """Extend a caller's trail by the run's."""
        if scope is not None:
            scope.trail.extend((*self.scope.trail, note))

    def result(self, name: str) -> Any:
        """Give what it landed with to one caller."""
        if self.error is not None:
            raise own(self.error)
        if self.entry is None:
            raise DeadlineExceeded(f"the deadline passed while waiting for {name!r}")
        return self.entry.give()


class Claim(NamedTuple):
    """What a caller finds: an entry, or a flight to lead or to wait for, or neither.

    Neither is for those who would wait for themselves. ``came`` is the tick of a joiner.
    """

    entry: Entry | None
    flight: Flight | None
    leads: bool
    came: int


def new_scope(scopes: list[Request | None], owner: object) -> Request:
    """Make the scope of a flight: of its callers it knows the tenant, which is part of the key."""
    scope = shared_scope(scopes, "flight", owner)
    scope.tenant = scopes[0].tenant if scopes[0] is not None else None
    return scope
