"""What can be a predictor, of which colour, and what is refused with the reason."""

import functools
import inspect

import pytest

import modelserve as ms
from modelserve.predictor import Function, lift
from tests.contract.calling import by_every_face


def double(x):
    return 2 * x


async def adouble(x):
    return 2 * x


def scaled(x, factor=2, *, offset=0):
    return x * factor + offset


class Doubler:
    def __call__(self, x):
        return 2 * x

    def method(self, x):
        return 2 * x

    async def amethod(self, x):
        return 2 * x

    @classmethod
    def of_class(cls, x):
        return 2 * x

    @staticmethod
    def static(x):
        return 2 * x

    @staticmethod
    async def astatic(x):
        return 2 * x

    def of_two(self, x, y):
        return x * y

    def of_none(self):
        return 0

    def generate(self, x):
        yield x


class AsyncDoubler:
    func = "an attribute of its own"

    async def __call__(self, x):
        return 2 * x


class Generates:
    def __call__(self, x):
        yield x


class AsyncGenerates:
    async def __call__(self, x):
        yield x


def two(x, y):
    return x, y


def keyword(x, *, key):
    return x, key


def nothing():
    return 0


def only_keywords(**options):
    return options


def generate(x):
    yield x


async def agenerate(x):
    yield x


LIFTED = {
    "a function": (double, False),
    "an async function": (adouble, True),
    "defaults": (scaled, False),
    "a partial": (functools.partial(scaled, factor=2), False),
    "a partial of an async function": (functools.partial(adouble), True),
    "a partial of an async object": (functools.partial(AsyncDoubler()), True),
    "an object": (Doubler(), False),
    "an async object": (AsyncDoubler(), True),
    "a method": (Doubler().method, False),
    "an async method": (Doubler().amethod, True),
    "a class method": (Doubler.of_class, False),
    "a static method": (Doubler.static, False),
    "a bare static method": (vars(Doubler)["static"], False),
    "a bare async static method": (vars(Doubler)["astatic"], True),
    "a builtin method": ((2).__mul__, False),
    "a lambda": (lambda x: 2 * x, False),
    "any number of inputs": (lambda *xs: 2 * xs[0], False),
    "a default alone": (lambda x=0: 2 * x, False),
    "a remembering function": (functools.lru_cache(double), False),
}
REFUSED = {
    "nothing callable": (3, "3 is not callable"),
    "no input": (nothing, "'nothing' takes 0 required arguments.*takes one"),
    "keywords only": (only_keywords, "'only_keywords' takes 0 required"),
    "two inputs": (two, "'two' takes 2 required arguments.*pack several values"),
    "a method of two inputs": (Doubler().of_two, "'of_two' takes 2 required"),
    "an unbound method of two inputs": (Doubler.of_two, "'of_two' takes 2 required"),
    "an unbound method of none": (Doubler.of_none, "'of_none' takes 0 required"),
    "a builtin of two inputs": (pow, "'pow' takes 2 required"),
    "an unbound builtin of two inputs": (list.insert, "'insert' takes 3 required"),
    "a required keyword": (keyword, "'keyword' requires the keyword 'key'"),
    "a class": (Doubler, "Doubler is a class: pass an instance"),
    "a class method that is not bound": (vars(Doubler)["of_class"], "not callable"),
    "a generator function": (generate, "'generate' is a generator function.*return a list"),
    "an async generator function": (agenerate, "'agenerate' is a generator function"),
    "a partial generator": (functools.partial(generate), "'generate' is a generator"),
    "a generating method": (Doubler().generate, "'generate' is a generator"),
    "a generating object": (Generates(), "'Generates' is a generator"),
    "an async generating object": (AsyncGenerates(), "'AsyncGenerates' is a generator"),
    "a predictor": (ms.predictor(double), "'double' is a predictor already"),
}


@by_every_face
@pytest.mark.parametrize(("fn", "is_async"), LIFTED.values(), ids=LIFTED)
def test_lifts_any_function_of_one_input(fn, is_async, ask):
    p = ms.predictor(fn)

    assert p.is_async is is_async
    assert ask(p, 3) == 6


@pytest.mark.parametrize("decorate", [ms.predictor, ms.predictor(name="p"), lift])
@pytest.mark.parametrize(("fn", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses_anything_else_at_construction(decorate, fn, message):
    if decorate is lift and isinstance(fn, Function):
        assert lift(fn) is fn
        return
    with pytest.raises(TypeError, match=message):
        decorate(fn)


def test_takes_a_builtin_that_does_not_tell_its_signature():
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(max)
    assert ms.predictor(max)([1, 3, 2]) == 3


class Holder:
    """Functions of one input, defined in a class; and one that was only looked up there."""

    of_input = ms.predictor(lambda x: 2 * x)
    of_self = ms.predictor(lambda self, x: 2 * x)
    unnamed = ms.predictor(lambda this, x: 2 * x)


def test_a_function_in_a_class_is_a_method_if_it_takes_an_instance():
    holder = Holder()

    assert [holder.of_input(3), holder.of_self(3), holder.unnamed(3)] == [6, 6, 6]
    assert holder.of_input is Holder.of_input
    assert holder.of_self is not Holder.of_self


@by_every_face
@pytest.mark.parametrize(
    "p", [Holder.of_self, ms.predictor(Doubler.method)], ids=["decorated", "lifted"]
)
def test_a_method_without_its_instance_is_refused_at_the_call(p, ask):
    with pytest.raises(TypeError, match=f"{p.name!r} is a method: call that of an instance"):
        ask(p, 3)
    p.open()
    with pytest.raises(TypeError, match="is a method"):
        ask(p, 3)
