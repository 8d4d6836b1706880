"""Folders of versions: the highest number serves, or the one that is pinned."""

import os
import re

import pytest

import modelserve as ms
from modelserve.events import LoadFailed
from modelserve.loader._paths import Folder, is_versioned
from modelserve.testing import EventLog
from tests.formats import models
from tests.loader.tending import first, hand, rows, seed

assert hand  # a fixture


def put(folder, number, factor, name="model.onnx"):
    """Put a version into a folder."""
    path = folder / str(number)
    path.mkdir(parents=True, exist_ok=True)
    (path / name).write_bytes(models.times(factor))
    return path


@pytest.fixture
def folder(tmp_path):
    """Return a folder of versions 2 and 10, which multiply by their number."""
    folder = tmp_path / "ranker"
    for number in (2, 10):
        put(folder, number, float(number))
    return folder


def answer(loader):
    return first(loader(rows(1)))


def test_the_highest_number_serves(folder):
    loader = ms.ModelLoader(folder)

    assert answer(loader) == 10.0
    assert (loader.name, loader.version) == ("ranker", "10")


def test_a_pinned_version_serves(folder):
    loader = ms.ModelLoader(str(folder), version="2")
    put(folder, 11, 11.0)

    assert (answer(loader), loader.version) == (2.0, "2")
    assert loader.reload() == "2"


@pytest.mark.parametrize("version", ["latest", "v1", "../2", "", "\u0661"])
def test_what_is_no_number_cannot_be_pinned(folder, version):
    message = f"version={version!r} of '{folder}': pass the number of a folder in it"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ms.ModelLoader(folder, version=version)


def test_names_that_are_no_numbers_and_files_are_no_versions(folder):
    for name in ("99-copying", "tmp", ".77", "-5", "\u0669\u0669"):
        put(folder, name, 3.0)
    (folder / "12").write_bytes(models.times(3.0))

    assert ms.ModelLoader(folder).reload() == "10"


def test_a_folder_into_which_nothing_was_copied_yet_is_not_taken(folder):
    (folder / "11").mkdir()
    (folder / "11" / ".copying").write_bytes(b"")

    assert ms.ModelLoader(folder).reload() == "10"


@pytest.mark.parametrize(
    "beside", [["README.md"], ["weights.bin", "model.onnx.data"], ["labels.txt", "config.json"]]
)
def test_of_several_files_the_model_is_read(folder, beside):
    put(folder, 11, 11.0)
    for name in beside:
        (folder / "11" / name).write_bytes(b"{}")

    loader = ms.ModelLoader(folder)
    assert (loader.reload(), answer(loader)) == ("11", 11.0)


def test_two_models_in_one_version_are_named(folder):
    put(folder, 11, 11.0, "one.onnx")
    put(folder, 11, 12.0, "other.onnx")

    with pytest.raises(
        ms.ModelLoadError, match=r"11' holds several models, one\.onnx, other\.onnx:"
    ):
        ms.ModelLoader(folder).get()


def test_models_that_could_be_something_else_are_read_where_there_is_no_other(folder):
    (folder / "11").mkdir()
    for name in ("notes", "model.json", ".hidden.onnx"):
        (folder / "11" / name).write_bytes(b"{}")
    assert Folder(folder, None)._pick() == picked(folder / "11" / "model.json")
    (folder / "11" / "model.json").unlink()
    (folder / "11" / "other notes").write_bytes(b"")

    assert Folder(folder, None)._pick() == picked(folder / "11")


def picked(content):
    return ("11", content, content, "")


def test_weights_beside_a_config_are_one_model(folder):
    (folder / "11").mkdir()
    for name in ("config.json", "model-1-of-2.safetensors", "model-2-of-2.safetensors"):
        (folder / "11" / name).write_bytes(b"{}")

    assert Folder(folder, None)._pick() == picked(folder / "11")


