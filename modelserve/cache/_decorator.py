"""The cache as a decorator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Unpack, overload

from modelserve.cache._cache import PredictionCache
from modelserve.cache._options import Options
from modelserve.typing import In, Out


class Cached:
    """A decorator with its options; see :func:`cached`."""

    def __init__(self, options: Options) -> None:
        self._options = options

    @overload
    def __call__(self, fn: Callable[[In], Awaitable[Out]], /) -> PredictionCache[In, Out]: ...
    @overload
    def __call__(self, fn: Callable[[In], Out], /) -> PredictionCache[In, Out]: ...
    @overload
    def __call__(self, fn: Callable[[Any, In], Awaitable[Out]], /) -> PredictionCache[In, Out]: ...
    @overload
    def __call__(self, fn: Callable[[Any, In], Out], /) -> PredictionCache[In, Out]: ...
    def __call__(self, fn: Callable[..., Any], /) -> PredictionCache[Any, Any]:
        """Lift the function."""
        return PredictionCache(fn, **self._options)


def cached(**options: Unpack[Options]) -> Cached:
    """Decorate a function, a method or another predictor: what was answered is remembered.

    The options are those of :class:`PredictionCache`. Decorating a method gives one cache an
    instance.

    >>> import modelserve as ms
    >>> @ms.cached(maxsize=1_000)
    ... def square(x: float) -> float:
    ...     return x * x
    >>> square(3.0), square(3.0), square.stats.hits
    (9.0, 9.0, 1)
    """
    return Cached(options)
