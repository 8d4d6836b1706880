"""What a model can come from, and what is refused at construction."""

import functools
import itertools
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import modelserve as ms
from modelserve.loader._source import GONE, Torn, identity_of, open_source, read
from modelserve.loader._version import Fetched


def load():
    return str.upper


async def load_async():
    return str.upper


def load_by(path):
    return path


class Loads:
    def __call__(self):
        return str.upper


def test_a_function_is_called_at_every_fetch():
    made = []
    source = open_source(lambda: made.append(1) or len(made), "v1")

    assert source.name == "<lambda>"
    assert source.identity() is None
    assert [source.fetch(None, None)[:3], source.fetch("v1", None)[:3]] == [
        (1, "v1", None),
        (2, "v1", None),
    ]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (load, "load"),
        (Loads(), "Loads"),
        (Loads, "Loads"),
        (functools.partial(load_by, "x"), "load_by"),
        (dict, "dict"),
        ({}.popitem, "popitem"),
    ],
    ids=["function", "object", "class", "partial", "builtin class", "builtin"],
)
def test_anything_that_can_be_called_without_arguments_is_a_source(source, name):
    assert open_source(source, None).name == name


class Changing:
    """A source that changes at every look for a while, and breaks meanwhile."""

    name = "ranker"

    def __init__(self, looks, *, whole=False):
        self._looks = itertools.count()
        self._last = looks
        self.model = Fetched("model", None, None, 5, whole)
        self.fetched = []

    def identity(self):
        return min(next(self._looks), self._last)

    def fetch(self, now, device):
        self.fetched.append(now)
        if len(self.fetched) < 3:
            raise ValueError("half of a file")
        return self.model


def test_what_breaks_while_it_changes_is_read_again():
    source = Changing(4)

    assert read(source, "now") == (4, source.model)
    assert source.fetched == ["now"] * 3


def test_what_breaks_and_does_not_change_is_broken():
    source = Changing(2)
    with pytest.raises(ValueError, match="half of a file"):
        read(source, None)

    assert len(source.fetched) == 2


def test_what_changes_on_and_on_is_given_up():
    with pytest.raises(Torn, match="'ranker' changed while it was read"):
        read(Changing(100), None)


def test_what_is_whole_is_taken_in_the_end_though_the_source_changes_on_and_on():
    source = Changing(100, whole=True)

    assert read(source, None) == (4, source.model)
    assert len(source.fetched) == 3


def test_the_identity_of_what_is_not_there_is_that_of_nothing(tmp_path):
    path = tmp_path / "ranker.onnx"
    source = open_source(path, None)
    assert identity_of(source) is GONE
    path.write_bytes(b"here")

    assert identity_of(source) is not GONE


@pytest.mark.parametrize(
    ("path", "name"),
    [("models/ranker-v1.onnx", "ranker-v1"), (Path("ranker.v2.onnx"), "ranker.v2")],
)
def test_a_path_names_the_loader_by_its_stem(path, name):
    assert open_source(path, None).name == name


def test_a_torch_module_is_a_source_of_itself():
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    module = torch.nn.Identity()
    source = open_source(module, "v1")

    assert source.name == "Identity"
    assert source.fetch(None, None)[:2] == (module, "v1")


def test_torch_may_still_be_on_its_way_in(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    monkeypatch.setitem(sys.modules, "torch.nn", ModuleType("torch.nn"))

    assert open_source(load, None).name == "load"


@pytest.mark.parametrize(
    ("source", "kind"), [(b"bytes of a model", "bytes"), (object(), "object"), (None, "NoneType")]
)
def test_what_is_no_source_is_refused_without_showing_it(source, kind):
    message = (
        f"a {kind} is no source: pass a path, a torch module, or a function of no arguments that "
        "returns the model, such as `lambda: model`"
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        ms.ModelLoader(source)


@pytest.mark.parametrize(("source", "name"), [(load_by, "load_by"), (str.upper, "upper")])
def test_a_function_of_arguments_is_refused(source, name):
    message = f"the source '{name}' takes arguments: pass a function of no arguments that returns"
    with pytest.raises(TypeError, match=message):
        ms.ModelLoader(source)


def test_an_async_function_is_refused():
    with pytest.raises(TypeError, match="the source 'load_async' is async: pass a plain function"):
        ms.ModelLoader(load_async)


def test_a_suffix_that_nobody_knows_is_refused_with_those_that_are():
    message = "'ranker.h5' is of no known format: use one of .bin, .joblib, .json, .npz, "
    with pytest.raises(ms.ModelLoadError, match=re.escape(message)):
        ms.ModelLoader("ranker.h5")


def test_a_version_for_a_file_is_refused():
    message = "version='v1' of 'ranker.onnx': a file's version is its digest, so leave it out"
    with pytest.raises(ValueError, match=re.escape(message)):
        ms.ModelLoader("ranker.onnx", version="v1")


@pytest.mark.parametrize(
    "option", [{"sha256": "0" * 64}, {"factory": dict}, {"allow_pickle": True}], ids=str
)
def test_what_is_for_files_is_refused_for_others(option):
    [(name, value)] = option.items()
    why = re.escape(f"{name}={value!r}: 'hex' is no file, which it is for: leave it out")
    with pytest.raises(ValueError, match=why.replace("hex", "load")):
        ms.ModelLoader(load, **option)
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    with pytest.raises(ValueError, match=why.replace("hex", "Linear")):
        ms.ModelLoader(torch.nn.Linear(1, 1), **option)
