"""Every face of every primitive answers as the wrapped function does."""

import asyncio
import itertools

import pytest

import modelserve as ms
from modelserve.predictor import walk
from tests.contract.calling import LIMIT, by_acall, by_amap, by_every_face, collect, taken
from tests.contract.leaves import Batch, Refusal, answer
from tests.contract.primitives import every

MOST_PULLED = 2_000
MIXED = ["a", "b", "a", "bad 1", "c", "bad 1", "bad 2", "d"]
ERRORS = [
    Refusal("no", code=7),
    ValueError("bad", 3),
    KeyError("k"),
    OSError(5, "io"),
    TimeoutError("of the user's"),
    ms.BadInput("never"),
]


@by_every_face
@every()
def test_same_value_as_the_wrapped_function(case, ask):
    p = case.make(case.leaf())

    assert [ask(p, x) for x in ("a", "b", "a")] == [answer("a"), answer("b"), answer("a")]


@pytest.mark.parametrize("timeout", [None, LIMIT])
@by_every_face
@every()
def test_errors_pass_untouched(case, ask, timeout):
    def fail(x):
        raise ERRORS[x]

    p = case.make(case.leaf(fail))
    for x, expected in enumerate(ERRORS):
        with ms.request(timeout=timeout), pytest.raises(type(expected)) as caught:
            ask(p, x)

        assert type(caught.value) is type(expected)
        assert caught.value.args == expected.args
        assert vars(caught.value).get("code") == vars(expected).get("code")


@by_every_face
@every()
def test_errors_get_a_note_that_says_where(case, ask):
    p = case.make(case.leaf())

    with pytest.raises(Refusal) as caught:
        ask(p, "bad")

    named = {f"raised in {node.part.name!r}" for node in walk(p)}
    assert named & set(caught.value.__notes__)


@pytest.mark.parametrize("x", ["bad", "broken"])
@every(on_loop=False)
def test_callers_that_share_a_failure_get_an_instance_each(case, x):
    async def main():
        calls = [asyncio.create_task(p.acall(x)) for _ in range(3)]
        await leaf.await_entered()
        leaf.open()
        return await asyncio.gather(*calls, return_exceptions=True)

    with case.gated() as leaf:
        p = case.make(leaf)
        errors = asyncio.run(main())

    expected = settle(answer, x)
    assert [(type(e), e.args, vars(e).get("code")) for e in errors] == [
        (type(expected), expected.args, vars(expected).get("code"))
    ] * 3
    assert len({id(error) for error in errors}) == 3
    assert all("raised in" in note for error in errors for note in error.__notes__)


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
@by_every_face
@every()
def test_errors_that_steer_iteration_arrive_as_runtime_errors(case, ask, kind):
    def stop(x):
        raise kind

    p = case.make(case.leaf(stop))

    with pytest.raises(RuntimeError):
        ask(p, "a")


@pytest.mark.parametrize("ask", [by_acall, by_amap])
@every(on_loop=False)
def test_cancellation_raised_by_a_model_cancels_nobody(case, ask):
    def cancel(x):
        raise asyncio.CancelledError

    p = case.make(case.leaf(cancel))

    with pytest.raises(RuntimeError, match="CancelledError"):
        ask(p, "a")


def settle(call, x):
    try:
        return call(x)
    except Exception as error:  # noqa: BLE001 - what it is is what is asked
        return error


async def asettle(acall, x):
    try:
        return await acall(x)
    except Exception as error:  # noqa: BLE001 - as above
        return error


def comparable(ys):
    return [(type(y), y.args) if isinstance(y, Exception) else y for y in ys]


@every()
def test_faces_agree_on_values_order_and_errors(case):
    async def one_by_one(p):
        return [await asettle(p.acall, x) for x in MIXED]

    expected = comparable(settle(answer, x) for x in MIXED)

    p = case.make(case.leaf())
    assert comparable(settle(p, x) for x in MIXED) == expected
    assert comparable(p.map(MIXED, return_exceptions=True)) == expected

    p = case.make(case.leaf())
    assert comparable(asyncio.run(one_by_one(p))) == expected
    assert comparable(asyncio.run(taken(p.amap(MIXED, return_exceptions=True)))) == expected


@every()
def test_map_gives_what_comes_before_the_first_failed_item(case):
    got = []
    with pytest.raises(Refusal, match="bad 1"):
        got.extend(case.make(case.leaf()).map(MIXED))
    assert got == [answer("a"), answer("b"), answer("a")]

    got = []
    with pytest.raises(Refusal, match="bad 1"):
        asyncio.run(collect(case.make(case.leaf()).amap(MIXED), got))
    assert got == [answer("a"), answer("b"), answer("a")]


@every()
def test_map_is_lazy_and_bounded(case):
    p = case.make(case.leaf())
    inputs = itertools.count()
    ys = p.map(inputs)

    assert list(itertools.islice(ys, 3)) == [answer(0), answer(1), answer(2)]
    ys.close()

    assert next(inputs) < MOST_PULLED
    assert p("a") == answer("a")


@every()
def test_amap_is_lazy_and_bounded(case):
    async def three():
        ys = p.amap(inputs)
        got = [await anext(ys) for _ in range(3)]
        await ys.aclose()
        return got, await p.acall("a")

    p = case.make(case.leaf())
    inputs = itertools.count()

    assert asyncio.run(three()) == ([answer(0), answer(1), answer(2)], answer("a"))
    assert next(inputs) < MOST_PULLED


def picky(x):
    if x == "bad":
        raise Refusal(x, code=1)
    return str(x)


class Picky(ms.AsList):
    def lane(self, item):
        return picky(item)


PICKY = {
    "key": lambda: ms.PredictionCache(answer, maxsize=8, key=picky),
    "unit": lambda: ms.TrafficSplitter(ms.Variant("a", answer), salt="split", unit=picky),
    "layout": lambda: ms.DynamicBatcher(Batch(answer), layout=Picky()),
}


@pytest.mark.parametrize("chooses", PICKY)
def test_what_fails_to_place_an_item_fails_the_item_alone(chooses):
    p = PICKY[chooses]()
    inputs = ["a", "b", "bad", "c"]
    expected = [answer("a"), answer("b"), (Refusal, ("bad",)), answer("c")]

    assert comparable(p.map(inputs, return_exceptions=True)) == expected
    assert comparable(asyncio.run(taken(p.amap(inputs, return_exceptions=True)))) == expected
    got = []
    with pytest.raises(Refusal):
        got.extend(p.map(inputs))
    with pytest.raises(Refusal):
        asyncio.run(collect(p.amap(inputs), got))
    assert got == [answer("a"), answer("b")] * 2


@every()
def test_map_of_nothing_is_nothing(case):
    p = case.make(case.leaf())

    assert list(p.map([])) == []
    assert asyncio.run(taken(p.amap([]))) == []


@every()
def test_amap_takes_async_iterables(case):
    async def inputs():
        for x in "abc":
            yield x

    p = case.make(case.leaf())

    assert asyncio.run(taken(p.amap(inputs()))) == [answer(x) for x in "abc"]
