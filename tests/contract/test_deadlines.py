"""A caller is let go at its deadline, and only this one."""

import asyncio

import pytest

import modelserve as ms
from tests.contract.calling import FACES, LIMIT, by_every_face, start, taken
from tests.contract.leaves import answer
from tests.contract.primitives import every
from tests.support.virtual import here, run


@by_every_face
@every()
def test_who_is_late_already_reaches_no_leaf(case, ask):
    with case.gated() as leaf:
        leaf.open()
        p = case.make(leaf)
        with ms.request(timeout=0.0), pytest.raises(ms.DeadlineExceeded):
            ask(p, "a")

        assert leaf.calls == []
        assert ask(p, "a") == answer("a")


@every()
def test_late_items_stand_in_their_places(case):
    p = case.make(case.leaf())
    with ms.request(timeout=0.0):
        ys = [*p.map("ab", return_exceptions=True)]
        ays = asyncio.run(taken(p.amap("ab", return_exceptions=True)))

    assert [type(y) for y in ys + ays] == [ms.DeadlineExceeded] * 4


async def ask_for(seconds, p, x):
    with ms.request(timeout=seconds, clock=here().time):
        return await p.acall(x)


@pytest.mark.parametrize("leaver_is_first", [True, False])
@every(on_loop=False)
def test_an_async_caller_leaves_a_blocked_leaf_at_its_deadline(case, leaver_is_first):
    async def main():
        p = case.make(leaf)
        with here().external():
            await p.aopen()
            times = (1.0, 9.0) if leaver_is_first else (9.0, 1.0)
            first = asyncio.create_task(ask_for(times[0], p, "a"))
            await leaf.await_entered()
        second = asyncio.create_task(ask_for(times[1], p, "a"))
        leaver, stayer = (first, second) if leaver_is_first else (second, first)
        with pytest.raises(ms.DeadlineExceeded):
            await leaver
        assert 1.0 <= here().time() < 2.0
        leaf.open()
        with here().external():
            result = await stayer
        await asyncio.sleep(20.0)  # past every deadline: none of them finds anybody
        return result

    with case.gated() as leaf:
        assert run(main) == answer("a")
    if "cache" in case.facts and len(case.parts) == 1:
        assert leaf.calls == ["a"]


@by_every_face
@every(lets_go=True)
def test_a_blocking_caller_leaves_a_blocked_leaf_at_its_deadline(case, ask):
    with case.gated() as leaf:
        p = case.make(leaf)
        p.open()
        others = start(p, "a")
        leaf.wait_entered()
        with ms.request(timeout=0.05), pytest.raises(ms.DeadlineExceeded):
            ask(p, "a")
        leaf.open()

        assert others.result(LIMIT) == answer("a")
        assert [ask(p, "b") for ask in FACES] == [answer("b")] * 4
