"""Every format against broken and hostile files: refused, or loaded, and nothing else.

Files are loaded in children, so that one that ends its process is seen.
"""

import io
import pickle
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import pytest

import modelserve as ms
from modelserve import formats
from tests.formats import hostile
from tests.formats.hostile import HTML, LFS, Marks, declaring, flipped, npy, pin, truncated, try_all
from tests.support.processes import in_child

ROWS = np.array([[1, 2]], np.float32)


class Kind(NamedTuple):
    """One format: how its files end, a sound one, how one is used, and options of the loader."""

    suffix: str
    make: object
    use: object
    how: object = None


def call(model):
    """Call a model on rows; that it raises is its own affair."""
    with suppress(Exception):
        formats.caller(model, formats.runtime(model))(ROWS)


def make_onnx():
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    from tests.formats import models

    return models.times(3.0)


def linear():
    import torch

    return torch.nn.Linear(2, 1)


def make_torch():
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    file = io.BytesIO()
    torch.save(linear().state_dict(), file)
    return file.getvalue()


def make_safetensors():
    numpy = pytest.importorskip("safetensors.numpy", reason="the extra safetensors is missing")
    return numpy.save({"a": np.ones((3, 2), np.float32), "b": np.arange(5)})


def make_npz():
    file = io.BytesIO()
    np.savez_compressed(file, a=np.ones((3, 2), np.float32), b=np.arange(50) ** 2)
    return file.getvalue()


def make_skops():
    io_of = pytest.importorskip("skops.io", reason="the extra sklearn is not installed")
    from sklearn.linear_model import Ridge

    return io_of.dumps(Ridge().fit(np.eye(2), [1, 2]))


KINDS = [
    Kind(".onnx", make_onnx, call),
    Kind(".safetensors", make_safetensors, hostile.arrays),
    Kind(".npz", make_npz, hostile.arrays),
    Kind(".skops", make_skops, call),
    *(Kind(suffix, make_torch, call, {"factory": linear}) for suffix in (".pt", ".pth", ".bin")),
]
PINNED = {suffix for suffix, form in formats.FORMS.items() if form.code or form.fragile}


def name(kind):
    return kind.suffix


@pytest.fixture(scope="module", params=KINDS, ids=name)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def data(kind):
    return kind.make()


def test_every_format_is_tried():
    assert {kind.suffix for kind in KINDS} | PINNED == set(formats.FORMS)


def test_a_sound_file_is_loaded(kind, data, tmp_path):
    assert try_all([data], tmp_path, kind.suffix, kind.use, **(kind.how or {})) == 1


def test_a_truncated_file_is_refused(kind, data, tmp_path):
    assert try_all(truncated(data), tmp_path, kind.suffix, kind.use, **(kind.how or {})) == 0


def test_flipped_bits_are_refused_where_the_file_is_pinned(kind, data, tmp_path):
    files = flipped(data, 100)

    assert (
        try_all(files, tmp_path, kind.suffix, kind.use, sha256=pin(data), **(kind.how or {})) == 0
    )


def test_flipped_bits_end_no_process_where_it_is_not(kind, data, tmp_path):
    loaded = try_all(flipped(data, 100), tmp_path, kind.suffix, kind.use, **(kind.how or {}))

    assert loaded < 100


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (HTML, "download the file itself, as .* cannot read it .it is a web page"),
        (LFS, "git lfs pull`, as .* cannot read it .it is a pointer of Git LFS"),
        (b"", "copy or export it again, as .* cannot read it .it is empty"),
    ],
    ids=["a web page", "a pointer", "nothing"],
)
@pytest.mark.parametrize("suffix", formats.FORMS)
def test_what_plainly_is_no_model_is_called_by_its_name(tmp_path, suffix, other, told):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(other)
    with pytest.raises(ms.ModelLoadError, match=f"^'{path}' could not be loaded: .*{told}"):
        formats.read(path, allow_pickle=True, sha256=pin(other))


