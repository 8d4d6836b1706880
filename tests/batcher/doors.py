"""A door, its queues, and ways to pass."""

from collections import deque

from modelserve._policy.pace import Pace
from modelserve.batcher._door import Door
from modelserve.batcher._form import Form
from modelserve.batcher._item import Item
from modelserve.batcher._layout import AsList
from modelserve.batcher._settings import Settings
from modelserve.batcher._stats import Counts
from modelserve.predictor import ThreadSink
from modelserve.testing import FakeClock

MAX, BYTES = 4, 400
SMALL = BYTES // MAX


def settings_of(**options):
    form = Form(options.pop("layout", AsList()), options.pop("measure", None), 8)
    told = {
        "name": "service",
        "form": form,
        "max_wait": 0.0,
        "max_queue_size": MAX,
        "max_queue_bytes": BYTES,
        "waits": False,
        "workers": 1,
        "slo": None,
        "max_run": None,
        "isolate": True,
        "clock": FakeClock(),
        "on_event": None,
    }
    return Settings(**{**told, **options})


class Queue:
    """Where items of one loop wait."""

    def __init__(self, house):
        self.lanes = house.settings.form.lanes(house.settings.max_wait, house.pace.costs)
        self.staged = deque()

    def wake(self):
        raise AssertionError("a door wakes nobody")


class House:
    """A door, its queues, and what passes through."""

    def __init__(self, queues=1, **options):
        self.settings = settings_of(**options)
        self.pace = Pace(self.settings.slo, 8, self.settings.workers)
        self.counts = Counts()
        self.door = Door(self.settings, self.pace, self.counts)
        self.queues = [Queue(self) for _ in range(queues)]
        for queue in self.queues:
            self.door.add(queue)

    def enter(self, item, at=0, *, seated=None, busy=False):
        return self.door.enter(item, self.queues[at], seated, busy=busy)

    def enters(self, count, nbytes=0):
        return [self.enter(item(n, nbytes)) for n in range(count)]

    def leave(self, count=1, at=0):
        """Take from a queue who is next, and make room; return their names."""
        lanes = self.queues[at].lanes
        lanes.limit = count
        items = lanes.cut(0.0)
        self.door.leave(items)
        return [i.x for i in items]


def item(x, nbytes=0, *, size=1.0, scope=None, sink=None):
    made = Item(x, sink or ThreadSink(), None, 0.0, None, scope)
    made.nbytes = nbytes if nbytes > SMALL else 0
    made.size = size
    return made


def learned(house, seconds=1.0):
    """Let it know that every batch takes so long."""
    for size in (1, 2, 4, 8) * 20:
        house.pace.costs.observe(size, seconds)
    return house
