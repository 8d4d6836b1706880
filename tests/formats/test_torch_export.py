"""Programs of torch.export."""

import io

import numpy as np
import pytest

import modelserve as ms
from modelserve.formats._known import NOTHING
from tests.formats.hostile import pin, zipped

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
torch_export = pytest.importorskip("modelserve.formats.torch_export")

ROWS = np.array([[1, 2]], np.float32)


@pytest.fixture(scope="module")
def data():
    """Return a program that was exported for batches of any size."""
    batch = torch.export.Dim("batch", min=1, max=64)
    module = torch.nn.Linear(2, 1).eval()
    torch.nn.init.ones_(module.weight)
    torch.nn.init.zeros_(module.bias)
    exported = torch.export.export(module, (torch.ones(3, 2),), dynamic_shapes=({0: batch},))
    file = io.BytesIO()
    torch.export.save(exported, file)
    return file.getvalue()


def test_a_program_runs_where_it_is_trusted(tmp_path, data):
    path = tmp_path / "ranker.pt2"
    path.write_bytes(data)
    loader = ms.ModelLoader(path, allow_pickle=True, sha256=pin(data))

    np.testing.assert_array_equal(loader(ROWS), [[3]])
    np.testing.assert_array_equal(loader(np.repeat(ROWS, 5, axis=0)), [[3]] * 5)


def test_a_program_is_refused_where_it_is_not(data):
    with pytest.raises(
        ms.ModelLoadError, match=r"^a torch\.export program can run any code: export"
    ):
        torch_export.load(data, NOTHING)


def test_a_trusted_archive_still_has_to_be_sound(tmp_path):
    path = tmp_path / "ranker.pt2"
    path.write_bytes(zipped([("../a", b"")]))
    with pytest.raises(ms.ModelLoadError, match="no sound zip archive is like this"):
        ms.ModelLoader(path, mode="eager", allow_pickle=True, sha256=pin(path.read_bytes()))
