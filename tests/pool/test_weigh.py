"""What models weigh: by what they hold where that can be told, else by what the process grew."""

import sys
from functools import partial

import numpy as np
import pytest

import modelserve as ms
from modelserve.pool import _engine
from modelserve.pool._weigh import of_tensors, on_disk, spaces

BLOCK = 32 << 20


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="the extra torch is not installed")


def held(model, name="held"):
    return ms.ModelLoader(lambda: model, predict=lambda model, x: x, name=name)


def test_arrays_weigh_what_they_hold_each_storage_once():
    array = np.zeros((10, 100))
    model = {"w": array, "again": [array[2:4], array.T], "k": (np.zeros(10, np.uint8),)}

    assert of_tensors(held(model)) == {"cpu": 8_010}


def test_what_stands_beside_arrays_weighs_what_python_says():
    assert of_tensors(held({"text": "x" * 1_000, "none": None})) == {
        "cpu": sys.getsizeof("x" * 1_000) + sys.getsizeof(None)
    }


def test_modules_weigh_their_parameters_and_buffers_by_device(torch):
    module = torch.nn.Sequential(torch.nn.Linear(10, 10), torch.nn.BatchNorm1d(10))
    module.add_module("tied", module[0])
    module.register_buffer("far", torch.zeros(5, device="meta"))

    assert of_tensors(held(module)) == {"cpu": 4 * (110 + 20 + 20) + 8, "meta": 20}
    assert of_tensors(held(torch.zeros(3)[1:])) == {"cpu": 12}


def test_trees_weigh_what_all_their_loaders_hold():
    one, other = held(np.zeros(10), "one"), held(np.zeros(20), "other")
    tree = ms.predictor(lambda x: x, uses=[one, other])

    assert of_tensors(tree) == {"cpu": 240}


def test_what_holds_anything_else_does_not_tell():
    assert of_tensors(held(str.upper)) is None
    assert of_tensors(held({"w": np.zeros(3), "model": object()})) is None
    assert of_tensors(ms.predictor(str.upper)) is None


@pytest.mark.parametrize(
    ("weight", "budget", "given"),
    [
        (5, {"all": 9}, {"all": 5}),
        (5, {"cuda:0": 9}, {"cuda:0": 5}),
        (5, {"cuda:0": 9, "cpu": 9}, {"cpu": 5}),
        ({"cpu": 1, "cuda:0": 2}, {"all": 9}, {"all": 3}),
        ({"cpu": 1, "cuda:0": 2}, {"cpu": 9}, {"cpu": 1, "cuda:0": 2}),
    ],
)
def test_weights_come_into_the_spaces_of_a_budget(weight, budget, given):
    assert spaces(weight, budget) == given


def test_a_number_for_one_of_several_devices_is_unclear():
    with pytest.raises(ValueError, match="of which of cuda:0, cuda:1 is not said"):
        spaces(5, {"cuda:0": 9, "cuda:1": 9})


def test_files_tell_their_size_and_their_format(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(bytes(70))
    loader = ms.ModelLoader(path)

    assert on_disk(loader) == (".onnx", 70)
    assert on_disk(ms.PredictionCache(loader, maxsize=1)) == (".onnx", 70)
    assert on_disk(held(1)) == ("", None)
    path.unlink()
    assert on_disk(loader) == (".onnx", None)


def test_folders_tell_the_size_of_their_files(tmp_path):
    folder = tmp_path / "m.onnx"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_bytes(bytes(70))
    (folder / "sub" / "b").write_bytes(bytes(7))

    assert on_disk(ms.ModelLoader(folder)) == (".onnx", 77)


class Opaque:
    """A model that does not tell what it holds."""

    def __init__(self, size=BLOCK):
        self.array = np.ones(size, np.uint8)

    def __call__(self, x):
        return x


def test_what_does_not_tell_weighs_what_the_process_grew():
    with ms.ModelPool(lambda name: ms.ModelLoader(Opaque), budget=100 << 20) as pool:
        pool["a"](1)

        assert 0.9 * BLOCK <= pool.stats.nbytes["all"] <= 1.3 * BLOCK


def test_what_grew_less_than_its_size_weighs_its_size(monkeypatch):
    monkeypatch.setattr(_engine, "resident", partial(int, 5))
    with ms.ModelPool(
        lambda name: ms.ModelLoader(lambda: Opaque(1)), budget=100, size=lambda name: 60
    ) as pool:
        pool["a"](1)

        assert pool.stats.nbytes == {"all": 60}


def test_while_others_move_the_prediction_stands_for_what_the_process_grew():
    pool = ms.ModelPool(
        lambda name: ms.ModelLoader(load), budget=100 << 20, size=lambda name: 1_000
    )

    def load():
        if pool["a"].stats.loads == pool["b"].stats.loads == 0 and not asked:
            asked.append(1)
            pool["b"].start()
        return Opaque()

    asked = []
    with pool:
        pool["a"].start()

        assert pool["a"].stats.nbytes == 1_000


def test_where_the_system_does_not_tell_weigh_must(monkeypatch):
    monkeypatch.setattr(_engine, "resident", lambda: None)
    pool = ms.ModelPool(lambda name: ms.ModelLoader(Opaque), budget=100)
    with pytest.raises(ms.ModelLoadError, match=r"does not tell what it weighs.*pass weigh="):
        pool["a"](1)
    sized = ms.ModelPool(lambda name: ms.ModelLoader(Opaque), budget=100, size=lambda name: 60)
    with sized:
        sized["a"](1)
        assert sized.stats.nbytes == {"all": 60}


def test_a_number_may_stand_for_the_file_in_the_first_of_several_spaces(tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    onnx_models = pytest.importorskip("tests.formats.models")
    path = tmp_path / "a.onnx"
    path.write_bytes(onnx_models.times(2.0))
    with ms.ModelPool(
        lambda name: ms.ModelLoader(path), budget={"cuda:0": 10, "cpu": 1 << 30}
    ) as pool:
        pool["a"](np.ones((1, 2), np.float32))

        assert pool.stats.nbytes["cpu"] >= path.stat().st_size
        assert pool.stats.nbytes["cuda:0"] == 0
