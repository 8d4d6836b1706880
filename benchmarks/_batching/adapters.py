"""One way to make every batcher, so that all of them run the very same driver.

An adapter is an async context manager: ``adapter(fn, max_batch_size=, max_wait=, is_async=)`` gives
a coroutine function that answers for one item. ``fn`` takes a list of items and gives a list of
results; it is a coroutine function if ``is_async``, and to be kept off the loop if not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from _batching import limits, peers
from _batching.limits import Adapter, Call


@asynccontextmanager
async def modelserve(
    fn: Call,
    *,
    max_batch_size: int,
    max_wait: float,
    is_async: bool,
    deadline: float | None = None,  # noqa: ARG001 - the request has it
    **options: Any,
) -> AsyncIterator[Call]:
    """Our own."""
    from modelserve import DynamicBatcher

    batcher: DynamicBatcher[Any, Any] = DynamicBatcher(
        fn, max_batch_size=max_batch_size, max_wait=max_wait, **options
    )
    assert batcher.is_async == is_async
    async with batcher:
        yield batcher.acall


@asynccontextmanager
async def modelserve_with_slo(fn: Call, *, deadline: float, **options: Any) -> AsyncIterator[Call]:
    """Our own, told the deadline of its callers."""
    async with modelserve(fn, slo=deadline, **options) as acall:
        yield acall


@asynccontextmanager
async def modelserve_in_a_request(fn: Call, **options: Any) -> AsyncIterator[Call]:
    """Our own, with a request of a unit and a timeout around each call."""
    from modelserve import request

    async with modelserve(fn, **options) as acall:

        async def call(x: Any) -> Any:
            with request(unit="user-42", timeout=60.0):
                return await acall(x)

        yield call


@asynccontextmanager
async def naive(
    fn: Call, *, max_batch_size: int, max_wait: float, is_async: bool, **_: object
) -> AsyncIterator[Call]:
    """What everybody writes first: wait for one, sleep, take what is there, hand it to a pool."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[Any, asyncio.Future[Any]]] = asyncio.Queue()
    pool = ThreadPoolExecutor(1)

    async def run() -> None:
        while True:
            batch = [await queue.get()]
            await asyncio.sleep(max_wait)
            while not queue.empty() and len(batch) < max_batch_size:
                batch.append(queue.get_nowait())
            xs = [x for x, _ in batch]
            ys = await (fn(xs) if is_async else loop.run_in_executor(pool, fn, xs))
            for (_, future), y in zip(batch, ys, strict=True):
                if not future.done():
                    future.set_result(y)

    async def call(x: Any) -> Any:
        future = loop.create_future()
        queue.put_nowait((x, future))
        return await future

    task = loop.create_task(run())
    yield call
    task.cancel()
    pool.shutdown(cancel_futures=True)


@asynccontextmanager
async def leaking(fn: Call, **options: Any) -> AsyncIterator[Call]:
    """The naive one, which keeps every tenth answer for ever: a check of memory must catch it."""
    kept: list[Any] = []
    async with naive(fn, **options) as ask:

        async def call(x: int) -> Any:
            y = await ask(x)
            if x % 10 == 0:
                kept.append((x, y))
            return y

        yield call


@asynccontextmanager
async def limit(fn: Call, *, is_async: bool, **options: Any) -> AsyncIterator[Call]:
    """The limit of the kind of function."""
    async with (limits.inline if is_async else limits.thread)(fn, **options) as call:
        yield call


def within(adapter: str, call: Call, deadline: float) -> Call:
    """Let callers leave at a deadline, in the way of the contestant."""
    if not adapter.startswith("modelserve"):
        return lambda x: asyncio.wait_for(call(x), deadline)
    from modelserve import request

    async def ask(x: Any) -> Any:
        with request(timeout=deadline):
            return await call(x)

    return ask


ADAPTERS: dict[str, Adapter] = {
    "limit": limit,
    "modelserve": modelserve,
    "modelserve, in a request": modelserve_in_a_request,
    "modelserve, slo": modelserve_with_slo,
    "naive": naive,
    "leaking control": leaking,
    **peers.ADAPTERS,
}
