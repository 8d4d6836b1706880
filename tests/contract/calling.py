"""Ways to call a predictor, each with a limit: what hangs fails."""

import asyncio
import sys
import threading
import traceback
from concurrent.futures import Future
from contextvars import copy_context

import pytest

LIMIT = 30.0
"""Seconds after which a wait has failed."""


def start(fn, *args, **options):
    """Call on a thread of its own, in the caller's context; return the future of its answer."""
    future = Future()

    def call():
        try:
            future.set_result(fn(*args, **options))
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            future.set_exception(error)

    thread = threading.Thread(target=copy_context().run, args=(call,), daemon=True)
    thread.start()
    future.thread = thread
    return future


def within_limit(fn, **options):
    """Call, and fail with the place where it hangs if that takes too long."""
    future = start(fn, **options)
    try:
        return future.result(2 * LIMIT)
    except TimeoutError:
        if future.done():
            raise
        frame = sys._current_frames()[future.thread.ident]
        where = "".join(traceback.format_stack(frame))
        raise TimeoutError(f"still busy after {2 * LIMIT} s:\n{where}") from None


async def taken(ys):
    return [y async for y in ys]


async def collect(ys, got):
    """Keep what came even if an error follows."""
    async for y in ys:
        got.append(y)


def by_call(p, x):
    return p(x)


def by_acall(p, x):
    return asyncio.run(p.acall(x))


def by_map(p, x):
    [y] = p.map([x])
    return y


def by_amap(p, x):
    [y] = asyncio.run(taken(p.amap([x])))
    return y


FACES = [by_call, by_acall, by_map, by_amap]
by_every_face = pytest.mark.parametrize("ask", FACES)


def exercise(p, *xs):
    """Ask by every face."""
    for x in xs or ("a",):
        for ask in FACES:
            ask(p, x)
