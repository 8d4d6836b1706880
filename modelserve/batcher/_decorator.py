"""The batcher as a decorator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Unpack, overload

from modelserve.batcher._batcher import DynamicBatcher
from modelserve.batcher._options import Options
from modelserve.typing import In, Out, Rows


class Batched:
    """A decorator with its options; see :func:`batched`."""

    def __init__(self, options: Options) -> None:
        self._options = options

    @overload
    def __call__(
        self, fn: Callable[[list[In]], Awaitable[Rows[Out]]], /
    ) -> DynamicBatcher[In, Out]: ...
    @overload
    def __call__(self, fn: Callable[[list[In]], Rows[Out]], /) -> DynamicBatcher[In, Out]: ...
    @overload
    def __call__(self, fn: Callable[[list[In]], Any], /) -> DynamicBatcher[In, Any]: ...
    @overload
    def __call__(self, fn: Callable[[In], Awaitable[Rows[Out]]], /) -> DynamicBatcher[In, Out]: ...
    @overload
    def __call__(self, fn: Callable[[In], Rows[Out]], /) -> DynamicBatcher[In, Out]: ...
    @overload
    def __call__(self, fn: Callable[[In], Any], /) -> DynamicBatcher[In, Any]: ...
    @overload
    def __call__(
        self, fn: Callable[[Any, list[In]], Awaitable[Rows[Out]]], /
    ) -> DynamicBatcher[In, Out]: ...
    @overload
    def __call__(self, fn: Callable[[Any, list[In]], Rows[Out]], /) -> DynamicBatcher[In, Out]: ...
    @overload
    def __call__(self, fn: Callable[[Any, list[In]], Any], /) -> DynamicBatcher[In, Any]: ...
    @overload
    def __call__(
        self, fn: Callable[[Any, In], Awaitable[Rows[Out]]], /
    ) -> DynamicBatcher[In, Out]: ...
    @overload
    def __call__(self, fn: Callable[[Any, In], Rows[Out]], /) -> DynamicBatcher[In, Out]: ...
    @overload
    def __call__(self, fn: Callable[[Any, In], Any], /) -> DynamicBatcher[In, Any]: ...
    def __call__(self, fn: Callable[..., Any], /) -> DynamicBatcher[Any, Any]:
        """Lift the batch function."""
        return DynamicBatcher(fn, **self._options)


def batched(**options: Unpack[Options]) -> Batched:
    """Decorate a batch function or method: callers hand over one item each.

    The options are those of :class:`DynamicBatcher`. Decorating a method gives one batcher an
    instance.

    >>> import modelserve as ms
    >>> @ms.batched(max_batch_size=64)
    ... def lengths(texts: list[str]) -> list[int]:
    ...     return [len(text) for text in texts]
    >>> lengths("four"), list(lengths.map(["a", "bc"]))
    (4, [1, 2])
    """
    return Batched(options)
