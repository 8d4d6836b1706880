"""Files behind URLs, in the memory that fsspec can use as a service."""

import io
import re
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest

import modelserve as ms
from modelserve import formats
from tests.formats.hostile import HTML, pin

fsspec = pytest.importorskip("fsspec", reason="the extra remote is not installed")
MemoryFileSystem = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem

URL = "memory://models/linear.npz"


def saved(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.fixture(autouse=True)
def service():
    """Return a service that holds one model."""
    service = fsspec.filesystem("memory")
    service.pipe("/models/linear.npz", saved(weights=np.array([[2.0], [3.0]])))
    yield service
    service.rm("/models", recursive=True)


def test_a_url_is_told_from_a_path():
    assert (
        formats.place("models/a.onnx")
        == formats.place(Path("models/a.onnx"))
        == Path("models/a.onnx")
    )
    remote = formats.place("s3://bucket/models/a.b.ONNX")

    assert (remote.name, remote.stem, remote.suffix) == ("a.b.ONNX", "a.b", ".ONNX")
    assert str(remote) == "s3://bucket/models/a.b.ONNX"
    assert formats.place("https://host/a.onnx?version=3").name == "a.onnx"
    assert formats.place("memory://a.onnx").name == "a.onnx"


@pytest.mark.parametrize("url", ["file:///etc/passwd.onnx", "local:///a.onnx"])
def test_a_file_of_this_machine_goes_by_its_path(url):
    with pytest.raises(
        ms.ModelLoadError, match=f"^'{url}' is a file of this machine: pass its path"
    ):
        ms.ModelLoader(url)


def test_a_loader_serves_and_reloads_what_is_behind_a_url(service):
    loader = ms.ModelLoader(URL, predict=lambda m, x: x @ m["weights"])
    old, seen = loader(np.ones((1, 2))), formats.identity(formats.place(URL))
    assert formats.identity(formats.place(URL)) == seen
    service.pipe("/models/linear.npz", saved(weights=np.array([[4.0], [5.0]])))
    loader.reload()

    assert (old.item(), loader(np.ones((1, 2))).item()) == (5.0, 9.0)
    assert loader.name == "linear"
    assert loader.version == pin(service.cat("/models/linear.npz"))[:16]
    assert formats.identity(formats.place(URL)) != seen


def test_other_bytes_than_those_pinned_are_refused():
    with pytest.raises(ms.ModelLoadError, match=f"^'{URL}' has the digest [0-9a-f]+, and sha256="):
        formats.read(formats.place(URL), sha256=pin(b"other"))


def test_a_page_in_place_of_a_model_is_named(service):
    service.pipe("/models/linear.npz", HTML)
    with pytest.raises(ms.ModelLoadError, match=f"^'{URL}' could not be loaded: download the file"):
        formats.read(formats.place(URL))


@pytest.mark.parametrize("ask", [formats.read, formats.identity])
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("memory://models/absent.npz", "does not exist: pass the path of a model file"),
        ("memory://models/folder.npz", "cannot be fetched: it is a folder: check the address and"),
        ("nowhere://models/a.npz", "cannot be fetched: Protocol not known: nowhere: check the"),
    ],
)
def test_what_cannot_be_fetched_is_told_with_its_url(service, ask, url, told):
    service.makedirs("/models/folder.npz")
    with pytest.raises(ms.ModelLoadError, match=f"^'{url}' {told}"):
        ask(formats.place(url))


def test_without_fsspec_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    message = (
        f"'{URL}' cannot be fetched: fsspec is not installed: pip install 'modelserve[remote]'"
    )
    with pytest.raises(ms.ModelLoadError, match=f"^{re.escape(message)}$"):
        formats.read(formats.place(URL))


