"""The first load: one for everybody who waits, on threads and loops together."""

import asyncio
import gc
import sys
import threading
import weakref

import pytest

import modelserve as ms
from modelserve.events import LoadFailed
from modelserve.predictor import ThreadSink
from modelserve.testing import EventLog
from tests.loader.crowds import LIMIT, Crowd, GatedSource, start, told, until
from tests.support.processes import fresh


def ask(loader):
    """Make a crowd of 64 that calls a loader."""
    return Crowd(32, loader, loader.acall)


def read(loader):
    """Make a crowd of 64 that reads a loader's model."""
    return Crowd(32, lambda _: loader.get(), lambda _: loader.aget())


def waiting(loader):
    return len(loader._core._waiting or ())


def test_one_load_serves_everybody():
    source = GatedSource(hex)
    loader = ms.ModelLoader(source)
    crowd = ask(loader)
    until(lambda: waiting(loader) == 64)
    source.gate.open()

    assert crowd.answers() == [hex(i) for i in range(64)]
    assert source.calls == loader.stats.loads == 1


def test_one_load_serves_everybody_who_reads():
    model = object()
    source = GatedSource(model)
    loader = ms.ModelLoader(source, predict=lambda model, x: x)
    crowd = read(loader)
    until(lambda: waiting(loader) == 64)
    source.gate.open()

    assert all(got is model for got in crowd.answers())
    assert source.calls == 1


def test_a_reload_before_the_first_load_ends_is_one_for_everybody_too():
    source = GatedSource(hex)
    loader = ms.ModelLoader(source)
    reload = start(loader.reload)
    source.gate.wait_entered()
    crowd = ask(loader)
    until(lambda: waiting(loader) == 64)
    source.gate.open()

    assert crowd.answers() == [hex(i) for i in range(64)]
    assert reload.result(LIMIT) == "1"
    assert source.calls == 1


def test_everybody_has_a_failure_of_ones_own_and_may_try_anew():
    cause = OSError("the disk is on fire")
    source = GatedSource(cause, hex)
    loader = ms.ModelLoader(source, name="ranker")
    crowd = ask(loader)
    until(lambda: waiting(loader) == 64)
    source.gate.open()
    errors = crowd.answers()

    assert {type(error) for error in errors} == {ms.ModelLoadError}
    assert len({id(error) for error in errors}) == 64
    assert {str(error) for error in errors} == {
        "'ranker' could not be loaded: OSError was raised on the way"
    }
    assert all(error.__cause__ is cause for error in errors)
    assert loader(10) == "0xa"
    assert (loader.stats.loads, loader.stats.failures) == (1, 1)


