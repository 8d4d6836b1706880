"""The request in force: deadline, unit, tenant and priority, and the record of who answered.

One context variable holds one scope. The scope holds a plain list, the trail; whoever knows a
fact appends it. Batches and shared computations run in scopes of their own that hold nothing of
any caller, and extend the trail of each caller they served.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, MutableSequence, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from modelserve.errors import DeadlineExceeded

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from modelserve.typing import Clock

__all__ = ["Request", "Stamp", "current_request", "request"]

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_epoch = itertools.count(1)
_scope: ContextVar[Request | None] = ContextVar("modelserve.request", default=None)
current = _scope.get
"""The scope in force or None: one read of a context variable, the price of a layer."""


def tick() -> int:
    """Return a number larger than every one before it, on all threads."""
    return next(_epoch)


class Stamp:
    """A version of a model that took part in an answer. It holds no model.

    ``retired`` is 0 while the version is handed out, else the tick at which that ended; ``since``
    is the tick at which that last began, 0 for the first of all that its loader handed out.

    >>> stamp = Stamp("ranker", "v1")
    >>> stamp.retire()
    >>> stamp
    Stamp('ranker', 'v1', retired)
    """

    __slots__ = ("loader", "retired", "since", "version")

    def __init__(self, loader: str, version: str) -> None:
        self.loader = loader
        self.version = version
        self.retired = 0
        self.since = 0

    def retire(self) -> None:
        """Mark that this version is no longer handed out."""
        self.retired = tick()

    def revive(self, *, first: bool = False) -> None:
        """Mark that this version is handed out from now on."""
        self.since = 0 if first else tick()
        self.retired = 0

    def write(self, record: dict[str, Any]) -> None:
        """Add what this knows to a record."""
        record[f"{self.loader}.version"] = self.version

    def __repr__(self) -> str:
        """Show loader, version and whether it is retired."""
        state = ", retired" if self.retired else ""
        return f"Stamp({self.loader!r}, {self.version!r}{state})"


class Note(NamedTuple):
    """One field of a record, as a part of the tree knows it."""

    part: str
    field: str
    value: Any

    def write(self, record: dict[str, Any]) -> None:
        """Add what this knows to a record."""
        record[f"{self.part}.{self.field}"] = self.value


class Fact(Protocol):
    """Anything on a trail."""

    def write(self, record: dict[str, Any], /) -> None:
        """Add what this knows to a record."""


class Request:
    """What one caller asks for, in force inside its ``with`` block. Made by :func:`request`.

    >>> import modelserve as ms
    >>> with ms.request(unit="user-42", timeout=0.5) as r:
    ...     r.unit, r.remaining() <= 0.5
    ('user-42', True)
    """

    __slots__ = (
        "_deadline",
        "_outer",
        "_token",
        "_waiters",
        "clock",
        "debug",
        "depth",
        "id",
        "inside",
        "owner",
        "plain",
        "priority",
        "shared",
        "tenant",
        "trail",
        "unit",
        "warming",
    )

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self.unit: str | None = None
        self.id: str | None = None
        self.tenant: str | None = None
        self.priority = 0
        self.debug = False
        self.trail: MutableSequence[Fact] = []
        self.inside: frozenset[object] = frozenset()
        self.shared: str | None = None
        self.owner: object = None
        self.depth = 0
        self.warming = False
        self.plain = True
        self._deadline = math.inf
        self._waiters: Sequence[Request | None] | None = None
        self._outer: Request | None = None
        self._token: Any = None

    @property
    def record(self) -> dict[str, Any]:
        """What is known of the answers so far, flat: ``{"<part>.<field>": value}``.

        Of two facts of one name the last wins.
        """
        record: dict[str, Any] = {}
        for fact in list(self.trail):
            fact.write(record)
        return record

    def remaining(self) -> float:
        """Seconds until the deadline; ``math.inf`` without one, negative when it has passed.

        A shared computation has the latest deadline of those who wait for it.
        """
        own = self._deadline - self.clock() if self._deadline < math.inf else math.inf
        waiters = self._waiters
        if waiters is None or None in waiters:
            return own
        return min(own, max(waiter.remaining() for waiter in waiters if waiter is not None))

    def check(self, name: str) -> None:
        """Raise :class:`DeadlineExceeded` if the deadline has passed before a call."""
        if (self._deadline < math.inf or self._waiters is not None) and self.remaining() <= 0:
            raise DeadlineExceeded(f"the deadline passed before {name!r} was called")

    def due(self, clock: Clock) -> float:
        """Return when the deadline is by a clock; NaN where it goes by another, or may be raised.

        Those who join shared work raise it, and warm calls have none of their own.
        """
        if self.clock is clock and self._waiters is None and not self.warming:
            return self._deadline
        return math.nan

    def run(self, p: Callable[[_In], _Out], x: _In, /) -> _Out:
        """Call ``p(x)`` in this request, on a thread that Python did not carry it to.

        >>> import threading
        >>> import modelserve as ms
        >>> with ms.request(unit="user-42") as r:
        ...     thread = threading.Thread(target=r.run, args=(print, "in the request"))
        ...     thread.start()
        ...     thread.join()
        in the request
        """
        token = _scope.set(self)
        try:
            return p(x)
        finally:
            _scope.reset(token)

    def __enter__(self) -> Self:
        """Put this request in force."""
        if self._token is not None:
            raise RuntimeError("this request was entered before: make one for each call")
        self._token = _scope.set(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End this request and hand its trail outward."""
        try:  # noqa: SIM105 - `suppress` would cost more than all else here
            _scope.reset(self._token)
        except ValueError:  # left in another context, as a closed async generator is
            pass
        if self._outer is not None:
            self._outer.trail.extend(self.trail)

    def __repr__(self) -> str:
        """Show what was asked for."""
        asked = {
            "unit": self.unit,
            "id": self.id,
            "tenant": self.tenant,
            "priority": self.priority or None,
        }
        shown = ", ".join(f"{k}={v!r}" for k, v in asked.items() if v is not None)
        return f"Request({shown})"


