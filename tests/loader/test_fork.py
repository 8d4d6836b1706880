"""What becomes of a loader in a forked child."""

import os

import numpy as np
import pytest

import modelserve as ms
from modelserve.testing import FakeClock
from tests.loader.crowds import GatedSource, start
from tests.loader.tending import hand, join_loads
from tests.support.processes import in_child

assert hand  # a fixture

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@pytest.fixture
def models():
    from tests.formats import models

    return models


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="the extra torch is not installed")


def rows(value):
    return np.full((64, 2), value, np.float32)


def first(y):
    """Return the number that stands first in an answer."""
    return float(np.ravel(y)[0])


def test_a_function_lives_on_with_its_version():
    source = GatedSource(hex, oct)
    source.gate.open()
    loader = ms.ModelLoader(source)
    loader.reload()
    loader.reload()
    stamp = loader.stamp()

    def work():
        return loader(10), loader.stats.loads, loader.stamp() is stamp, loader.rollback()

    assert in_child(work) == repr(("0o12", 2, True, "1"))
    assert loader(10) == "0o12"


def test_a_loader_that_was_never_used_loads_in_the_child():
    loader = ms.ModelLoader(lambda: hex)

    assert in_child(lambda: loader(10)) == repr("0xa")
    assert loader.version is None


@pytest.mark.parametrize("lock", ["_lock", "_changing"])
def test_a_lock_that_somebody_holds_at_the_fork_is_nobodys_in_the_child(lock):
    loader = ms.ModelLoader(lambda: hex)
    loader(10)
    with getattr(loader._core, lock):
        assert in_child(lambda: (loader.reload(), loader(10))) == repr(("2", "0xa"))


def test_a_load_in_progress_at_the_fork_is_begun_anew_in_the_child():
    source = GatedSource(hex, hex)
    loader = ms.ModelLoader(source)
    call = start(loader, 10)
    source.gate.wait_entered()

    def work():
        source.gate.open()
        return loader(11)

    assert in_child(work) == repr("0xb")
    source.gate.open()
    assert call.result(20) == "0xa"


def test_a_reload_in_progress_at_the_fork_is_begun_anew_in_the_child(hand):
    source, parent = GatedSource(hex, oct), os.getpid()

    def load():
        return source() if os.getpid() == parent else bin  # a gate's locks are the parent's

    loader = ms.ModelLoader(load, reload=60.0, clock=hand.clock)
    source.gate.open_one()
    loader(10)
    hand.clock.advance(100)
    loader._core.tick()
    source.gate.wait_entered(2)

    def work():
        hand.clock.advance(100)
        loader._core.tick()
        join_loads()
        return loader(10)

    assert in_child(work) == repr("0b1010")
    source.gate.open()
    join_loads()
    assert loader(10) == "0o12"


def session(models, factor, threads):
    """Make a session with threads of its own, however few cores there are."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        models.times(factor), options, providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("predict", [None, lambda session, x: session.run(None, {"x": x})[0]])
def test_a_session_is_made_anew_in_the_child(models, predict):
    loader = ms.ModelLoader(lambda: session(models, 2.0, threads=4), predict=predict)
    loader(rows(1))

    def work():
        version = loader.version
        return version, first(loader(rows(1))), loader.version

    assert in_child(work) == repr((None, 2.0, "2"))
    assert first(loader(rows(1))) == 2.0
    assert loader.version == "1"


def test_a_session_of_before_cannot_come_back_in_the_child(models):
    made = iter([session(models, 2.0, threads=4), hex])
    loader = ms.ModelLoader(lambda: next(made))
    loader.reload()
    loader.reload()

    def roll_back():
        with pytest.raises(ms.ModelLoadError, match="no version to roll back to"):
            loader.rollback()
        return loader(10)

    assert in_child(roll_back) == repr("0xa")
    assert loader.rollback() == "1"
    assert first(loader(rows(1))) == 2.0


@pytest.fixture
def path(tmp_path, models):
    """Return a file that holds a model which multiplies by 2."""
    path = tmp_path / "ranker.onnx"
    path.write_bytes(models.times(2.0))
    return path


def test_a_file_is_loaded_anew_in_the_child_with_the_stamp_it_had(path):
    loader = ms.ModelLoader(path)
    loader(rows(1))
    stamp = loader.stamp()

    def work():
        retired = stamp.retired > 0
        return retired, first(loader(rows(1))), loader.stamp() is stamp, stamp.retired

    assert in_child(work) == repr((True, 2.0, True, 0))
    assert stamp.retired == 0


def test_a_session_that_was_too_old_stays_behind(path):
    clock = FakeClock()
    loader = ms.ModelLoader(path, reload=ms.Every(1000.0), max_stale=10.0, clock=clock)
    loader(rows(1))
    data = path.read_bytes()
    path.write_bytes(b"broken")
    with pytest.raises(ms.ModelLoadError):
        loader.reload()
    clock.advance(20)
    loader._core.tick()
    assert loader.version is None

    def work():
        path.write_bytes(data)
        return first(loader(rows(1)))

    assert in_child(work) == "2.0"
    with pytest.raises(ms.ModelLoadError, match="no model young enough"):
        loader(rows(1))
    loader.close()


def test_a_cache_in_the_child_does_not_answer_with_a_file_that_changed(path, models):
    loader = ms.ModelLoader(path)
    cache = ms.PredictionCache(loader, maxsize=8)
    cache(rows(1))
    path.write_bytes(models.times(3.0))

    assert first(cache(rows(1))) == 2.0
    assert in_child(lambda: first(cache(rows(1)))) == "3.0"


def test_a_module_on_the_cpu_lives_on(torch):
    loader = ms.ModelLoader(torch.nn.Identity())
    loader(rows(1))

    assert in_child(lambda: (first(loader(rows(3))), loader.stats.loads)) == repr((3.0, 1))


def test_a_module_on_a_device_is_refused_with_the_fix(torch):
    module = torch.nn.Linear(2, 2, device="meta")  # stands for a GPU
    loader = ms.ModelLoader(module, name="ranker", predict=lambda module, x: x)
    assert loader(1) == 1

    def work():
        told = []
        for ask in (lambda: loader(1), loader.get, loader.reload):
            with pytest.raises(ms.Forked) as caught:
                ask()
            told.append(str(caught.value))
        assert loader._core.tick() is None
        return set(told) == {loader.health().reason}, loader.health()

    reason = (
        "'ranker' holds a model on a GPU that was made before the fork: load it in the child, "
        "with mode='lazy' or a start method of 'spawn'"
    )
    assert in_child(work) == f"(True, PartHealth(state='failed', reason={reason!r}))"
    assert loader(1) == 1
    assert loader.health().state == "ready"
