"""Models of real arrays, and who of them is in memory; callers on threads, each with a limit."""

import os
import select
import threading
import time
import warnings
import weakref
from collections import Counter
from concurrent.futures import Future
from functools import partial

import numpy as np

import modelserve as ms
from modelserve.testing import FakeClock, GatedPredictor

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


class Shelf:
    """A factory of loaders of arrays of so many bytes, whose answers name them.

    ``bad`` holds the errors of those whose loads fail; ``gate`` is what each load waits at, and
    ``calls`` what each call waits at, where they are given.
    """

    def __init__(self, gate=None, calls=None, **sizes):
        self.sizes = sizes
        self.bad = {}
        self.loads = Counter()
        self.peak = 0
        self._gate = gate
        self._calls = calls
        self._alive = weakref.WeakSet()

    def __call__(self, name):
        if name not in self.sizes:
            raise KeyError(name)
        return ms.ModelLoader(
            partial(self.load, name), predict=partial(self.predict, name), name=name, version="1"
        )

    def load(self, name):
        self.loads[name] += 1
        if self._gate is not None:
            self._gate(name)
        if name in self.bad:
            raise self.bad[name]
        array = np.ones(self.sizes[name], np.uint8).view(Array)
        self._alive.add(array)
        self.peak = max(self.peak, self.alive())
        return array

    def predict(self, name, array, x):
        if self._calls is not None:
            self._calls(x)
        return name, int(array[0]), x

    def size(self, name):
        return self.sizes[name]

    def alive(self):
        """Bytes of the arrays that are in memory."""
        return sum(array.size for array in list(self._alive))


class Array(np.ndarray):
    """An array that sets can hold."""

    def __hash__(self):
        return id(self)

    def __eq__(self, other):
        return self is other


class Told:
    """A pool over a shelf that says what its models take, and a clock of the test's."""

    def __init__(self, budget, shelf, **options):
        self.clock = FakeClock()
        self.shelf = shelf
        options = {"size": shelf.size, "clock": self.clock, "max_wait": LIMIT} | options
        self.pool = ms.ModelPool(shelf, budget=budget, **options)

    def __enter__(self):
        return self.pool, self.shelf, self.clock

    def __exit__(self, *_):
        self.pool.close(timeout=LIMIT)


def told(budget, shelf=None, **options):
    """Make a pool with models of 100 bytes called a to f, if no shelf is given."""
    return Told(budget, shelf or Shelf(**dict.fromkeys("abcdef", 100)), **options)


def gate():
    return GatedPredictor(limit=LIMIT)


class Forks:
    """A model that forks when it is told to: the child's call goes on, the parent's hears of it.

    In the child ``tell(work)`` gives the parent's call the repr of ``work()`` as its answer.
    """

    def __init__(self):
        self._writer = None

    def __call__(self, x):
        if x != "fork":
            return x() if callable(x) else x
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # other threads run
            child = os.fork()
        if not child:
            self._writer = writer
            return None
        os.close(writer)
        ready, _, _ = select.select([reader], [], [], LIMIT)
        if not ready:
            os.kill(child, 9)
        said = os.read(reader, 10_000).decode() if ready else f"nothing in {LIMIT} s"
        os.close(reader)
        os.waitpid(child, 0)
        return said

    def tell(self, work):
        if self._writer is None:
            return
        try:
            said = repr(work())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
            said = repr(error)
        os.write(self._writer, said.encode())
        os._exit(0)