def request(  # noqa: PLR0913 - each is one word of what a caller asks for
    *,
    unit: str | None = None,
    id: str | None = None,  # noqa: A002 - the field's own word
    timeout: float | None = None,
    priority: int | None = None,
    tenant: str | None = None,
    debug: bool | None = None,
    clock: Clock | None = None,
) -> Request:
    """Say who asks and how long they wait; use as ``with ms.request(...) as r:``.

    What is not given is inherited from the request in force, and the deadline never exceeds the
    outer one. ``timeout`` is in seconds; zero or less is already late. ``clock`` defaults to
    ``time.monotonic``. Raises ValueError for a timeout that is not a number.

    >>> import modelserve as ms
    >>> with ms.request(unit="user-42", tenant="acme") as r:
    ...     with ms.request(timeout=1.0) as inner:
    ...         inner.unit, inner.tenant
    ('user-42', 'acme')
    """
    outer = current()
    scope = Request(clock or time.monotonic) if outer is None else _within(outer, clock)
    if timeout is not None and timeout != math.inf:
        if timeout != timeout:  # noqa: PLR0124 - NaN
            raise ValueError("timeout is NaN: pass seconds, or None for no limit")
        scope.plain = False
        scope._deadline = min(scope._deadline, scope.clock() + timeout)  # noqa: SLF001 - its own
    if unit is not None:
        scope.unit = unit
    if id is not None:
        scope.id = id
    if tenant is not None:
        scope.tenant = tenant
    if priority is not None:
        scope.priority = priority
    if debug is not None:
        scope.debug = debug
    return scope


def _within(outer: Request, clock: Clock | None) -> Request:
    """Make the scope of a request inside another, which gives what is not given."""
    scope = _same(outer)
    scope.trail = []
    scope._outer = outer  # noqa: SLF001 - its own kind
    if clock is not None and clock != outer.clock:
        scope.clock = clock
        scope._deadline, scope._waiters = math.inf, (outer,)  # noqa: SLF001 - it tells its own time
    return scope


def current_request() -> Request | None:
    """Return the request in force, or None.

    >>> import modelserve as ms
    >>> ms.current_request() is None
    True
    """
    return current()


def shared_scope(
    waiters: Sequence[Request | None], shared: str, owner: object, within: object = None
) -> Request:
    """Make the scope of work that several callers wait for: it holds nothing of any of them.

    ``waiters`` is read live, so whoever joins raises the deadline. ``shared`` says what ``owner``
    shares, and ``within`` who must not be called from inside; the scope itself if nobody is named.
    """
    scope = Request()
    scope.plain = False
    scope._waiters = waiters  # noqa: SLF001 - its own kind
    scope.shared = shared
    scope.owner = owner
    scope.warming = all(waiter is not None and waiter.warming for waiter in waiters)
    asked = [waiter for waiter in waiters if waiter is not None]
    scope.depth = max([waiter.depth for waiter in asked], default=0)
    inside = {waiter.inside for waiter in asked}  # mostly of one and the same
    scope.inside = frozenset({within or scope}).union(*inside)
    return scope


def bounded_scope(
    waiters: Sequence[Request | None], shared: str, owner: object, due: float, clock: Clock
) -> Request:
    """Make the scope of work for waiters whose deadlines are known: the latest is at ``due``."""
    scope = shared_scope(waiters, shared, owner, owner)
    scope.clock = clock
    scope._waiters, scope._deadline = None, due  # noqa: SLF001 - its own kind
    scope.plain = due == math.inf and not scope.warming
    return scope


def unread_scope(shared: str, owner: object) -> Request:
    """Make a scope for shared work of callers who are in no request; it serves any number.

    Nobody has a deadline, and nobody reads its trail.
    """
    scope = Request()
    scope.trail = deque(maxlen=0)
    scope.shared, scope.owner, scope.inside = shared, owner, frozenset({owner})
    return scope


def warm_scope() -> Request:
    """Make a request whose calls are counted nowhere and recorded for nobody."""
    scope = request()
    scope._outer = None  # noqa: SLF001 - its own kind
    scope.warming = True
    scope.plain = False
    return scope


def deeper(outer: Request | None) -> Request:
    """Make the scope of a call that hopped to another thread: the same request, one hop on."""
    scope = Request() if outer is None else _same(outer)
    if outer is None:
        scope.trail = deque(maxlen=0)  # nobody reads it, however long the call lasts
    scope.depth += 1
    return scope


def _same(outer: Request) -> Request:
    scope = Request(outer.clock)
    for slot in Request.__slots__:
        if slot not in {"_token", "_outer"}:
            setattr(scope, slot, getattr(outer, slot))
    return scope


def in_scope(scope: Request, fn: Callable[[_In], _Out], x: _In) -> _Out:
    """Call ``fn(x)`` with a scope in force."""
    token = _scope.set(scope)
    try:
        return fn(x)
    finally:
        _scope.reset(token)


enter = _scope.set
"""Put a scope in force for the rest of this context, which is the library's own."""


def stamps(trail: Iterable[Fact]) -> tuple[Stamp, ...]:
    """The versions on a trail, each once, in order of appearance."""
    return tuple(dict.fromkeys(fact for fact in trail if isinstance(fact, Stamp)))
