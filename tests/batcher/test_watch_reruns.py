"""Runs that hang after the first of a batch has failed: each has its own time."""

import threading
from concurrent.futures import Future

import modelserve as ms
from modelserve.testing import GatedPredictor
from tests.batcher.asking import LIMIT, outcome
from tests.batcher.hanging import BLINK, Hanging, watch_looked, watched


def test_those_who_wait_to_be_run_again_are_served_when_a_rerun_hangs(clock, gates):
    def fails(xs):
        if len(xs) == 4:
            raise ValueError("poison")
        return xs

    model = Hanging(fails, hangs=lambda xs: xs == [0, 1])
    gates(lambda: model.gate)
    p = watched(model, clock, max_batch_size=4, max_wait=1.0)
    futures = [p.submit(n) for n in range(4)]
    model.gate.wait_entered(1)
    clock.advance(1.0)

    assert [type(outcome(future)) for future in futures[:2]] == [ms.Stuck] * 2
    assert [outcome(future) for future in futures[2:]] == [2, 3]
    assert model.calls == [[0, 1, 2, 3], [0, 1], [2, 3]]
    p.close(timeout=LIMIT)
    assert p._queues.core._untold == 0


def test_a_rerun_has_its_own_time_however_long_the_hook_of_the_first_run_lasts(clock, gates):
    """A look that comes between two runs of a batch finds nobody to give up, and looks again."""

    def fails(xs):
        if len(xs) > 1:
            raise ValueError("poison")
        return xs

    model = Hanging(fails, hangs=lambda xs: xs == ["hangs"])
    gates(lambda: model.gate)
    hook = gates(GatedPredictor)
    p = watched(
        model,
        clock,
        max_batch_size=2,
        max_wait=3600.0,
        on_event=lambda event: event.size == 2 and hook(event),
    )
    futures = [p.submit("hangs"), p.submit("fine")]
    hook.wait_entered(1)
    clock.advance(2 * BLINK)  # the run is over, and the next has not begun
    looked = threading.Event()
    watch_looked(p, looked)
    assert looked.wait(LIMIT)
    hook.open()
    model.gate.wait_entered(1)
    looked.clear()
    assert looked.wait(LIMIT)
    assert not futures[0].done()
    clock.advance(2 * BLINK)
    p.close(timeout=LIMIT)

    assert [type(outcome(future)) for future in futures] == [ms.Stuck, str]


def test_a_rerun_that_began_since_the_watch_looked_is_left_alone(clock, gates):
    def fails(xs):
        if len(xs) > 1:
            raise ValueError("poison")
        return xs

    model = Hanging(fails, hangs=lambda xs: "hangs" in xs or xs == ["slow"])
    gates(lambda: model.gate)
    hook = gates(GatedPredictor)
    p = watched(
        model,
        clock,
        max_batch_size=2,
        workers=8,
        max_wait=3600.0,
        on_event=lambda event: event.size == 2 and event.error and hook(event),
    )
    slow = [p.submit(x) for x in ["slow", "fine"] * 7]
    hook.wait_entered(7)
    stuck = [p.submit("hangs"), p.submit("hangs")]
    model.gate.wait_entered(1)

    def go_on(_):
        """Run by whoever gives up, after this batch and before some of the others."""
        hook.open()
        model.gate.wait_entered(8)
        went_on.set_result(None)

    went_on = Future()
    stuck[0].add_done_callback(go_on)
    clock.advance(2 * BLINK)
    assert outcome(went_on) is None
    assert isinstance(outcome(stuck[1]), ms.Stuck)
    model.gate.open()

    assert [outcome(future) for future in slow] == ["slow", "fine"] * 7
    assert p.stats.stuck == 1
