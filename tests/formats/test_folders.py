"""Folders that are one model: what is copied of them, and their digest."""

import shutil
import subprocess

import pytest

import modelserve as ms
from modelserve.formats import _folders


@pytest.fixture
def folder(tmp_path):
    """Return a folder with data, code, a folder in it, and hidden files."""
    folder = tmp_path / "bert"
    for name in ("config.json", "model.safetensors", "deep/a.txt", "code.py", "Z.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    for name in (".cache/secret.json", ".hidden.json", "deep/.hidden.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_data_is_copied_and_code_is_not(folder, tmp_path):
    _, nbytes = _folders.copy(folder, tmp_path / "private")
    copied = _folders.names(tmp_path / "private")

    assert copied == ["config.json", "deep/a.txt", "model.safetensors"]
    assert [(tmp_path / "private" / name).read_text() for name in copied] == copied
    assert nbytes == sum(map(len, _folders.names(folder)))


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_its_digest_is_what_sha256sum_prints_of_all_files(folder, tmp_path):
    files = r"find * -type f -not -path '*/.*' | LC_ALL=C sort | xargs -d '\n' sha256sum"
    command = f"{files} | sha256sum"
    printed = subprocess.check_output(["sh", "-c", command], cwd=folder, text=True)  # noqa: S607

    assert _folders.copy(folder, tmp_path / "private")[0] == printed.split()[0]


@pytest.mark.parametrize("name", ["config.json", "code.py", "deep/a.txt", "new.bin"])
def test_another_byte_or_file_is_another_digest(folder, tmp_path, name):
    before, _ = _folders.copy(folder, tmp_path / "one")
    (folder / name).write_text("other")

    assert _folders.copy(folder, tmp_path / "other")[0] != before


def test_a_link_to_a_file_is_followed_and_one_to_a_folder_is_not(folder, tmp_path):
    (tmp_path / "blob").write_text("weights")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.json").write_text("{}")
    (folder / "linked.json").symlink_to(tmp_path / "blob")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    _folders.copy(folder, tmp_path / "private")

    assert (tmp_path / "private" / "linked.json").read_text() == "weights"
    assert not (tmp_path / "private" / "linked").exists()


def test_what_cannot_be_read_is_told(folder, tmp_path):
    with pytest.raises(ms.ModelLoadError, match="absent' cannot be read: No such file"):
        _folders.names(tmp_path / "absent")
    (folder / "dangling.json").symlink_to("nowhere")
    with pytest.raises(ms.ModelLoadError, match=r"dangling\.json' does not exist"):
        _folders.copy(folder, tmp_path / "private")
