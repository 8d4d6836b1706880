"""Lifting functions: what can be a predictor, its colours, its counts and its threads."""

import asyncio
import contextlib
import functools
import inspect
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import modelserve as ms
from modelserve.predictor import Function, lift
from modelserve.testing import GatedPredictor
from tests.contract.calling import LIMIT, by_every_face, start, taken


def double(x):
    """Return twice as much."""
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


def test_a_sync_function_that_returns_a_coroutine_is_an_error_that_says_async_def():
    made = []

    def mistaken(x):
        made.append(adouble(x))
        return made[-1]

    p = ms.predictor(mistaken)
    for ask in (p, lambda x: asyncio.run(p.acall(x))):
        with pytest.raises(TypeError, match=r"'mistaken' is a plain function.*`async def`"):
            ask(1)
    with ms.request(timeout=LIMIT), pytest.raises(TypeError, match="`async def`"):
        p(1)

    assert [inspect.getcoroutinestate(each) for each in made] == [inspect.CORO_CLOSED] * 3


def test_the_decorator_comes_with_and_without_options():
    bare = ms.predictor(double)
    told = ms.predictor(name="told", executor=ms.inline)(double)

    assert (bare.name, told.name) == ("double", "told")
    assert bare.__wrapped__ is told.__wrapped__ is double
    assert bare.__doc__ == told.__doc__ == "Return twice as much."
    assert inspect.signature(bare) == inspect.signature(double)


def test_the_decorator_with_options_decorates_many():
    lifter = ms.predictor(uses=iter([bare := ms.predictor(double)]))

    assert [lifter(fn).parts["double"] for fn in (scaled, adouble)] == [bare, bare]


class TestUses:
    def test_are_parts_by_name(self):
        inner = ms.predictor(double)
        p = ms.predictor(lambda x: inner(x) + 1, uses=[inner])

        assert dict(p.parts) == {"double": inner}
        assert p(3) == 7

    def test_of_one_name_are_told_apart(self):
        loader = ms.ModelLoader(lambda: len, name="ranker")
        cache = ms.PredictionCache(loader, maxsize=8)
        functions = [ms.predictor(double, name="ranker") for _ in range(2)]
        p = ms.predictor(lambda x: x, uses=[loader, cache, *functions, loader])

        assert [*p.parts] == ["ranker", "ranker-2", "ranker-3", "ranker-4"]
        assert [*p.parts.values()] == [loader, cache, *functions]

    def test_of_an_async_one_makes_it_async(self):
        inner = ms.predictor(adouble)
        p = ms.predictor(lambda x: inner(x) + 1, uses=[inner])

        assert p.is_async
        assert p(3) == asyncio.run(p.acall(3)) == 7

    def test_must_be_predictors(self):
        with pytest.raises(TypeError, match="uses= names predictors"):
            ms.predictor(double, uses=[double])


class TestFaces:
    def test_the_sync_face_of_an_async_leaf_works_from_any_thread(self):
        p = ms.predictor(adouble)
        threads = [start(p, i) for i in range(32)]

        assert [thread.result(LIMIT) for thread in threads] == [2 * i for i in range(32)]

    def test_the_sync_face_of_an_async_leaf_keeps_to_one_loop(self):
        async def loop(x):
            return id(asyncio.get_running_loop())

        p = ms.predictor(loop)
        here = {p(i) for i in range(3)} | {start(p, i).result(LIMIT) for i in range(3)}

        assert len(here) == 1
        assert asyncio.run(p.acall(1)) not in here

    @pytest.mark.parametrize("timeout", [None, LIMIT])
    @pytest.mark.parametrize("make", [adouble, lambda x: x], ids=["leaf", "above a leaf"])
    def test_the_sync_face_of_an_async_tree_is_refused_on_a_loop(self, make, timeout):
        async def main():
            with ms.request(timeout=timeout):
                with pytest.raises(RuntimeError, match=r"'tree' .* `await p\.acall\(x\)`"):
                    p(1)
                return await p.acall(1)

        p = ms.predictor(make, uses=[ms.predictor(adouble, name="leaf")], name="tree")

        assert asyncio.run(main()) in (1, 2)

    def test_the_sync_face_of_a_sync_tree_answers_on_a_loop(self):
        async def main():
            return ms.predictor(double)(2)

        assert asyncio.run(main()) == 4

    def test_a_sync_leaf_is_awaited_off_the_loop_and_in_no_default_executor(self):
        async def main():
            calling = [asyncio.create_task(p.acall(i)) for i in range(4)]
            await gate.await_entered(4)
            gate.open()
            assert asyncio.get_running_loop()._default_executor is None
            return await asyncio.gather(*calling)

        gate = GatedPredictor(lambda x: threading.current_thread().name, limit=LIMIT)
        p = ms.predictor(gate)
        names = asyncio.run(main())

        assert all(name.startswith("modelserve-") for name in names)

    def test_an_executor_of_the_users_is_used(self):
        with ThreadPoolExecutor(1, thread_name_prefix="mine") as executor:
            p = ms.predictor(lambda x: threading.current_thread().name, executor=executor)
            name = asyncio.run(p.acall(1))

        assert name.startswith("mine")

    def test_inline_runs_on_the_loop_itself(self):
        p = ms.predictor(lambda x: threading.get_ident(), executor=ms.inline)

        async def main():
            return await p.acall(1) == threading.get_ident()

        assert asyncio.run(main())

    def test_inline_is_one_however_it_travels(self):
        p = ms.predictor(double, executor=ms.inline)
        p.__qualname__ = "elsewhere"
        twin = pickle.loads(pickle.dumps(p))  # noqa: S301 - our own bytes

        assert twin is not p
        assert pickle.loads(pickle.dumps(ms.inline)) is ms.inline  # noqa: S301 - as above
        assert asyncio.run(twin.acall(2)) == 4
        assert repr(ms.inline) == "modelserve.inline"

    def test_a_method_can_be_awaited_in_a_comprehension(self):
        p = ms.predictor(Doubler().amethod)

        assert asyncio.run(taken(p.amap(range(3)))) == [0, 2, 4]


