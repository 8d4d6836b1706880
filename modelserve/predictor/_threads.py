"""Threads of the library's own: a small pool for sync functions, one loop for async ones.

A function in the pool may call a predictor that needs the pool in turn. Pools are therefore
kept by depth: work of one depth waits only for work one deeper. It may also wait for what many
share, a batch or a cache's run, which callers of less depth began: so whoever shares has pools
of their own. No pool waits for itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from modelserve.errors import from_model
from modelserve.predictor._fork import on_fork
from modelserve.predictor._waiting import deliver, running_loop
from modelserve.request import current, deeper, in_scope

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Coroutine
    from concurrent.futures import Executor, Future

    from modelserve.predictor._waiting import Sink
    from modelserve.request import Request

T = TypeVar("T")
In = TypeVar("In")

POOL_SIZE = 16
"""Threads a pool: enough to keep cores busy while some calls wait for I/O."""

CROWD, CROWD_SIZE = -1, 1024
"""The pool for callers that block, in place of a depth, and its threads: one for each of them."""


class Threads:
    """The pools and the background loop of this process."""

    def __init__(self) -> None:
        self.after_fork()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._pools: WeakKeyDictionary[object, dict[int, Executor]] = WeakKeyDictionary()
        self._loop: AbstractEventLoop | None = None

    def pool(self, scope: Request) -> Executor:
        """Return the pool for calls that hopped as often, on behalf of who shares them."""
        return self._pool(self if scope.owner is None else scope.owner, scope.depth, POOL_SIZE)

    def crowd(self, owner: object) -> Executor:
        """Return the pool for work that callers wait for who block a thread of their own."""
        return self._pool(owner, CROWD, CROWD_SIZE)

    def _pool(self, owner: object, depth: int, size: int) -> Executor:
        with self._lock:
            pools = self._pools.setdefault(owner, {})
            pool = pools.get(depth)
            if pool is None:
                from concurrent.futures import ThreadPoolExecutor

                on_fork(self)
                name = "modelserve-crowd" if depth == CROWD else f"modelserve-{depth}"
                pool = ThreadPoolExecutor(size, thread_name_prefix=name)
                pools[depth] = pool
            return pool

    def end(self, owner: object) -> None:
        """Let the pools of one who shares go, when what is in progress there has ended."""
        with self._lock:
            self._pools.pop(owner, None)

    def loop(self) -> AbstractEventLoop:
        """Return the loop on which sync callers' async work runs, started at first need."""
        with self._lock:
            if self._loop is None:
                import asyncio

                on_fork(self)
                self._loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=self._loop.run_forever, name="modelserve-loop", daemon=True
                )
                Context().run(thread.start)
            return self._loop


threads = Threads()


crowd_of = threads.crowd
end_pools = threads.end


def background_loop() -> AbstractEventLoop:
    """Return the loop of the library's own, for callers that have none."""
    return threads.loop()


def hop(  # noqa: PLR0913 - internal
    sink: Sink,
    fn: Callable[[In], Any],
    x: In,
    name: str,
    executor: Executor | None = None,
    *,
    scope: Request | None = None,
) -> None:
    """Run ``fn(x)`` on a pool's thread in the caller's context and settle ``sink`` with it.

    ``scope`` is the one to be in force there; by default the caller's, one hop on.
    """
    scope = scope or deeper(current())
    context = copy_context()

    def job() -> None:
        value, error = None, None
        try:
            value = context.run(in_scope, scope, fn, x)
        except BaseException as raised:  # noqa: BLE001 - a pool's thread has nobody to tell
            error = from_model(raised, repr(name))
        deliver([(sink, value, error)])

    def dropped(future: Future[None]) -> None:
        if future.cancelled() or future.exception() is not None:
            lost = RuntimeError(
                f"the executor of {name!r} dropped a call: pass one of threads, "
                "and shut it down after the last call"
            )
            lost.__cause__ = None if future.cancelled() else future.exception()
            deliver([(sink, None, lost)])

    future = Context().run((executor or threads.pool(scope)).submit, job)
    if executor is not None:
        future.add_done_callback(dropped)


def block_on(acall: Callable[[In], Coroutine[Any, Any, T]], x: In, name: str) -> T:
    """Run ``acall(x)`` on the background loop and wait, for callers without a loop."""
    import asyncio

    refuse_on_loop(name)
    future = asyncio.run_coroutine_threadsafe(acall(x), threads.loop())
    try:
        return future.result()
    finally:
        future.cancel()  # of use only if the wait was interrupted
        del future  # an error that knows this frame would else hold itself


def refuse_on_loop(name: str, instead: str = "p.acall(x)") -> None:
    """Refuse the sync face of an async tree where it would block the loop it may need."""
    if running_loop() is not None:
        raise RuntimeError(
            f"{name!r} has an async part and an event loop runs on this thread: "
            f"use `await {instead}`"
        )
