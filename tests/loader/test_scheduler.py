"""The one thread that looks after all loaders: it calls who is due, and ends with nothing to do."""

import gc
import os
import sys
import threading
import weakref

import pytest

from modelserve.loader._scheduler import Scheduler
from tests.loader.crowds import LIMIT, until
from tests.support.processes import fresh, in_child


class Job:
    """Something to look after: says ``waits`` one after the other, then None."""

    def __init__(self, *waits):
        self._waits = iter(waits)
        self.calls = 0
        self.threads = set()
        self.over = threading.Event()

    def tick(self):
        self.calls += 1
        self.threads.add(threading.current_thread())
        wait = next(self._waits, None)
        if isinstance(wait, BaseException):
            raise wait
        if callable(wait):
            wait = wait()
        if wait is None:
            self.over.set()
        return wait


def running():
    return {t for t in threading.enumerate() if t.name == "modelserve-reload"}


@pytest.fixture
def scheduler():
    """Return a scheduler of this test; its thread has ended when the test ends."""
    before = running()
    made = Scheduler()
    yield made
    until(lambda: not running() - before)
    assert made._thread is None


def test_it_calls_again_as_it_is_told_to(scheduler):
    job = Job(0.0, 0.001, 0.0)
    scheduler.at(job.tick, 0.0)

    assert job.over.wait(LIMIT)
    assert job.calls == 4


def test_one_thread_serves_all_in_the_order_they_are_due(scheduler):
    order, jobs = [], []
    for i, seconds in enumerate([0.2, 0.1, 0.3]):
        job = Job(lambda i=i: order.append(i))
        jobs.append(job)
        scheduler.at(job.tick, seconds)

    assert all(job.over.wait(LIMIT) for job in jobs)
    assert order == [1, 0, 2]
    assert len(set().union(*(job.threads for job in jobs))) == 1


def test_who_is_due_earlier_than_was_said_is_called_earlier(scheduler):
    job = Job(3600.0)
    scheduler.at(job.tick, 3600.0)
    scheduler.at(job.tick, 0.0)
    until(lambda: job.calls == 1)
    scheduler.at(job.tick, 0.0)

    assert job.over.wait(LIMIT)


def test_a_later_time_takes_no_earlier_one_back(scheduler):
    job = Job()
    scheduler.at(job.tick, 0.01)
    scheduler.at(job.tick, 3600.0)

    assert job.over.wait(LIMIT)


def test_what_is_said_while_it_is_called_counts(scheduler):
    def ask():
        scheduler.at(job.tick, 0.0)

    job = Job(ask)
    scheduler.at(job.tick, 0.0)
    until(lambda: job.calls == 2)

    assert job.over.is_set()


def test_whoever_is_dropped_is_called_no_more(scheduler):
    job = Job()
    scheduler.at(job.tick, 3600.0)
    assert running()
    scheduler.drop(job.tick)
    scheduler.drop(job.tick)

    assert job.calls == 0


def test_who_goes_just_after_it_was_dropped_is_forgotten_without_a_look(scheduler):
    job, other = Job(), Job()
    scheduler.at(other.tick, 3600.0)
    with scheduler._lock:  # so that nobody forgets it meanwhile
        scheduler.drop(job.tick)
        del job
        gc.collect()
    scheduler.at(other.tick, 3600.0)

    assert running()
    assert not scheduler._left
    scheduler.drop(other.tick)


def test_whoever_is_dropped_while_it_is_called_is_called_no_more(scheduler):
    def leave():
        scheduler.drop(job.tick)
        return 0.0

    job = Job(leave)
    scheduler.at(job.tick, 0.0)
    until(lambda: scheduler._thread is None)

    assert job.calls == 1


def test_it_holds_nobody_alive_and_ends_at_once_when_the_last_is_gone(scheduler):
    job = Job()
    gone = weakref.ref(job)
    scheduler.at(job.tick, 3600.0)
    del job

    assert gone() is None
    until(lambda: scheduler._thread is None)