def fails_with(error):
    def fail(x):
        raise error

    async def afail(x):
        raise error

    return fail, afail


class TestErrors:
    @by_every_face
    @pytest.mark.parametrize("colour", [0, 1], ids=["sync", "async"])
    def test_keep_their_type_and_say_where_once(self, colour, ask):
        error = ValueError("bad")
        p = ms.predictor(fails_with(error)[colour], name="ranker")
        with pytest.raises(ValueError, match="bad") as caught:
            ask(p, 1)

        assert caught.value is error
        assert error.__notes__ == ["raised in 'ranker'"]
        assert p.stats == (1, 1)

    @by_every_face
    @pytest.mark.parametrize("colour", [0, 1], ids=["sync", "async"])
    def test_in_a_request_are_counted_too(self, colour, ask):
        p = ms.predictor(fails_with(KeyError("bad"))[colour])
        with ms.request(timeout=LIMIT), pytest.raises(KeyError):
            ask(p, 1)

        assert p.stats == (1, 1)

    @pytest.mark.parametrize("stop", [StopIteration(3), StopAsyncIteration()], ids=repr)
    @by_every_face
    def test_that_steer_iteration_become_runtime_errors(self, ask, stop):
        with pytest.raises(RuntimeError, match=r"'ranker' raised Stop") as caught:
            ask(ms.predictor(fails_with(stop)[0], name="ranker"), 1)

        assert caught.value.__cause__ is stop

    @pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()], ids=repr)
    @pytest.mark.parametrize("colour", [0, 1], ids=["sync", "async"])
    def test_that_would_end_the_process_or_the_task_do_not(self, colour, error):
        p = ms.predictor(fails_with(error)[colour], name="ranker")
        with pytest.raises(RuntimeError, match=f"'ranker' raised {type(error).__name__}"):
            asyncio.run(p.acall(1))

    @pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()], ids=repr)
    def test_of_an_async_leaf_do_not_end_the_background_loop(self, error):
        p = ms.predictor(fails_with(error)[1], name="ranker")
        with pytest.raises(RuntimeError, match=f"'ranker' raised {type(error).__name__}"):
            p(1)

        assert ms.predictor(adouble)(2) == 4

    def test_a_cancelled_caller_is_cancelled(self):
        async def main():
            calling = asyncio.create_task(p.acall(1))
            await gate.await_entered()
            calling.cancel("enough")
            with pytest.raises(asyncio.CancelledError, match="enough"):
                await calling

        gate = GatedPredictor.asynchronous(limit=LIMIT)
        p = ms.predictor(gate)
        asyncio.run(main())

        assert p.stats == (1, 0)


def test_counts_calls_and_errors_of_many_threads():
    def work():
        for x in range(200):
            with contextlib.suppress(ZeroDivisionError):
                p(x % 4)

    p = ms.predictor(lambda x: 1 / x)
    for thread in [start(work) for _ in range(8)]:
        thread.result(LIMIT)

    assert p.stats == (1600, 400)


def test_summary_tells_colour_calls_and_errors():
    p = ms.predictor(fails_with(KeyError())[1])
    assert p.summary() == "async, 0 calls"
    with pytest.raises(KeyError):
        p(1)

    assert p.summary() == "async, 1 calls, 1 errors"
