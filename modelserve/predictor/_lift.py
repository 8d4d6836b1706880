"""Lifting a function into a predictor: the only place that asks whether it is async."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, Unpack, cast, final, overload

from modelserve.errors import from_model
from modelserve.predictor import _threads
from modelserve.predictor._base import Counter, Primitive, Spec
from modelserve.predictor._lazy import aio
from modelserve.predictor._look import look
from modelserve.predictor._names import name_of
from modelserve.predictor._waiting import Tally, ThreadSink, running_loop
from modelserve.request import Request, current
from modelserve.typing import In, Out

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from modelserve.predictor._bind import Home


SYNC, ASYNC = False, True


@final
class Inline:
    """The type of ``inline``: sync functions run on the event loop itself, for microseconds only.

    >>> import asyncio
    >>> import modelserve as ms
    >>> upper = ms.predictor(str.upper, executor=ms.inline)
    >>> asyncio.run(upper.acall("a"))
    'A'
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Show how to write it."""
        return "modelserve.inline"

    def __reduce__(self) -> str:
        """Pickle by name: there is one."""
        return "inline"


inline = Inline()
"""Pass as ``executor=`` to run a sync function on the event loop itself: microseconds only."""


class FunctionStats(NamedTuple):
    """Counts of a lifted function."""

    calls: int
    errors: int


@final
class Function(Primitive[In, Out]):
    """A function as a predictor. Made by :func:`predictor`."""

    kind = "Function"
    records = False
    parts_level = "any"

    def __init__(
        self,
        fn: Callable[[In], Any],
        *,
        uses: Iterable[Primitive[Any, Any]] = (),
        executor: Executor | Inline | None = None,
        name: str | None = None,
    ) -> None:
        self._fn = fn
        if isinstance(fn, Primitive):
            raise TypeError(f"{fn.name!r} is a predictor already: use it as it is")
        self._colour, self._is_method = look(fn)
        self._executor = executor
        self._calls = Counter()
        self._count = self._calls.numbers
        self._errors = Counter()
        self._inside = Tally()
        used = tuple(uses)
        parts = _by_name(used)
        options = {"executor": executor, "name": name}
        super().__init__(name or name_of(fn), parts, Spec(_again, (fn, *used), options))
        self.is_async = self.is_async or self._colour is ASYNC
        self.unbound = self.unbound or self._is_method
        self._fast = self._fn_alone()
        wraps(self, fn)

    @property
    def stats(self) -> FunctionStats:
        """A snapshot of what happened so far."""
        return FunctionStats(self._calls.read(), self._errors.read())

    def __call__(self, x: In, /) -> Out:
        """Call the function."""
        scope = current()
        fn = self._fast
        if fn is None or (scope is not None and not scope.plain):
            return self._slowly(x, scope)
        next(self._count)
        try:
            y: Out = fn(x)
        except Exception as error:
            self._fail(error)
            raise
        kind: type[object] = type(y)
        if kind is CoroutineType:
            self._refuse(y)
        return y

    def _fn_alone(self) -> Callable[[In], Any] | None:
        """Return the function if a call has nothing else to look at."""
        return None if self.is_async or self.unbound else self._fn

    def _slowly(self, x: In, scope: Request | None) -> Out:
        """Call the function where there is more to look at: a deadline, a loop, the end."""
        self._check(scope)
        if self.is_async:
            if self._colour is ASYNC:
                return _threads.block_on(self.acall, x, self.name)
            _threads.refuse_on_loop(self.name)
        return self._run(x, scope)

    def _check(self, scope: Request | None) -> None:
        if scope is not None:
            scope.check(self.name)
        if self.life.closed:
            raise self.closed_error()
        if self.unbound:
            raise TypeError(f"{self.name!r} is a method: call that of an instance")

    def _run(self, x: In, scope: Request | None) -> Out:
        if scope is None or not scope.warming:
            next(self._count)
        try:
            y: Out = self._fn(x)
        except Exception as error:
            self._fail(error)
            raise
        kind: type[object] = type(y)
        if kind is CoroutineType:
            self._refuse(y)
        return y

    def _fail(self, error: BaseException) -> None:
        """Count an error of the function, and raise another where it must not travel as it is."""
        scope = current()
        if scope is None or not scope.warming:
            self._errors.add()
        failure = from_model(error, repr(self.name))
        if failure is not error:
            raise failure from error

    def _refuse(self, coroutine: Any) -> None:
        coroutine.close()
        raise TypeError(
            f"{self.name!r} is a plain function that returned a coroutine: "
            "declare it `async def`, or await inside it"
        )

    async def acall(self, x: In, /) -> Out:
        """Await the function, or run it on a thread of the library's own."""
        scope = current()
        if self.unbound or self.life.closed or (scope is not None and not scope.plain):
            self._check(scope)
        loop = aio.here()
        self._inside.enter(loop)
        try:
            if self._colour is not ASYNC:
                inside = self._executor is inline
                return self._run(x, scope) if inside else await self._hop(x, scope)
            if scope is None or not scope.warming:
                next(self._count)
            if scope is None or scope.plain:
                y: Out = await self._fn(x)
                return y
            return await aio.within(self._fn(x), scope, self.name)
        except BaseException as error:
            if self._colour is ASYNC and not aio.is_ours_to_end(error):
                self._fail(error)
            raise
        finally:
            self._inside.leave(loop)

    async def _hop(self, x: In, scope: Request | None) -> Out:
        sink = aio.sink()

        def run(x: In) -> Out | None:
            return None if sink.done() else self._run(x, scope)  # None if nobody waits any more

        executor = cast("Executor | None", self._executor)
        _threads.hop(sink, run, x, self.name, executor)
        y: Out = await aio.wait(sink.future, scope, self.name)
        return y

    def summary(self) -> str:
        """Configuration and counts in a few words."""
        stats = self.stats
        return f"{'async, ' if self._colour is ASYNC else ''}{stats.calls:,} calls" + (
            f", {stats.errors:,} errors" if stats.errors else ""
        )

    def start(self) -> None:
        """Take calls, again if it was closed."""
        self._fast = self._fn_alone()

    def needs_this_loop(self) -> bool:
        """Whether a call is in progress on the loop of this thread."""
        return self._inside.is_on(running_loop())

    def stop(self, drain: bool, timeout: float | None) -> None:  # noqa: FBT001 - internal
        """Refuse calls, and let those that were awaited already find what they use."""
        self._fast = None
        if drain:
            sink = ThreadSink()
            self._inside.when_empty(sink)
            sink.settles(timeout)

    async def astop(self, drain: bool, timeout: float | None) -> None:  # noqa: FBT001 - internal
        """Refuse calls, without blocking the event loop while those in progress end."""
        self._fast = None
        if drain:
            sink = aio.sink()
            self._inside.when_empty(sink)
            await aio.settles(sink, timeout)

    def warm(self, x: In) -> None:
        """Call the function once; what it uses is reached through it."""
        self(x)

    async def awarm(self, x: In) -> None:
        """Call the function once; what it uses is reached through it."""
        await self.acall(x)

    def rebuilt(self, home: Home) -> Function[In, Out]:
        """Make this anew over the method of an instance."""
        fn = self._fn.__get__(home.instance) if self._is_method else self._fn
        made: Function[In, Out] = self._spec.again(
            lambda part: fn if part is self._fn else part.bind(home)
        )
        return made


