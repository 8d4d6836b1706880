"""Real ONNX files: loaded, changed under the loader's feet, broken."""

import asyncio
import hashlib
import re

import numpy as np
import pytest

import modelserve as ms
from modelserve.events import Loaded, LoadFailed, Retired, RolledBack
from modelserve.predictor import PartHealth
from modelserve.testing import EventLog
from tests.formats import models
from tests.loader.crowds import told


def rows(*values):
    return np.array([[value, value] for value in values], np.float32)


def first(y):
    """Return the number that stands first in an answer."""
    return float(np.ravel(y)[0])


@pytest.fixture
def path(tmp_path):
    """Return a file that holds a model which multiplies by 2."""
    path = tmp_path / "ranker-v1.onnx"
    path.write_bytes(models.times(2.0))
    return path


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


@pytest.mark.parametrize("mode", ["lazy", "eager", "background"])
@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["text", "path"])
def test_a_file_is_loaded_and_answers_by_both_faces(path, mode, kind):
    loader = ms.ModelLoader(kind(path), mode=mode)

    np.testing.assert_array_equal(loader(rows(1, 2)), rows(2, 4))
    np.testing.assert_array_equal(asyncio.run(loader.acall(rows(3))), rows(6))
    assert loader.name == "ranker-v1"


def test_a_files_version_is_the_beginning_of_its_digest(path):
    loader = ms.ModelLoader(path)
    with ms.request() as r:
        loader(rows(1))

    assert loader.version == digest(models.times(2.0))
    assert r.record == {"ranker-v1.version": loader.version}


def test_the_raw_model_is_the_session(path):
    session = ms.ModelLoader(path).get()

    assert [i.name for i in session.get_inputs()] == ["x"]


def test_predict_gets_the_session(path):
    loader = ms.ModelLoader(path, predict=lambda session, x: session.run(["y"], {"x": x})[0] + 1)

    np.testing.assert_array_equal(loader(rows(1)), rows(3))


def test_several_inputs_and_outputs_travel_by_name(path):
    path.write_bytes(models.two_ways())
    y = ms.ModelLoader(path)({"a": rows(3), "b": rows(1)})

    assert {name: first(value) for name, value in y.items()} == {"sum": 4.0, "difference": 2.0}


def test_numbers_of_the_same_kind_are_cast_and_others_are_bad_input(path):
    loader = ms.ModelLoader(path)

    assert first(loader(rows(1).astype(np.float64))) == 2.0
    with pytest.raises(ms.BadInput, match="the input 'x' wants float32, and complex64"):
        loader(rows(1) + 1j)


def test_an_unchanged_file_is_left_alone(path):
    log = EventLog()
    loader = ms.ModelLoader(path, on_event=log)
    session = loader.get()
    stats, version = loader.stats, loader.version

    assert loader.reload() == version
    assert loader.get() is session
    assert loader.stats == stats
    assert len(log.of(Loaded)) == len(told(log)) == 1
    with pytest.raises(ms.ModelLoadError, match="no version to roll back to"):
        loader.rollback()


def test_a_changed_file_is_served_and_the_older_one_can_come_back(path):
    log = EventLog()
    loader = ms.ModelLoader(path, on_event=log)
    two, three = digest(models.times(2.0)), digest(models.times(3.0))
    loader(rows(1))
    path.write_bytes(models.times(3.0))

    assert first(loader(rows(1))) == 2.0
    assert loader.reload() == three
    assert first(loader(rows(1))) == 3.0
    assert loader.rollback() == two
    assert first(loader(rows(1))) == 2.0
    assert loader.reload() == three
    assert [(type(event), event.version) for event in told(log)] == [
        (Loaded, two),
        (Loaded, three),
        (Retired, two),
        (RolledBack, two),
        (Retired, three),
        (Loaded, three),
        (Retired, two),
    ]