def meddle(monkeypatch, changes):
    """Have a file change each time after it was opened, as long as there are changes."""

    def opened(self, path, mode="rb", open_=MemoryFileSystem.open, **how):
        file = open_(self, path, mode, **how)
        if mode == "rb" and (data := next(changes, None)) is not None:
            self.pipe(path, data)
        return file

    monkeypatch.setattr(MemoryFileSystem, "open", opened)


def test_a_file_that_changes_while_it_is_read_is_read_anew(monkeypatch):
    data = saved(weights=np.array([[4.0], [5.0]]))
    meddle(monkeypatch, iter([data]))

    assert formats.place(URL).take() == data


def test_a_file_that_never_rests_is_refused(monkeypatch):
    meddle(monkeypatch, (bytes([number]) for number in range(100)))
    with pytest.raises(
        ms.ModelLoadError, match=f"^'{URL}' changed while it was read, 3 times: write"
    ):
        formats.place(URL).take()


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (None, "its size is not told: copy it here"),
        (2**50, "it has 1,125,899,906,842,624 bytes, and"),
    ],
)
def test_a_file_of_no_size_or_of_too_large_a_one_is_not_read(monkeypatch, size, told):
    def info(self, path, info=MemoryFileSystem.info, **how):
        return info(self, path, **how) | {"size": size}

    monkeypatch.setattr(MemoryFileSystem, "info", info)
    with pytest.raises(ms.ModelLoadError, match=f"^'{URL}' cannot be fetched: {told}"):
        formats.read(formats.place(URL))


def test_external_data_lies_beside_the_model(service):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    from tests.formats import models

    data, weights = models.outside("deep/weights.bin")
    service.pipe({"/models/a.onnx": data, "/models/deep/weights.bin": weights})
    loader = ms.ModelLoader("memory://models/a.onnx")

    np.testing.assert_array_equal(loader(np.ones((1, 2), np.float32)), [[3, 3]])
    service.pipe("/models/a.onnx", models.outside("../weights.bin")[0])
    with pytest.raises(
        ms.ModelLoadError, match=r"names the external data '\.\./weights\.bin', which"
    ):
        loader.reload()
    service.pipe("/models/a.onnx", models.outside("absent.bin")[0])
    with pytest.raises(ms.ModelLoadError, match=r"^'memory://models/absent\.bin' does not exist"):
        loader.reload()


@pytest.mark.parametrize(
    "location",
    [
        *("%2e%2e/%2e%2e/private", "a?admin=1", "x#y", ".\t./private", "a\nb", "../private"),
        *("/etc/passwd", "file:///etc/passwd", "a::b", ""),
    ],
)
def test_external_data_that_a_url_would_have_elsewhere_is_refused(location):
    model = formats.place("http://host.invalid/public/a.onnx")
    message = f"'{model}' names the external data {location!r}, which does not lie in its folder"
    with pytest.raises(ms.ModelLoadError, match=f"^{re.escape(message)}"):
        model.beside(location)


def test_beside_a_url_of_no_path_lies_nothing():
    with pytest.raises(ms.ModelLoadError, match=r"names the external data 'other\.host', which"):
        formats.place("memory://a.onnx").beside("other.host")


def test_external_data_lies_beside_the_path_of_a_url_whatever_its_query(service):
    service.pipe("/models/w.bin", b"weights")

    assert formats.place("memory://models/a.onnx?sig=a/b#c/d").beside("w.bin") == b"weights"


