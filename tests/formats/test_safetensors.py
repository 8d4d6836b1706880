"""Weights in safetensors files, as arrays and in torch modules."""

import json

import numpy as np
import pytest

import modelserve as ms
from modelserve.formats._known import NOTHING, Ask

pytest.importorskip("safetensors", reason="the extra safetensors is not installed")
from safetensors.numpy import save

from modelserve.formats import safetensors

WEIGHTS = {"weight": np.array([[1, 2], [3, 4]], np.float32), "bias": np.array([5, 6], np.float32)}


def file_of(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(first, last, shape=(2,), dtype="F32"):
    return {"a": {"dtype": dtype, "shape": list(shape), "data_offsets": [first, last]}}


@pytest.mark.parametrize("kind", ["f4", "f8", "f2", "i8", "i4", "u1", "?"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_arrays_come_back_as_they_were_saved(kind, shape):
    saved = np.arange(np.prod(shape, dtype=int)).astype(kind).reshape(shape)
    loaded = safetensors.load(save({"a": saved}, {"format": "np"}), NOTHING)

    assert list(loaded) == ["a"]
    assert loaded["a"].dtype == saved.dtype
    np.testing.assert_array_equal(loaded["a"], saved)


def test_weights_go_into_the_module_of_the_factory(tmp_path):
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    path = tmp_path / "ranker.safetensors"
    path.write_bytes(save(WEIGHTS))
    loader = ms.ModelLoader(path, factory=lambda: torch.nn.Linear(2, 2))

    np.testing.assert_array_equal(loader(np.ones((1, 2), np.float32)), [[8, 13]])
    module = safetensors.load(save(WEIGHTS), Ask(lambda: torch.nn.Linear(2, 2)))
    np.testing.assert_array_equal(module.weight.detach(), WEIGHTS["weight"])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"1234567", "its header has"),
        (file_of(b"{}", length=3), "its header has 3 bytes, and the file 10"),
        (file_of(b"{}", length=2**63), "its header has 9,223,372,036,854,775,808 bytes"),
        (file_of(b" " * (17 << 20)), "its header has 17,825,792 bytes"),
        (file_of(entry(0, 9), bytes(8)), "the tensor 'a' lies outside of the file"),
        (file_of(entry(-8, 0), bytes(8)), "the tensor 'a' lies outside of the file"),
        (file_of(entry(8, 0), bytes(8)), "the tensor 'a' lies outside of the file"),
        (file_of(entry(0, 8, [2**40]), bytes(8)), "the tensor 'a' is larger than its bytes"),
        (file_of(entry(0, 8, [2**63 - 1] * 64), bytes(8)), "the tensor 'a' is larger than its"),
        (file_of(entry(0, 8, [2**63 - 1] * 200_000), bytes(8)), "the tensor 'a' is of no shape"),
        (file_of(entry(0, 4, [1] * 65), bytes(4)), "the tensor 'a' is of no shape"),
        (file_of(entry(0, 8, [2**63]), bytes(8)), "the tensor 'a' is of no shape"),
        (file_of(entry(0, 4, [-1, -1]), bytes(4)), "the tensor 'a' is of no shape"),
    ],
)
def test_a_header_that_promises_more_than_there_is_is_refused(data, why):
    with pytest.raises(ms.ModelLoadError, match=f"as safetensors cannot read it .{why}"):
        safetensors.load(data, NOTHING)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"{",
        b'{"a": 1}',
        b'{"a": {}}',
        b"[" * 100_000,
        entry(0, 8, (3,)),
        entry(0, 4, (1,)),
    ],
)
def test_what_is_no_header_is_refused(header, tmp_path):
    path = tmp_path / "ranker.safetensors"
    path.write_bytes(file_of(header, bytes(8)))
    with pytest.raises(ms.ModelLoadError, match=f"^'{path}' could not be loaded: copy or export"):
        ms.ModelLoader(path, mode="eager")


def test_numbers_that_numpy_has_no_like_of_are_named():
    with pytest.raises(Exception, match=r"(?i)bf16|bfloat16"):
        safetensors.load(file_of(entry(0, 4, (2,), "BF16"), bytes(4)), NOTHING)
