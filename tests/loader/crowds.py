"""Callers on threads and loops at once, and models that come when the test lets them."""

import asyncio
import threading
import time
from concurrent.futures import Future

from modelserve.events import StageDone
from modelserve.testing import GatedPredictor

LIMIT = 20.0


def start(fn, *args):
    """Call on a thread of its own; return the future of the answer."""
    future = Future()

    def call():
        try:
            future.set_result(fn(*args))
        except BaseException as error:  # noqa: BLE001 - raised by whoever asks
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future


def until(condition):
    """Give others their turn until a condition holds."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0)


def told(log):
    """Return what a log was told, but for the stages on the way."""
    return [event for event in log if not isinstance(event, StageDone)]


class Crowd:
    """So many threads that call ``ask(i)``, and as many tasks of a loop that await ``aask(i)``."""

    def __init__(self, each, ask, aask):
        async def all_tasks():
            calls = [aask(i) for i in range(each, 2 * each)]
            return await asyncio.gather(*calls, return_exceptions=True)

        self._threads = [start(ask, i) for i in range(each)]
        self._tasks = start(asyncio.run, all_tasks())

    def answers(self):
        """Return what everybody got: an answer or an error."""
        threads = [future.exception(LIMIT) or future.result() for future in self._threads]
        return threads + self._tasks.result(LIMIT)


class GatedSource:
    """A function that returns models, or raises errors, one after the other, when let."""

    def __init__(self, *models):
        models = iter(models)

        def make(_):
            model = next(models)
            if isinstance(model, BaseException):
                raise model
            return model

        self.gate = GatedPredictor(make, name="source")

    def __call__(self):
        return self.gate(None)

    @property
    def calls(self):
        """How often a model was asked for."""
        return self.gate.entered
