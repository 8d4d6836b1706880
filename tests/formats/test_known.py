"""What is asked of a file, and what is said of one that cannot be read."""

import pytest

import modelserve as ms
from modelserve.formats import _known
from tests.formats.hostile import HTML, LFS


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", ("it is empty",)),
        (HTML, ("it is a web page", "download the file itself")),
        (b"\n <html>", ("it is a web page", "download the file itself")),
        (LFS, ("it is a pointer of Git LFS", "fetch what it points to with `git lfs pull`")),
        (b"PK\x03\x04", None),
        (b"\x08\x09 <html>", None),
    ],
)
def test_what_plainly_is_something_else_is_called_by_its_name(data, told):
    assert _known.guess(data) == told


def test_a_reader_and_a_reason_are_told_with_a_remedy():
    assert _known.cannot("numpy", "it is empty") == (
        "copy or export it again, as numpy cannot read it (it is empty)"
    )
    assert _known.cannot("numpy", "it is blue", "paint it") == (
        "paint it, as numpy cannot read it (it is blue)"
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("one line"), "one line"),
        (ValueError("\n first\nsecond"), "first"),
        (ValueError("\x1b[1mbold\x1b[0m"), "bold"),
        (ValueError("x" * 1000), "x" * 300),
        (MemoryError(), "MemoryError"),
        (KeyError("name"), "'name'"),
    ],
)
def test_an_error_is_told_in_a_line(error, told):
    assert _known.told(error) == told


def test_what_can_run_code_has_to_be_trusted():
    _known.demand_trust(_known.Ask(trusted=True), "a pickle")
    message = (
        "^a pickle can run any code: export it to a format that cannot, such as .onnx or "
        ".safetensors, or pass allow_pickle=True and the whole sha256= of a file that you trust$"
    )
    with pytest.raises(ms.ModelLoadError, match=message):
        _known.demand_trust(_known.NOTHING, "a pickle")


def test_a_package_that_is_missing_is_named_with_its_extra():
    assert str(_known.needs("skops", "sklearn")) == (
        "skops is not installed: pip install 'modelserve[sklearn]'"
    )
