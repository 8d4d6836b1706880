"""What had run in the parent works in a forked child."""

import asyncio
import gc
import os
import threading
import weakref

import pytest

import modelserve as ms
from modelserve.predictor import _fork, background_loop, on_fork
from modelserve.testing import GatedPredictor
from tests.contract.calling import LIMIT, start
from tests.support.processes import in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


class Thing:
    rearmed = 0

    def after_fork(self):
        self.rearmed += 1


async def double(x):
    await asyncio.sleep(0)
    return 2 * x


def test_a_thing_is_rearmed_in_the_child_alone_and_once():
    thing = Thing()
    on_fork(thing)
    on_fork(thing)

    assert in_child(lambda: thing.rearmed) == "1"
    assert thing.rearmed == 0


def test_a_thing_that_nobody_holds_is_forgotten():
    thing = Thing()
    on_fork(thing)
    gone = weakref.ref(thing)
    del thing
    gc.collect()

    assert gone() is None
    assert not any(isinstance(live, Thing) for live in _fork._live)


def test_the_background_loop_is_made_anew():
    p = ms.predictor(double)
    assert p(2) == 4
    loop = background_loop()

    assert in_child(lambda: (p(3), background_loop() is not loop)) == "(6, True)"
    assert background_loop() is loop
    assert p(4) == 8


def test_the_background_loop_is_made_anew_in_a_grandchild():
    p = ms.predictor(double)
    assert p(2) == 4

    assert in_child(lambda: (p(3), in_child(lambda: p(4)))) == "(6, '8')"


def test_the_pool_is_made_anew_though_a_thread_of_it_waits():
    with_gate = GatedPredictor(limit=LIMIT)
    p = ms.predictor(with_gate)
    free = ms.predictor(lambda x: (x, threading.current_thread().name), name="free")
    waiting = start(asyncio.run, p.acall("a"))
    with_gate.wait_entered()
    answer = in_child(lambda: asyncio.run(free.acall(1))[0])
    with_gate.open()

    assert answer == "1"
    assert waiting.result(LIMIT) == "a"


def test_a_child_answers_what_the_parent_was_about_to():
    gate = GatedPredictor(lambda xs: [2 * x for x in xs], limit=LIMIT)
    p = ms.PredictionCache(ms.DynamicBatcher(gate, name="batch"), maxsize=8)
    waiting = start(p, 1)
    gate.wait_entered()

    def ask():
        gate.open()
        return p(1), asyncio.run(p.acall(2)), p.close(timeout=LIMIT)

    answer = in_child(ask)
    gate.open()

    assert answer == "(2, 4, None)"
    assert waiting.result(LIMIT) == 2
    assert p(2) == 4


def test_a_child_closes_what_was_called_in_the_parent():
    gate = GatedPredictor.asynchronous(limit=LIMIT)
    p = ms.predictor(gate)
    waiting = start(p, "a")
    gate.wait_entered()
    closed = in_child(lambda: (p.close(), ms.health(p).ready))
    gate.open()

    assert closed == "(None, False)"
    assert waiting.result(LIMIT) == "a"


def test_a_child_forked_on_a_running_loop_has_loops_of_its_own():
    p = ms.predictor(double)

    async def main():
        await p.acall(1)
        loop = asyncio.get_running_loop()
        there = in_child(lambda: start(p, 3).result(LIMIT))
        assert loop is asyncio.get_running_loop()
        return there, await p.acall(2)

    assert asyncio.run(main()) == ("6", 4)


def test_a_child_forked_while_another_thread_held_a_life_opens_and_closes():
    def hold():
        with p.life.lock:
            held.set()
            assert free.wait(LIMIT)

    p = ms.predictor(str.upper)
    with p:
        held, free = threading.Event(), threading.Event()
        holder = start(hold)
        assert held.wait(LIMIT)
        try:
            assert in_child(lambda: (p.open(), p("a"), p.close(), p.close())) == (
                "(None, 'A', None, None)"
            )
        finally:
            free.set()
        holder.result(LIMIT)
