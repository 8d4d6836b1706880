"""A loader as a whole: how it is made, called, read and shown."""

import asyncio
import copy
import pickle
import re

import pytest

import modelserve as ms
from modelserve.loader import LoaderStats
from modelserve.testing import FakeClock


def shout(text):
    return text.upper()


def load_shout():
    return shout


class Model:
    """A model that is neither a function nor an estimator."""

    def __init__(self, bias):
        self.bias = bias


class Estimator:
    def predict(self, rows):
        return [sum(row) for row in rows]


def test_a_function_that_was_loaded_is_called():
    loader = ms.ModelLoader(load_shout)

    assert loader("a") == "A"
    assert asyncio.run(loader.acall("b")) == "B"
    assert list(loader.map(["c", "d"])) == ["C", "D"]


def test_an_estimator_predicts():
    assert ms.ModelLoader(Estimator)([[1, 2], [3, 4]]) == [3, 7]


def test_predict_says_how_anything_else_is_called():
    loader = ms.ModelLoader(lambda: Model(1.5), predict=lambda model, x: x + model.bias)

    assert loader(2.0) == 3.5


def test_predict_goes_before_what_a_model_offers():
    loader = ms.ModelLoader(Estimator, predict=lambda model, rows: (model.predict(rows), len(rows)))

    assert loader([[1, 2]]) == ([3], 1)


def test_a_model_that_cannot_be_called_says_so_when_it_is_loaded():
    loader = ms.ModelLoader(lambda: Model(1.0))
    with pytest.raises(ms.ModelLoadError, match="a Model can neither predict nor be called: say "):
        loader(2.0)


@pytest.mark.parametrize("read", ["get", "aget"])
def test_the_raw_model_can_be_had_and_is_the_one_that_answers(read):
    model = Model(1.0)
    loader = ms.ModelLoader(lambda: model, predict=lambda m, x: m)
    got = loader.get() if read == "get" else asyncio.run(aget(loader))

    assert got is model is loader("x")
    assert loader.stats.loads == 1


async def aget(loader):
    return await loader.aget()


def test_every_way_of_reading_leaves_the_stamp():
    loader = ms.ModelLoader(load_shout, name="ranker", version="v7")

    async def read():
        with ms.request() as r:
            await loader.acall("a")
            await loader.aget()
        return r

    with ms.request() as r:
        loader("a")
        loader.get()

    trails = r.trail, asyncio.run(read()).trail
    assert all(trail == [loader.stamp()] * 2 for trail in trails)
    assert r.record == {"ranker.version": "v7"}


def test_reading_without_a_request_is_fine():
    loader = ms.ModelLoader(load_shout)

    assert loader.get() is shout
    assert asyncio.run(aget(loader)) is shout


def test_a_late_call_is_refused_before_the_model_runs():
    ran = []
    loader = ms.ModelLoader(lambda: ran.append, mode="eager")
    with ms.request(timeout=0.0), pytest.raises(ms.DeadlineExceeded, match="before '<lambda>' was"):
        loader("x")

    assert ran == []


@pytest.mark.parametrize("face", ["call", "acall"])
def test_errors_of_the_model_pass_with_a_note(face):
    raised = KeyError("k")

    def fail(x):
        raise raised

    loader = ms.ModelLoader(lambda: fail, name="ranker")
    with pytest.raises(KeyError) as caught:
        loader("x") if face == "call" else asyncio.run(loader.acall("x"))
    assert caught.value is raised
    assert raised.__notes__ == ["raised in 'ranker'"]


def test_a_stop_iteration_of_the_model_ends_no_generator():
    def fail(x):
        raise StopIteration("end")

    loader = ms.ModelLoader(lambda: fail, name="ranker")
    with pytest.raises(RuntimeError, match="'ranker' raised StopIteration: end") as caught:
        list(loader.map(["x"]))
    assert isinstance(caught.value.__cause__, StopIteration)


def test_names_come_from_the_function_unless_given():
    assert ms.ModelLoader(load_shout).name == "load_shout"
    assert ms.ModelLoader(load_shout, name="ranker").name == "ranker"
    assert ms.ModelLoader("models/ranker-v1.onnx").name == "ranker-v1"


def test_functions_number_their_versions():
    loader = ms.ModelLoader(load_shout)

    assert loader.version is None
    assert loader.stamp() is None
    loader("a")
    assert loader.version == "1"
    assert loader.reload() == loader.version == loader.stamp().version == "2"


