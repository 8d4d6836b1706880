"""What every predictor of the library has in common."""

from __future__ import annotations

import itertools
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    cast,
    overload,
)

from modelserve.errors import Closed
from modelserve.predictor import _life
from modelserve.predictor._bind import KEY, Home, home_of
from modelserve.predictor._laws import check_nesting
from modelserve.predictor._names import check_names
from modelserve.predictor._threads import refuse_on_loop
from modelserve.typing import In, Out

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from modelserve.request import Stamp

Level = Literal["item", "batch", "any"]


class Counter:
    """A count that threads add to without a lock: ``next(counter.numbers)`` adds one."""

    __slots__ = ("numbers",)

    def __init__(self) -> None:
        self.numbers = itertools.count()

    def add(self) -> None:
        next(self.numbers)

    def read(self) -> int:
        """Read the next number where it is shown: taking it would count, and need a lock."""
        return int(repr(self.numbers).removeprefix("count(").removesuffix(")"))


class PartHealth(NamedTuple):
    """How one part is: ``state`` is ready, cold, loading, degraded, failed or closed."""

    state: Literal["ready", "cold", "loading", "degraded", "failed", "closed"]
    reason: str = ""


class Primitive(Generic[In, Out]):
    """One node of a tree of predictors: two faces, parts, stats and a life."""

    kind: ClassVar[str]
    level: Level = "any"
    """What it answers for; "any" is whatever its place in the tree makes it."""
    parts_level: ClassVar[Level | None] = None
    """What its parts answer for; None if that is the same as itself."""
    shares: ClassVar[Literal["batch", "flight"] | None] = None
    """What of its work several callers share."""
    not_below: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Below what it must not stand, by what is shared there, and what to do instead."""
    records: ClassVar[bool] = True
    """Whether this part writes into records, so that its name must be its own in a tree."""

    def __init__(self, name: str, parts: Mapping[str, Primitive[Any, Any]], spec: Spec) -> None:
        self.name = name
        self.parts: Mapping[str, Primitive[Any, Any]] = MappingProxyType(dict(parts))
        self.is_async: bool = any(part.is_async for part in parts.values())
        self.unbound: bool = any(part.unbound for part in parts.values())
        self.blocked_loop = Counter()
        self.life = _life.Life()
        self._spec = spec
        check_names(self)
        check_nesting(self)

    def __call__(self, x: In, /) -> Out:
        """Answer for one input, blocking.

        On a thread that runs an event loop a tree with an async part raises RuntimeError.
        """
        raise NotImplementedError

    async def acall(self, x: In, /) -> Out:
        """Answer for one input without blocking the event loop."""
        raise NotImplementedError

    @property
    def stats(self) -> NamedTuple:
        """A snapshot of what happened so far."""
        raise NotImplementedError

    def map(self, xs: Iterable[In], /, *, return_exceptions: bool = False) -> Iterator[Out]:
        """Answer for many inputs, in order, lazily and with bounded memory.

        The first failed item raises; with ``return_exceptions`` its error stands in its place.
        """
        if self.is_async:
            refuse_on_loop(self.name)
        for x in xs:
            try:
                y = self(x)
            except Exception as error:
                if not return_exceptions:
                    raise
                y = cast("Out", error)
            yield y

    async def amap(
        self, xs: Iterable[In] | AsyncIterable[In], /, *, return_exceptions: bool = False
    ) -> AsyncIterator[Out]:
        """Answer for many inputs like :meth:`map`, without blocking the event loop."""
        async for x in each(xs):
            try:
                y = await self.acall(x)
            except Exception as error:
                if not return_exceptions:
                    raise
                y = cast("Out", error)
            yield y

    def open(self) -> None:
        """Open the whole tree, parts first: load what loads, warm what warms. Counted."""
        _life.open_tree(self)

    async def aopen(self) -> None:
        """Open the whole tree without blocking the event loop."""
        await _life.aopen_tree(self)

    def close(self, *, drain: bool = True, timeout: float | None = None) -> None:
        """Undo one open, parents first; the last one closes.

        With ``drain``, accepted work is finished first, for at most ``timeout`` seconds; what is
        left then fails with :class:`~modelserve.Closed`.
        """
        _life.close_tree(self, drain, timeout)

    async def aclose(self, *, drain: bool = True, timeout: float | None = None) -> None:
        """Undo one open without blocking the event loop."""
        await _life.aclose_tree(self, drain, timeout)

    def __enter__(self) -> Self:
        """Open the tree."""
        self.open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the tree."""
        self.close()

    async def __aenter__(self) -> Self:
        """Open the tree."""
        await self.aopen()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the tree."""
        await self.aclose()

    def __set_name__(self, owner: type, name: str) -> None:
        """Remember under which attribute a decorated method stands."""
        self.life.attribute = name

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Self: ...
    def __get__(self, instance: object | None, owner: type | None = None) -> Self:
        """Give a decorated method one predictor an instance."""
        if instance is None or not self.unbound:
            return self
        try:  # what is there already, without a call
            home: Home = instance.__dict__[KEY]
            if home.instance is instance:
                made: Self = home.made[self]
                return made
        except (AttributeError, KeyError):
            pass
        return home_of(instance).own(self)

    def bind(self, home: Home) -> Self:
        """Return this, or what an instance has in its place if this is made of its methods."""
        return home.own(self) if self.unbound else self

    def rebuilt(self, home: Home) -> Self:
        """Make this anew over parts of an instance."""
        made: Self = self._spec.again(lambda part: part.bind(home))
        return made

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle cold: by name where this is an attribute, else by parts."""
        if self.life.method is not None:
            return getattr, self.life.method
        name = getattr(self, "__qualname__", None)
        module = sys.modules.get(getattr(self, "__module__", ""))
        if name is not None and getattr(module, name, None) is self:
            return str(name)
        return Spec.again, (self._spec, None)

    def __repr__(self) -> str:
        """Show configuration and counts."""
        shown = ", ".join(f"{key}={value!r}" for key, value in self.stats._asdict().items())
        return f"{self.kind}({self.name!r}, {shown})"

    def _repr_html_(self) -> str:
        from html import escape

        from modelserve.predictor._tree import describe

        return f"<pre>{escape(describe(self))}</pre>"

    # What a primitive of the library fills in.

    def summary(self) -> str:
        """Configuration and counts in a few words, for ``describe``."""
        return ""

    def health(self) -> PartHealth:
        """How this part is, without its parts."""
        return PartHealth("closed") if self.life.closed else PartHealth("ready")

    def file(self) -> tuple[str, int | None] | None:
        """The suffix and the bytes of the file that it loads, None where it loads none.

        The bytes are None where they are not told. Nothing is read.
        """
        return None

    def loads_here(self) -> bool:
        """Whether this very thread is loading it."""
        return False

    def stamp(self) -> Stamp | None:
        """The version that this part would hand out now, if it hands out versions."""
        return None

    def warm(self, x: In) -> None:
        """Run an input down this part and what is below, counted nowhere."""
        for part in self.parts.values():
            part.warm(x)

    async def awarm(self, x: In) -> None:
        """Run an input down like :meth:`warm`, without blocking the event loop."""
        for part in self.parts.values():
            await part.awarm(x)

    def start(self) -> None:
        """Become ready to answer; called at every open, so it may have been done."""

    async def astart(self) -> None:
        """Become ready without blocking the event loop."""
        self.start()

    def needs_this_loop(self) -> bool:
        """Whether work is in progress that the loop of this thread must go on with."""
        return False

    def stop(self, drain: bool, timeout: float | None) -> None:  # noqa: FBT001 - internal
        """Give up threads and models."""

    async def astop(self, drain: bool, timeout: float | None) -> None:  # noqa: FBT001 - internal
        """Give up threads and models without blocking the event loop."""
        self.stop(drain, timeout)

    def closed_error(self) -> Closed:
        """The error of a call after ``close()``."""
        return closed(self.name)


