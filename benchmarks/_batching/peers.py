"""Adapters of other people's batchers, outside the servers that two of them are parts of.

Ray's context of a replica is stubbed, with no bound of its own; its metrics are recorded but sent
nowhere. MLServer's items travel as its requests, made without validation, which flatters it.
BentoML has no ``max_wait``: it adapts by itself to a latency, here one that it need not shed for,
or the deadline of the callers where there is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from _batching.limits import Adapter, Call


class Unsupported(ValueError):
    """What a contestant cannot be asked for."""


class Refused(RuntimeError):
    """A contestant turned a call away."""


@asynccontextmanager
async def on_a_thread(fn: Call, *, is_async: bool) -> AsyncIterator[Call]:
    """Make a coroutine function of a batch function, for those that take nothing else."""
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(1)

    async def call(xs: Any) -> Any:
        return await loop.run_in_executor(pool, fn, xs)

    yield fn if is_async else call
    pool.shutdown(cancel_futures=True)


@asynccontextmanager
async def batched(
    fn: Call, *, max_batch_size: int, max_wait: float, is_async: bool, **_: object
) -> AsyncIterator[Call]:
    """The package ``batched``: its own thread for sync functions, a task for async ones."""
    import batched as package

    def batch(xs: Any) -> Any:
        return fn(xs)

    make = package.aio.dynamically if is_async else package.dynamically
    batcher = make(batch_size=max_batch_size, timeout_ms=max_wait * 1000)(fn if is_async else batch)
    yield batcher if is_async else batcher.acall
    if not is_async:
        batcher.shutdown()


@asynccontextmanager
async def async_batcher(
    fn: Call, *, max_batch_size: int, max_wait: float, is_async: bool, **_: object
) -> AsyncIterator[Call]:
    """The package ``async-batcher``."""
    from async_batcher.batcher import AsyncBatcher

    class Batcher(AsyncBatcher[Any, Any]):
        async def process_batch(self, batch: Any) -> Any:
            return await fn(batch)

    class ThreadBatcher(AsyncBatcher[Any, Any]):
        def process_batch(self, batch: Any) -> Any:
            return fn(batch)

    make = Batcher if is_async else ThreadBatcher
    batcher = make(max_batch_size=max_batch_size, max_queue_time=max_wait)
    yield batcher.process
    await batcher.stop(force=True)


@asynccontextmanager
async def ray(
    fn: Call, *, max_batch_size: int, max_wait: float, is_async: bool, **_: object
) -> AsyncIterator[Call]:
    """Ray Serve's ``serve.batch``."""
    from ray import serve

    replica = SimpleNamespace(_deployment_config=SimpleNamespace(max_ongoing_requests=10**9))
    serve.get_replica_context = lambda: replica
    async with on_a_thread(fn, is_async=is_async) as run:

        @serve.batch(max_batch_size=max_batch_size, batch_wait_timeout_s=max_wait)
        async def batch(xs: Any) -> Any:
            return await run(xs)

        yield batch


@asynccontextmanager
async def bentoml(
    fn: Call, *, max_batch_size: int, deadline: float | None = None, is_async: bool, **_: object
) -> AsyncIterator[Call]:
    """BentoML's ``CorkDispatcher``."""
    from bentoml._internal.marshal.dispatcher import CorkDispatcher

    shed = object()

    def batch(xs: Any) -> Any:
        return fn(xs)

    dispatcher = CorkDispatcher(
        int((deadline or 60.0) * 1000),
        max_batch_size,
        fallback=lambda: shed,
        get_batch_size=lambda _: 1,
    )
    ask = dispatcher(fn if is_async else batch)

    async def call(x: Any) -> Any:
        y = await ask(x)
        if y is shed:
            raise Refused("shed")
        return y

    yield call
    dispatcher.shutdown()


@asynccontextmanager
async def mlserver(
    fn: Call, *, max_batch_size: int, max_wait: float, is_async: bool, **_: object
) -> AsyncIterator[Call]:
    """MLServer's ``AdaptiveBatcher``."""
    from mlserver import MLModel, ModelSettings, types
    from mlserver.batching.adaptive import AdaptiveBatcher
    from mlserver.context import model_context

    if max_wait == 0:
        raise Unsupported("it batches only with a wait")
    async with on_a_thread(fn, is_async=is_async) as run:

        class Model(MLModel):
            async def predict(self, payload: Any) -> Any:
                ys = await run(getattr(payload.inputs[0].data, "root", payload.inputs[0].data))
                output = types.ResponseOutput.model_construct(
                    name="y", shape=[len(ys), 1], datatype="BYTES", data=ys
                )
                return types.InferenceResponse.model_construct(model_name="m", outputs=[output])

        settings = ModelSettings(
            name="m",
            implementation=Model,
            max_batch_size=max_batch_size,
            max_batch_time=max_wait,
        )
        batcher = AdaptiveBatcher(Model(settings))

        async def call(x: Any) -> Any:
            one = types.RequestInput.model_construct(
                name="x", shape=[1, 1], datatype="BYTES", data=[x]
            )
            request = types.InferenceRequest.model_construct(inputs=[one])
            answer = await batcher.predict(request)
            return getattr(answer.outputs[0].data, "root", answer.outputs[0].data)[0]

        with model_context(settings):
            yield call


ADAPTERS: dict[str, Adapter] = {
    "batched": batched,
    "async-batcher": async_batcher,
    "Ray": ray,
    "BentoML": bentoml,
    "MLServer": mlserver,
}
