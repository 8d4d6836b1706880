"""On which devices the models of files can be, and what becomes of those that fail on the way."""

import io
from pathlib import Path

import numpy as np
import pytest

from modelserve import ModelLoadError, formats
from modelserve.formats._known import Ask
from tests.formats import models

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
onnx_format = pytest.importorskip("modelserve.formats.onnx")


def session(data=None):
    return onnx_format.load(data or models.times(2.0))


@pytest.mark.parametrize(
    ("name", "factory", "may"),
    [
        ("a.pt", None, True),
        ("a.pt2", None, True),
        ("a.safetensors", torch.nn.Identity, True),
        ("a.safetensors", None, False),
        ("a.npz", None, False),
        ("a.strange", None, True),
    ],
)
def test_torch_modules_can_be_anywhere_and_others_on_the_cpu(name, factory, may):
    assert formats.takes(Path(name), "cuda:0", factory) == may
    assert formats.takes(Path(name), "cpu", factory)


def test_what_is_not_installed_takes_no_device(monkeypatch):
    def missing(name):
        raise ModelLoadError(name)

    monkeypatch.setattr(formats.importlib, "import_module", missing)

    assert not formats.takes(Path("a.onnx"), "cuda:0")


def test_a_session_can_be_where_there_is_a_provider(monkeypatch):
    there = ["CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)

    assert not formats.takes(Path("a.onnx"), "cuda:0")
    there.insert(0, "CUDAExecutionProvider")
    assert formats.takes(Path("a.onnx"), "cuda:0")
    assert not formats.takes(Path("a.onnx"), "meta")


def test_a_session_for_a_gpu_falls_back_on_the_cpu_for_what_that_lacks():
    assert onnx_format._providers("cuda:1") == [
        ("CUDAExecutionProvider", {"device_id": 1}),
        "CPUExecutionProvider",
    ]
    assert onnx_format._providers("cpu") == onnx_format._providers(None) == ["CPUExecutionProvider"]


def test_a_session_tells_where_it_is():
    class OnGpu:
        def get_providers(self):
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

        def get_provider_options(self):
            return {"CUDAExecutionProvider": {"device_id": "3"}, "CPUExecutionProvider": {}}

    assert onnx_format.device(session()) == "cpu"
    assert onnx_format.device(OnGpu()) == "cuda:3"


def test_a_program_is_moved_with_the_devices_that_it_names():
    class Shifted(torch.nn.Module):
        def forward(self, x):
            return x + torch.ones(2, device="cpu")

    program = torch.export.export(Shifted(), (torch.ones(2),))
    torch.export.save(program, file := io.BytesIO())
    form = formats.FORMS[".pt2"]
    for device in ("cpu", "meta"):
        ask = Ask(trusted=True, suffix=".pt2", device=device)
        moved = formats._make(Path("a.pt2"), form, file.getvalue(), ask)
        assert moved(torch.ones(2, device=device)).device.type == device


class Halfway(torch.nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
        self.moves = []

    def to(self, device):
        self.moves.append(device)
        if device != "cpu":
            raise MemoryError(device)
        return super().to(device)


def test_a_module_that_fails_on_the_way_goes_back_to_the_cpu():
    module = Halfway()
    with pytest.raises(MemoryError):
        formats.put(module, formats.runtime(module), "cuda:0")

    assert module.moves == ["cuda:0", "cpu"]


def test_what_cannot_be_moved_stays():
    made = session()

    assert formats.put(made, formats.runtime(made), "cuda:0") is made
    assert formats.put("a model", None, "cuda:0") == "a model"


def test_boosters_are_on_the_cpu():
    for package in ("xgboost", "lightgbm"):
        pytest.importorskip(package, reason=f"the extra {package} is not installed")
        module = formats.importlib.import_module(f"modelserve.formats.{package}")
        assert module.device(None) == "cpu"


def test_the_bytes_of_a_file_count_those_beside_it_that_hold_weights(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"12")
    (tmp_path / "a.onnx.data").write_bytes(b"345")
    (tmp_path / "a.npz").write_bytes(b"6")
    (tmp_path / "a.data").write_bytes(b"78")

    assert formats.nbytes(tmp_path / "a.onnx") == 7
    assert formats.nbytes(tmp_path / "a.npz") == 1
    assert formats.nbytes(tmp_path) == 8
    assert formats.nbytes(tmp_path / "b.npz") is None


def test_the_bytes_behind_a_url_are_what_its_service_tells():
    fsspec = pytest.importorskip("fsspec", reason="the extra remote is not installed")
    fs = fsspec.filesystem("memory")
    with fs.open("/sizes/a.npz", "wb") as file:
        np.savez(file, scale=np.ones(2))

    told = formats.nbytes(formats.place("memory://sizes/a.npz"))
    assert told == fs.size("/sizes/a.npz")
    assert formats.nbytes(formats.place("memory://sizes/b.npz")) is None


def test_a_model_of_a_folder_takes_the_cpu_alone(tmp_path):
    assert formats.takes(tmp_path, "cpu")
    assert not formats.takes(tmp_path, "cuda:0")
