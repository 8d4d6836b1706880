"""Decorated methods: one predictor an instance."""

import asyncio
import copy
import dataclasses
import os
import pickle
import threading

import pytest

import modelserve as ms
from modelserve.predictor import _bind
from tests.contract.calling import LIMIT, by_every_face, start
from tests.contract.test_dropped import collect, tells_when_gone
from tests.support.processes import in_child

shared = ms.PredictionCache(str.upper, maxsize=8, name="shared")


class Scale:
    """Its methods answer by its factor."""

    def __init__(self, factor):
        self.factor = factor

    @ms.predictor
    def plain(self, x):
        """Say what plain does."""
        return x * self.factor

    @ms.predictor
    async def awaited(self, x):
        return x * self.factor

    @ms.predictor
    def with_default(self, x=1):
        return x * self.factor

    @ms.batched(max_batch_size=4)
    def batch(self, xs):
        return [x * self.factor for x in xs]

    @ms.cached(maxsize=8)
    @ms.batched(max_batch_size=4)
    async def stacked(self, xs):
        return [x * self.factor for x in xs]

    split = ms.TrafficSplitter(ms.Variant("only", batch), salt="split")

    @ms.predictor(uses=[batch, shared])
    def using(self, x):
        return self.batch(x), shared("a")

    @staticmethod
    @ms.predictor
    def outside(x):
        return x + 1

    @ms.predictor
    @staticmethod
    def inside(x):
        return x + 1


METHODS = ["plain", "awaited", "with_default", "batch", "stacked", "split"]
every_method = pytest.mark.parametrize("method", METHODS)


class Louder(Scale):
    @ms.cached(maxsize=8, name="louder")
    def batch(self, x):
        return super().batch(x) + 100


class Slotted:
    __slots__ = ("__weakref__", "factor")
    __hash__ = None

    def __init__(self, factor):
        self.factor = factor

    def __eq__(self, other):
        return True

    @ms.cached(maxsize=8)
    @ms.batched(max_batch_size=4)
    def batch(self, xs):
        return [x * self.factor for x in xs]


@by_every_face
@every_method
def test_each_instance_answers_for_itself(method, ask):
    two, three = Scale(2), Scale(3)

    assert [ask(getattr(s, method), 5) for s in (two, three, two)] == [10, 15, 10]


@every_method
def test_an_instance_has_one_predictor_and_the_class_another(method):
    two, three = Scale(2), Scale(3)

    assert getattr(two, method) is getattr(two, method)
    assert getattr(two, method) is not getattr(three, method)
    assert getattr(Scale, method) is Scale.__dict__[method]
    assert type(getattr(two, method)) is type(getattr(Scale, method))
    assert getattr(two, method).name == getattr(Scale, method).name


def test_a_method_keeps_name_and_docstring():
    assert (Scale(2).plain.__name__, Scale(2).plain.__doc__) == ("plain", "Say what plain does.")
    assert Scale.plain.__doc__ == "Say what plain does."


def test_static_methods_belong_to_nobody():
    assert Scale(2).outside(1) == Scale.outside(1) == 2
    assert Scale(2).inside(1) == Scale.inside(1) == 2
    assert Scale(2).inside is Scale(3).inside


def test_parts_of_other_methods_are_the_instances_own_and_all_others_stay():
    two = Scale(2)
    two.using(5)

    assert two.using.parts["batch"] is two.batch
    assert two.using.parts["shared"] is shared
    assert two.split.parts["only"] is two.batch
    assert two.batch.stats.calls == 1


def test_a_method_that_extends_another_of_its_name_answers_by_both():
    louder = Louder(2)

    assert louder.batch(5) == 110
    assert louder.batch.stats.misses == 1
    assert Scale.batch.__get__(louder).stats.calls == 1


def test_threads_that_race_for_the_first_access_find_one():
    def find(name):
        together.wait()
        return getattr(two, name)

    for _ in range(20):
        two, together = Scale(2), threading.Barrier(8, timeout=LIMIT)
        found = [start(find, name) for name in ("stacked", "batch") * 4]
        assert len({id(each.result(LIMIT)) for each in found}) == 2


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, dataclasses.replace])
def test_a_copy_has_predictors_of_its_own(duplicate):
    @dataclasses.dataclass
    class Service:
        factor: int

        @ms.batched(max_batch_size=4)
        def times(self, xs):
            return [x * self.factor for x in xs]

    one = Service(2)
    assert one.times(5) == 10
    other = duplicate(one)
    other.factor = 3

    assert other.times(5) == 15
    assert one.times(5) == 10
    assert (one.times.stats.calls, other.times.stats.calls) == (2, 1)
    assert one == Service(2)


def test_a_pickled_instance_makes_predictors_of_its_own():
    two = Scale(2)
    assert asyncio.run(two.stacked.acall(5)) == 10
    twin = pickle.loads(pickle.dumps(two))  # noqa: S301 - our own bytes

    assert twin.stacked.stats.misses == 0
    assert asyncio.run(twin.stacked.acall(5)) == 10


@every_method
def test_an_instance_is_collected_with_its_predictors(method):
    two = Scale(2)
    assert getattr(two, method)(5) == 10
    gone = [tells_when_gone(two), tells_when_gone(getattr(two, method))]
    del two

    assert [collect(each) for each in gone] == [True, True]


class TestSlots:
    def test_each_instance_answers_for_itself_even_if_all_are_equal(self):
        two, three = Slotted(2), Slotted(3)

        assert two.batch is two.batch is not three.batch
        assert (two.batch(5), three.batch(5), two.batch(5)) == (10, 15, 10)
        assert two.batch.stats.hits == 1

    def test_an_instance_is_collected_with_its_predictors_and_threads(self):
        two = Slotted(2)
        before = set(threading.enumerate())
        assert two.batch(5) == 10
        workers = set(threading.enumerate()) - before
        kept = len(_bind._slotted)
        gone = [tells_when_gone(two), tells_when_gone(two.batch)]
        del two

        assert [collect(each) for each in gone] == [True, True]
        assert len(_bind._slotted) == kept - 1
        for worker in workers:
            worker.join(LIMIT)
            assert not worker.is_alive()

    def test_a_predictor_does_not_keep_its_instance(self):
        batch = Slotted(2).batch

        with pytest.raises(ReferenceError):
            batch(5)

    def test_without_weakref_is_refused_with_the_fix(self):
        class Bare:
            __slots__ = ()

            @ms.predictor
            def plain(self, x):
                return x

        with pytest.raises(TypeError, match="Bare has __slots__ without '__weakref__': add it"):
            _ = Bare().plain

    def test_threads_that_race_for_the_first_access_find_one(self):
        def find():
            together.wait()
            return two.batch

        for _ in range(20):
            two, together = Slotted(2), threading.Barrier(4, timeout=LIMIT)
            found = [start(find) for _ in range(4)]
            assert len({id(each.result(LIMIT)) for each in found}) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_forked_while_another_thread_made_one_can_make_its_own():
    def hold():
        with _bind._guard.lock:
            held.set()
            assert free.wait(LIMIT)

    assert Scale(2).plain(5) == 10
    held, free = threading.Event(), threading.Event()
    holder = start(hold)
    assert held.wait(LIMIT)
    try:
        assert in_child(lambda: Scale(3).plain(5)) == "15"
    finally:
        free.set()
    holder.result(LIMIT)
