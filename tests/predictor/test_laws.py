"""The laws of nesting: at construction, and at the first call where a closure hid it."""

import asyncio

import pytest

import modelserve as ms
from modelserve.predictor import check_call
from modelserve.request import shared_scope
from tests.contract.leaves import Hiding

BATCH = "in which one call speaks for many callers"
FLIGHT = "whose answers are shared by callers of every unit"


def many(xs):
    return [*xs]


def split(name="split"):
    return ms.TrafficSplitter(ms.Variant("only", many), salt=name)


def cache(p, name="cache"):
    return ms.PredictionCache(p, maxsize=8, name=name)


def batch(p, name="batch"):
    return ms.DynamicBatcher(p, name=name)


SPLIT_IN_BATCH = f"""\
TrafficSplitter 'split' stands below DynamicBatcher 'batch', {BATCH}: \
put a batcher inside each variant"""
CACHE_IN_BATCH = f"""\
PredictionCache 'cache' stands below DynamicBatcher 'batch', {BATCH}: \
put the cache around the batcher"""
SPLIT_IN_CACHE = f"""\
TrafficSplitter 'split' stands below PredictionCache 'cache', {FLIGHT}: \
put the cache inside each variant"""


def directly(p):
    return p


def through_uses(p):
    return ms.predictor(Hiding(p), uses=[p])


def two_functions_deep(p):
    return through_uses(through_uses(p))


@pytest.mark.parametrize(
    ("outer", "inner", "message"),
    [
        (batch, split, SPLIT_IN_BATCH),
        (batch, lambda: cache(many), CACHE_IN_BATCH),
        (cache, split, SPLIT_IN_CACHE),
    ],
    ids=["a split in a batch", "a cache in a batch", "a split in a cache"],
)
@pytest.mark.parametrize("between", [directly, through_uses, two_functions_deep])
def test_what_can_be_seen_is_refused_at_construction(outer, inner, message, between):
    below = between(inner())
    with pytest.raises(ms.NestingError) as caught:
        outer(below)

    assert str(caught.value) == message


def test_a_batcher_over_a_batcher_is_refused():
    with pytest.raises(ms.NestingError, match="already answers for one item"):
        batch(batch(many, name="inner"))


def test_what_nests_freely_is_taken():
    p = ms.TrafficSplitter(
        ms.Variant("a", cache(batch(many, "a"), "cache a"), weight=0.5),
        ms.Variant("b", cache(cache(batch(many, "b"), "inner"), "outer"), weight=0.5),
        salt="outer split",
    )
    nested = ms.TrafficSplitter(ms.Variant("p", p), salt="outermost")

    assert nested("a") == "a"


def hidden_in_batch(p):
    return batch(lambda xs: [p(x) for x in xs], name="outer"), "was called from inside a batch"


def hidden_in_async_batch(p):
    async def fn(xs):
        return [await p.acall(x) for x in xs]

    return batch(fn, name="outer"), "was called from inside a batch"


def hidden_in_flight(p):
    return cache(Hiding(p), name="outer"), "was called from inside a flight"


def hidden_behind_a_request(p):
    def fn(x):
        with ms.request(unit="somebody"):
            return p(x)

    return cache(fn, name="outer"), "was called from inside a flight"


def hidden_behind_a_hop(p):
    inner = ms.predictor(Hiding(p), name="inner")

    async def fn(x):
        return await inner.acall(x)

    return cache(fn, name="outer"), "was called from inside a flight"


@pytest.mark.parametrize(
    ("hide", "p"),
    [
        (hidden_in_batch, split()),
        (hidden_in_batch, cache(many)),
        (hidden_in_async_batch, split()),
        (hidden_in_async_batch, cache(many)),
        (hidden_in_flight, split()),
        (hidden_behind_a_request, split()),
        (hidden_behind_a_hop, split()),
    ],
    ids=lambda p: getattr(p, "__name__", getattr(p, "kind", None)),
)
def test_what_a_closure_hides_is_refused_at_each_call(hide, p):
    outer, message = hide(p)
    for ask in (outer, lambda x: asyncio.run(outer.acall(x))):
        with pytest.raises(ms.NestingError, match=f"{p.kind} {p.name!r} {message}"):
            ask("a")


def test_a_batcher_that_waits_for_itself_is_refused_at_the_call():
    p = batch(lambda xs: [p(x) for x in xs], name="self")

    with pytest.raises(ms.NestingError, match="'self' was called from inside a batch"):
        p("a")


def test_a_cache_that_asks_itself_for_another_input_is_no_law_breaker():
    fibonacci = cache(lambda n: n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2))

    assert fibonacci(30) == 832040


def test_outside_of_shared_work_everything_may_be_called():
    p = split()
    with ms.request() as r:
        check_call(p, r)
    with shared_scope([None], "flight", object()) as r:
        check_call(batch(many), r)
        with pytest.raises(ms.NestingError, match="put the cache inside each variant"):
            check_call(p, r)
