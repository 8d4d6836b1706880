"""Every primitive, a line each: a new one joins the contract by a line in ``CASES``."""

import functools
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

import modelserve as ms
from modelserve.testing import GatedPredictor
from tests.contract.leaves import (
    AsyncBatch,
    Awaited,
    Batch,
    Giving,
    Hiding,
    Loading,
    Source,
    answer,
    ten_bytes,
)


class Traffic(NamedTuple):
    """Calls one by one; how many of them asked what was asked before, and how many failed."""

    calls: int
    repeats: int = 0
    errors: int = 0


class Case(NamedTuple):
    """How a primitive is made over a leaf, and what is promised of this one."""

    name: str
    make: Callable[[Any], Any]
    counts: Callable[[Traffic], dict[str, Any]]
    """What its stats say after some traffic."""
    parts: tuple[str, ...] = ("answer",)
    facts: frozenset[str] = frozenset()
    """The fields that a call writes into its record."""
    shares: str | None = None
    """How a call of the leaf serves several callers: in a "batch", in a "flight", or not."""
    is_async: bool = False
    on_loop: bool = False
    """Whether its leaf holds the event loop up."""
    not_below: frozenset[str] = frozenset()
    """Which classes refuse to be made over it."""
    not_inside: frozenset[str] = frozenset()
    """Inside which classes it refuses to be called, where a closure hid it."""

    def leaf(self, fn=answer):
        return Awaited(fn) if self.is_async else fn

    @contextmanager
    def gated(self):
        """Give a leaf whose calls wait until it is opened, at the latest in the end."""
        gate = (GatedPredictor.asynchronous if self.is_async else GatedPredictor)(
            answer, name="answer"
        )
        try:
            yield gate
        finally:
            gate.open()

    @property
    def lets_go(self):
        """Whether a caller that blocks can leave while the leaf still runs."""
        return self.is_async or self.shares is not None


def totals(stats):
    """Counts of a snapshot by name, added up over variants."""
    found = {}
    for name, value in stats._asdict().items():
        if isinstance(value, Mapping):
            variants = [each for each in value.values() if hasattr(each, "_asdict")]
            for each in variants:
                for key, count in each._asdict().items():
                    found[key] = found.get(key, 0) + count
        else:
            found[name] = value
    return found


def case(name, make, *traits):
    """Make a line of the list: later traits win, but facts add up."""
    together = functools.reduce(dict.__or__, traits)
    facts = frozenset().union(*(each.get("facts", ()) for each in traits))
    return Case(name, make, **together | {"facts": facts})


def function_counts(t):
    return {"calls": t.calls, "errors": t.errors}


def loader_counts(t):
    return {"version": "1", "loads": 1, "failures": 0}


def pooled_counts(t):
    return {"calls": t.calls, "loads": 1, "nbytes": 10}


def call_counts(t):
    return {"calls": t.calls}


def batcher_counts(t):
    never = dict.fromkeys(("queued", "expired", "abandoned", "refused"), 0)
    return {"calls": t.calls, "items": t.calls, "errors": t.errors} | never


def cache_counts(t):
    runs = t.calls - t.repeats
    return {"hits": t.repeats, "misses": runs, "entries": runs - t.errors, "joins": 0}


def splitter_counts(t):
    return {"calls": t.calls, "errors": t.errors, "random": t.calls}


OVER_LOADER = {"facts": {"version"}}
OVER_BATCHER = {"shares": "batch", "facts": {"batch_size", "queue_seconds", "run_seconds"}}
OVER_CACHE = {
    "facts": {"cache"},
    "not_below": {"DynamicBatcher"},
    "not_inside": {"DynamicBatcher"},
}
FUNCTION = {"counts": function_counts, "parts": ()}
LOADER = {"counts": loader_counts, "parts": ()} | OVER_LOADER
POOLED = {"counts": pooled_counts, "parts": ()}
REPLICAS = {"counts": call_counts, "parts": ("0", "1"), "facts": {"replica"}}
BELOW_BATCHER = {"not_below": {"DynamicBatcher"}}
BATCHER = {"counts": batcher_counts} | BELOW_BATCHER | OVER_BATCHER
CACHE = {"counts": cache_counts, "shares": "flight"} | OVER_CACHE
SPLITTER = {
    "counts": splitter_counts,
    "parts": ("a", "b"),
    "facts": {"variant", "propensity", "assignment"},
    "not_below": {"DynamicBatcher", "PredictionCache"},
    "not_inside": {"DynamicBatcher", "PredictionCache"},
}
USING = {"parts": ("answer",)}
ASYNC = {"is_async": True}


