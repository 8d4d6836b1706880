"""Models that answer with their own version, and trees over them.

Reloads and rollbacks are noted with the ticks before and after, so for each version it is known
when it was surely not handed out.
"""

import asyncio
import itertools
import math
import random
from concurrent.futures import ThreadPoolExecutor

import modelserve as ms
from modelserve.predictor import Primitive
from modelserve.request import tick
from tests.contract.calling import LIMIT

POOL = ThreadPoolExecutor(8, thread_name_prefix="of-the-users-own")


def luck(seed):
    return random.Random(seed)  # noqa: S311 - no secret


class Model:
    """A loader whose model answers with its version, and when each version was handed out."""

    def __init__(self, name, mode="eager"):
        numbers = itertools.count(1)
        self.name = name
        self.now = self.before = None
        self.spans = []
        self.loader = ms.ModelLoader(
            lambda: next(numbers), predict=self.answer, name=name, mode=mode
        )
        if mode == "eager":
            self.noted(1, 0)

    def answer(self, version, xs):
        return [((self.name, version),) for _ in xs]

    def noted(self, version, began):
        ended = tick()
        if self.spans:
            self.spans[-1][2] = ended
        self.spans.append([version, began, math.inf])
        self.before, self.now = self.now, version

    def reload(self):
        began = tick()
        self.noted(int(self.loader.reload()), began)

    def rollback(self):
        if self.before is not None:
            began = tick()
            self.noted(int(self.loader.rollback()), began)
            self.before = None

    def served(self, version, began, ended):
        """Whether a version may have been handed out at some time between two ticks."""
        return any(v == version and lo < ended and began < hi for v, lo, hi in self.spans)


class Asked:
    """One answer with its record, and the ticks before and after."""

    def __init__(self, began, answer, record):
        self.began = began
        self.ended = tick()
        self.answer = answer
        self.record = record

    def check(self, models, *, pooled=False):
        """Compare with what was handed out; a pool's change of mind is recorded by nobody."""
        for name, version in self.answer:
            model = models[name]
            spans = [span for span in model.spans if span[0] == version]
            assert model.served(version, self.began, self.ended), (self, spans)
        for name, version in dict(self.answer).items():
            said = self.record.get(f"{name}.version")
            assert said == str(version) or (pooled and said is None), self

    def __repr__(self):
        return f"{self.answer} between {self.began} and {self.ended}: {self.record}"


# Leaves: functions of one input, or of a batch of them, over one model or more


def handed_over(a, b):
    return a.loader


def hidden(a, b):
    def answer(xs):
        return a.loader(xs)

    return answer


def got(a, b):
    def answer(xs):
        return a.answer(a.loader.get(), xs)

    return answer


def read_twice(a, b):
    def answer(xs):
        first = a.loader(xs)
        return [one + other for one, other in zip(first, a.loader(xs), strict=True)]

    return answer


def of_two(a, b):
    def answer(xs):
        return [one + other for one, other in zip(a.loader(xs), b.loader(xs), strict=True)]

    return ms.predictor(answer, uses=[a.loader])


def in_a_pool(a, b):
    def answer(xs):
        return POOL.submit(a.loader, xs).result(LIMIT)

    return ms.predictor(answer, uses=[a.loader])


def of_two_in_a_pool(a, b):
    def answer(xs):
        first = POOL.submit(a.loader, xs).result(LIMIT)
        second = POOL.submit(b.loader, xs).result(LIMIT)
        return [one + other for one, other in zip(first, second, strict=True)]

    return ms.predictor(answer, uses=[a.loader, b.loader])


def awaited(a, b):
    async def answer(xs):
        return await a.loader.acall(xs)

    return answer


def awaited_together(a, b):
    async def answer(xs):
        first, second = await asyncio.gather(a.loader.acall(xs), b.loader.aget())
        return [one + other for one, other in zip(first, b.answer(second, xs), strict=True)]

    return answer


SYNC = [handed_over, hidden, got, read_twice, of_two, in_a_pool, of_two_in_a_pool]
ASYNC = [awaited, awaited_together]
POOLED = [in_a_pool, of_two_in_a_pool]


# Trees over a leaf


def one_by_one(leaf, name):
    """Make an item predictor of a leaf without a batcher."""
    uses = [leaf] if isinstance(leaf, Primitive) else []
    if asyncio.iscoroutinefunction(leaf):

        async def one(x):
            return (await leaf([x]))[0]

    else:

        def one(x):
            return leaf([x])[0]

    return ms.predictor(one, uses=uses, name=name)


def batched(leaf, name):
    return ms.DynamicBatcher(leaf, max_batch_size=4, name=name)


def cached(p, name):
    return ms.PredictionCache(p, maxsize=100, name=name)


def calling(p):
    if p.is_async:

        async def call(x):
            return await p.acall(x)

    else:

        def call(x):
            return p(x)

    return call


def called(p, name):
    return ms.predictor(calling(p), uses=[p], name=name)


def hiding(p, name):
    return ms.predictor(calling(p), name=name)


def cache_of_batches(leaf):
    return cached(batched(leaf, "batcher"), "cache")


def cache_of_items(leaf):
    return cached(one_by_one(leaf, "one"), "cache")


def cache_of_a_cache(leaf):
    return cached(hiding(cache_of_batches(leaf), "call"), "outer")


def split(one, other):
    return ms.TrafficSplitter(
        ms.Variant("a", one), ms.Variant("b", other), salt="split", unit=lambda x: x
    )


TREES = [cache_of_batches, cache_of_items, cache_of_a_cache]