class Options(TypedDict, total=False):
    """What a lifted function can be told; see :func:`predictor`."""

    uses: Iterable[Primitive[Any, Any]]
    executor: Executor | Inline | None
    name: str | None


@overload
def predictor(
    fn: Callable[[In], Awaitable[Out]], **options: Unpack[Options]
) -> Function[In, Out]: ...
@overload
def predictor(fn: Callable[[In], Out], **options: Unpack[Options]) -> Function[In, Out]: ...
@overload
def predictor(
    fn: Callable[[Any, In], Awaitable[Out]], **options: Unpack[Options]
) -> Function[In, Out]: ...
@overload
def predictor(fn: Callable[[Any, In], Out], **options: Unpack[Options]) -> Function[In, Out]: ...
@overload
def predictor(fn: None = ..., **options: Unpack[Options]) -> Lifter: ...
def predictor(
    fn: Callable[..., Any] | None = None,
    *,
    uses: Iterable[Primitive[Any, Any]] = (),
    executor: Executor | Inline | None = None,
    name: str | None = None,
) -> Function[Any, Any] | Lifter:
    """Lift a function of one input into a predictor, or return a decorator that does.

    ``uses`` names the predictors that the function calls, so that they are opened, warmed, shown
    and watched with it. ``acall`` of a sync function runs on a small pool of threads of the
    library's own, on ``executor`` if one is given, or with ``executor=modelserve.inline`` on the
    event loop itself. Raises TypeError for a function of no or several required arguments and
    for a generator function.

    >>> import modelserve as ms
    >>> @ms.predictor
    ... def shout(text: str) -> str:
    ...     return text.upper()
    >>> shout("a"), list(shout.map(["b", "c"]))
    ('A', ['B', 'C'])
    """
    options: Options = {"uses": tuple(uses), "executor": executor, "name": name}
    return Lifter(options) if fn is None else Function(fn, **options)


@final
class Lifter:
    """A decorator with its options; see :func:`predictor`."""

    def __init__(self, options: Options) -> None:
        self._options = options

    @overload
    def __call__(self, fn: Callable[[In], Awaitable[Out]], /) -> Function[In, Out]: ...
    @overload
    def __call__(self, fn: Callable[[In], Out], /) -> Function[In, Out]: ...
    @overload
    def __call__(self, fn: Callable[[Any, In], Awaitable[Out]], /) -> Function[In, Out]: ...
    @overload
    def __call__(self, fn: Callable[[Any, In], Out], /) -> Function[In, Out]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Function[Any, Any]:
        """Lift the function."""
        return Function(fn, **self._options)


def lift(thing: Callable[[In], Any]) -> Primitive[In, Any]:
    """Return a predictor as it is, and anything else lifted."""
    return cast("Primitive[In, Any]", thing) if isinstance(thing, Primitive) else Function(thing)


def wraps(outer: Primitive[Any, Any], fn: object) -> None:
    """Give a predictor the name, docstring and signature of the function it was made of.

    The function's ``__dict__`` is left alone: with it the fields of a stacked predictor would be
    copied over the outer one's.
    """
    if not isinstance(fn, Primitive) or "__wrapped__" in vars(fn):
        functools.update_wrapper(outer, cast("Callable[..., Any]", fn), updated=())


def _by_name(parts: Iterable[object]) -> dict[str, Primitive[Any, Any]]:
    """Parts by name; parts of two kinds may share one, as a cache and its loader do."""
    named: dict[str, Primitive[Any, Any]] = {}
    for part in dict.fromkeys(parts):
        if not isinstance(part, Primitive):
            raise TypeError(f"uses= names predictors, and {part!r} is none: lift it first")
        name, number = part.name, 2
        while name in named:
            name, number = f"{part.name}-{number}", number + 1
        named[name] = part
    return named


def _again(
    fn: Callable[[In], Any], *uses: Primitive[Any, Any], **options: Any
) -> Function[In, Any]:
    return Function(fn, uses=uses, **options)
