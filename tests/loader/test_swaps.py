"""Two hundred changes while threads and tasks call: nobody notices."""

import asyncio
import gc
import itertools
import os
import threading
import weakref
from weakref import WeakMethod

import pytest

import modelserve as ms
from modelserve.events import Loaded, LoadFailed, RolledBack
from modelserve.loader._scheduler import scheduler
from modelserve.testing import EventLog
from tests.formats import models
from tests.loader.crowds import LIMIT, start, until
from tests.loader.tending import Written, first, hand, join_loads, rows, seed
from tests.support.processes import in_child

assert hand  # a fixture

SWAPS = 200


def test_no_call_fails_while_models_change_and_each_tenth_is_bad(tmp_path, hand):
    file, log, versions = Written(tmp_path / "ranker.onnx"), EventLog(), []
    file.replace(models.times(0.0))
    loader = ms.ModelLoader(file.path, reload=ms.OnChange(), clock=hand.clock, on_event=log)
    loader.get()
    over = threading.Event()

    def call():
        answers = []
        while not over.is_set():
            answers.append(first(loader(rows(1))))
        return answers

    async def acall():
        async def one():
            answers = []
            while not over.is_set():
                answers.append(first(await loader.acall(rows(1))))
            return answers

        return itertools.chain(*await asyncio.gather(*(one() for _ in range(4))))

    callers = [start(call), start(call), start(lambda: asyncio.run(acall()))]
    for number in range(1, SWAPS + 1):
        versions.append(weakref.ref(loader._shelf.now))
        file.replace(b"bad" * number if number % 10 == 0 else models.times(float(number)))
        hand.run(2)
        until(lambda: loader.stats.loads + loader.stats.failures > len(versions))
    over.set()
    answers = [caller.result(LIMIT) for caller in callers]

    assert all(sorted(one) == one for one in answers[:2])
    assert set().union(*answers) <= {float(n) for n in range(SWAPS) if n == 0 or n % 10}
    assert len(log.of(LoadFailed)) == SWAPS // 10
    assert len(log.of(Loaded)) == 1 + SWAPS - SWAPS // 10
    kept = {loader._shelf.now, loader._shelf.before}
    until(lambda: gc.collect() >= 0 and {ref() for ref in versions} - {None} <= kept)


def test_nobody_is_answered_by_what_was_rolled_back_while_reloads_go_on(tmp_path, hand):
    file, log = Written(tmp_path / "ranker.onnx"), EventLog()
    file.replace(models.times(1.0))
    loader = ms.ModelLoader(file.path, reload=ms.OnChange(), clock=hand.clock, on_event=log)
    loader.get()
    for number in range(2, 22):
        file.replace(models.times(float(number)))
        hand.run(2)
        loader.rollback()
        hand.run(5)
        assert first(loader(rows(1))) == 1.0

    assert len(log.of(RolledBack)) == 20
    assert len(log.of(Loaded)) == 21


def test_reloads_rollbacks_and_looks_at_once_leave_one_version_that_serves(tmp_path, hand):
    file = Written(tmp_path / "ranker.onnx")
    file.replace(models.times(1.0))
    loader = ms.ModelLoader(file.path, reload=ms.OnChange(), clock=hand.clock)
    loader.get()

    def disturb():
        done = 0
        while not over.is_set():
            try:
                done += bool(loader.reload()) + bool(loader.rollback())
            except ms.ModelLoadError:  # there is nothing to go back to
                done += 1
        return done

    over = threading.Event()
    other = start(disturb)
    for number in range(2, 52):
        file.replace(models.times(float(number)))
        hand.run(2)
    over.set()
    assert other.result(LIMIT) > 0
    join_loads()
    loader.reload()

    assert first(loader(rows(1))) == 51.0
    assert loader.stamp().retired == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_goes_on_reloading():
    made = iter(range(1, 1_000_000))
    loader = seed(ms.ModelLoader(lambda: next(made), predict=lambda m, x: m, reload=0.01))
    loader(None)

    def work():
        before = loader(None)
        until(lambda: loader(None) > before + 3)
        threads = [t.name for t in threading.enumerate() if t.name == "modelserve-reload"]
        return threads, loader.health().state

    assert in_child(work) == repr((["modelserve-reload"], "ready"))
    loader.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_whose_session_stayed_behind_reloads_once_it_is_used(tmp_path):
    file = Written(tmp_path / "ranker.onnx")
    file.replace(models.times(1.0))
    loader = ms.ModelLoader(file.path, reload=ms.OnChange(poll=0.01))
    loader.get()

    def work():
        gone = loader.version is None
        seen = [gone, first(loader(rows(1)))]
        file.replace(models.times(2.0))
        until(lambda: first(loader(rows(1))) == 2.0)
        return seen

    assert in_child(work) == repr([True, 1.0])
    loader.close()


def test_in_real_time_a_change_is_served_and_a_closed_loader_is_left_alone(tmp_path):
    file = Written(tmp_path / "ranker.onnx")
    file.replace(models.times(1.0))
    with ms.ModelLoader(file.path, reload=ms.OnChange(poll=0.01)) as loader:
        file.replace(models.times(2.0))
        until(lambda: first(loader(rows(1))) == 2.0)

    until(lambda: WeakMethod(loader._core.tick) not in scheduler._due)


def test_a_dropped_loader_is_looked_after_no_more():
    before = set(scheduler._due)
    loader = ms.ModelLoader(lambda: hex, reload=3600.0)
    loader.get()
    assert WeakMethod(loader._core.tick) in scheduler._due
    gone = weakref.ref(loader)
    until(lambda: "modelserve-load-<lambda>" not in {t.name for t in threading.enumerate()})
    del loader

    assert gone() is None
    until(lambda: set(scheduler._due) <= before)
