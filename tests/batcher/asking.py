"""Ways to ask a batcher; each waiting has a limit, so what hangs fails."""

import asyncio
import threading

import pytest

import modelserve as ms
from modelserve.testing import AsyncGatedPredictor, FakeClock, GatedPredictor

LIMIT = 10.0
HOUR = 3600.0


def same(xs):
    return xs


def as_is(fn):
    return fn


def as_async(fn):
    async def asynchronous(xs):
        return fn(xs)

    return asynchronous


both = pytest.mark.parametrize("colour", [as_is, as_async])
both_gates = pytest.mark.parametrize("make", [GatedPredictor, AsyncGatedPredictor])


def tenfold(xs):
    return [x * 10 for x in xs]


def refusing(bad, error):
    """Make a batch function that fails for any batch with a bad item."""

    def predict(xs):
        if bad & set(xs):
            raise error
        return tenfold(xs)

    return predict


async def taken(ys):
    return [y async for y in ys]


def outcome(future):
    """Return what a future came to: its result or its error."""
    error = future.exception(LIMIT)
    return future.result() if error is None else error


def one_batch(predict, size, **options):
    """Make a batcher that waits until ``size`` items have come."""
    options = {"max_wait": HOUR, "clock": FakeClock(), **options}
    return ms.DynamicBatcher(predict, max_batch_size=size, **options)


def together(predict, xs, **options):
    """Ask for items that run as one batch; return what each came to."""
    p = one_batch(predict, len(xs), **options)
    return [outcome(future) for future in [p.submit(x) for x in xs]]


def in_threads(*calls):
    """Call all at once, each on a thread of its own; raise the first error."""
    errors = []

    def guarded(call):
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert not any(thread.is_alive() for thread in threads), "a call never came back"
    if errors:
        raise errors[0]


def run(main):
    """Run a coroutine function on a loop of its own, with a limit."""

    async def limited():
        async with asyncio.timeout(LIMIT):
            return await main()

    return asyncio.run(limited())


def ended(threads):
    """Wait for threads to end; say whether all did."""
    for thread in threads:
        thread.join(LIMIT)
    return not any(thread.is_alive() for thread in threads)


def workers_of(p):
    """List the threads of a batcher that are alive."""
    return [t for t in threading.enumerate() if t.name == f"modelserve-{p.name}"]
