"""Lanes are told by the user's own code: it may call again, and it may fail."""

import pytest

import modelserve as ms
from modelserve.errors import Overloaded
from tests.batcher.asking import LIMIT, outcome, same


class Told:
    """A layout whose lanes are told by a function."""

    def __init__(self, lane):
        self.lane = lane

    def join(self, items):
        return items

    def cut(self, result, items):
        return result


class Unlike:
    """A lane that cannot be compared."""

    def __hash__(self):
        return 1

    def __eq__(self, other):
        raise ValueError("cannot be compared")


def test_who_calls_again_while_its_lane_is_told_fills_the_queue_like_anybody(gate):
    inner = []

    def lane(x):
        if x == "outer":
            inner.append(p.submit("inner"))

    p = ms.DynamicBatcher(gate, max_queue_size=1, layout=Told(lane))
    first = p.submit("first")
    gate.wait_entered(1)
    with pytest.raises(Overloaded, match="has 1 calls queued"):
        p.submit("outer")
    gate.open()

    assert [outcome(future) for future in (first, *inner)] == ["first", "inner"]


def test_lanes_that_cannot_be_compared_fail_those_who_have_them_and_nobody_waits(gate):
    p = ms.DynamicBatcher(gate, layout=Told(lambda x: Unlike() if x else None), name="odd")
    first = p.submit(0)
    gate.wait_entered(1)
    odd = [p.submit(x) for x in (1, 2, 3)]
    gate.open()

    assert outcome(first) == 0
    for future in odd:
        with pytest.raises(RuntimeError, match="'odd' could not finish a batch") as caught:
            future.result(LIMIT)
        assert isinstance(caught.value.__cause__, ValueError)
    assert p.stats.queued == 0
    assert outcome(p.submit(0)) == 0


def test_lanes_that_are_not_told_fail_their_own_caller_alone():
    def lane(x):
        if x == "bad":
            raise ms.BadInput("no lane")

    p = ms.DynamicBatcher(same, layout=Told(lane))
    with pytest.raises(ms.BadInput, match="no lane"):
        p.submit("bad")

    assert p("good") == "good"
    assert p.stats.calls == 1