def test_contents_that_come_back_bring_their_stamp_along(path):
    loader = ms.ModelLoader(path)
    loader(rows(1))
    stamp = loader.stamp()
    path.write_bytes(models.times(3.0))
    loader.reload()
    assert stamp.retired > 0
    path.write_bytes(models.times(2.0))
    loader.reload()

    assert loader.stamp() is stamp
    assert stamp.retired == 0


def test_a_cache_above_a_batcher_follows_the_file(path):
    loader = ms.ModelLoader(path)
    cache = ms.PredictionCache(ms.DynamicBatcher(loader), maxsize=8)
    row = rows(1)[0]
    with cache:
        for factor in (2.0, 3.0, 4.0):
            path.write_bytes(models.times(factor))
            loader.reload()
            with ms.request() as r:
                assert first(cache(row)) == first(cache(row)) == factor
            assert r.record["ranker-v1.version"] == digest(models.times(factor))
    assert cache.stats.hits == 3


BROKEN = [b"", b"no model at all", models.times(2.0)[:-20]]


@pytest.mark.parametrize("data", BROKEN, ids=["empty", "other", "truncated"])
@pytest.mark.parametrize("mode", ["lazy", "eager"])
def test_a_broken_file_is_named_with_the_remedy(path, data, mode):
    path.write_bytes(data)
    message = f"^'{re.escape(str(path))}' could not be loaded: copy or export it again, as ONNX"
    with pytest.raises(ms.ModelLoadError, match=message):
        ms.ModelLoader(path, mode=mode)(rows(1))


@pytest.mark.parametrize("data", BROKEN, ids=["empty", "other", "truncated"])
def test_a_file_that_breaks_does_not_break_the_service(path, data):
    log = EventLog()
    loader = ms.ModelLoader(path, on_event=log)
    loader(rows(1))
    path.write_bytes(data)
    with pytest.raises(ms.ModelLoadError) as caught:
        loader.reload()

    assert first(loader(rows(1))) == 2.0
    assert loader.health() == PartHealth("degraded", str(caught.value))
    assert [event.error for event in log.of(LoadFailed)] == [caught.value]
    path.write_bytes(models.times(3.0))
    loader.reload()
    assert first(loader(rows(1))) == 3.0
    assert loader.health() == PartHealth("ready")


def test_a_file_that_is_whole_again_is_healthy_again(path):
    loader = ms.ModelLoader(path)
    loader(rows(1))
    path.unlink()
    with pytest.raises(ms.ModelLoadError, match="does not exist: pass the path of a model file"):
        loader.reload()
    assert loader.health().state == "degraded"
    path.write_bytes(models.times(2.0))
    loader.reload()

    assert loader.health() == PartHealth("ready")
    assert loader.stats.loads == 1


def test_a_file_that_comes_late_is_found_at_the_next_call(tmp_path):
    path = tmp_path / "late.onnx"
    loader = ms.ModelLoader(path)
    with pytest.raises(ms.ModelLoadError, match="does not exist"):
        loader(rows(1))
    assert loader.health().state == "failed"
    path.write_bytes(models.times(2.0))

    assert first(loader(rows(1))) == 2.0
    assert loader.health() == PartHealth("ready")


def test_a_relative_path_is_shown_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loader = ms.ModelLoader("absent.onnx", name="ranker")
    with pytest.raises(ms.ModelLoadError) as caught:
        loader(rows(1))

    assert str(tmp_path) not in str(caught.value)
    assert str(tmp_path) not in loader.health().reason


def test_a_warmup_of_the_wrong_kind_is_a_failed_load_and_no_bad_input(path):
    loader = ms.ModelLoader(path, warmup=[rows(1) + 1j])
    with pytest.raises(ms.ModelLoadError, match="could not be loaded: BadInput") as caught:
        loader(rows(1))
    assert isinstance(caught.value.__cause__, ms.BadInput)


def test_a_session_of_a_function_is_called_as_one_of_a_file():
    from modelserve.formats import onnx

    loader = ms.ModelLoader(lambda: onnx.load(models.times(2.0)))

    assert first(loader([[1.0, 1.0]])) == 2.0