def test_a_functions_version_can_be_given():
    loader = ms.ModelLoader(load_shout, version="2026-11-01")
    loader("a")

    assert loader.version == "2026-11-01"


def test_stats_and_what_is_shown_of_them():
    clock = FakeClock()

    def load():
        clock.advance(1.5)
        return shout

    loader = ms.ModelLoader(load, name="ranker", clock=clock)
    assert loader.stats == LoaderStats(None, 0, 0, 0.0, 0)
    assert ms.describe(loader) == "ModelLoader ranker [batch] not loaded, 0 loads"

    loader("a")
    assert loader.stats == LoaderStats("1", 1, 0, 1.5, 0)
    assert ms.describe(loader) == "ModelLoader ranker [batch] version 1, 1 loads"
    assert repr(loader).startswith("ModelLoader('ranker', version='1', loads=1, failures=0")


def test_failures_are_shown():
    loader = ms.ModelLoader({}.popitem, name="ranker")
    with pytest.raises(ms.ModelLoadError):
        loader("a")

    assert ms.describe(loader) == "ModelLoader ranker [batch] not loaded, 0 loads, 1 failed"


def test_a_first_load_that_keeps_a_loop_waiting_is_counted():
    loader = ms.ModelLoader(load_shout)

    async def main():
        return loader("a"), loader("b")

    assert asyncio.run(main()) == ("A", "B")
    assert loader.stats.blocked_loop == 1


def test_warmup_runs_every_input_before_the_first_answer():
    came = []
    loader = ms.ModelLoader(lambda: came.append, warmup=iter(["w1", "w2"]))
    loader("x")
    loader.reload()

    assert came == ["w1", "w2", "x", "w1", "w2"]


def test_warm_loads_and_answers_once():
    came = []
    loader = ms.ModelLoader(lambda: came.append)
    ms.warm(loader, "x")
    asyncio.run(ms.awarm(loader, "y"))

    assert came == ["x", "y"]
    assert loader.stats.loads == 1


def test_an_unknown_mode_is_refused():
    message = "mode='eagerly': pass 'lazy', 'eager' or 'background'"
    with pytest.raises(ValueError, match=re.escape(message)):
        ms.ModelLoader(load_shout, mode="eagerly")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])  # noqa: S301
def test_a_pickled_loader_arrives_cold_and_loads_for_itself(copied):
    loader = ms.ModelLoader(load_shout, name="ranker", warmup=["w"], version="v1")
    loader("a")
    twin = copied(loader)

    assert twin.version is None
    assert twin("a") == "A"
    assert (twin.name, twin.version) == ("ranker", "v1")


class Service:
    """A method that calls a loader which all instances share."""

    loader = ms.ModelLoader(load_shout)

    def __init__(self, mark):
        self.mark = mark

    @ms.predictor(uses=[loader])
    def reply(self, text):
        return self.loader(text) + self.mark


def test_a_loader_used_by_a_method_is_shared_by_all_instances():
    one, other = Service("!"), Service("?")

    assert (one.reply("a"), other.reply("a")) == ("A!", "A?")
    assert one.reply.parts["load_shout"] is other.reply.parts["load_shout"] is Service.loader
    assert Service.loader.stats.loads == 1


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"check": [1]}, r"check=1: pass functions of \(new, old\), such as checks\.finite\(\)"),
        ({"predict": 3}, r"predict=3: pass a function of \(model, x\)"),
    ],
)
def test_what_cannot_be_called_is_refused(options, why):
    with pytest.raises(TypeError, match=why):
        ms.ModelLoader(lambda: hex, **options)


async def answer(x):
    return x


class Awaited:
    async def predict(self, x):
        return x


class Called:
    async def __call__(self, x):
        return x


async def stream(x):
    yield x


@pytest.mark.parametrize("model", [answer, stream, Awaited(), Called()])
def test_an_async_model_is_handed_out_and_not_called(model):
    loader = ms.ModelLoader(lambda: model)

    assert loader.get() is model
    with pytest.raises(TypeError, match=r"is an `async def`, and .* await what get\(\) returns"):
        loader(1)
    assert ms.ModelLoader(lambda: model, predict=lambda model, x: x)(1) == 1


def test_an_async_way_to_call_a_model_is_refused():
    async def ask(model, x):
        return x

    with pytest.raises(TypeError, match="'ask' is an `async def`"):
        ms.ModelLoader(lambda: hex, predict=ask)(1)
