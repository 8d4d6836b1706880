"""Files by their suffix, models by their kind."""

import hashlib
import operator
import pickle
import re
import sys
from pathlib import Path

import pytest

import modelserve as ms
from modelserve import formats
from tests.support.processes import fresh


def test_a_suffix_says_who_reads_a_file():
    assert formats.find(Path("models/ranker.onnx")).module == "onnx"
    assert formats.find(Path("RANKER.ONNX")).module == "onnx"


@pytest.mark.parametrize("name", ["ranker.h5", "ranker", "ranker.onnx.gz", ".onnx"])
def test_another_suffix_is_refused_with_those_that_are_known(name):
    known = ", ".join(sorted(formats.FORMS))
    message = (
        f"'{name}' is of no known format: use one of {known}, or pass a function that loads it"
    )
    with pytest.raises(ms.ModelLoadError, match=re.escape(message)):
        formats.find(Path(name))


def test_what_a_manifest_tells_lets_a_fragile_file_be_read_and_no_code_run():
    promised = "0" * 64

    assert formats.find(Path("ranker.ubj"), promised=promised).fragile
    for options in ({}, {"allow_pickle": True}, {"allow_pickle": True, "sha256": "0" * 16}):
        with pytest.raises(ms.ModelLoadError, match="can run any code"):
            formats.find(Path("ranker.pkl"), promised=promised, **options)


def test_what_belongs_to_a_model_is_gathered_without_being_loaded(tmp_path):
    path = tmp_path / "ranker.pkl"
    path.write_bytes(b"no pickle")

    assert formats.gather(path) == {"ranker.pkl": b"no pickle"}
    with pytest.raises(ms.ModelLoadError, match="is a folder: pass the path of a model file"):
        formats.gather(tmp_path)
    with pytest.raises(ms.ModelLoadError, match="is of no known format"):
        formats.gather(tmp_path / "ranker.md")


def test_every_format_has_its_module():
    folder = Path(formats.__file__).parent

    assert all((folder / f"{name}.py").exists() for name, *_ in formats.FORMS.values())
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

    assert told == (
        f"'{path}' could not be loaded: ONNX Runtime is not installed: "
        "pip install 'modelserve[onnx]'"
    )
    assert cause == "ModuleNotFoundError(\"No module named 'onnxruntime'\")"


def test_without_onnx_runtime_other_models_load():
    code = f"{ABSENT}print(ms.ModelLoader(lambda: str.upper)('a'))"

    assert fresh(code) == "A\n"


@pytest.mark.parametrize("suffix", [".pkl", ".joblib", ".pt2"])
@pytest.mark.parametrize(
    "how",
    [{}, {"allow_pickle": True}, {"sha256": "0" * 64}, {"allow_pickle": True, "sha256": "0" * 63}],
)
def test_what_runs_code_is_refused_before_it_is_looked_at(suffix, how):
    message = (
        f"'absent{suffix}' could not be loaded: a {suffix} file can run any code: export it to a "
        "format that cannot, such as .onnx or .safetensors, or pass allow_pickle=True and the whole"
    )
    for ask in (formats.find, formats.read):
        with pytest.raises(ms.ModelLoadError, match=f"^{re.escape(message)}"):
            ask(Path(f"absent{suffix}"), **how)
    with pytest.raises(ms.ModelLoadError, match=f"^{re.escape(message)}"):
        ms.ModelLoader(f"absent{suffix}", **how)


def test_what_runs_code_is_read_when_it_is_trusted():
    assert formats.find(Path("a.pkl"), sha256="0" * 64, allow_pickle=True).module == "pickles"


@pytest.mark.parametrize(("suffix", "reader"), [(".onnx", "ONNX Runtime"), (".npz", "numpy")])
def test_a_factory_is_refused_where_no_weights_go_into_one(suffix, reader):
    message = f"'a{suffix}' takes no factory=, as {reader} makes the whole model: leave it out"
    with pytest.raises(ms.ModelLoadError, match=re.escape(message)):
        formats.find(Path(f"a{suffix}"), factory=dict)


def test_a_pin_that_is_no_digest_is_refused_at_construction():
    with pytest.raises(ValueError, match="sha256='abc': pass the digest that"):
        ms.ModelLoader("ranker.onnx", sha256="abc")


def test_pinned_bytes_are_parsed_and_others_are_not(tmp_path):
    path = tmp_path / "ranker.npz"
    path.write_bytes(b"no model")
    pin = hashlib.sha256(b"a model").hexdigest()
    message = f"^'{path}' has the digest [0-9a-f]{{64}}, and sha256= pins {pin}: fetch the file"
    with pytest.raises(ms.ModelLoadError, match=message):
        formats.read(path, sha256=pin)
    path.write_bytes(b"a model")
    with pytest.raises(ms.ModelLoadError, match="could not be loaded: copy or export it again"):
        formats.read(path, sha256=pin)


def test_a_loader_hands_on_what_it_was_told_of_a_file(tmp_path):
    path = tmp_path / "words.pkl"
    path.write_bytes(pickle.dumps(["a", "b"]))
    pin = hashlib.sha256(path.read_bytes()).hexdigest()
    loader = ms.ModelLoader(path, sha256=pin, allow_pickle=True, predict=operator.getitem)

    assert loader(1) == "b"
    assert pickle.loads(pickle.dumps(loader))(0) == "a"  # noqa: S301 - our own


def test_whatever_a_reader_raises_is_told_with_the_path_and_the_format(tmp_path):
    path = tmp_path / "ranker.npz"
    path.write_bytes(b"no archive")
    message = (
        f"'{path}' could not be loaded: copy or export it again, as numpy cannot read it "
        "(File is not a zip file)"
    )
    with pytest.raises(ms.ModelLoadError, match=f"^{re.escape(message)}$") as caught:
        formats.read(path)
    assert type(caught.value.__cause__).__name__ == "BadZipFile"


@pytest.mark.parametrize(
    ("package", "suffix", "extra"),
    [
        ("onnxruntime", ".onnx", "onnx"),
        ("torch", ".pt", "torch"),
        ("torch", ".pt2", "torch"),
        ("safetensors.numpy", ".safetensors", "safetensors"),
        ("skops", ".skops", "sklearn"),
        ("xgboost", ".ubj", "xgboost"),
        ("lightgbm", ".txt", "lightgbm"),
    ],
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    monkeypatch, tmp_path, package, suffix, extra
):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"any")
    monkeypatch.setitem(sys.modules, package, None)
    module = f"modelserve.formats.{formats.FORMS[suffix].module}"
    monkeypatch.delitem(sys.modules, module, raising=False)
    message = f"'{path}' could not be loaded: "
    pin = hashlib.sha256(b"any").hexdigest()
    with pytest.raises(ms.ModelLoadError, match=f"^{re.escape(message)}") as caught:
        formats.read(path, allow_pickle=True, sha256=pin)
    assert str(caught.value).endswith(f" is not installed: pip install 'modelserve[{extra}]'")
    assert isinstance(caught.value.__cause__, ImportError)
