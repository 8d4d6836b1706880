"""Answering for many inputs a chunk at a time, where what is below has use for them together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import cast

from modelserve.predictor._base import Primitive, achunks, chunks
from modelserve.predictor._threads import refuse_on_loop
from modelserve.typing import In, Out

CHUNK = 256
"""Inputs that are answered together."""


class Together(Primitive[In, Out]):
    """A part whose ``map`` and ``amap`` hand on many inputs at a time."""

    @abstractmethod
    def many(self, chunk: list[In]) -> list[Out | Exception]:
        """Answer for a chunk; the errors of items stand in place of their answers."""

    @abstractmethod
    async def amany(self, chunk: list[In]) -> list[Out | Exception]:
        """Answer like :meth:`many`, without blocking the event loop."""

    def map(self, xs: Iterable[In], /, *, return_exceptions: bool = False) -> Iterator[Out]:
        """Answer for many inputs, in order; what is below gets many at a time."""
        if self.is_async:
            refuse_on_loop(self.name)
        for chunk in chunks(xs, CHUNK):
            for y in self.many(chunk):
                if isinstance(y, Exception) and not return_exceptions:
                    raise y
                yield cast("Out", y)

    async def amap(
        self, xs: Iterable[In] | AsyncIterable[In], /, *, return_exceptions: bool = False
    ) -> AsyncIterator[Out]:
        """Answer for many inputs like :meth:`map`, without blocking the event loop."""
        async for chunk in achunks(xs, CHUNK):
            for y in await self.amany(chunk):
                if isinstance(y, Exception) and not return_exceptions:
                    raise y
                yield cast("Out", y)
