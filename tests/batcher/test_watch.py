"""Calls on threads that last too long: who is told, who is served, how many may hang."""

import gc
import threading
from concurrent.futures import Future

import pytest

import modelserve as ms
from modelserve.testing import FakeClock, GatedPredictor
from tests.batcher.asking import LIMIT, in_threads, outcome, refusing
from tests.batcher.hanging import BLINK, Hanging, hung, watch_looked, watched


def test_the_callers_of_a_call_that_hangs_are_told_and_the_others_served(model, clock):
    p = watched(model, clock, max_batch_size=2)
    first = p.submit("hangs")
    model.gate.wait_entered(1)
    others = [p.submit(n) for n in range(3)]
    clock.advance(2 * BLINK)

    assert isinstance(outcome(first), ms.Stuck)
    assert str(outcome(first)) == "a call of 'model' had not ended after 0.001 s: given up"
    assert [outcome(future) for future in others] == [0, 1, 2]
    assert (p.stats.stuck, p.stats.errors, p.stats.running) == (1, 1, 0)
    assert p.stats.calls == 4
    assert (p.stats.batches, p.stats.items) == (2, 3)


def test_callers_that_hang_together_get_an_error_each(model, clock):
    p = watched(model, clock, max_batch_size=2, max_wait=3600.0)
    futures = [p.submit("hangs"), p.submit("too")]
    model.gate.wait_entered(1)
    clock.advance(2 * BLINK)
    one, two = map(outcome, futures)

    assert type(one) is type(two) is ms.Stuck
    assert one is not two
    assert (p.stats.stuck, p.stats.errors) == (1, 2)


def test_a_call_that_lasts_as_long_as_it_may_is_left_alone(clock):
    gate = GatedPredictor()
    p = watched(gate, clock, max_batch_size=1)
    looked = threading.Event()
    future = p.submit("slow")
    gate.wait_entered(1)
    clock.advance(BLINK / 2)
    watch_looked(p, looked)
    assert looked.wait(LIMIT)
    gate.open()

    assert outcome(future) == "slow"
    assert p.stats.stuck == 0


def test_what_a_call_answers_after_it_was_given_up_is_heard_by_nobody(model, clock):
    p = watched(model, clock)
    future = p.submit("hangs")
    assert isinstance(hung_again(future, model, clock), ms.Stuck)
    [late] = model.threads
    model.gate.open()
    late.join(LIMIT)

    assert not late.is_alive()
    assert isinstance(outcome(future), ms.Stuck)
    assert p("fine") == "fine"
    assert (p.stats.batches, p.stats.items, p.stats.errors) == (1, 1, 1)


def hung_again(future, model, clock):
    model.gate.wait_entered(1)
    clock.advance(2 * BLINK)
    return outcome(future)


def test_what_a_call_raises_after_it_was_given_up_is_heard_by_nobody(clock, gates):
    model = Hanging(refusing({"hangs"}, ValueError("late")))
    gates(lambda: model.gate)
    p = watched(model, clock)
    assert isinstance(hung(p, model, clock), ms.Stuck)
    [late] = model.threads
    model.gate.open()
    late.join(LIMIT)

    assert not late.is_alive()
    assert p.stats.errors == 1


class SlowToTell(ValueError):
    """An error that takes time when it is told where it was raised."""

    def add_note(self, note):
        if "'rank'" in note:
            self.args[0](note)


@pytest.mark.parametrize("fails", [False, True])
def test_a_call_given_up_while_its_answer_is_looked_at_is_given_up(clock, gates, fails):
    gate = gates(GatedPredictor)

    class SlowToCut:
        def lane(self, item):
            return None

        def join(self, items):
            return items

        def cut(self, result, items):
            if result == ["hangs"]:
                gate("cut")
            return result

    threads = []

    def predict(xs):
        threads.append(threading.current_thread())
        if fails and xs == ["hangs"]:
            raise SlowToTell(gate)
        return xs

    p = watched(predict, clock, layout=SlowToCut())
    future = p.submit("hangs")
    gate.wait_entered(1)
    [late] = threads
    clock.advance(2 * BLINK)
    assert isinstance(outcome(future), ms.Stuck)
    gate.open()
    late.join(LIMIT)

    assert not late.is_alive()
    assert p("fine") == "fine"
    assert (p.stats.errors, p.stats.running, p._queues.core._untold) == (1, 0, 0)


