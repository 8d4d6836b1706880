"""A call that is staged at whatever moment a worker parks is run."""

from collections import deque

import pytest

import modelserve as ms
from tests.batcher.asking import LIMIT, same


class Watched(deque):
    """What is staged, and a call that comes just when a worker has looked how much that is."""

    def __init__(self, come):
        super().__init__()
        self.come = come
        self.looks = 0

    def __len__(self):
        found = super().__len__()
        self.looks += 1
        self.come(self.looks, found)
        return found


@pytest.mark.parametrize("last", range(1, 20))
def test_a_call_that_is_staged_just_after_any_look_is_run(last):
    came = []

    def come(look, found):
        if look == last and not found:
            came.append(p.submit("late"))

    p = ms.DynamicBatcher(same)
    p("armed")
    queues = p._queues
    queues.workers.staged = Watched(come)
    queues.core.door.staged[:] = [queues.workers.staged]

    for x in range(3):
        assert p(x) == x
        assert [future.result(LIMIT) for future in came] == ["late"] * len(came)

    assert queues.workers.staged.looks >= last
