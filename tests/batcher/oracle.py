"""What is known of a trial, and what must hold of it."""

import asyncio
import itertools
import math
from collections import Counter

import numpy as np

from modelserve.batcher import Pad
from modelserve.predictor._aio import TICK
from tests.support.virtual import here

NEVER = math.inf
SPOILS = {
    "Poison": {"poison"},
    "OSError": {"disk"},
    "RuntimeError": {"cancels"},
    "BadOutput": {"short", "long", "none"},
    "MemoryError": {"greedy"},
}
"""With which error a whole batch ends, by what is in it."""
ISOLATED = {"Poison", "RuntimeError", "MemoryError"}
"""Errors after which a batch is run again in parts, where that is wanted."""
OWN = {"odd": "Poison", "poison": "Poison", "cancels": "RuntimeError"}
"""With which error an item ends its own call alone."""

ANSWERED = {"fine", "stubborn"}
"""Items that get answers: a stubborn call that is cancelled at its deadline ends with some."""


def item_of(call):
    """Make a call's input: a number, or an array of the shape that is its lane."""
    return np.full(call.lane, call.number) if call.lane else call.number


def number_of(x):
    return int(x[0]) if isinstance(x, np.ndarray) else x


def answer_to(x):
    return x * 10


class Call:
    """One item, and what became of it."""

    def __init__(self, number, kind, lane, face, asked):
        self.number = number
        self.kind = kind
        self.lane = lane
        self.face = face
        self.asked = asked
        self.pushed = self.turn = self.ending = self.ended = None
        self.deadline = self.left = NEVER
        self.runs = []

    def __repr__(self):
        asked = f"{self.face} {self.number} ({self.kind}, lane {self.lane}, {self.asked})"
        return f"<{asked} at {self.pushed}, {self.ending} at {self.ended}>"


class Batch:
    """One call of the model. A warm one has no calls."""

    def __init__(self, calls, began):
        self.calls = calls
        self.began = began
        self.ended = NEVER
        self.kinds = {call.kind for call in calls}
        self.repeats = any(call.runs for call in calls)
        for call in calls:
            call.runs.append(self)

    def __repr__(self):
        return f"<batch {[call.number for call in self.calls]} from {self.began} to {self.ended}>"