def test_a_failure_given_up_before_it_is_halved_is_not_run_again(clock, gates):
    gate = gates(GatedPredictor)

    calls, threads = [], []

    def predict(xs):
        calls.append(xs)
        threads.append(threading.current_thread())
        raise SlowToTell(gate)

    p = watched(predict, clock, max_batch_size=2, max_wait=3600.0)
    futures = [p.submit(0), p.submit(1)]
    gate.wait_entered(1)
    [late] = threads
    clock.advance(2 * BLINK)

    assert [type(outcome(future)) for future in futures] == [ms.Stuck] * 2
    gate.open()
    late.join(LIMIT)
    assert not late.is_alive()
    assert calls == [[0, 1]]


def test_a_clock_that_breaks_as_the_watch_looks_gives_nobody_up_until_it_goes_again(model):
    broken = threading.Event()
    now = FakeClock()

    def clock():
        if breaks and threading.current_thread().name != main:
            broken.set()
            raise OSError("the clock is broken")
        return now()

    breaks, main = False, threading.current_thread().name
    p = watched(model, clock)
    future = p.submit("hangs")
    model.gate.wait_entered(1)
    breaks = True
    assert broken.wait(LIMIT)
    breaks = False
    now.advance(2 * BLINK)

    assert isinstance(outcome(future), ms.Stuck)
    assert p("fine") == "fine"


def test_each_of_several_calls_has_its_own_time(model, clock):
    p = watched(model, clock, workers=2)
    first = p.submit("hangs")
    model.gate.wait_entered(1)
    clock.advance(BLINK / 2)
    second = p.submit("hangs")
    model.gate.wait_entered(2)
    clock.advance(BLINK / 2)

    assert isinstance(outcome(first), ms.Stuck)
    assert not second.done()
    clock.advance(BLINK / 2)
    assert isinstance(outcome(second), ms.Stuck)
    assert p("fine") == "fine"


def test_a_warm_call_that_hangs_is_counted_nowhere(model, clock):
    p = watched(model, clock)

    def warm():
        with pytest.raises(ms.Stuck):
            p.warm("hangs")

    def give_up():
        model.gate.wait_entered(1)
        clock.advance(2 * BLINK)

    in_threads(warm, give_up)
    assert (p.stats.stuck, p.stats.errors, p.stats.calls) == (0, 0, 0)


def test_close_does_not_wait_for_a_call_that_hangs(model, clock):
    p = watched(model, clock)
    assert isinstance(hung(p, model, clock), ms.Stuck)
    p.close(timeout=LIMIT)

    assert p.stats.running == 0
    with p:
        assert p("fine") == "fine"


def test_a_call_that_hangs_keeps_no_batcher_from_being_dropped(model, clock):
    p = watched(model, clock)
    future = p.submit("hangs")
    model.gate.wait_entered(1)
    [late] = model.threads
    del p
    gc.collect()
    clock.advance(2 * BLINK)

    assert isinstance(outcome(future), ms.Stuck)
    model.gate.open()
    late.join(LIMIT)
    assert not late.is_alive()


def test_a_call_that_comes_back_just_when_it_is_given_up_keeps_its_thread(model, clock):
    p = watched(model, clock)
    future = p.submit("hangs")
    model.gate.wait_entered(1)
    served = Future()

    def come_back(_):
        """Run by whoever gives up, between telling the callers and replacing the worker."""
        model.gate.open()
        served.set_result(p.submit("next").result(LIMIT))

    future.add_done_callback(come_back)
    clock.advance(2 * BLINK)

    assert isinstance(outcome(future), ms.Stuck)
    assert outcome(served) == "next"
    assert p("fine") == "fine"
    assert set(model.threads) == {model.threads[0]}


def test_a_call_that_comes_back_just_before_it_is_given_up_is_answered(model, clock):
    p = watched(model, clock, workers=2)
    futures = [p.submit("hangs"), p.submit("hangs")]
    model.gate.wait_entered(2)

    def come_back(given_up):
        """Run by whoever gives up, between the one call and the other."""
        model.gate.open()
        [other] = set(futures) - {given_up}
        other.result(LIMIT)

    for future in futures:
        future.add_done_callback(lambda future: future.exception() and come_back(future))
    clock.advance(2 * BLINK)
    answers = [outcome(future) for future in futures]

    assert "hangs" in answers
    assert sorted(type(answer).__name__ for answer in answers) == ["Stuck", "str"]
    assert p("fine") == "fine"
    assert (p.stats.stuck, p.stats.errors, p.stats.running) == (1, 1, 0)
