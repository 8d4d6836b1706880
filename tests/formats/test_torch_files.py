"""Files of torch: weights, and programs of TorchScript."""

import io
import re
from collections import OrderedDict

import numpy as np
import pytest

import modelserve as ms
from modelserve import formats
from tests.formats.hostile import Marks, pin

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
torch_files = pytest.importorskip("modelserve.formats.torch_files")

scripted = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
ROWS = np.array([[1, 2]], np.float32)


def linear():
    return torch.nn.Linear(2, 1)


def saved(what, **how):
    file = io.BytesIO()
    torch.save(what, file, **how)
    return file.getvalue()


def program():
    file = io.BytesIO()
    module = linear().eval()
    torch.nn.init.ones_(module.weight)
    torch.nn.init.zeros_(module.bias)
    torch.jit.save(torch.jit.script(module), file)
    return file.getvalue()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
def test_weights_go_into_the_module_of_the_factory(tmp_path, suffix):
    path = tmp_path / f"ranker{suffix}"
    module = linear()
    path.write_bytes(saved(module.state_dict()))
    loader = ms.ModelLoader(path, factory=linear)

    np.testing.assert_array_equal(loader(ROWS), module(torch.from_numpy(ROWS)).detach())
    assert loader.version == pin(path.read_bytes())[:16]


def test_weights_without_a_module_are_refused(tmp_path):
    path = tmp_path / "ranker.pt"
    path.write_bytes(saved(linear().state_dict()))
    message = f"'{path}' could not be loaded: it holds weights alone: pass factory=, a function of"
    with pytest.raises(ms.ModelLoadError, match=f"^{re.escape(message)}"):
        formats.read(path)


@pytest.mark.parametrize("how", [{}, {"allow_pickle": True}])
def test_a_pickle_among_weights_is_never_run(tmp_path, how):
    path, marker = tmp_path / "ranker.pt", tmp_path / "marker"
    data = saved(OrderedDict(weight=Marks(marker)))
    path.write_bytes(data)
    message = (
        f"^'{path}' could not be loaded: save the state_dict.. alone, as torch's reader of weights "
        r"cannot read it .it asks for posix\.mkdir"
    )
    pinned = {"sha256": pin(data)} if how else {}
    with pytest.raises(ms.ModelLoadError, match=message):
        formats.read(path, factory=linear, **pinned, **how)
    assert not marker.exists()


def test_a_whole_module_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "ranker.pt"
    path.write_bytes(saved(linear()))
    with pytest.raises(
        ms.ModelLoadError, match=r"save the state_dict.* asks for torch\.nn\.modules"
    ):
        formats.read(path, factory=linear)


def test_other_than_weights_is_refused(tmp_path):
    path = tmp_path / "ranker.pt"
    path.write_bytes(saved([1, 2]))
    with pytest.raises(ms.ModelLoadError, match=r"save the state_dict.* .it holds a list"):
        formats.read(path, factory=linear)


def test_a_broken_pickle_of_weights_is_refused():
    from tests.formats.hostile import unzipped, zipped

    entries = [
        (name, b"no pickle" if name.endswith("data.pkl") else data)
        for name, data in unzipped(saved(linear().state_dict()))
    ]
    with pytest.raises(
        ms.ModelLoadError, match=r"as torch's reader of weights cannot read it .it is"
    ):
        torch_files.load(zipped(entries, 0), formats._known.Ask(linear))


def test_the_old_kind_of_file_is_refused_with_the_remedy():
    data = saved(linear().state_dict(), _use_new_zipfile_serialization=False)
    message = "save its state_dict() with torch.save of torch 1.6 or later, as torch cannot read it"
    with pytest.raises(ms.ModelLoadError, match=re.escape(message)):
        torch_files.load(data, formats._known.Ask(linear))


@scripted
def test_a_program_runs_where_it_is_trusted(tmp_path):
    path = tmp_path / "ranker.pt"
    data = program()
    path.write_bytes(data)
    loader = ms.ModelLoader(path, allow_pickle=True, sha256=pin(data))

    np.testing.assert_array_equal(loader(ROWS), [[3]])


@scripted
@pytest.mark.parametrize("how", [{}, {"allow_pickle": True}, {"sha256": ""}, {"factory": linear}])
def test_a_program_is_refused_where_it_is_not(tmp_path, how):
    path = tmp_path / "ranker.pt"
    data = program()
    path.write_bytes(data)
    how = how | ({"sha256": pin(data)} if "sha256" in how else {})
    with pytest.raises(ms.ModelLoadError, match="loaded: a TorchScript program can run any code"):
        formats.read(path, **how)


@scripted
def test_a_program_takes_no_factory(tmp_path):
    path = tmp_path / "ranker.pt"
    data = program()
    path.write_bytes(data)
    with pytest.raises(ms.ModelLoadError, match="a TorchScript program takes no factory=: leave"):
        formats.read(path, factory=linear, allow_pickle=True, sha256=pin(data))
