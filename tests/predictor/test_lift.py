"""Lifting functions: what can be a predictor, its colours, its counts and its threads."""

import asyncio
import contextlib
import inspect
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import modelserve as ms
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
    async def amethod(self, x):
        return 2 * x


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


def test_acall_is_a_coroutine_function():
    assert inspect.iscoroutinefunction(ms.predictor(double).acall)
    assert inspect.iscoroutinefunction(ms.predictor(adouble).acall)


def test_a_call_whose_caller_left_before_its_turn_does_not_run():
    async def main():
        first = asyncio.create_task(p.acall("first"))
        await gate.await_entered()
        cancelled, waiting = (asyncio.create_task(p.acall(x)) for x in ("cancelled", "waiting"))
        with ms.request(timeout=0.01), pytest.raises(ms.DeadlineExceeded):
            await p.acall("late")
        cancelled.cancel()
        await asyncio.wait([cancelled])
        gate.open()
        await asyncio.gather(first, waiting)

    gate = GatedPredictor(limit=LIMIT)
    with ThreadPoolExecutor(1) as executor:
        p = ms.predictor(gate, executor=executor)
        asyncio.run(main())

    assert gate.calls == ["first", "waiting"]
    assert p.stats.calls == 2


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="tasks start later here")
def test_loops_that_start_tasks_at_once_are_served_too():
    async def many(xs):
        return [2 * x for x in xs]

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        cache = ms.PredictionCache(ms.DynamicBatcher(many, name="batch"), maxsize=8)
        sync = ms.PredictionCache(double, maxsize=8)
        p = ms.predictor(adouble)
        async with cache, sync, p:
            return [await asyncio.gather(*map(q.acall, (1, 2, 1))) for q in (cache, sync, p)]

    assert asyncio.run(main()) == [[2, 4, 2]] * 3


class TestClosing:
    def test_closing_waits_for_calls_that_have_yet_to_reach_their_parts(self):
        gate = GatedPredictor(limit=LIMIT)
        last = ms.predictor(lambda x: x + 1, name="last")
        p = ms.predictor(lambda x: last(gate(x)), uses=[last], name="p")
        calling = start(asyncio.run, p.acall(1))
        gate.wait_entered()
        closing = start(p.close)
        gate.open()

        assert calling.result(LIMIT) == 2
        closing.result(LIMIT)
        with pytest.raises(ms.Closed):
            last(1)

    def test_closing_without_draining_or_in_vain_waits_no_longer(self):
        gate = GatedPredictor(limit=LIMIT)
        p = ms.predictor(gate)
        for n, options in enumerate(({"drain": False}, {"timeout": 0.0}, {"timeout": -1.0})):
            p.open()
            calling = start(asyncio.run, p.acall(1))
            gate.wait_entered(n + 1)
            p.close(**options)
            gate.open_one()
            assert calling.result(LIMIT) == 1

    def test_aclose_waits_no_longer_than_asked(self):
        async def main():
            for n, options in enumerate(({"drain": False}, {"timeout": 0.0})):
                await p.aopen()
                calling = asyncio.create_task(p.acall(1))
                await gate.await_entered(n + 1)
                await p.aclose(**options)
                with pytest.raises(ms.Closed):
                    await p.acall(2)
                gate.open_one()
                assert await calling == 1

        gate = GatedPredictor.asynchronous(limit=LIMIT)
        p = ms.predictor(gate)
        asyncio.run(main())

    def test_closing_on_the_loop_of_a_call_is_refused(self):
        async def main():
            calling = asyncio.create_task(p.acall(1))
            await gate.await_entered()
            with pytest.raises(RuntimeError, match=r"`await p\.aclose\(\)`"):
                p.close()
            gate.open()
            await p.aclose()
            return await calling

        gate = GatedPredictor.asynchronous(limit=LIMIT)
        p = ms.predictor(gate)

        assert asyncio.run(main()) == 1

    def test_a_loop_that_closed_on_calls_is_not_waited_for(self):
        async def leave():
            calling = asyncio.create_task(p.acall(1))
            await gate.await_entered()
            return calling

        gate = GatedPredictor.asynchronous(limit=LIMIT)
        p = ms.predictor(gate)
        loop = asyncio.new_event_loop()
        left = loop.run_until_complete(leave())
        loop.close()
        p.close()

        assert not left.done()
        left.get_coro().close()
        left._log_destroy_pending = False

    def test_each_face_of_a_closed_one_says_how_to_open_it(self):
        p = ms.predictor(str.upper)
        p.close()
        for ask in (p, lambda x: asyncio.run(p.acall(x)), lambda x: list(p.map(x))):
            with pytest.raises(ms.Closed, match="'upper' is closed: open it again with `with"):
                ask("a")
        with p:
            assert p("a") == "A"