@pytest.mark.parametrize(
    "url",
    [
        *("simplecache::file:///etc/hostname", "zip://a.onnx::file:///a.zip"),
        "https://host/a.onnx::local:///a.onnx",
    ],
)
def test_a_chain_of_urls_is_refused(url):
    message = f"'{url}' is a chain of URLs: pass the one of the file alone"
    with pytest.raises(ms.ModelLoadError, match=f"^{re.escape(message)}$"):
        formats.place(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/a.npz?X-Amz-Signature=SECRET&b=c/d", "https://host/a.npz"),
        ("https://user:SECRET@host/a.npz", "https://host/a.npz"),
        ("https://user:SEC@RET@host/a.npz?sig=SECRET#x", "https://host/a.npz"),
        ("https://host/a.npz#SECRET", "https://host/a.npz"),
        ("https://host/a.npz?a='SECRET' SECRET", "https://host/a.npz"),
        ("s3://bucket/deep/a@b.npz", "s3://bucket/deep/a@b.npz"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url, shown):
    assert str(formats.place(url)) == shown


@pytest.mark.parametrize(
    "error",
    [
        OSError("403, message='Forbidden', url='https://u:SECRET@host/a.npz?sig=SECRET'"),
        FileNotFoundError("memory://models/a.npz?sig=SECRET"),
        ValueError("no such thing (https://host/a.npz?sig=SECRET)"),
    ],
)
def test_no_error_tells_what_may_be_secret(monkeypatch, error):
    def info(self, path, **how):
        raise error

    monkeypatch.setattr(MemoryFileSystem, "info", info)
    loader = ms.ModelLoader("memory://models/a.npz?sig=SECRET", predict=lambda m, x: x)
    with pytest.raises(ms.ModelLoadError, match=r"^'memory://models/a\.npz' ") as caught:
        loader(1)
    told = "".join(traceback.format_exception(caught.value))

    assert "SECRET" not in told
    assert "SECRET" not in repr(ms.health(loader))


def test_an_error_of_a_service_is_there_where_nothing_is_secret(monkeypatch):
    error = OSError("the line is down")

    def info(self, path, **how):
        raise error

    monkeypatch.setattr(MemoryFileSystem, "info", info)
    with pytest.raises(ms.ModelLoadError, match="the line is down: check") as caught:
        formats.place(URL).take()
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("url", ["file:///a.npz?SECRET", "zip::memory://a.npz?SECRET"])
def test_a_refused_url_is_not_told_either(url):
    with pytest.raises(ms.ModelLoadError) as caught:
        formats.place(url)
    assert "SECRET" not in str(caught.value)


PLAIN = {
    "name": "/a.npz",
    "size": 8,
    "type": "file",
    "mimetype": "x",
    "partial": True,
    "ETag": None,
}


@pytest.mark.parametrize(
    "fact",
    [
        *({"ETag": '"1"'}, {"etag": "1"}, {"Content-MD5": "1"}, {"Digest": "1"}, {"sha": "1"}),
        *({"Last-Modified": "1"}, {"LastModified": 1}, {"last_modified": 1}, {"mtime": 1}),
        *({"generation": "1"}, {"crc32c": "1"}, {"VersionId": "1"}, {"modificationTime": 1}),
        *(
            {"last_write_time": 1},
            {"updated": "1"},
            {"content_hash": "1"},
            {"created": 1},
            {"blob_oid": "1"},
        ),
    ],
)
def test_a_service_that_tells_one_file_from_another_tells_an_identity(monkeypatch, fact):
    monkeypatch.setattr(MemoryFileSystem, "info", lambda self, path, **how: dict(facts))
    facts = PLAIN | fact
    seen = formats.identity(formats.place(URL))
    assert seen == formats.identity(formats.place(URL))
    facts = PLAIN | dict.fromkeys(fact, "another")

    assert seen != formats.identity(formats.place(URL))


@pytest.mark.parametrize("more", [{}, {"mode": 420, "uid": 0, "islink": False}, {"shared": True}])
def test_a_service_that_tells_no_more_than_a_size_tells_no_identity(monkeypatch, more):
    monkeypatch.setattr(MemoryFileSystem, "info", lambda self, path, **how: PLAIN | more)

    assert formats.identity(formats.place(URL)) is None


def test_what_a_service_was_asked_before_is_not_believed(monkeypatch):
    asked = []
    monkeypatch.setattr(MemoryFileSystem, "invalidate_cache", lambda self, path: asked.append(path))
    formats.read(formats.place(URL))

    assert asked == ["/models/linear.npz"] * 2