def test_a_new_number_is_served_by_a_reload_and_an_old_one_by_a_rollback(folder):
    loader = ms.ModelLoader(folder)
    answer(loader)
    put(folder, 11, 11.0)

    assert (loader.reload(), answer(loader)) == ("11", 11.0)
    assert (loader.rollback(), answer(loader)) == ("10", 10.0)


def test_an_unchanged_version_is_left_alone_and_its_bytes_under_another_number_are_not(folder):
    loader = ms.ModelLoader(folder)
    session = loader.get()
    assert loader.reload() == "10"
    assert loader.get() is session
    put(folder, 11, 10.0)

    assert loader.reload() == "11"
    assert loader.get() is not session


def tended(folder, hand, **options):
    log = EventLog()
    options = {"reload": ms.OnChange(), "clock": hand.clock, "on_event": log, **options}
    loader = seed(ms.ModelLoader(folder, **options))
    loader.get()
    return loader, log


@pytest.mark.parametrize("rule", [ms.OnChange(), ms.Every(1.0)])
def test_a_new_number_is_seen_in_the_background(folder, hand, rule):
    loader, _ = tended(folder, hand, reload=rule)
    put(folder, 11, 11.0)
    hand.run(3)

    assert loader.version == "11"


def test_a_number_that_goes_brings_the_one_before_back(folder, hand):
    loader, _ = tended(folder, hand)
    (folder / "10" / "model.onnx").unlink()
    (folder / "10").rmdir()
    hand.run(3)

    assert (loader.version, answer(loader)) == ("2", 2.0)


def test_a_version_that_is_being_copied_is_not_taken(folder, hand):
    loader, log = tended(folder, hand)
    data = models.times(11.0)
    path = put(folder, 11, 1.0) / "model.onnx"
    for end in range(0, len(data), 16):
        path.write_bytes(data[:end])
        os.utime(path, (end + 1, end + 1))
        hand.run(1)
    assert loader.version == "10"
    path.write_bytes(data)
    hand.run(2)

    assert (loader.version, answer(loader)) == ("11", 11.0)
    assert log.of(LoadFailed) == []


def test_a_version_that_was_rolled_back_is_not_taken_until_there_is_another(folder, hand):
    loader, _ = tended(folder, hand)
    put(folder, 11, 11.0)
    hand.run(3)
    loader.rollback()
    hand.run(10)
    assert loader.version == "10"
    put(folder, 12, 12.0)
    hand.run(3)

    assert loader.version == "12"


def test_a_folder_that_comes_late_is_found(tmp_path):
    folder = tmp_path / "late"
    loader = ms.ModelLoader(folder)
    with pytest.raises(ms.ModelLoadError, match=r"'.*late' cannot be read: No such file"):
        loader.get()
    folder.mkdir()
    with pytest.raises(ms.ModelLoadError, match="holds no version yet: put the model into a fold"):
        loader.get()
    put(folder, 1, 5.0)

    assert answer(loader) == 5.0


def test_a_pinned_version_that_is_missing_or_empty_is_named(folder):
    loader = ms.ModelLoader(folder, version="3")
    with pytest.raises(ms.ModelLoadError, match="3' cannot be read: No such file"):
        loader.get()
    (folder / "3").mkdir()
    with pytest.raises(ms.ModelLoadError, match="holds no version 3: put the model into a folder"):
        loader.get()


def test_what_is_a_folder_of_versions(folder, tmp_path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "plain").write_bytes(b"")

    (tmp_path / "empty.d").mkdir()
    (tmp_path / "bert" / "config.json").write_bytes(b"{}")

    yes, no = ["ranker", "absent", "empty.d"], ["bert", "plain", "a.b"]
    assert [is_versioned(tmp_path / name) for name in yes + no] == [True] * 3 + [False] * 3


def test_a_folder_of_other_things_may_be_pinned(folder):
    (folder / "bert").mkdir()
    loader = ms.ModelLoader(folder / "bert" / "..", version="2")

    assert answer(loader) == 2.0
    with pytest.raises(ms.ModelLoadError, match="4' cannot be read: No such file"):
        ms.ModelLoader(folder / "2", version="4").get()
