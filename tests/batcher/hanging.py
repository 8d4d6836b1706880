"""Calls that hang until a gate is opened, on the threads of a batcher that watches them."""

import threading

import modelserve as ms
from modelserve.testing import GatedPredictor
from tests.batcher.asking import outcome, same

BLINK = 0.001
"""Seconds of the wall clock between two looks; how long a call lasts is told by a fake one."""


class Hanging:
    """A batch function that hangs at a gate for some items, and notes where it runs."""

    __name__ = "model"

    def __init__(self, fn=same, hangs=lambda xs: "hangs" in xs):
        self.gate = GatedPredictor(fn)
        self.fn = fn
        self.hangs = hangs
        self.calls = []
        self.threads = []

    def __call__(self, xs):
        self.calls.append(list(xs))
        self.threads.append(threading.current_thread())
        return self.gate(xs) if self.hangs(xs) else self.fn(xs)


def watched(model, clock, **options):
    options = {"max_batch_size": 1, "max_run": BLINK, "name": "rank", **options}
    return ms.DynamicBatcher(model, clock=clock, **options)


def hung(p, model, clock):
    """Ask for an item whose call hangs, and return the error of that caller."""
    n = model.gate.entered
    future = p.submit("hangs")
    model.gate.wait_entered(n + 1)
    clock.advance(2 * BLINK)
    return outcome(future)


def watch_looked(p, looked):
    """Note when the watch has looked: at the clock, on the background loop."""
    core = p._queues.core
    clock = core.settings.clock

    def noting():
        looked.set()
        return clock()

    core.settings = core.settings._replace(clock=noting)
