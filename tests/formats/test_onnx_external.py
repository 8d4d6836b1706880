"""ONNX models whose values lie in files beside them, run by ONNX Runtime."""

import re

import numpy as np
import pytest

import modelserve as ms
from modelserve import formats
from modelserve.formats import _door
from tests.formats import models
from tests.formats.hostile import pin

onnx = pytest.importorskip("modelserve.formats.onnx")
ROWS = np.array([[1, 2]], np.float32)


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    return folder / "ranker.onnx"


def write(path, location="weights.bin", **how):
    data, weights = models.outside(location, **how)
    path.write_bytes(data)
    return data, weights


@pytest.mark.parametrize("where", ["initializer", "constant"])
@pytest.mark.parametrize("location", ["weights.bin", "deep/weights.bin"])
def test_a_model_is_loaded_with_the_file_beside_it(path, where, location):
    data, weights = write(path, location, where=where)
    (path.parent / "deep").mkdir()
    (path.parent / location).write_bytes(weights)
    artefact = formats.read(path)

    np.testing.assert_array_equal(onnx.caller(artefact.model)(ROWS), [[3, 6]])
    assert artefact.nbytes == len(data) + len(weights)


def test_its_version_is_of_both_files(path):
    data, weights = write(path)
    beside = path.with_name("weights.bin")
    beside.write_bytes(weights)
    whole = _door.digest_of_all({"ranker.onnx": data, "weights.bin": weights})
    version = formats.read(path).version

    assert version == whole[:16] != pin(data)[:16]
    assert formats.read(path, version) is None
    assert formats.read(path, sha256=whole).version == version
    beside.write_bytes(weights[::-1])
    assert formats.read(path, version).version != version
    with pytest.raises(ms.ModelLoadError, match=r"has the digest [0-9a-f]{64}, and sha256= pins"):
        formats.read(path, sha256=whole)


def test_a_file_that_is_not_there_is_named(path, monkeypatch):
    _, weights = write(path)
    monkeypatch.chdir(path.parent)
    with pytest.raises(ms.ModelLoadError, match=r"^'weights.bin' does not exist: "):
        formats.read(path.relative_to(path.parent))
    (path.parent.parent / "weights.bin").write_bytes(weights)
    monkeypatch.chdir(path.parent.parent)  # where ONNX Runtime would look for it
    with pytest.raises(ms.ModelLoadError, match=r"/weights.bin' does not exist: "):
        formats.read(path)


@pytest.mark.parametrize("location", ["../secret.bin", "symlink", "hardlink", "{absolute}"])
@pytest.mark.parametrize("where", ["initializer", "constant"])
def test_a_file_that_lies_elsewhere_is_never_read(path, location, where):
    secret = path.parent.parent / "secret.bin"
    location = location.format(absolute=secret)
    _, weights = write(path, location, where=where)
    secret.write_bytes(weights)
    path.with_name("symlink").symlink_to(secret)
    if location == "hardlink":
        path.with_name("hardlink").hardlink_to(secret)
    message = f"'{path}' names the external data {location[:80]!r}, which does not lie in its"
    with pytest.raises(ms.ModelLoadError, match=f"^{re.escape(message)}"):
        formats.read(path)


@pytest.mark.parametrize("where", ["initializer", "constant"])
@pytest.mark.parametrize(
    "tensor",
    [
        {"offset": 1},
        {"offset": -1},
        {"offset": 2**63 - 1},
        {"length": 9},
        {"length": 2**60},
        {"length": -8},
        {"offset": "x"},
        {"dims": [2**40, 2**10]},
        {"dims": [2**31, 2], "length": 2**34},
    ],
    ids=str,
)
def test_a_tensor_that_does_not_fit_its_file_is_refused(path, tensor, where):
    _, weights = write(path, tensor=tensor, where=where)
    path.with_name("weights.bin").write_bytes(weights)
    with pytest.raises(ms.ModelLoadError, match=f"^'{path}' could not be loaded: copy or export"):
        formats.read(path)


def test_bytes_that_are_no_message_are_named(path):
    path.write_bytes(b"location\xff")
    with pytest.raises(ms.ModelLoadError, match=f"^'{path}' could not be loaded: .*no protobuf"):
        formats.read(path)


