"""Decorators, alone and stacked, on functions and on methods."""

import inspect
import pickle
import threading
from typing import Any, NamedTuple

import pytest

import modelserve as ms
from tests.contract.calling import FACES, LIMIT, by_every_face, start
from tests.contract.leaves import answer
from tests.contract.test_dropped import collect, tells_when_gone


class Stack(NamedTuple):
    """A decorator, and of which function below it is meant."""

    name: str
    decorate: Any
    body: str


def split(fn):
    return ms.TrafficSplitter(ms.Variant("only", ms.cached(maxsize=99)(fn)), salt="split")


def twice(fn):
    return ms.cached(maxsize=99)(ms.batched(max_batch_size=8)(fn))


STACKS = [
    Stack("predictor", ms.predictor, "item"),
    Stack("predictor()", ms.predictor(executor=None), "item"),
    Stack("cached", ms.cached(maxsize=99), "item"),
    Stack("batched", ms.batched(max_batch_size=8), "batch"),
    Stack("cached-batched", twice, "batch"),
]
SPLIT = Stack("split", split, "item")


def every_stack(stacks):
    ways = [s._replace(name=f"{p}{s.name}", body=f"{p}{s.body}") for s in stacks for p in ("", "a")]
    return pytest.mark.parametrize("stack", ways, ids=lambda stack: stack.name)


def item(x):
    """Answer for one."""
    return answer(x)


async def aitem(x):
    """Answer for one, on a loop."""
    return answer(x)


def batch(xs):
    """Answer for many."""
    return [answer(x) for x in xs]


async def abatch(xs):
    """Answer for many, on a loop."""
    return [answer(x) for x in xs]


class Methods:
    """The same as methods, which answer by whom they belong to."""

    def __init__(self, tag):
        self.tag = tag

    def item(self, x):
        return (self.tag, x)

    async def aitem(self, x):
        return (self.tag, x)

    def batch(self, xs):
        return [(self.tag, x) for x in xs]

    async def abatch(self, xs):
        return [(self.tag, x) for x in xs]


def service(stack):
    return type("Service", (Methods,), {"predict": stack.decorate(getattr(Methods, stack.body))})


@every_stack(STACKS)
def test_a_decorated_function_keeps_what_it_says_of_itself(stack):
    fn = globals()[stack.body]
    p = stack.decorate(fn)

    assert (p.__name__, p.__doc__, p.__module__) == (fn.__name__, fn.__doc__, fn.__module__)
    assert inspect.signature(p) == inspect.signature(fn)
    assert p.name == fn.__name__


@by_every_face
@every_stack([*STACKS, SPLIT])
def test_a_decorated_function_answers(stack, ask):
    p = stack.decorate(globals()[stack.body])

    assert [ask(p, x) for x in "aba"] == [answer(x) for x in "aba"]


@by_every_face
@every_stack([*STACKS, SPLIT])
def test_a_decorated_method_answers_for_its_instance(stack, ask):
    one, other = map(service(stack), ("one", "other"))

    assert [ask(s.predict, "a") for s in (one, other, one)] == [
        ("one", "a"),
        ("other", "a"),
        ("one", "a"),
    ]


@every_stack([*STACKS, SPLIT])
def test_an_instance_keeps_one_primitive_of_its_own(stack):
    cls = service(stack)
    one, other = cls("one"), cls("other")
    cold = repr(other.predict)
    one.predict("a")

    assert one.predict is one.predict
    assert isinstance(one.predict, type(cls.predict))
    assert len({id(p) for p in (one.predict, other.predict, cls.predict)}) == 3
    assert repr(other.predict) == cold
    assert ms.describe(cls.predict) == ms.describe(service(stack).predict)


@every_stack([*STACKS, SPLIT])
def test_many_threads_find_the_same_primitive(stack):
    together = threading.Barrier(8, timeout=LIMIT)

    def find():
        together.wait()
        return one.predict

    one = service(stack)("one")
    found = [start(find) for _ in range(8)]

    assert {id(each.result(LIMIT)) for each in found} == {id(one.predict)}


@every_stack([*STACKS, SPLIT])
def test_an_instance_is_collected_with_its_primitive(stack):
    def use():
        one = cls("one")
        for ask in FACES:
            ask(one.predict, "a")
        return tells_when_gone(one), tells_when_gone(one.predict)

    cls = service(stack)

    assert [collect(gone) for gone in use()] == [True, True]


@ms.cached(maxsize=99)
def cached(x):
    return answer(x)


@ms.cached(maxsize=99)
@ms.batched(max_batch_size=8)
def stacked(xs):
    return [answer(x) for x in xs]


@pytest.mark.parametrize("p", [cached, stacked], ids=lambda p: p.__qualname__)
def test_what_a_module_holds_is_pickled_by_name(p):
    assert pickle.loads(pickle.dumps(p)) is p  # noqa: S301 - our own bytes
