"""Ways to ask a cache at once from threads and tasks; each waiting has a limit."""

import asyncio
import time

from tests.contract.calling import LIMIT, start

__all__ = ["LIMIT", "outcome", "run", "start", "until"]


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
