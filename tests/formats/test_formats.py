"""Files by their suffix, models by their kind."""

import hashlib
import re
import sys
from pathlib import Path

import pytest

import modelserve as ms
from modelserve import formats
from tests.support.processes import fresh


def test_a_suffix_says_who_reads_a_file():
    assert formats.find(Path("models/ranker.onnx")) == "modelserve.formats.onnx"
    assert formats.find(Path("RANKER.ONNX")) == "modelserve.formats.onnx"


@pytest.mark.parametrize("name", ["ranker.pkl", "ranker", "ranker.onnx.gz", ".onnx"])
def test_another_suffix_is_refused_with_those_that_are_known(name):
    message = f"'{name}' is of no known format: use one of .onnx, or pass a function that loads it"
    with pytest.raises(ms.ModelLoadError, match=re.escape(message)):
        formats.find(Path(name))


def test_every_format_has_its_module():
    folder = Path(formats.__file__).parent

    assert all((folder / f"{name}.py").exists() for name in formats.FORMATS.values())
    assert all((folder / f"{name}.py").exists() for name in formats.RUNTIMES.values())


def test_a_file_that_is_not_there_is_named():
    message = "'models/absent.onnx' does not exist: pass the path of a model file"
    with pytest.raises(ms.ModelLoadError, match=re.escape(message)) as caught:
        formats.read(Path("models/absent.onnx"))
    assert caught.value.__cause__ is None


def test_a_folder_of_a_models_name_cannot_be_read(tmp_path):
    path = tmp_path / "ranker.onnx"
    path.mkdir()
    with pytest.raises(ms.ModelLoadError, match=f"^'{re.escape(str(path))}' cannot be read: "):
        formats.read(path)


def test_a_file_of_the_version_given_is_not_even_parsed(tmp_path):
    path = tmp_path / "ranker.onnx"
    path.write_bytes(b"no model")

    assert formats.read(path, hashlib.sha256(b"no model").hexdigest()[:16]) is None


def test_a_broken_file_is_named_with_a_remedy(tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    path = tmp_path / "ranker.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ms.ModelLoadError, match=f"^'{path}' could not be loaded: copy or export"):
        formats.read(path)


def test_a_files_version_is_the_beginning_of_its_digest(tmp_path):
    from tests.formats import models

    path = tmp_path / "ranker.onnx"
    data = models.times(3.0)
    path.write_bytes(data)
    artefact = formats.read(path, "another")

    assert artefact.version == hashlib.sha256(data).hexdigest()[:16]
    assert formats.runtime(artefact.model).__name__ == "modelserve.formats.onnx"


class Estimator:
    """Like one of scikit-learn."""

    def predict(self, rows):
        return [sum(row) for row in rows]


class Both(Estimator):
    def __call__(self, rows):
        return "called"


class Callable:
    predict = "a word"

    def __call__(self, rows):
        return "called"


@pytest.mark.parametrize(
    ("model", "answer"),
    [(Estimator(), [3]), (Both(), [3]), (Callable(), "called"), (len, 1)],
    ids=["estimator", "both", "callable", "function"],
)
def test_an_estimator_predicts_and_a_function_is_called(model, answer):
    assert formats.runtime(model) is None
    assert formats.caller(model, None)([[1, 2]]) == answer


def test_a_model_that_can_neither_is_refused_with_the_fix():
    message = "a dict can neither predict nor be called: say how with predict=lambda model, x: ..."
    with pytest.raises(ms.ModelLoadError, match=re.escape(message)):
        formats.caller({"weights": [1, 2]}, None)


def test_a_model_of_a_known_kind_is_called_as_its_kind_is():
    class Known:
        def caller(self, model):
            return lambda x: (model, x)

    assert formats.caller("model", Known())("x") == ("model", "x")


def test_a_package_that_is_kept_out_knows_no_model(monkeypatch):
    for package in formats.RUNTIMES:
        monkeypatch.setitem(sys.modules, package, None)

    assert formats.runtime(str.upper) is None


def test_without_onnx_runtime_a_file_cannot_be_read(monkeypatch, tmp_path):
    path = tmp_path / "ranker.onnx"
    path.write_bytes(b"any")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "modelserve.formats.onnx", raising=False)
    with pytest.raises(ms.ModelLoadError, match=re.escape("pip install 'modelserve[onnx]'")):
        formats.read(path)


def test_no_package_is_imported_to_look_at_a_model():
    code = """
import sys
from modelserve import formats
assert formats.runtime(str.upper) is None
names = "numpy", "onnxruntime", "torch", "modelserve.formats.onnx", "modelserve.formats.torch"
print(*(name for name in names if sys.modules.get(name)))
"""
    assert fresh(code) == "numpy\n"


ABSENT = """
import sys
import modelserve as ms

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            raise ModuleNotFoundError("No module named 'onnxruntime'", name=name)

sys.meta_path.insert(0, Absent())
"""


def test_without_onnx_runtime_the_error_says_what_to_install(tmp_path):
    path = tmp_path / "ranker.onnx"
    path.write_bytes(b"any")
    code = f"""{ABSENT}
try:
    ms.ModelLoader({str(path)!r}, mode="eager")
except ms.ModelLoadError as error:
    print(error)
    print(repr(error.__cause__))
"""
    told, cause = fresh(code).splitlines()

    assert told == "ONNX files need ONNX Runtime: pip install 'modelserve[onnx]'"
    assert cause == "ModuleNotFoundError(\"No module named 'onnxruntime'\")"


def test_without_onnx_runtime_other_models_load():
    code = f"{ABSENT}print(ms.ModelLoader(lambda: str.upper)('a'))"

    assert fresh(code) == "A\n"