def closed(name: str) -> Closed:
    """Make the error of a call after ``close()``."""
    return Closed(f"{name!r} is closed: open it again with `with predictor:`")


class Spec(NamedTuple):
    """How a primitive was made, to make it again: in another process, or for an instance."""

    make: Callable[..., Any]
    parts: tuple[Any, ...]
    options: Mapping[str, Any]

    def again(self, change: Callable[[Any], Any] | None) -> Any:
        """Make it anew, over changed parts if ``change`` is given."""
        parts = self.parts if change is None else tuple(change(part) for part in self.parts)
        return self.make(*parts, **self.options)


async def each(xs: Iterable[In] | AsyncIterable[In]) -> AsyncIterator[In]:
    """Iterate over either kind of iterable."""
    if isinstance(xs, AsyncIterable):
        async for x in xs:
            yield x
    else:
        for x in xs:
            yield x


def chunks(xs: Iterable[In], size: int) -> Iterator[list[In]]:
    """Cut an iterable into lists of at most ``size``."""
    iterator = iter(xs)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


async def achunks(xs: Iterable[In] | AsyncIterable[In], size: int) -> AsyncIterator[list[In]]:
    """Cut either kind of iterable into lists of at most ``size``."""
    chunk: list[In] = []
    async for x in each(xs):
        chunk.append(x)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
