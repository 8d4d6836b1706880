"""Zip archives: what they declare is looked at before they are unpacked."""

import io
import re
import zipfile

import pytest

import modelserve as ms
from modelserve.formats import _zip
from tests.formats.hostile import declaring, zipped


def test_a_sound_archive_is_opened():
    with _zip.open_zip(zipped([("a/b.txt", b"text"), ("c/", b""), (".data/d", b"")])) as archive:
        assert archive.read("a/b.txt") == b"text"


def test_much_that_packs_well_is_not_a_bomb():
    assert _zip.open_zip(zipped([("zeros", bytes(100_000_000))])).namelist() == ["zeros"]


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", "a//b", "\\a", ".."])
def test_a_name_that_leads_elsewhere_is_refused(name):
    message = f"save it again, as no sound zip archive is like this (an entry is called {name!r})"
    with pytest.raises(ms.ModelLoadError, match=re.escape(message)):
        _zip.open_zip(zipped([("a", b""), (name, b"data")]))


def test_two_entries_of_one_name_are_refused():
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = zipped([("a", b"1"), ("a", b"2")])
    with pytest.raises(ms.ModelLoadError, match="two entries are of one name"):
        _zip.open_zip(data)


def test_an_encrypted_archive_is_refused():
    data = bytearray(zipped([("a", b"1")]))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ms.ModelLoadError, match="it is encrypted"):
        _zip.open_zip(bytes(data))


def test_entries_that_overlap_are_refused():
    data = zipped([(name, bytes(1000)) for name in "abc"], zipfile.ZIP_STORED)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
    for entry in entries:
        at = data.index(b"PK\x01\x02" + b"\x14\x03\x14\x00") + 20
        assert entry.compress_size == int.from_bytes(data[at : at + 4], "little")
    data = data.replace((1000).to_bytes(4, "little") * 2, (2000).to_bytes(4, "little") * 2)
    with pytest.raises(ms.ModelLoadError, match="its entries overlap"):
        _zip.open_zip(data)


@pytest.mark.parametrize("size", [2**30 + 1, 2**32 - 2])
def test_an_archive_that_unpacks_to_far_more_is_refused(size):
    with pytest.raises(ms.ModelLoadError, match=rf"\d+ bytes unpack to {size:,}"):
        _zip.open_zip(declaring(zipped([("a", bytes(1000))]), size))


def test_an_archive_that_unpacks_to_more_than_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr("modelserve.formats._door.room", lambda: 999)
    with pytest.raises(ms.ModelLoadError, match="unpacked it has 1,000 bytes, and there are 999"):
        _zip.open_zip(zipped([("a", bytes(1000))]))


@pytest.mark.parametrize("data", [b"", b"PK", b"no archive at all", zipped([("a", b"1")])[:-5]])
def test_what_is_no_archive_raises_as_zipfile_does(data):
    with pytest.raises(zipfile.BadZipFile):
        _zip.open_zip(data)