@pytest.mark.parametrize(
    "error",
    [
        ms.DeadlineExceeded("inside"),
        ms.BadInput("a warmup"),
        ms.Closed("another"),
        StopIteration("end"),
        SystemExit(3),
        GeneratorExit(),
        asyncio.CancelledError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_error_of_a_load_is_taken_for_the_callers_own(error):
    source = GatedSource(error, error, hex)
    source.gate.open()
    loader = ms.ModelLoader(source, name="ranker")
    message = f"'ranker' could not be loaded: {type(error).__name__} was raised on the way"
    with pytest.raises(ms.ModelLoadError, match=message) as caught:
        loader(1)
    assert caught.value.__cause__ is error
    with pytest.raises(ms.ModelLoadError, match=message):
        asyncio.run(loader.acall(1))
    assert loader(10) == "0xa"


def test_an_error_that_says_what_to_do_is_kept_as_it_is():
    told = ms.ModelLoadError("log in first")
    source = GatedSource(told)
    source.gate.open()
    loader = ms.ModelLoader(source)
    with pytest.raises(ms.ModelLoadError, match=r"^log in first$"):
        loader(1)


def test_a_failing_warmup_is_a_failing_load():
    log = EventLog()
    loader = ms.ModelLoader(lambda: hex, warmup=["not a number"], name="r", on_event=log)
    with pytest.raises(ms.ModelLoadError, match="'r' could not be loaded: TypeError") as caught:
        loader(1)

    assert isinstance(caught.value.__cause__, TypeError)
    assert loader.version is None
    [failed] = told(log)
    assert type(failed) is LoadFailed
    assert str(failed.error) == str(caught.value)


def test_a_deadline_lets_callers_go_and_the_load_goes_on():
    source = GatedSource(hex)
    loader = ms.ModelLoader(source, name="ranker")

    async def aask():
        with ms.request(timeout=0.02):
            await loader.acall(1)

    for late in (lambda: loader(1), loader.get, lambda: asyncio.run(aask())):
        with (
            ms.request(timeout=0.02),
            pytest.raises(ms.DeadlineExceeded, match="waiting for 'ranker'"),
        ):
            late()
    source.gate.open()

    assert loader(10) == "0xa"
    assert source.calls == 1


def test_a_cancelled_caller_hurts_nobody():
    source = GatedSource(hex)
    loader = ms.ModelLoader(source)

    async def main():
        leaves, stays = (asyncio.create_task(loader.acall(10)) for _ in range(2))
        await source.gate.await_entered()
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        source.gate.open()
        return await asyncio.wait_for(stays, LIMIT)

    assert asyncio.run(main()) == "0xa"


def test_a_loop_that_closed_meanwhile_hurts_nobody():
    source = GatedSource(hex)
    loader = ms.ModelLoader(source)

    async def leave():
        task = asyncio.create_task(loader.acall(1))
        await source.gate.await_entered()
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(leave())
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()
    stays = start(loader, 10)
    until(lambda: waiting(loader) == 2)
    source.gate.open()

    assert stays.result(LIMIT) == "0xa"


def test_who_comes_as_the_load_ends_is_answered_at_once():
    loader = ms.ModelLoader(lambda: hex)
    loader(10)
    sink = ThreadSink()  # of a caller that saw no version a moment ago
    loader._core.begin(sink)

    assert sink.done()
    assert sink.wait(None, "ranker").stamp is loader.stamp()


def test_a_load_sees_nothing_of_who_began_it():
    seen = []
    loader = ms.ModelLoader(lambda: seen.append(ms.current_request()) or hex)
    with ms.request(unit="user-42"):
        loader(1)

    assert seen == [None]


@pytest.mark.parametrize("use", ["call", "get", "reload"])
@pytest.mark.parametrize("begin", ["call", "reload", "open", "background"])
def test_a_source_that_asks_for_its_own_model_is_told_so(use, begin):
    def load():
        assert made.wait(LIMIT)
        {"call": lambda: loader(1), "get": loader.get, "reload": loader.reload}[use]()

    mode, made = "background" if begin == "background" else "lazy", threading.Event()
    loader = ms.ModelLoader(load, name="ranker", mode=mode)
    made.set()
    future = start({"reload": loader.reload, "open": loader.open}.get(begin, loader.get))
    with pytest.raises(ms.ModelLoadError, match="'ranker' asks for itself while it loads"):
        future.result(LIMIT)


def test_a_source_may_read_the_version_that_serves():
    def load():
        if loader.version is None:
            return hex
        older = loader.get()
        return lambda x: "newer than " + older(x)

    loader = ms.ModelLoader(load)
    loader.reload()
    loader.reload()

    assert loader(10) == "newer than 0xa"


def test_where_no_thread_is_to_be_had_everybody_is_told():
    before = threading.stack_size(2**46 if sys.maxsize > 2**32 else 2**30)
    try:
        loader = ms.ModelLoader(lambda: hex, name="ranker")
        for _ in range(2):
            with pytest.raises(ms.ModelLoadError, match="'ranker' could not be loaded: RuntimeE"):
                loader(1)
    finally:
        threading.stack_size(before)
    assert loader(10) == "0xa"
    assert loader.stats.failures == 2


def test_a_dropped_loader_leaves_no_thread():
    source = GatedSource(hex)
    loader = ms.ModelLoader(source, mode="background", name="dropped")
    source.gate.wait_entered()
    names = {thread.name for thread in threading.enumerate()}
    gone = weakref.ref(loader)
    del loader
    source.gate.open()
    until(lambda: gc.collect() >= 0 and gone() is None)

    assert "modelserve-load-dropped" in names
    until(lambda: "modelserve-load-dropped" not in {t.name for t in threading.enumerate()})


def test_a_lazy_loader_touches_nothing():
    code = """
import sys, threading
import modelserve as ms
loader = ms.ModelLoader("absent.onnx")
ms.describe(loader), ms.health(loader), loader.stats, loader.version, repr(loader)
print(threading.active_count(), *({"onnxruntime", "torch"} & set(sys.modules)))
"""
    assert fresh(code) == "1\n"
