"""What no batcher can beat: one future a caller, one drain a turn, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from queue import SimpleQueue
from threading import Thread
from typing import Any

Call = Callable[[Any], Any]
Adapter = Callable[..., AbstractAsyncContextManager[Call]]


@asynccontextmanager
async def inline(fn: Call, **_: object) -> AsyncIterator[Call]:
    """Let one callback run what came in a turn of the loop, whatever its size.

    An async function that never waits is stepped by hand, which is less than a task.
    """
    loop = asyncio.get_running_loop()
    items: list[Any] = []
    futures: list[asyncio.Future[Any]] = []

    def drain() -> None:
        xs, waiting = items.copy(), futures.copy()
        items.clear()
        futures.clear()
        for future, y in zip(waiting, finished(fn(xs)), strict=True):
            future.set_result(y)

    async def call(x: Any) -> Any:
        future = loop.create_future()
        if not items:
            loop.call_soon(drain)
        items.append(x)
        futures.append(future)
        return await future

    yield call


def finished(coroutine: Any) -> Any:
    """Return what a coroutine that never waits returns."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the limit is for functions that never wait")


@asynccontextmanager
async def thread(fn: Call, *, max_batch_size: int, **_: object) -> AsyncIterator[Call]:
    """Let one thread take what is there: a wake-up a batch there, and one back."""
    loop = asyncio.get_running_loop()
    queue: SimpleQueue[tuple[Any, asyncio.Future[Any] | None]] = SimpleQueue()

    def settle(futures: tuple[asyncio.Future[Any], ...], ys: Any) -> None:
        for future, y in zip(futures, ys, strict=True):
            future.set_result(y)

    def work() -> None:
        while True:
            batch = [queue.get()]
            batch += [queue.get() for _ in range(min(queue.qsize(), max_batch_size - 1))]
            xs, futures = zip(*batch, strict=True)
            if futures[-1] is None:
                return
            loop.call_soon_threadsafe(settle, futures, fn(xs))

    async def call(x: Any) -> Any:
        future = loop.create_future()
        queue.put((x, future))
        return await future

    worker = Thread(target=work, daemon=True)
    worker.start()
    yield call
    queue.put((None, None))
    worker.join()
