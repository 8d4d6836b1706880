import asyncio
import threading

import pytest

import modelserve as ms
from modelserve.cache._flight import PERSONAL
from modelserve.testing import FakeClock, GatedPredictor
from tests.cache.asking import LIMIT, outcome, run, start, until


@pytest.mark.parametrize("make", [GatedPredictor, GatedPredictor.asynchronous])
def test_threads_and_tasks_wait_for_one_run(make):
    gate = make(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)

    async def tasks():
        return await asyncio.gather(*(cache.acall("a") for _ in range(20)))

    callers = [start(cache, "a") for _ in range(6)]
    gate.wait_entered()
    callers += [start(list, cache.map(["a", "a"])) for _ in range(2)]
    loops = [start(run, tasks) for _ in range(2)]
    until(lambda: cache.stats.joins == 5 + 4 + 40)
    gate.open()

    assert [outcome(caller) for caller in callers] == ["A"] * 6 + [["A", "A"]] * 2
    assert [outcome(loop) for loop in loops] == [["A"] * 20] * 2
    assert gate.calls == ["a"]
    assert cache.stats[:4] == (1, 0, 1, 49)


@pytest.mark.parametrize("make", [GatedPredictor, GatedPredictor.asynchronous])
def test_a_run_that_a_task_leads_serves_threads(make):
    gate = make(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)
    loop = start(run, lambda: cache.acall("a"))
    gate.wait_entered()
    callers = [start(cache, "a") for _ in range(4)]
    until(lambda: cache.stats.joins == 4)
    gate.open()

    assert [outcome(caller) for caller in [loop, *callers]] == ["A"] * 5
    assert gate.calls == ["a"]


def refuse(x):
    raise KeyError(x, 7)


@pytest.mark.parametrize("make", [GatedPredictor, GatedPredictor.asynchronous])
def test_when_the_run_fails_each_caller_gets_an_error_of_its_own_for_one_call(make):
    gate = make(refuse)
    cache = ms.PredictionCache(gate, maxsize=8)

    async def tasks():
        return await asyncio.gather(*(cache.acall("a") for _ in range(3)), return_exceptions=True)

    callers = [start(cache, "a") for _ in range(3)]
    gate.wait_entered()
    loop = start(run, tasks)
    until(lambda: cache.stats.joins == 5)
    gate.open()
    errors = [outcome(caller) for caller in callers] + outcome(loop)

    assert {(type(error), error.args) for error in errors} == {(KeyError, ("a", 7))}
    assert len({id(error) for error in errors}) == 6
    assert gate.calls == ["a"]
    assert outcome(start(cache, "a")).args == ("a", 7)
    assert gate.calls == ["a", "a"]


def test_a_cancelled_leader_leaves_its_run_to_the_others():
    gate = GatedPredictor.asynchronous(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)

    async def main():
        leader, follower = (asyncio.create_task(cache.acall("a")) for _ in range(2))
        await gate.await_entered()
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        gate.open()
        return await follower

    assert run(main) == "A"
    assert gate.calls == ["a"]
    assert cache.stats[:4] == (1, 0, 1, 1)


@pytest.mark.parametrize("make", [GatedPredictor, GatedPredictor.asynchronous])
def test_a_late_leader_leaves_its_run_to_the_others(make):
    def late():
        with ms.request(timeout=0.01, clock=clock):
            return cache("a")

    clock = FakeClock()
    gate = make(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)
    leader = start(late)
    gate.wait_entered()
    follower = start(cache, "a")
    until(lambda: cache.stats.joins == 1)
    clock.advance(1.0)
    assert isinstance(outcome(leader), ms.DeadlineExceeded)
    gate.open()

    assert outcome(follower) == "A"
    assert gate.calls == ["a"]


