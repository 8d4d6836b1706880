"""Lifting a function into a predictor: the only place that asks whether it is async."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast, final, overload

from modelserve.errors import from_model
from modelserve.predictor import _threads
from modelserve.predictor._base import Counter, Primitive, Spec
from modelserve.predictor._names import name_of
from modelserve.request import Request, current

if TYPE_CHECKING:
    from concurrent.futures import Executor

In = TypeVar("In")
Out = TypeVar("Out")
FnIn = TypeVar("FnIn")
FnOut = TypeVar("FnOut")

SYNC, ASYNC = False, True


@final
class Inline:
    """The type of :data:`modelserve.inline`."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Show how to write it."""
        return "modelserve.inline"


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
        self._colour, self._is_method = _look(fn)
        self._executor = executor
        self._calls = Counter()
        self._errors = Counter()
        used = tuple(uses)
        parts = {part.name: part for part in used}
        options = {"executor": executor, "name": name}
        super().__init__(name or name_of(fn), parts, Spec(_again, (fn, *used), options))
        self.is_async = self.is_async or self._colour is ASYNC
        self.unbound = self.unbound or self._is_method
        wraps(self, fn)

    @property
    def stats(self) -> FunctionStats:
        """A snapshot of what happened so far."""
        return FunctionStats(self._calls.read(), self._errors.read())

    def __call__(self, x: In, /) -> Out:
        """Call the function."""
        scope = current()
        if scope is not None:
            scope.check(self.name)
        if self.life.closed:
            raise self.closed_error()
        if self.is_async:
            if self._colour is ASYNC:
                return _threads.block_on(self.acall, x, self.name)
            _threads.refuse_on_loop(self.name)
        return self._run(x, scope)

    def _run(self, x: In, scope: Request | None) -> Out:
        if scope is None or not scope.warming:
            self._calls.add()
        try:
            y = self._fn(x)
        except Exception as error:
            self._errors.add()
            failure = from_model(error, repr(self.name))
            if failure is error:
                raise
            raise failure from error
        if type(y) is CoroutineType:
            y.close()
            raise TypeError(
                f"{self.name!r} is a plain function that returned a coroutine: "
                "declare it `async def`, or await inside it"
            )
        return cast("Out", y)

    async def acall(self, x: In, /) -> Out:
        """Await the function, or run it on a thread of the library's own."""
        scope = current()
        if scope is not None:
            scope.check(self.name)
        if self.life.closed:
            raise self.closed_error()
        if self._colour is ASYNC:
            return await self._await(x, scope)
        if self._executor is inline:
            return self._run(x, scope)
        from modelserve.predictor import _aio

        sink = _aio.sink()
        executor = cast("Executor | None", self._executor)
        _threads.hop(sink, lambda x: self._run(x, scope), x, self.name, executor)
        return cast("Out", await _aio.wait(sink, scope, self.name))

    async def _await(self, x: In, scope: Request | None) -> Out:
        from modelserve.predictor import _aio

        if scope is None or not scope.warming:
            self._calls.add()
        try:
            return cast("Out", await _aio.within(self._fn(x), scope, self.name))
        except BaseException as error:
            if _aio.is_ours_to_end(error):
                raise
            self._errors.add()
            failure = from_model(error, repr(self.name))
            if failure is error:
                raise
            raise failure from error

    def summary(self) -> str:
        """Configuration and counts in a few words."""
        stats = self.stats
        return f"{'async, ' if self._colour is ASYNC else ''}{stats.calls:,} calls" + (
            f", {stats.errors:,} errors" if stats.errors else ""
        )

    def warm(self, x: In) -> None:
        """Call the function once; what it uses is reached through it."""
        self(x)

    async def awarm(self, x: In) -> None:
        """Call the function once; what it uses is reached through it."""
        await self.acall(x)

    def bind(self, instance: object) -> Function[In, Out]:
        """Make this anew over the method bound to ``instance``."""
        if not self.unbound:
            return self
        fn = self._fn.__get__(instance) if self._is_method else self._fn
        return self._spec.again(lambda part: fn if part is self._fn else part.bind(instance))