def test_those_who_go_while_it_looks_who_is_due_do_not_end_it(monkeypatch):
    scheduler, kept = Scheduler(), [Job() for _ in range(500)]
    monkeypatch.setattr(scheduler, "_start", lambda: None)
    for job in kept:
        scheduler.at(job.tick, 3600.0)
    enabled, before = gc.isenabled(), gc.get_threshold()
    try:
        for allocations in range(20, 600, 20):  # the collector comes at any place of the look
            gc.disable()
            for _ in range(20):
                job = Job()
                job.me = job
                scheduler.at(job.tick, 3600.0)
            del job
            gc.set_threshold(gc.get_count()[0] + allocations)
            gc.enable()
            assert scheduler._step() > 0
    finally:
        gc.set_threshold(*before)
        (gc.enable if enabled else gc.disable)()
    gc.collect()
    scheduler._step()

    assert len(scheduler._due) == len(kept)


def test_whoever_goes_while_called_is_gone(scheduler):
    job = Job(0.0)
    gone = weakref.ref(job)
    jobs = [job]
    job._waits = iter([lambda: jobs.clear() or 0.0])
    scheduler.at(job.tick, 0.0)
    del job
    until(lambda: gc.collect() >= 0 and gone() is None)

    assert jobs == []


def test_it_begins_again_after_it_ended(scheduler):
    for _ in range(3):
        job = Job()
        scheduler.at(job.tick, 0.0)
        assert job.over.wait(LIMIT)
        until(lambda: scheduler._thread is None)


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit("broken")])
def test_who_raises_is_told_and_called_again_later(scheduler, caplog, error):
    job, other = Job(error), Job()
    scheduler.at(job.tick, 0.0)
    until(lambda: "a loader could not be looked after" in caplog.text)
    scheduler.at(other.tick, 0.0)

    assert other.over.wait(LIMIT)
    assert f"{type(error).__name__}: broken" in caplog.text
    scheduler.at(job.tick, 0.0)
    assert job.over.wait(LIMIT)


def test_where_no_thread_is_to_be_had_it_is_told_and_begun_later(scheduler, caplog):
    job = Job()
    before = threading.stack_size(2**46 if sys.maxsize > 2**32 else 2**30)
    try:
        scheduler.at(job.tick, 0.0)
    finally:
        threading.stack_size(before)
    assert "models are not reloaded: no thread could be started" in caplog.text
    scheduler.at(job.tick, 0.0)

    assert job.over.wait(LIMIT)


def test_whoever_comes_after_its_thread_died_starts_another(scheduler, caplog):
    job, step = Job(), scheduler._step

    def fail_once():
        del scheduler._step
        raise MemoryError

    scheduler._step = fail_once
    scheduler.at(job.tick, 0.0)
    until(lambda: "models are not reloaded until one" in caplog.text)
    assert scheduler._step == step
    scheduler.at(job.tick, 0.0)

    assert job.over.wait(LIMIT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_goes_on(scheduler):
    job = Job(3600.0)
    scheduler.at(job.tick, 3600.0)

    def work():
        until(lambda: job.calls)
        [thread] = job.threads
        return thread.name, thread.is_alive()

    with scheduler._lock:  # held by nobody in the child
        assert in_child(work) == repr(("modelserve-reload", True))
    assert job.calls == 0
    scheduler.drop(job.tick)
    until(lambda: scheduler._thread is None)
    assert in_child(lambda: scheduler._thread) == "None"


def test_a_system_that_does_not_fork_needs_no_hook(scheduler, monkeypatch):
    monkeypatch.delattr(os, "register_at_fork", raising=False)
    job = Job()
    scheduler.at(job.tick, 0.0)

    assert job.over.wait(LIMIT)


def test_the_end_of_a_process_says_nothing():
    code = """
import os
import modelserve as ms

os.dup2(1, 2)
one = ms.ModelLoader(lambda: [0] * 10, predict=lambda m, x: x, name="a", reload=10.0)
pool = ms.ModelPool(lambda n: one, budget=30, weigh=lambda p: 10)
pool["a"](1)
two = ms.ModelLoader(lambda: [0] * 10, predict=lambda m, x: x, name="b", reload=10.0)
other = ms.ModelPool(lambda n: two, budget=30, weigh=lambda p: 10)
two.reload()
"""
    assert not fresh(code)