def test_an_onnx_runtime_that_takes_no_data_from_memory_is_named(path, monkeypatch):
    _, weights = write(path)
    path.with_name("weights.bin").write_bytes(weights)
    name = "add_external_initializers_from_files_in_memory"
    monkeypatch.delattr(onnx.onnxruntime.SessionOptions, name)
    with pytest.raises(ms.ModelLoadError, match=r"ONNX Runtime \d.* takes no external data from"):
        formats.read(path)


def both(path, factor):
    """Write a model of this factor, whose bytes tell it, and its weights; return their places."""
    _, weights = write(path, factor=factor, tensor={"length": 8, "offset": int(factor)})
    path.with_name("weights.bin").write_bytes(bytes(int(factor)) + weights)
    return path, path.with_name("weights.bin")


def deploy(path, monkeypatch, pairs, after="ranker.onnx"):
    """Replace files by others, one at a time, whenever this one was read."""
    pairs = iter(pairs)
    formats.identity(path)  # reads it too, at first

    def take(file, shown, take=_door.take):
        data = take(file, shown)
        if file.name == after:
            for new, old in next(pairs, ()):
                new.replace(old)
        return data

    monkeypatch.setattr(_door, "take", take)


def deployed(path, factor):
    """Return the moves that put a model and its weights in place, the weights first."""
    folder = path.parent.parent / str(factor)
    folder.mkdir()
    new = both(folder / path.name, factor)
    return [(file, path.with_name(file.name)) for file in reversed(new)]


def test_a_model_and_its_weights_are_of_one_deployment(path, monkeypatch):
    both(path, 3.0)
    deploy(path, monkeypatch, [deployed(path, 5.0)])

    np.testing.assert_array_equal(onnx.caller(formats.read(path).model)(ROWS), [[5, 10]])


def test_weights_that_change_while_they_are_read_are_read_anew(path, monkeypatch):
    both(path, 3.0)
    deploy(path, monkeypatch, [deployed(path, 3.5)[:1]], after="weights.bin")

    np.testing.assert_array_equal(onnx.caller(formats.read(path).model)(ROWS), [[3.5, 7]])


def test_a_model_whose_weights_never_rest_is_refused(path, monkeypatch):
    both(path, 3.0)
    deploy(path, monkeypatch, [deployed(path, 3 + i / 8) for i in range(1, 8)])
    message = f"'{path}' changed while it was read, 3 times: write it elsewhere and rename it"
    with pytest.raises(ms.ModelLoadError, match=f"^{re.escape(message)}$"):
        formats.read(path)


@pytest.mark.parametrize("location", ["weights.bin", "deep/weights.bin"])
def test_a_model_is_another_when_the_file_that_it_names_is(path, location):
    _, weights = write(path, location)
    beside = path.parent / location
    absent = formats.identity(path)
    beside.parent.mkdir(exist_ok=True)
    beside.write_bytes(weights)
    there = formats.identity(path)
    assert formats.identity(path) == there
    beside.write_bytes(weights + b"more")

    assert len({absent, there, formats.identity(path)}) == 3


def test_a_model_that_names_another_file_is_watched_with_that(path):
    write(path, "first.bin")
    formats.identity(path)
    write(path, "second.bin")
    before = formats.identity(path)
    path.with_name("second.bin").write_bytes(b"")

    assert formats.identity(path) != before


def test_the_names_in_a_model_are_read_once_while_it_is_the_same(path, monkeypatch):
    write(path)
    seen = formats.identity(path)
    monkeypatch.setattr(_door, "take", None)

    assert formats.identity(path) == seen


def test_a_model_that_is_half_there_has_an_identity(path):
    path.write_bytes(b"location\xff")
    half = formats.identity(path)
    write(path)

    assert formats.identity(path) != half


def test_a_loader_serves_it_and_reloads_it(path):
    _, weights = write(path)
    beside = path.with_name("weights.bin")
    beside.write_bytes(weights)
    loader = ms.ModelLoader(path)
    first = loader(ROWS)
    beside.write_bytes(np.array([[4, 5]], np.float32).tobytes())
    loader.reload()

    np.testing.assert_array_equal(first, [[3, 6]])
    np.testing.assert_array_equal(loader(ROWS), [[4, 10]])