def test_a_late_follower_is_let_go_alone():
    def late():
        with ms.request(timeout=0.01, clock=clock):
            return cache("a")

    clock = FakeClock()
    gate = GatedPredictor(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)
    leader = start(cache, "a")
    gate.wait_entered()
    follower = start(late)
    until(lambda: cache.stats.joins == 1)
    clock.advance(1.0)
    assert isinstance(outcome(follower), ms.DeadlineExceeded)
    gate.open()

    assert outcome(leader) == "A"


@pytest.mark.parametrize("kind", PERSONAL)
def test_who_joined_a_run_that_failed_of_the_leaders_own_leads_again(kind):
    def answer(x):
        if len(gate.calls) == 1:
            raise kind("mine")
        return x.upper()

    gate = GatedPredictor(answer)
    cache = ms.PredictionCache(gate, maxsize=8)
    leader = start(cache, "a")
    gate.wait_entered()
    followers = [start(cache, "a") for _ in range(3)]
    until(lambda: cache.stats.joins == 3)
    gate.open_one()
    assert isinstance(outcome(leader), kind)
    gate.wait_entered(2)
    gate.open()

    assert [outcome(follower) for follower in followers] == ["A"] * 3
    assert gate.calls == ["a", "a"]
    assert cache.stats.misses == cache.stats.hits + cache.stats.joins == 2


def test_the_deadline_that_the_model_sees_is_the_latest_of_those_who_wait():
    def look(x):
        seen.append(ms.current_request().remaining())
        return x

    def ask(timeout):
        with ms.request(timeout=timeout):
            return cache("a")

    seen = []
    gate = GatedPredictor(look)
    cache = ms.PredictionCache(gate, maxsize=8)
    first = start(ask, 100.0)
    gate.wait_entered()
    second = start(ask, 1000.0)
    until(lambda: cache.stats.joins == 1)
    gate.open()

    assert [outcome(first), outcome(second)] == ["a", "a"]
    assert 900.0 < seen[0] <= 1000.0


def test_tenants_share_neither_run_nor_answer():
    def ask(tenant):
        with ms.request(tenant=tenant):
            return cache("a")

    gate = GatedPredictor(lambda x: ms.current_request().tenant)
    cache = ms.PredictionCache(gate, maxsize=8)
    callers = [start(ask, tenant) for tenant in ("one", "other", None)]
    gate.wait_entered(3)
    gate.open()

    assert [outcome(caller) for caller in callers] == ["one", "other", None]
    assert [ask(tenant) for tenant in ("one", "other", None)] == ["one", "other", None]
    assert gate.entered == 3


def test_a_run_sees_no_unit():
    seen = []
    cache = ms.PredictionCache(lambda x: seen.append(ms.current_request().unit), maxsize=8)
    with ms.request(unit="u"):
        cache("a")

    assert seen == [None]


def test_a_sync_call_on_a_loop_never_waits_for_a_run():
    def answer(x):
        return x.upper() if threading.current_thread() in loops else gate(x)

    async def main():
        loops.append(threading.current_thread())
        led_here = asyncio.create_task(cache.acall("a"))
        led_there = start(cache, "b")
        await gate.await_entered(2)
        answers = cache("a"), cache("b"), list(cache.map("ab"))
        gate.open()
        return (*answers, await led_here, await asyncio.wrap_future(led_there))

    loops = []
    gate = GatedPredictor(str.upper)
    cache = ms.PredictionCache(answer, maxsize=8)

    assert outcome(start(run, main)) == ("A", "B", ["A", "B"], "A", "B")
    assert cache.stats[:4] == (2, 0, 6, 0)
    assert cache.stats.blocked_loop == 4


def test_records_say_who_led_and_who_joined():
    def ask():
        with ms.request() as scope:
            cache("a")
        return scope.record["cache.cache"]

    gate = GatedPredictor(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8, name="cache")
    leader = start(ask)
    gate.wait_entered()
    follower = start(ask)
    until(lambda: cache.stats.joins == 1)
    gate.open()

    assert [leader.result(LIMIT), follower.result(LIMIT), ask()] == ["miss", "join", "hit"]
