"""What a caller asks for reaches the leaf, and nothing of it another caller."""

import asyncio
import json
from contextvars import ContextVar

import modelserve as ms
from modelserve.testing import FakeClock
from tests.contract.calling import by_every_face
from tests.contract.leaves import answer
from tests.contract.primitives import OVER_BATCHER, every
from tests.support.virtual import explore, here

SEEDS = range(10)
MINE = ContextVar("mine", default=None)


@by_every_face
@every()
def test_a_request_reaches_the_leaf_unless_its_work_is_shared(case, ask):
    def look(x):
        scope = ms.current_request()
        asked = scope.unit, scope.id, scope.priority, MINE.get(), scope.tenant
        seen.append((*asked, scope.remaining()))
        return answer(x)

    seen = []
    p = case.make(case.leaf(look))
    mine = MINE.set("mine")
    with ms.request(unit="u", id="i", priority=3, tenant="t", timeout=9.0, clock=FakeClock()):
        ask(p, "a")
    MINE.reset(mine)

    own = (None, None, 0, None) if case.shares else ("u", "i", 3, "mine")
    tenant = None if case.shares == "batch" else "t"
    assert seen == [(*own, tenant, 9.0)]


@by_every_face
@every()
def test_without_a_request_the_leaf_sees_nobody(case, ask):
    def look(x):
        scope = ms.current_request()
        seen.append(None if scope is None else (scope.unit, scope.tenant))
        return answer(x)

    seen = []
    p = case.make(case.leaf(look))
    ask(p, "a")

    assert seen in ([None], [(None, None)])
    assert ms.current_request() is None


async def ask_as(p, unit, x):
    with ms.request(unit=unit, tenant="t") as r:
        return await p.acall(x), r.record


@every(on_loop=False)
def test_callers_served_together_keep_their_records_apart(case):
    async def main():
        asked = [asyncio.create_task(ask_as(p, unit, x)) for unit, x in callers.items()]
        await leaf.await_entered()
        leaf.open()
        return await asyncio.gather(*asked)

    callers = {"unit-0": "a", "unit-1": "a", "unit-2": "b", "unit-3": "a", "unit-4": "c"}
    with case.gated() as leaf:
        p = case.make(leaf)
        results = asyncio.run(main())

    for (unit, x), (y, record) in zip(callers.items(), results, strict=True):
        assert y == answer(x)
        assert {name.rpartition(".")[2] for name in record} == case.facts
        said = json.dumps(record)
        assert not [other for other in callers if other != unit and other in said]


@every(is_async=True)
def test_records_are_true_in_any_order_of_events(case):
    async def main():
        p = case.make(case.leaf())
        with here().external():
            await p.aopen()
        units = [f"unit-{i:02}" for i in range(12)]
        asked = [ask_as(p, unit, i % 4) for i, unit in enumerate(units)]
        for i, (y, record) in enumerate(await asyncio.gather(*asked)):
            assert y == answer(i % 4)
            remembered = OVER_BATCHER["facts"] if "hit" in record.values() else set()
            assert {name.rpartition(".")[2] for name in record} == case.facts - remembered
            said = json.dumps(record)
            assert not [unit for unit in units if unit != units[i] and unit in said]

    explore(main, SEEDS)


@every()
def test_tenants_share_no_answer(case):
    def count(x):
        seen.append(x)
        return len(seen)

    seen = []
    p = case.make(case.leaf(count))
    p.open()
    answers = []
    for tenant in ("one", "other", "one"):
        with ms.request(unit="u", tenant=tenant):
            answers.append(p("a"))

    assert answers == ([1, 2, 1] if "cache" in case.facts else [1, 2, 3])


@every()
def test_a_request_crosses_tasks_and_to_thread(case):
    async def main():
        with ms.request(unit="u") as r:
            task = await asyncio.create_task(p.acall("a"))
            in_task = r.record
        with ms.request(unit="u") as r:
            return task, await asyncio.to_thread(p, "b"), in_task, r.record

    p = case.make(case.leaf())
    *answers, in_task, in_thread = asyncio.run(main())

    assert answers == [answer("a"), answer("b")]
    assert in_task.keys() == in_thread.keys()
    assert {name.rpartition(".")[2] for name in in_task} == case.facts


@every()
def test_a_request_runs_where_python_did_not_carry_it(case):
    p = case.make(case.leaf())
    r = ms.request(unit="u")

    assert r.run(p, "a") == answer("a")
    assert {name.rpartition(".")[2] for name in r.record} == case.facts
