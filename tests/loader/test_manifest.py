"""What is read of a registry: manifests and aliases, whole or broken."""

import hashlib

import pytest

import modelserve as ms
from modelserve.loader._manifest import (
    Manifest,
    aliases_of,
    entries,
    number,
    pointed,
    read_manifest,
)

ONE, OTHER = "1" * 64, "2" * 64


def manifest(folder, text):
    (folder / "SHA256SUMS").write_bytes(text)
    return read_manifest(folder)


def test_a_manifest_of_one_file_has_its_digest(tmp_path):
    assert manifest(tmp_path, f"{ONE}  a b.onnx\n".encode()) == Manifest("a b.onnx", ONE)
    assert manifest(tmp_path, f"{ONE} *a b.onnx\n".encode()) == Manifest("a b.onnx", ONE)


@pytest.mark.parametrize("mark", " *")
def test_a_manifest_of_several_files_has_the_digest_of_what_sha256sum_prints(tmp_path, mark):
    printed = f"{ONE}  b.onnx\n{OTHER}  parts/a.bin\n"
    written = printed.replace("  ", f" {mark}").encode()

    whole = hashlib.sha256(printed.encode()).hexdigest()
    assert manifest(tmp_path, written) == Manifest("b.onnx", whole)


def test_a_folder_without_a_manifest_has_none(tmp_path):
    assert read_manifest(tmp_path) is None
    assert read_manifest(tmp_path / "absent") is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        ONE.encode(),
        f"{ONE}  a.onnx".encode(),
        f"{ONE[1:]}  a.onnx\n".encode(),
        f"{ONE}  ../a.onnx\n".encode(),
        f"{ONE}  a\0.onnx\n".encode(),
        f"{ONE}  a.onnx\n{OTHER[:9]}\n".encode(),
        b"\xff\xfe\n",
    ],
)
def test_a_broken_manifest_is_told(tmp_path, text):
    with pytest.raises(ms.ModelLoadError, match="SHA256SUMS' is broken: write what `sha256sum` p"):
        manifest(tmp_path, text)


def test_what_cannot_be_read_is_told(tmp_path):
    (tmp_path / "SHA256SUMS").mkdir()

    with pytest.raises(ms.ModelLoadError, match="SHA256SUMS' cannot be read: Is a directory"):
        read_manifest(tmp_path)
    with pytest.raises(ms.ModelLoadError, match="absent' cannot be read: No such file"):
        entries(tmp_path / "absent")


def test_an_alias_holds_a_number(tmp_path):
    (tmp_path / "aliases").mkdir()
    place = tmp_path / "aliases" / "prod"
    for text, label in [("3\n", "3"), ("3", "3"), (" 12 \r\n", "12")]:
        place.write_text(text)
        assert pointed(tmp_path, "prod") == label
    for text in ("", "v3", "3 4", "../3", "\u0663"):
        place.write_text(text, encoding="utf-8")
        with pytest.raises(ms.ModelLoadError, match="is broken, as it holds no number: point it"):
            pointed(tmp_path, "prod")
    with pytest.raises(ms.ModelLoadError, match=r"no alias 'live' \(there are: 'prod'\)"):
        pointed(tmp_path, "live")


def test_hidden_names_are_no_aliases(tmp_path):
    assert aliases_of(tmp_path) == []
    (tmp_path / "aliases").mkdir()
    for name in ("prod", ".prod.swp", "canary", "prod~"):
        (tmp_path / "aliases" / name).touch()

    assert aliases_of(tmp_path) == ["canary", "prod"]


def test_folders_named_by_numbers_are_versions(tmp_path):
    for name in ("3", "007", "v4", "\u0663"):
        (tmp_path / name).mkdir()
    (tmp_path / "5").touch()

    assert sorted(n for each in entries(tmp_path) if (n := number(each)) is not None) == [3, 7]
