"""Loaders that are looked after in virtual time, and files that change."""

import math
import os
import random
import threading

import numpy as np
import pytest

from modelserve.testing import FakeClock
from tests.loader.crowds import LIMIT


class ByHand:
    """What looks after loaders, driven by the test: time goes by in steps, and loads end in it."""

    def __init__(self):
        self.clock = FakeClock()
        self._due = {}

    def at(self, tick, seconds):
        """Call a method in so many seconds, if not earlier."""
        due = self.clock() + seconds
        self._due[tick] = min(due, self._due.get(tick, due))

    def drop(self, tick):
        """Call a method no more."""
        self._due.pop(tick, None)

    @property
    def tended(self):
        """How many loaders are looked after."""
        return len(self._due)

    def step(self):
        """Go on to whoever is due next and let a load that this begins end."""
        tick = min(self._due, key=self._due.get)
        self.clock.advance(max(0.0, self._due[tick] - self.clock()))
        self._due[tick] = math.inf  # until it says more, unless it is dropped meanwhile
        seconds = tick()
        if seconds is not None and tick in self._due:
            self.at(tick, seconds)
        join_loads()
        if self._due.get(tick) == math.inf:
            self.drop(tick)

    def run(self, seconds):
        """Let so many seconds go by."""
        end = self.clock() + seconds
        while self._due and min(self._due.values()) <= end:
            self.step()
        self.clock.advance(max(0.0, end - self.clock()))


def join_loads():
    """Wait until nothing is loaded in the background."""
    for thread in threading.enumerate():
        if thread.name.startswith("modelserve-load-"):
            thread.join(LIMIT)
            assert not thread.is_alive()


@pytest.fixture
def hand(monkeypatch):
    """Return what looks after all loaders that are made in this test, by hand."""
    made = ByHand()
    monkeypatch.setattr("modelserve.loader._core.scheduler", made)
    return made


def luck(seed):
    return random.Random(seed)  # noqa: S311 - no secret


def seed(loader, number=0):
    """Have a loader draw the same numbers in every run of a test; return it."""
    loader._core._care._rng = luck(number)
    return loader


class Written:
    """A file that is written in place or replaced, each time with a time of change of its own."""

    def __init__(self, path):
        self.path = path
        self._seconds = 1_000_000_000

    def stamp(self, *, older=False):
        """Set the time of change: clocks of file systems may tick too seldom for a test."""
        self._seconds += 1
        seconds = 1_000 if older else self._seconds
        os.utime(self.path, (seconds, seconds))

    def overwrite(self, data, start=0):
        """Write bytes over those from a place on."""
        with self.path.open("r+b") as file:
            file.seek(start)
            file.write(data)
        self.stamp()

    def write(self, data):
        """Write all of it."""
        self.path.write_bytes(data)
        self.stamp()

    def replace(self, data, *, older=False):
        """Write elsewhere and rename."""
        elsewhere = self.path.with_name("elsewhere")
        elsewhere.write_bytes(data)
        elsewhere.replace(self.path)
        self.stamp(older=older)


def rows(*values):
    return np.array([[value, value] for value in values], np.float32)


def first(y):
    """Return the number that stands first in an answer."""
    return float(np.ravel(y)[0])


def whole(models, number):
    """Return the bytes of a model that gives a number from its first bytes and from its last."""
    numbers = np.full(512, number, np.float32)
    return models.model(
        [
            ("ReduceMean", ["first"], ["f"], {"keepdims": 0}),
            ("ReduceMean", ["last"], ["l"], {"keepdims": 0}),
            ("Mul", ["x", "f"], ["y"]),
            ("Mul", ["x", "l"], ["z"]),
        ],
        [models.value("x")],
        [models.value("y"), models.value("z")],
        [("first", numbers), ("last", numbers)],
    )
