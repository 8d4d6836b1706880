"""The shapes of things: what a predictor is, for annotations.

>>> import modelserve as ms
>>> from modelserve.typing import Predictor
>>> isinstance(ms.predictor(str.upper), Predictor)
True
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import typing_extensions

    In = typing_extensions.TypeVar("In", default=Any)
    Out = typing_extensions.TypeVar("Out", default=Any)
else:  # what it imports would be a third of our own cost, for a default that only checkers read
    In = TypeVar("In")
    Out = TypeVar("Out")

__all__ = ["AsyncPredictFn", "Clock", "PredictFn", "Predictor", "Rows"]

_In_contra = TypeVar("_In_contra", contravariant=True)
_Out_co = TypeVar("_Out_co", covariant=True)

Clock: TypeAlias = Callable[[], float]
"""Seconds from an origin of its own that never run backwards."""
PredictFn: TypeAlias = Callable[[In], Out]
"""A sync function from one input to one output."""
AsyncPredictFn: TypeAlias = Callable[[In], Awaitable[Out]]
"""An async function from one input to one output."""


@runtime_checkable
class Predictor(Protocol[_In_contra, _Out_co]):
    """One input in, one output out, by two faces.

    >>> import modelserve as ms
    >>> shout: Predictor[str, str] = ms.predictor(str.upper)
    >>> shout("a")
    'A'
    """

    def __call__(self, x: _In_contra, /) -> _Out_co:
        """Answer for one input, blocking."""
        ...

    async def acall(self, x: _In_contra, /) -> _Out_co:
        """Answer for one input without blocking the event loop."""
        ...

    def map(
        self, xs: Iterable[_In_contra], /, *, return_exceptions: bool = False
    ) -> Iterator[_Out_co]:
        """Answer for many inputs, in order, lazily."""
        ...

    def amap(
        self, xs: Iterable[_In_contra], /, *, return_exceptions: bool = False
    ) -> AsyncIterator[_Out_co]:
        """Answer for many inputs, in order, lazily, without blocking the event loop."""
        ...


class Rows(Protocol[_Out_co]):
    """What gives one result an item, by position, as most results of batch functions do.

    Lists, arrays and tensors do. A tuple or a dict does not: it holds several outputs, each with a
    row for every item. ``__setitem__`` tells them apart, since a tuple has none.

    >>> def lengths(texts: list[str]) -> Rows[int]:
    ...     return [len(text) for text in texts]
    """

    def __len__(self) -> int:
        """How many results there are."""
        ...

    def __getitem__(self, index: int, /) -> _Out_co:
        """The result at one position."""
        ...

    def __setitem__(self, index: int, value: Any, /) -> None:
        """Change the result at one position."""
        ...
