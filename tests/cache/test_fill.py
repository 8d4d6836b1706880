import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

import modelserve as ms
from modelserve.predictor import _threads
from modelserve.testing import GatedPredictor
from tests.cache.asking import LIMIT, outcome, run, start, until
from tests.support.virtual import explore, here

MINE = ContextVar("mine", default=None)


class FirstFails:
    """Wait at a gate; the first call to pass ends in an error, the others answer."""

    def __init__(self, error):
        self.gate = GatedPredictor(self.answer)
        self.errors = [error]

    def answer(self, x):
        if self.errors:
            raise self.errors.pop()
        return x.upper()


# Interruption


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_who_waits_for_an_interrupted_run_leads_anew(kind):
    model = FirstFails(kind())
    cache = ms.PredictionCache(model.gate, maxsize=8)
    leader = start(cache, "a")
    model.gate.wait_entered()
    follower = start(cache, "a")
    many = start(lambda: list(cache.map(["a", "b"])))
    until(lambda: cache.stats.joins == 2)
    model.gate.open_one()
    assert type(outcome(leader)) is kind
    model.gate.open()

    assert outcome(follower) == "A"
    assert outcome(many) == ["A", "B"]


def test_an_exit_on_a_thread_of_the_library_ends_nobody():
    def ask():
        with ms.request(timeout=LIMIT):
            return cache("a")

    model = FirstFails(SystemExit(3))
    cache = ms.PredictionCache(model.gate, maxsize=8)
    leader = start(ask)
    model.gate.wait_entered()
    follower = start(cache, "a")
    until(lambda: cache.stats.joins == 1)
    model.gate.open()

    error = outcome(leader)
    assert type(error) is RuntimeError
    assert "SystemExit" in str(error)
    assert outcome(follower) == "A"


def test_a_map_that_is_interrupted_while_it_looks_leads_nothing():
    def inputs(x):
        if x == "bad":
            raise KeyboardInterrupt
        return x

    cache = ms.PredictionCache(str.upper, maxsize=8, key=inputs)
    with pytest.raises(KeyboardInterrupt):
        list(cache.map(["a", "bad"]))

    assert outcome(start(cache, "a")) == "A"


def test_a_pool_that_takes_nothing_leaves_nobody_waiting(monkeypatch):
    shut = ThreadPoolExecutor(1)
    shut.shutdown()
    cache = ms.PredictionCache(str.upper, maxsize=8)
    with monkeypatch.context() as patch, ms.request(timeout=LIMIT):
        patch.setattr(_threads.threads, "_pool", lambda *_: shut)
        with pytest.raises(RuntimeError, match="cannot schedule"):
            cache("a")

    assert outcome(start(cache, "a")) == "A"


def test_callers_with_a_deadline_run_as_many_at_once_as_there_are():
    many = _threads.POOL_SIZE + 4
    gate = GatedPredictor(str.upper)
    cache = ms.PredictionCache(gate, maxsize=many)

    def ask(x):
        with ms.request(timeout=LIMIT):
            return cache(x)

    callers = [start(ask, f"a{number}") for number in range(many)]
    gate.wait_entered(many)
    gate.open()
    assert [outcome(caller) for caller in callers] == [f"A{number}" for number in range(many)]


# Loops that end


def test_when_the_loop_of_the_run_ends_those_elsewhere_lead_anew():
    gate = GatedPredictor.asynchronous(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)
    go = threading.Event()

    async def leave():
        left = asyncio.create_task(cache.acall("a"))
        await gate.await_entered()
        await asyncio.to_thread(go.wait, LIMIT)
        return left

    loop = start(run, leave)
    gate.wait_entered()
    thread = start(cache, "a")
    task = start(run, lambda: cache.acall("a"))
    until(lambda: cache.stats.joins == 2)
    go.set()
    outcome(loop)
    gate.wait_entered(2)
    gate.open()

    assert outcome(thread) == outcome(task) == "A"
    assert gate.calls == ["a", "a"]


def test_when_the_loop_is_closed_on_a_run_those_elsewhere_lead_anew():
    """Nobody cancels what is left there; who asks next finds it."""
    gate = GatedPredictor.asynchronous(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)

    async def leave():
        left.append(asyncio.create_task(cache.acall("a")))
        await gate.await_entered()

    left = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave())
    follower = start(cache, "a")
    until(lambda: cache.stats.joins == 1)
    loop.close()
    other = start(cache, "a")
    gate.wait_entered(2)
    gate.open()

    assert outcome(follower) == outcome(other) == "A"
    assert len(gate.calls) == 2
    left.clear()
    gc.collect()
    assert cache("a") == "A"
    assert cache.stats.hits > 0


def test_a_run_that_is_cancelled_before_its_first_step_is_led_anew():
    model = GatedPredictor.asynchronous(str.upper)
    model.open()
    cache = ms.PredictionCache(model, maxsize=8)

    async def main():
        call = asyncio.create_task(cache.acall("a"))
        await asyncio.sleep(0)
        [begun] = asyncio.all_tasks() - {asyncio.current_task(), call}
        begun.cancel()
        return await call

    assert run(main) == "A"
    assert model.calls == ["a"]


def test_a_run_that_somebody_cancels_is_led_anew_by_its_own_leader():
    gate = GatedPredictor.asynchronous(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)

    async def main():
        call = asyncio.create_task(cache.acall("a"))
        many = asyncio.create_task(collected(cache.amap(["a", "b"])))
        await gate.await_entered(2)
        for task in asyncio.all_tasks() - {asyncio.current_task(), call, many}:
            task.cancel()
        gate.open()
        return await call, await many

    async def collected(ys):
        return [y async for y in ys]

    assert outcome(start(run, main)) == ("A", ["A", "B"])