class Oracle:
    """What must hold while a trial runs, and when it is over."""

    def __init__(self, trial):
        self.trial = trial
        self.options = options = trial.options
        self.exact = not here()._pace
        """Whether steps take no time, so that what is due at a time is done at that time."""
        self.bounded = options["max_queue_size"] < 100 or options["max_queue_bytes"] < 10_000
        """Whether the queue can be full, so that nobody knows when a call is let in."""
        self.pads = isinstance(options["layout"], Pad)
        self.one_lane = options["layout"] is not None
        self.hands_on = options["max_run"] is not None
        """Whether a call of the model is a task of its own, so that it begins after its cut."""
        self.sure = self.exact or not self.hands_on
        """Whether a call of the model begins at the time of its cut."""
        self.max_run = (
            options["max_run"] - (1e-9 if self.exact else 0.5) if self.hands_on else NEVER
        )
        self.caps = {}
        """How large batches may be that begin after a time at which one took too much memory."""
        self.faults = []
        self.errors = []
        self.turns = itertools.count()

    def starts(self, batch, size):
        """Check a batch that begins; what is wrong is kept, as the batcher takes what is raised."""
        try:
            self.may_start(batch, size)
        except AssertionError as fault:
            self.faults.append(fault)

    def may_start(self, batch, size):
        now, calls = batch.began, batch.calls
        running = [
            b for b in self.trial.batches if b.ended == NEVER and now < b.began + self.max_run
        ]
        assert len(running) < self.options["workers"], "too many batches at once"
        assert size == len(calls) or not calls, "a call and a warm call in one batch"
        assert self.room(batch) <= self.options["max_batch_size"], f"{batch} is too large"
        assert len(set(calls)) == len(calls), "an item stands in its batch twice"
        if not self.one_lane:
            assert len({call.lane for call in calls}) <= 1, "a batch of two lanes"
        if not batch.repeats and self.exact:
            cap = min((cap for since, cap in self.caps.items() if since < now), default=NEVER)
            assert len(calls) <= cap, f"{batch} is larger than one that took too much memory"
        for call in calls if self.sure else []:
            assert now < call.deadline, f"{call} ran after its deadline"
            if self.exact or call.face == "acall":  # others leave in a step of their own
                assert now <= call.left, f"{call} ran after its caller had left"
            assert call.ending is None or now == call.ended, f"{call} ran though it was over"

    def takes_too_much(self, batch, size):
        batch.kinds.add("greedy")
        now = here().time()
        heard = now - batch.began < self.max_run
        if heard and self.options["size"] is None:
            self.caps[now] = min(self.caps.get(now, NEVER), max(1, size // 2))

    def room(self, batch):
        """Say what a batch takes, as ``max_batch_size`` bounds it."""
        size = self.options["size"]
        if size is None:
            return len(batch.calls)
        sizes = [size(item_of(call)) for call in batch.calls]
        return len(sizes) * max(sizes, default=0) if self.pads else sum(sizes)

    def asks(self, call):
        call.pushed = here().time()
        call.turn = next(self.turns)

    def came(self, call, y):
        """Check that what a caller got is its own, and note it."""
        if isinstance(y, Exception):
            assert all(y is not error for error in self.errors), f"{call} shares {y!r}"
            self.errors.append(y)
            self.ended(call, self.checked(call, y))
            return
        assert np.array_equal(y, answer_to(item_of(call))), f"{call} got {y!r}"
        assert call.runs, "an answer out of nothing"
        assert call.kind in ANSWERED, f"{call} got an answer where there is none"
        self.ended(call, "answer")

    def ended(self, call, ending):
        assert call.ending is None, "ended twice"
        call.ending = ending
        call.ended = here().time()
        if self.exact and call.face != "submit":
            assert call.ended <= call.deadline + 2 * TICK, f"{call} was held beyond its deadline"

    def checked(self, call, error):
        """Check that an error is its caller's own, and give its name."""
        name = type(error).__name__
        if name in SPOILS:
            met = set().union(*(batch.kinds for batch in call.runs))
            alone = name in ISOLATED and self.options["on_error"] == "isolate"
            allowed = OWN.get(call.kind) == name or (not alone and met & SPOILS[name])
        else:
            allowed = getattr(self, f"may_be_{name}", lambda _: False)(call)
        if not allowed:
            raise AssertionError(f"{call} ended with {error!r}") from error
        return name

    def may_be_Stuck(self, call):  # noqa: N802 - the error's name
        now = here().time()
        return any(min(batch.ended, now) - batch.began >= self.max_run for batch in call.runs)

    def may_be_DeadlineExceeded(self, call):  # noqa: N802 - as above
        """Late, or such that the answer would have been; which is checked when all is over."""
        return call.deadline < NEVER

    def may_be_Overloaded(self, call):  # noqa: N802 - as above
        waits = self.options["overflow"] == "wait" and call.face != "submit"  # which would block
        return (self.bounded and not waits) or self.options["slo"] is not None

    def may_be_Closed(self, call):  # noqa: N802 - as above
        closed, opened = self.trial.closed
        found_closed = closed <= call.pushed <= opened
        return (
            self.trial.cut_short or found_closed or (closed < NEVER and self.may_come_again(call))
        )

    def may_come_again(self, call):
        """Whether nobody knows when a call is let in: an ``amap`` that is refused tries again."""
        return self.bounded or (call.face == "amap" and self.options["slo"] is not None)

    def may_be_BadInput(self, call):  # noqa: N802 - as above
        size = self.options["size"]
        return size is not None and size(item_of(call)) > self.options["max_batch_size"]

    def recorded(self, call, record):
        """Check what a record says of the batch in which its call was answered."""
        if call.ending == "answer":
            assert record["service.batch_size"] == len(call.runs[-1].calls)
            if self.exact:
                assert record["service.queue_seconds"] >= 0

    def nothing_is_left(self):
        """Check that nothing of the batcher is on its loop any more."""
        left = [task for task in here().pending() if task is not asyncio.current_task()]
        assert not left, f"left behind: {left}"

    # When all is over

    def judge(self):
        if self.faults:
            raise self.faults[0]
        for call in self.trial.calls:
            assert call.ending is not None or call.pushed is None, f"{call} never ended"
        if self.sure and not self.pads:
            self.judge_order()
        if self.exact:
            self.judge_early()
            self.judge_haste()
        self.judge_counts()

    def judge_order(self):
        """First come, first served, among those of one lane, priority and tenant."""
        places = {}
        for place, batch in enumerate(self.trial.batches):
            for call in batch.calls:
                if self.may_come_again(call):
                    continue
                places.setdefault(call, batch.began if self.hands_on else place)
        last = {}
        for call in sorted(places, key=lambda call: call.turn):
            lane = None if self.one_lane else call.lane
            key = lane, call.asked["priority"], call.asked["tenant"]
            assert last.get(key, -NEVER) <= places[call], f"{call} was overtaken"
            last[key] = places[call]

    def judge_early(self):
        """Nobody is told before the deadline that it is over, but at a cut that others filled."""
        for call in self.trial.calls:
            if call.ending == "DeadlineExceeded" and call.ended < call.deadline:
                since = call.pushed if call.face == "amap" else call.ended  # told in order
                cuts = [b for b in self.trial.batches if since <= b.began <= call.ended]
                assert any(map(self.is_full, cuts)), f"{call} left too early"
                assert not call.runs, f"{call} was given up after it ran"

    def is_full(self, batch):
        """Say whether a batch may have had no room; of some it cannot be told from outside."""
        asked = self.options["size"], self.options["slo"]
        simple = asked == (None, None) and not self.pads and self.trial.memory == NEVER
        return not simple or len(batch.calls) == self.options["max_batch_size"]

    def judge_haste(self):
        """Nobody waits for longer than max_wait while a worker is free."""
        batches = self.trial.batches
        freed = {round(min(batch.ended, batch.began + self.max_run), 6) for batch in batches}
        for batch in batches:
            for call in batch.calls:
                late = batch.began > call.pushed + self.options["max_wait"]
                if late and call.runs[0] is batch and not self.may_come_again(call):
                    assert round(batch.began, 6) in freed, f"{call} waited for nobody"

    def judge_counts(self):
        """Compare the counts with what happened."""
        stats, ends = self.trial.p.stats, Counter(call.ending for call in self.trial.calls)
        counted = [batch for batch in self.trial.batches if batch.calls]  # a warm one is not
        longest = [batch for batch in counted if batch.ended - batch.began >= self.max_run]
        # all that were given up, and those that ended just then
        ran = {call for batch in self.trial.batches for call in batch.calls}
        assert all(batch.ended < NEVER for batch in self.trial.batches)
        assert (stats.queued, stats.running) == (0, 0), stats
        refused = ends["Overloaded"] + self.trial.refused_warm
        assert refused <= stats.refused <= refused + ends["cancelled"]
        assert 0 <= stats.padding < 1
        if not self.exact or self.trial.cut_short:
            return  # between the cut and the call a deadline passed, or the function was closed
        assert stats.stuck <= len(longest)
        assert stats.batches == len(counted) - stats.stuck
        assert stats.batches == sum(stats.batch_sizes.values()) == len(self.trial.events)
        if stats.stuck == len(longest):
            items = sum(len(batch.calls) for batch in counted if batch not in longest)
            assert stats.items == items == sum(event.size for event in self.trial.events)
        not_run = stats.expired + stats.abandoned
        ways = sum(stats.releases.values()) + stats.reruns
        if stats.stuck:  # what waited to be run again is cut anew
            assert ways <= len(counted) <= ways + stats.stuck
        else:
            assert ways == len(counted)
            assert stats.reruns == sum(batch.repeats for batch in counted)
            assert len(ran) + not_run <= stats.calls <= len(ran) + not_run + ends["Closed"]
        if not ends["cancelled"] and not ends["DeadlineExceeded"]:
            assert stats.errors == sum(ends[name] for name in (*SPOILS, "Stuck"))
            assert not_run == 0