@overload
def predictor(
    fn: Callable[[FnIn], Awaitable[FnOut]],
    *,
    uses: Iterable[Primitive[Any, Any]] = ...,
    executor: Executor | Inline | None = ...,
    name: str | None = ...,
) -> Function[FnIn, FnOut]: ...
@overload
def predictor(
    fn: Callable[[FnIn], FnOut],
    *,
    uses: Iterable[Primitive[Any, Any]] = ...,
    executor: Executor | Inline | None = ...,
    name: str | None = ...,
) -> Function[FnIn, FnOut]: ...
@overload
def predictor(
    fn: None = ...,
    *,
    uses: Iterable[Primitive[Any, Any]] = ...,
    executor: Executor | Inline | None = ...,
    name: str | None = ...,
) -> Lifter: ...
def predictor(
    fn: Callable[[Any], Any] | None = None,
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
    if fn is None:
        return Lifter(uses, executor, name)
    return Function(fn, uses=uses, executor=executor, name=name)


@final
class Lifter:
    """A decorator with its options; see :func:`predictor`."""

    def __init__(
        self,
        uses: Iterable[Primitive[Any, Any]],
        executor: Executor | Inline | None,
        name: str | None,
    ) -> None:
        self._uses, self._executor, self._name = tuple(uses), executor, name

    @overload
    def __call__(self, fn: Callable[[FnIn], Awaitable[FnOut]], /) -> Function[FnIn, FnOut]: ...
    @overload
    def __call__(self, fn: Callable[[FnIn], FnOut], /) -> Function[FnIn, FnOut]: ...
    @overload
    def __call__(self, fn: Callable[[Any, FnIn], Awaitable[FnOut]], /) -> Function[FnIn, FnOut]: ...
    @overload
    def __call__(self, fn: Callable[[Any, FnIn], FnOut], /) -> Function[FnIn, FnOut]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Function[Any, Any]:
        """Lift the function."""
        return Function(fn, uses=self._uses, executor=self._executor, name=self._name)


def lift(thing: Callable[[In], Any]) -> Primitive[In, Any]:
    """Return a predictor as it is, and anything else lifted."""
    return thing if isinstance(thing, Primitive) else Function(thing)


def wraps(outer: Primitive[Any, Any], fn: object) -> None:
    """Give a predictor the name, docstring and signature of the function it was made of.

    The function's ``__dict__`` is left alone: with it the fields of a stacked predictor would be
    copied over the outer one's.
    """
    if not isinstance(fn, Primitive) or "__wrapped__" in vars(fn):
        functools.update_wrapper(outer, fn, updated=())  # type: ignore[arg-type]


def _again(
    fn: Callable[[In], Any], *uses: Primitive[Any, Any], **options: Any
) -> Function[In, Any]:
    return Function(fn, uses=uses, **options)


def _look(fn: Any) -> tuple[bool, bool]:
    """Say whether a function is async and whether it is a method still without its instance.

    Raises TypeError for what cannot be a predictor.
    """
    import inspect

    if not callable(fn):
        raise TypeError(f"{fn!r} is not callable: a predictor is a function of one input")
    if isinstance(fn, type):
        raise TypeError(f"{fn.__name__} is a class: pass an instance, or a function of one input")
    call = fn if inspect.isroutine(fn) or hasattr(fn, "func") else type(fn).__call__
    if inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call):
        raise TypeError(
            f"{name_of(fn)!r} is a generator function: a predictor gives one output for one "
            "input, so return a list, and stream outside of the tree"
        )
    is_async = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(call)
    return is_async, _is_unbound_method(fn)


def _is_unbound_method(fn: Any) -> bool:
    import inspect

    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # a builtin that does not tell
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    free = [p for p in parameters if p.default is p.empty]
    required = [p for p in free if p.kind in positional]
    keywords = [p.name for p in free if p.kind is p.KEYWORD_ONLY]
    if keywords:
        raise TypeError(f"{name_of(fn)!r} requires the keyword {keywords[0]!r}: give it a default")
    takes = len(required) or sum(p.kind in {*positional, p.VAR_POSITIONAL} for p in parameters)
    if len(required) == 2 and _in_class(fn):  # noqa: PLR2004 - self and the input
        return True
    if len(required) > 1 or not takes:
        raise TypeError(
            f"{name_of(fn)!r} takes {len(required)} required arguments: a predictor takes one "
            "input, so pack several values in a dict, tuple or dataclass"
        )
    return False


def _in_class(fn: Any) -> bool:
    holder = getattr(fn, "__qualname__", "").rpartition(".")[0]
    return bool(holder) and not holder.endswith("<locals>")