def test_no_order_of_events_strands_anybody():
    async def model(x):
        await asyncio.sleep(here().random.random())
        if here().random.random() < 0.2:
            raise ms.Overloaded("not now")
        return x.upper()

    async def caller(cache):
        luck = here().random
        await asyncio.sleep(luck.random())
        timeout = luck.random() if luck.random() < 0.3 else None
        with ms.request(timeout=timeout, clock=here().time):
            return await cache.acall(luck.choice("ab"))

    async def main():
        cache = ms.PredictionCache(model, maxsize=8, ttl=0.5, clock=here().time)
        callers = [asyncio.create_task(caller(cache)) for _ in range(12)]
        for task in callers[::4]:
            here().call_later(2 * here().random.random(), task.cancel)
        for answer in await asyncio.gather(*callers, return_exceptions=True):
            kinds = asyncio.CancelledError | ms.DeadlineExceeded | ms.Overloaded
            assert answer in {"A", "B"} or isinstance(answer, kinds)
        await asyncio.sleep(10.0)
        assert cache._table._flights == {}

    explore(main, range(150), pace=0.02)


# What a run sees


def test_a_run_sees_no_callers_variables():
    def look(x):
        seen.append(MINE.get())
        return x

    seen = []
    cache = ms.PredictionCache(look, maxsize=8)
    token = MINE.set("mine")
    cache("a")
    with ms.request(timeout=LIMIT):
        cache("b")
    asyncio.run(cache.acall("c"))
    MINE.reset(token)

    assert seen == [None] * 3


def test_without_a_deadline_the_callers_own_thread_runs_and_with_one_another():
    def where(x):
        threads.append(threading.current_thread())
        return x

    threads = []
    cache = ms.PredictionCache(where, maxsize=8)
    cache("a")
    with ms.request(timeout=LIMIT):
        cache("b")

    assert threads[0] is threading.current_thread()
    assert threads[1] is not threading.current_thread()


# A function that comes back to its own cache


def by_call(p, x):
    return p(x)


def by_acall(p, x):
    return asyncio.run(p.acall(x))


def by_map(p, x):
    return next(iter(p.map([x, "other"])))


def in_time(p, x):
    with ms.request(timeout=LIMIT):
        return p(x)


@pytest.mark.parametrize("ask", [by_call, by_acall, by_map, in_time])
@pytest.mark.parametrize("again", [by_call, by_map])
def test_a_function_that_asks_its_own_key_is_called_and_does_not_hang(ask, again):
    def answer(x):
        depth.append(x)
        return x.upper() if depth.count("a") > 1 else again(cache, "a") + "!"

    depth = []
    cache = ms.PredictionCache(answer, maxsize=8)

    assert outcome(start(ask, cache, "a")) == "A!"
    assert cache("a") == "A!"


def test_an_async_function_that_asks_its_own_key_does_not_hang():
    async def answer(x):
        depth.append(x)
        return x.upper() if len(depth) > 1 else (await cache.acall(x)) + "!"

    depth = []
    cache = ms.PredictionCache(answer, maxsize=8)

    assert run(lambda: cache.acall("a")) == "A!"


def test_two_maps_of_a_recursive_function_do_not_wait_for_each_other():
    """One runs 3, which needs 2; the other runs 5, which needs 3, before it comes to its 2."""

    def answer(n):
        if n in gates:
            gates[n](n)
        return n + (cache(needs[n]) if n in needs else 0)

    needs = {3: 2, 5: 3}
    gates = {3: GatedPredictor(), 5: GatedPredictor()}
    cache = ms.PredictionCache(answer, maxsize=64)
    one = start(lambda: list(cache.map([3, 7])))
    gates[3].wait_entered()
    other = start(lambda: list(cache.map([5, 2])))
    gates[5].wait_entered()
    for gate in gates.values():
        gate.open()

    assert outcome(one) == [5, 7]
    assert outcome(other) == [10, 2]


@pytest.mark.parametrize("ask", [by_call, by_acall, in_time])
def test_a_recursive_function_is_remembered_at_every_step(ask):
    def fibonacci(n):
        return n if n < 2 else cache(n - 1) + cache(n - 2)

    cache = ms.PredictionCache(fibonacci, maxsize=64)

    assert outcome(start(ask, cache, 12)) == 144
    assert cache.stats.misses == 13


# Many at once


def test_threads_of_the_library_that_wait_for_a_run_do_not_keep_it_from_running():
    """More than a pool's threads are taken by callers of what one with a deadline leads."""

    def late():
        with ms.request(timeout=LIMIT):
            return cache("a")

    async def main():
        return await asyncio.gather(*(asked.acall("a") for _ in range(40)))

    gate = GatedPredictor(str.upper)
    cache = ms.PredictionCache(gate, maxsize=8)
    door = GatedPredictor()
    asked = ms.predictor(lambda x: (door(x), cache(x))[1], name="asked")
    crowd = start(run, main)
    door.wait_entered(_threads.POOL_SIZE)
    leader = start(late)
    until(lambda: cache.stats.misses == 1)
    door.open()
    until(lambda: cache.stats.joins >= _threads.POOL_SIZE)
    gate.open()

    assert outcome(leader) == "A"
    assert outcome(crowd) == ["A"] * 40
    assert gate.calls == ["a"]
