"""The door: bytes of one moment, of regular files, and known by their digest."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import modelserve as ms
from modelserve import formats
from modelserve.formats import _door
from tests.support.processes import in_child

PIN = "0123456789abcdef" * 4


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ranker.onnx"
    path.write_bytes(b"some bytes")
    return path


def refused(message):
    return pytest.raises(ms.ModelLoadError, match=f"^{re.escape(message)}")


@pytest.mark.parametrize("data", [b"", b"some bytes", bytes(3_000_000)])
def test_all_bytes_of_a_file_are_read(path, data):
    path.write_bytes(data)

    assert _door.take(path, "x") == data


def test_a_link_to_a_file_is_read(path):
    link = path.with_name("link.onnx")
    link.symlink_to(path)

    assert _door.take(link, "x") == b"some bytes"


def meddle(monkeypatch, what, times):
    """Do something to a file after it was opened, so many times."""
    done = []

    def fstat(fd, fstat=os.fstat):
        state = fstat(fd)
        if len(done) < times:
            done.append(state)
            what()
        return state

    monkeypatch.setattr(os, "fstat", fstat)


def write(path, data):
    """Write in place, at a time that tells."""
    path.write_bytes(data)
    os.utime(path, ns=(len(data), len(data)))


@pytest.mark.parametrize("data", [b"other byte", b"more bytes than there were", b"few"])
def test_a_file_that_changes_while_it_is_read_is_read_anew(path, monkeypatch, data):
    meddle(monkeypatch, lambda: write(path, data), 1)

    assert _door.take(path, "x") == data


def test_a_file_that_is_replaced_while_it_is_read_is_read_anew(path, monkeypatch):
    other = path.with_name("other")
    other.write_bytes(b"other byte")
    os.utime(other, ns=(path.stat().st_mtime_ns,) * 2)
    meddle(monkeypatch, lambda: other.replace(path), 1)

    assert _door.take(path, "x") == b"other byte"


def test_a_file_that_never_rests_is_refused(path, monkeypatch):
    sizes = iter(range(100, 0, -1))
    meddle(monkeypatch, lambda: write(path, bytes(next(sizes))), 99)
    message = "'ranker' changed while it was read, 3 times: write it elsewhere and rename it"
    with refused(message):
        _door.take(path, "ranker")
    assert next(sizes) == 100 - 3 * 2


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    message = "'ranker' cannot be read: it is a folder: pass the path of the file in it"
    with refused(message):
        _door.take(tmp_path, "ranker")


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    said = in_child(lambda: _door.take(tmp_path / "pipe", "ranker"))  # has a limit, if it waits

    assert "'ranker' cannot be read: it is no regular file: pass one that is" in said


def test_a_device_is_refused():
    with refused("'ranker' cannot be read: it is no regular file: pass one that is"):
        _door.take(Path(os.devnull), "ranker")


def test_a_file_that_does_not_tell_its_size_is_refused():
    with refused("'ranker' changed while it was read, 3 times"):
        _door.take(Path("/proc/self/status"), "ranker")  # it says that it is empty


def test_an_absent_file_is_refused(tmp_path):
    with refused("'ranker' does not exist: pass the path of a model file"):
        _door.take(tmp_path / "absent", "ranker")


def test_a_path_through_a_file_is_refused(path):
    message = "'ranker' cannot be read: Not a directory: check the path and who may read it"
    with refused(message):
        _door.take(path / "deeper", "ranker")


def test_a_path_that_cannot_be_is_refused():
    with refused("'ranker' cannot be read: embedded null byte: pass the path of a model file"):
        _door.take(Path("a\0b"), "ranker")


def test_a_file_larger_than_the_memory_is_refused_before_it_is_read(path):
    os.truncate(path, 1 << 43)
    with refused("'ranker' cannot be read: it has 8,796,093,022,208 bytes, and there are "):
        _door.take(path, "ranker")


@pytest.mark.parametrize(
    ("own", "folder", "name", "none"),
    [
        ("0::/\n", "", "memory.max", "max\n"),
        ("0::/pod/box\n", "pod", "memory.max", "max\n"),
        ("0::/pod/bäx\n", "pod/bäx", "memory.max", "max\n"),
        ("4:memory:/docker/a\n", "memory", "memory.limit_in_bytes", "9223372036854771712\n"),
        ("4:memory:/docker/a\n", "memory/docker/a", "memory.limit_in_bytes", "-1\n"),
    ],
)
def test_the_memory_is_that_of_the_control_groups_where_they_have_less(
    tmp_path, own, folder, name, none
):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(own, "utf-8")
    bound = tmp_path / "sys/fs/cgroup" / folder / name
    bound.parent.mkdir(parents=True)
    bound.write_text("1000\n")

    assert _door.room(tmp_path) == 1000
    bound.write_text(none)
    assert 1000 < _door.room(tmp_path) < 1 << 60


def test_a_system_that_does_not_tell_its_memory_sets_no_bound(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sysconf")

    assert _door.room(tmp_path) == sys.maxsize


def test_digests_are_those_that_sha256sum_prints(tmp_path):
    files = {"ranker.onnx": b"one", "weights.bin": b"two"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    lines = "".join(f"{hashlib.sha256(d).hexdigest()}  {n}\n" for n, d in files.items())

    assert _door.digest(b"one") == lines[:64]
    assert _door.digest_of_all(files) == hashlib.sha256(lines.encode()).hexdigest()
    command = "sha256sum ranker.onnx weights.bin | sha256sum"
    printed = subprocess.run(
        ["/bin/sh", "-c", command], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert printed.split()[0] == _door.digest_of_all(files)


@pytest.mark.parametrize("given", [PIN, PIN[:16], PIN[:40].upper()])
def test_a_pin_is_a_digest_or_its_beginning(given):
    assert formats.pinned(given) == given.lower()


def test_no_pin_is_the_beginning_of_every_digest():
    assert formats.pinned(None) == ""


@pytest.mark.parametrize(
    "given",
    [
        *("", PIN[:15], PIN + "0", "sha256:" + PIN[:20], " " + PIN),
        *(5, 0, False, PIN.encode(), [PIN], int("1" * 64)),
    ],
)
def test_what_is_no_digest_cannot_be_pinned(given):
    with pytest.raises(ValueError, match=re.escape(f"sha256={given!r}: pass the digest that")):
        formats.pinned(given)


def test_other_bytes_than_those_pinned_are_refused():
    _door.check_pin(PIN, PIN[:16], "ranker")
    message = (
        "'ranker' has the digest 0123456789abcdef, and sha256= pins 1123456789abcdef: fetch the "
        "file again, or pin the new one if you trust it"
    )
    with refused(message):
        _door.check_pin(PIN, "1123456789abcdef", "ranker")


def test_other_bytes_than_those_of_the_manifest_are_refused():
    _door.check_promise(PIN, PIN, "ranker")
    _door.check_promise(PIN, "", "ranker")
    message = (
        f"'ranker' has the digest {PIN}, and its manifest says {PIN[:16]}: copy the version again, "
        "or publish the model anew"
    )
    with refused(message):
        _door.check_promise(PIN, PIN[:16], "ranker")


def test_a_file_is_another_when_anything_of_it_changes(path):
    old = formats.identity(path)
    assert formats.identity(path) == old

    os.utime(path, ns=(1, 1))  # older: a rollback that kept its time
    older = formats.identity(path)
    path.write_bytes(b"some bytes and more")
    os.utime(path, ns=(1, 1))
    longer = formats.identity(path)
    other = path.with_name("other")
    other.write_bytes(b"some bytes and more")
    os.utime(other, ns=(1, 1))
    other.replace(path)

    assert len({old, older, longer, formats.identity(path)}) == 4


@pytest.mark.parametrize(
    "name", ["ranker.onnx.data", "ranker.onnx_data", "ranker.data", "ranker.bin"]
)
def test_the_file_of_its_weights_is_part_of_a_model(path, name):
    alone = formats.identity(path)
    path.with_name(name).write_bytes(b"weights")
    both = formats.identity(path)
    path.with_name(name).write_bytes(b"other weights")

    assert len({alone, both, formats.identity(path)}) == 3
    path.with_name("another.onnx").write_bytes(b"")
    assert formats.identity(path) != both


def test_a_folder_is_another_when_any_of_its_files_is(tmp_path):
    deep = tmp_path / "model" / "weights"
    deep.mkdir(parents=True)
    empty = formats.identity(tmp_path)
    (deep / "a").write_bytes(b"1")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    first = formats.identity(tmp_path)
    (deep / "a").write_bytes(b"12")
    second = formats.identity(tmp_path)
    (deep / "a").rename(deep / "b")

    assert len({empty, first, second, formats.identity(tmp_path)}) == 4
    assert formats.identity(tmp_path) == formats.identity(tmp_path)


@pytest.mark.parametrize("name", ["ranker.onnx.data", "ranker.bin"])
def test_a_loop_of_links_beside_a_file_is_as_if_nothing_were_there(path, name):
    alone = formats.identity(path)
    path.with_name(name).symlink_to(name)

    assert formats.identity(path) == alone


def test_a_loop_of_links_in_a_folder_is_passed_by(tmp_path):
    (tmp_path / "weights").write_bytes(b"1")
    alone = formats.identity(tmp_path)
    (tmp_path / "loop").symlink_to("loop")

    assert formats.identity(tmp_path) == alone != ()


def test_a_name_that_no_file_can_have_is_as_if_nothing_were_there(path):
    entry = b"\x0a\x08location\x12\x02w\0"
    tensor = b"\x6a" + bytes([len(entry)]) + entry
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    path.write_bytes(b"\x3a" + bytes([len(graph)]) + graph)

    assert len(formats.identity(path)) == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("absent.onnx", "'absent.onnx' does not exist: pass the path of a model file"),
        ("a\0b", "'a\0b' cannot be read: embedded null byte: pass the path of a model file"),
    ],
)
def test_what_is_not_there_has_no_identity(path, message):
    with refused(message):
        formats.identity(Path(path))


def test_a_file_beside_the_model_is_found(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "w.bin").write_bytes(b"")

    assert _door.within(tmp_path, "deep/w.bin", "x") == tmp_path.resolve() / "deep" / "w.bin"
    assert _door.within(tmp_path, "absent.bin", "x").name == "absent.bin"


@pytest.fixture
def secret(tmp_path):
    """Return a file that lies beside the model's folder, and links that lead to it."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "symlink").symlink_to(secret)
    (tmp_path / "twin").write_bytes(b"secret")
    (folder / "hardlink").hardlink_to(tmp_path / "twin")
    (folder / "up").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    return secret


@pytest.mark.parametrize(
    "location",
    [
        *("../secret", "/etc/passwd", "symlink", "hardlink", "up/secret", "loop/x", ""),
        *("./w", "a/../../secret", "a//w", "..\\secret", "C:secret", "w\0", "w" * 5000),
    ],
)
def test_a_file_that_lies_elsewhere_is_refused(secret, location):
    message = f"'ranker' names the external data {location[:80]!r}, which does not lie in its "
    with refused(message):
        _door.within(secret.parent / "model", location, "ranker")


def test_the_size_of_what_was_read_is_that_of_all_files():
    assert _door.Contents(b"123", {"a": b"45", "b": b"6"}, "").nbytes == 6
