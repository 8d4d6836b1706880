"""Every primitive opens, closes, opens again, and counts how often."""

import asyncio

import pytest

import modelserve as ms
from modelserve.predictor import walk
from modelserve.testing import GatedPredictor
from tests.contract.calling import FACES, by_every_face, taken
from tests.contract.leaves import answer
from tests.contract.primitives import Traffic, cache, every, totals
from tests.support.virtual import run


def states(p):
    return {part.state for part in ms.health(p).parts.values()}


def close(p):
    p.close()


def aclose(p):
    asyncio.run(p.aclose())


by_both_closes = pytest.mark.parametrize("end", [close, aclose])


@by_both_closes
@every()
def test_health_is_ready_then_closed(case, end):
    p = case.make(case.leaf())
    assert ms.health(p).ready
    p.open()
    assert states(p) == {"ready"}
    end(p)

    assert ms.health(p).live
    assert not ms.health(p).ready
    assert states(p) == {"closed"}


@by_both_closes
@by_every_face
@every()
def test_a_closed_one_says_so_on_every_face(case, ask, end):
    p = case.make(case.leaf())
    ask(p, "a")
    end(p)

    with pytest.raises(ms.Closed, match="open it again"):
        ask(p, "a")


@every()
def test_a_closed_one_says_so_for_each_item_that_asks_for_exceptions(case):
    p = case.make(case.leaf())
    p.close()
    ys = [*p.map("ab", return_exceptions=True)]
    ays = asyncio.run(taken(p.amap("ab", return_exceptions=True)))

    assert [type(y) for y in ys + ays] == [ms.Closed] * 4


@by_both_closes
@every()
def test_closing_twice_or_unused_does_no_harm(case, end):
    p = case.make(case.leaf())
    end(p)
    end(p)

    assert states(p) == {"closed"}
    with p:
        assert p("a") == answer("a")
    end(p)
    assert states(p) == {"closed"}


@by_every_face
@every()
def test_a_closed_one_opens_again(case, ask):
    p = case.make(case.leaf())
    for x in "ab":
        with p:
            assert ask(p, x) == answer(x)
        with pytest.raises(ms.Closed):
            ask(p, x)


@every()
def test_async_with_opens_and_closes(case):
    async def use(x):
        async with p as same:
            assert same is p
            assert states(p) == {"ready"}
            assert await p.acall(x) == answer(x)
        with pytest.raises(ms.Closed):
            await p.acall(x)

    p = case.make(case.leaf())
    asyncio.run(use("a"))
    asyncio.run(use("b"))

    assert states(p) == {"closed"}


@by_both_closes
@every()
def test_two_opens_need_two_closes(case, end):
    p = case.make(case.leaf())
    p.open()
    asyncio.run(p.aopen())
    end(p)
    assert p("a") == answer("a")
    end(p)

    with pytest.raises(ms.Closed):
        p("a")


@every(not_below=frozenset())
def test_a_part_of_two_trees_closes_with_the_last(case):
    p = case.make(case.leaf())
    one, other = cache(p), cache(p)
    with one:
        with other:
            pass
        other.close()
        assert one("a") == answer("a")
        with pytest.raises(ms.Closed):
            other("a")

    assert states(p) == {"closed"}


@pytest.mark.parametrize("end", ["close", "aclose"])
@every(on_loop=False)
def test_closing_finishes_accepted_work(case, end):
    async def main():
        calls = [asyncio.create_task(p.acall(x)) for x in "abc"]
        await leaf.await_entered()
        ending = asyncio.to_thread(p.close) if end == "close" else p.aclose()
        ended = asyncio.create_task(ending)
        await asyncio.sleep(0)
        leaf.open()
        answers = await asyncio.gather(*calls)
        await ended
        return answers

    with case.gated() as leaf:
        p = case.make(leaf)

        assert asyncio.run(main()) == [answer(x) for x in "abc"]
    with pytest.raises(ms.Closed):
        p("d")


def test_closing_waits_for_a_function_that_has_yet_to_call_its_parts():
    async def ask_last(x):
        await gate(x)
        return await last.acall(x)

    async def main():
        call = asyncio.create_task(p.acall("a"))
        await gate.await_entered()
        ended = asyncio.create_task(p.aclose())
        await asyncio.sleep(1.0)
        gate.open()
        try:
            return await call
        finally:
            await ended

    gate = GatedPredictor.asynchronous()
    last = ms.predictor(answer, executor=ms.inline)
    p = ms.predictor(ask_last, uses=[last])

    assert run(main) == answer("a")


@every()
def test_warming_reaches_the_leaf_and_counts_nothing(case):
    with case.gated() as leaf:
        leaf.open()
        p = case.make(leaf)
        with p, ms.request() as r:
            before = [node.part.stats for node in walk(p)]
            ms.warm(p, "a")
            warmed = leaf.entered
            asyncio.run(ms.awarm(p, "a"))
            recorded = r.record
            after = [node.part.stats for node in walk(p)]
            assert [ask(p, "a") for ask in FACES] == [answer("a")] * 4
            counted = totals(p.stats)

    assert 0 < warmed < leaf.entered
    assert before == after
    assert recorded == {}
    assert case.counts(Traffic(calls=4, repeats=3)).items() <= counted.items()
