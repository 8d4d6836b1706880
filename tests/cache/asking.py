"""Ways to ask a cache at once from threads and tasks; each waiting has a limit."""

import asyncio
import itertools
import time

import pytest

import modelserve as ms
from tests.contract.calling import LIMIT, start, taken

__all__ = ["LIMIT", "both", "by_amap", "by_map", "counted", "outcome", "run", "start", "until"]


def until(condition):
    """Wait until something is so that nothing tells of."""
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("it never came to be so")


def run(main):
    """Run a coroutine function on a loop of its own, with a limit."""

    async def limited():
        async with asyncio.timeout(LIMIT):
            return await main()

    return asyncio.run(limited())


def outcome(future):
    """Return what a future came to: its result or its error."""
    error = future.exception(LIMIT)
    return future.result() if error is None else error


def counted(**options):
    """Make a cache whose answers are told apart by when they were made."""
    numbers = itertools.count(1)
    return ms.PredictionCache(lambda x: (x, next(numbers)), name="cache", **options)


def by_map(p, xs, **options):
    return list(p.map(xs, **options))


def by_amap(p, xs, **options):
    return run(lambda: taken(p.amap(xs, **options)))


both = pytest.mark.parametrize("ask", [by_map, by_amap])