@pytest.mark.parametrize("suffix", formats.FORMS)
@pytest.mark.parametrize("option", ["nothing", "sha256", "allow_pickle", "factory"])
def test_a_malicious_pickle_is_never_run(tmp_path, suffix, option):
    marker = tmp_path / "marker"
    for data in [*hostile.pickles(marker), *archives(marker)]:
        path = tmp_path / f"model{suffix}"
        path.write_bytes(data)
        how = {
            "nothing": {},
            "sha256": {"sha256": pin(data)},
            "allow_pickle": {"allow_pickle": True},
            "factory": {"factory": linear},
        }[option]
        with pytest.raises(ms.ModelLoadError, match=f"^'{path}' "):
            formats.read(path, **how)
        assert not marker.exists()


def archives(marker):
    """Return what torch, numpy and zip tools make of a pickle that would run code."""
    yield hostile.zipped(
        [("archive/data.pkl", pickle.dumps(Marks(marker))), ("archive/version", b"3")]
    )
    yield hostile.zipped(
        [("archive/data.pkl", pickle.dumps(Marks(marker))), ("archive/constants.pkl", b"")]
    )
    file = io.BytesIO()
    np.savez(file, a=np.array([Marks(marker)], object))
    yield file.getvalue()


def test_no_other_bytes_than_those_pinned_are_run(tmp_path):
    marker = tmp_path / "marker"
    for suffix in formats.FORMS:
        path = tmp_path / f"model{suffix}"
        for data in hostile.pickles(marker):
            path.write_bytes(data)
            with pytest.raises(ms.ModelLoadError, match="and sha256= pins"):
                formats.read(path, allow_pickle=True, sha256=pin(b"another"))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("suffix", "package"),
    [(".npz", "numpy"), (".pt", "torch"), (".skops", "skops"), (".pt2", "torch")],
)
@pytest.mark.parametrize("size", [2**31, 2**32 - 2])
def test_an_archive_that_declares_far_more_than_it_has_is_refused(tmp_path, suffix, package, size):
    pytest.importorskip(package, reason="its extra is not installed")
    bomb = declaring(hostile.zipped([("archive/data.pkl", bytes(1000)), ("a.npy", b"")]), size)
    path = tmp_path / f"model{suffix}"
    path.write_bytes(bomb)
    how = {"factory": linear} if suffix == ".pt" else {}
    with pytest.raises(ms.ModelLoadError, match="unpack"):
        formats.read(path, allow_pickle=True, sha256=pin(bomb), **how)


def bombs():
    """Return files that declare terabytes: by suffix."""
    yield ".npz", hostile.zipped([("a.npy", npy("<f8", (2**37,), b"x" * 8))])
    header = b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
    yield ".safetensors", len(header).to_bytes(8, "little") + header + b"1234"
    yield ".safetensors", (2**42).to_bytes(8, "little") + header
    yield ".onnx", onnx_bomb()


def onnx_bomb():
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    from tests.formats import models

    made = models.onnx.load_from_string(models.times(3.0))
    tensor = made.graph.initializer[0]
    tensor.dims[:] = [2**40]
    return made.SerializeToString()


def test_a_tensor_of_terabytes_is_refused(tmp_path):
    for suffix, data in bombs():
        assert try_all([data], tmp_path, suffix, hostile.arrays) == 0


@pytest.mark.parametrize("suffix", formats.FORMS)
def test_a_folder_in_place_of_a_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.mkdir()
    with pytest.raises(ms.ModelLoadError, match=f"^'{path}' cannot be read: it is a folder: pass"):
        formats.read(path, allow_pickle=True, sha256="0" * 64)


def test_a_child_that_dies_would_be_seen(tmp_path):
    import os
    import signal

    with pytest.raises(AssertionError, match="the child died"):
        try_all([make_npz()], tmp_path, ".npz", lambda _: os.kill(os.getpid(), signal.SIGKILL))
    assert in_child(lambda: 1) == "1"