def inline(leaf):
    return ms.predictor(leaf, executor=ms.inline)


def using(p):
    return ms.predictor(Hiding(p), uses=[p])


def load(model, name="answer"):
    return ms.ModelLoader(Source(model), name=name)


def pooled(made):
    return ms.ModelPool(Giving(made), budget=100, weigh=ten_bytes)["answer"]


def twice(f):
    return ms.Replicas(f, f, name="twice")


def batch(predict):
    return ms.DynamicBatcher(predict, max_batch_size=64)


def batched(leaf):
    return batch(Batch(leaf))


def async_batched(leaf):
    return batch(AsyncBatch(leaf))


def cache(predict):
    return ms.PredictionCache(predict, maxsize=10_000, ttl=3600.0)


def split(a, *b, **options):
    named = zip("ab", (a, *b), strict=False)
    return ms.TrafficSplitter(*(ms.Variant(name, p) for name, p in named), salt="split", **options)


def learned(f):
    return split(f, f, policy=ms.ThompsonSampling())


def tree(leaf):
    return split(*(cache(batch(load(Batch(leaf), name))) for name in ("ranker-v1", "ranker-v2")))


def async_tree(leaf):
    def ranker(name):
        loader = load(AsyncBatch(leaf), name)
        return ms.predictor(Loading(loader), uses=[loader], name=name)

    return split(*(cache(batch(ranker(name))) for name in ("ranker-v1", "ranker-v2")))


CASES = [
    case("function", ms.predictor, FUNCTION),
    case("async-function", ms.predictor, FUNCTION, ASYNC),
    case("inline-function", inline, FUNCTION, {"on_loop": True}),
    case("using-batcher", lambda f: using(batched(f)), OVER_BATCHER, FUNCTION, USING),
    case("using-cache", lambda f: using(cache(f)), CACHE, FUNCTION, USING),
    case("loader", load, LOADER),
    case("pooled-function", pooled, POOLED),
    case("async-pooled-function", pooled, POOLED, ASYNC),
    case("pooled-loader", lambda f: pooled(load(f)), OVER_LOADER, POOLED),
    case("pooled-batcher", lambda f: pooled(batched(f)), OVER_BATCHER, POOLED, BELOW_BATCHER),
    case("replicas", twice, REPLICAS),
    case("async-replicas", twice, REPLICAS, ASYNC),
    case(
        "replica-of-a-loader",
        lambda f: ms.Replicas(load(f), name="once"),
        OVER_LOADER,
        REPLICAS,
        {"parts": ("0",)},
    ),
    case("batcher", batched, BATCHER),
    case("async-batcher", async_batched, BATCHER, ASYNC),
    case("batcher-over-loader", lambda f: batch(load(Batch(f))), OVER_LOADER, BATCHER),
    case("cache", cache, CACHE),
    case("async-cache", cache, CACHE, ASYNC),
    case("cache-over-batcher", lambda f: cache(batched(f)), CACHE, OVER_BATCHER),
    case("cache-over-async-batcher", lambda f: cache(async_batched(f)), CACHE, OVER_BATCHER, ASYNC),
    case("splitter-of-one", split, SPLITTER, {"parts": ("a",)}),
    case("splitter-of-two", lambda f: split(f, f), SPLITTER),
    case("splitter-that-learns", learned, SPLITTER),
    case("async-splitter-of-two", lambda f: split(f, f), SPLITTER, ASYNC),
    case("tree", tree, OVER_LOADER, OVER_BATCHER, OVER_CACHE, SPLITTER),
    case("async-tree", async_tree, OVER_LOADER, OVER_BATCHER, OVER_CACHE, SPLITTER, ASYNC),
]


def every(**traits):
    """Run a check over every primitive, or over those with some traits."""
    chosen = [c for c in CASES if all(getattr(c, k) == v for k, v in traits.items())]
    return pytest.mark.parametrize("case", chosen, ids=lambda c: c.name)
