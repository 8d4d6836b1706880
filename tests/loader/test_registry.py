"""Registries: versions are published, and an alias says which one serves."""

import hashlib
import itertools
import os
import pickle
import re
import shutil
import subprocess
import threading

import pytest

import modelserve as ms
from modelserve.events import Loaded, LoadFailed, Retired
from modelserve.testing import EventLog
from tests.formats import models
from tests.loader.crowds import LIMIT, start, until
from tests.loader.tending import first, hand, rows, seed

assert hand  # a fixture


@pytest.fixture
def write(tmp_path):
    """Return what writes a model file that multiplies by a number."""

    def write(factor):
        path = tmp_path / "trained" / f"{os.urandom(4).hex()}.onnx"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(models.times(float(factor)))
        return path

    return write


@pytest.fixture
def registry(tmp_path, write):
    """Return a registry of versions 1, 2 and 3, which multiply by their number; prod is 2."""
    registry = ms.Registry(tmp_path / "ranker")
    assert [registry.publish(write(factor)) for factor in (1, 2, 3)] == ["1", "2", "3"]
    registry.point("prod", "2")
    return registry


def prod(registry, hand=None, **options):
    """Return a loader of an alias, looked after by hand, and what it told."""
    log = EventLog()
    if hand is not None:
        options = {"reload": ms.OnChange(), "clock": hand.clock, **options}
    loader = seed(ms.ModelLoader(registry.at("prod"), on_event=log, **options))
    loader.get()
    return loader, log


def answer(loader):
    return first(loader(rows(1)))


def only(folder):
    """Return the model file of a version."""
    (found,) = folder.glob("*.onnx")
    return found


def damage(path):
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_an_alias_serves_its_version_under_its_number(registry):
    loader, _ = prod(registry)

    assert (loader.name, loader.version, answer(loader)) == ("ranker@prod", "2", 2.0)


def test_a_registry_tells_versions_and_aliases(registry, tmp_path, write):
    registry.point("canary", "3")
    for _ in range(8):
        registry.publish(write(0))
    (tmp_path / "ranker" / "77").mkdir()

    assert registry.versions == [str(n) for n in range(1, 12)]
    assert registry.aliases == {"canary": "3", "prod": "2"}
    assert repr(registry) == f"Registry({str(tmp_path / 'ranker')!r})"
    assert registry.publish(write(0)) == "78"


def test_a_registry_of_nothing_tells_nothing_and_writes_nothing(tmp_path):
    registry = ms.Registry(str(tmp_path / "ranker"))

    assert (registry.versions, registry.aliases) == ([], {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rule", [ms.OnChange(), ms.Every(1.0)])
def test_an_alias_is_followed_forth_and_back(registry, hand, rule):
    loader, log = prod(registry, hand, reload=rule)
    for version in ("3", "1", "2"):
        registry.point("prod", version)
        hand.run(3)
        assert (loader.version, answer(loader)) == (version, float(version))

    assert [event.version for event in log.of(Loaded)] == ["2", "3", "1", "2"]


def test_an_alias_that_moves_to_equal_bytes_is_another_version(registry, hand, write):
    loader, log = prod(registry, hand)
    registry.point("prod", registry.publish(write(2)))
    hand.run(3)

    assert (loader.version, len(log.of(Loaded))) == ("4", 2)


def test_a_new_version_to_which_no_alias_points_is_left_alone(registry, hand, write):
    loader, log = prod(registry, hand)
    registry.publish(write(4))
    registry.point("canary", "4")
    registry.point("prod", "2")
    hand.run(10)

    assert (loader.version, len(log.of(Loaded))) == ("2", 1)


def test_what_was_rolled_back_is_not_served_until_the_alias_moves(registry, hand):
    loader, _ = prod(registry, hand)
    registry.point("prod", "3")
    hand.run(3)
    assert loader.rollback() == "2"
    hand.run(10)
    assert loader.version == "2"
    registry.point("prod", "1")
    hand.run(3)

    assert loader.version == "1"


def test_no_call_fails_while_an_alias_moves_and_some_versions_are_bad(registry, hand):
    bad = registry.publish(only(registry._path / "1"))
    damage(only(registry._path / bad))
    loader, log = prod(registry, hand)
    over = threading.Event()

    def call():
        answers = []
        while not over.is_set():
            answers.append(answer(loader))
        return answers

    callers = [start(call) for _ in range(3)]
    order = ["3", "1", bad, "2"] * 10
    for version in order:
        done = len(log.of(Loaded)) + len(log.of(LoadFailed))
        registry.point("prod", version)
        hand.run(3)
        assert len(log.of(Loaded)) + len(log.of(LoadFailed)) > done
    over.set()

    assert set().union(*(caller.result(LIMIT) for caller in callers)) <= {1.0, 2.0, 3.0}
    assert [event.version for event in log.of(Loaded)] == ["2", *(v for v in order if v != bad)]
    assert len(log.of(Retired)) == 30


def test_an_alias_that_moves_while_its_version_is_read_brings_the_next_one(registry):
    loader, log = prod(registry)
    source = loader._core._source
    pick, turns = source._pick, itertools.count()

    def move_meanwhile():
        picked = pick()
        if next(turns) == 2:  # before and after the read it is looked at, too
            registry.point("prod", "3")
        return picked

    source._pick = move_meanwhile
    registry.point("prod", "1")

    assert (loader.reload(), answer(loader)) == ("3", 3.0)
    assert len(log.of(Loaded)) == 2


def test_an_alias_that_never_rests_keeps_nobody_from_loading(registry, hand):
    loader = ms.ModelLoader(registry.at("prod"), reload=ms.OnChange(), clock=hand.clock)
    source, others = loader._core._source, itertools.cycle("123")
    fetch = source.fetch

    def move_meanwhile(now, device):
        fetched = fetch(now, device)
        registry.point("prod", next(others))
        return fetched

    source.fetch = move_meanwhile
    assert answer(loader) == float(loader.version)
    source.fetch = fetch
    registry.point("prod", "3")
    hand.run(3)

    assert (loader.version, answer(loader)) == ("3", 3.0)


def test_an_alias_that_is_not_there_is_named_beside_those_that_are(registry, tmp_path):
    message = (
        f"'{tmp_path / 'ranker'}' has no alias 'live' (there are: 'prod'): point it at a version "
        "with modelserve.Registry(path).point('live', version)"
    )
    with pytest.raises(ms.ModelLoadError, match=f"^{re.escape(message)}$"):
        ms.ModelLoader(registry.at("live"), mode="eager")
    with pytest.raises(ms.ModelLoadError, match=r"no alias 'prod' \(there are: none\)"):
        ms.ModelLoader(ms.Registry(tmp_path / "absent").at("prod"), mode="eager")


def test_an_alias_that_goes_or_is_broken_leaves_the_last_good_version(registry, hand):
    loader, log = prod(registry, hand)
    place = registry._path / "aliases" / "prod"
    for text in (None, b"", b"\xff", b"latest\n", b"../1\n", b"9\n"):
        if text is None:
            place.unlink()
        else:
            place.write_bytes(text)
        hand.run(3)
        assert (loader.health().state, answer(loader)) == ("degraded", 2.0)
    registry.point("prod", "1")
    hand.run(3)

    assert (loader.health().state, answer(loader)) == ("ready", 1.0)
    assert log.of(LoadFailed) != []


def test_a_broken_alias_is_told_as_such(registry):
    (registry._path / "aliases" / "prod").write_text("")
    with pytest.raises(ms.ModelLoadError, match="is broken, as it holds no number: point"):
        prod(registry)
    with pytest.raises(ms.ModelLoadError, match="is broken, as it holds no number: point"):
        _ = registry.aliases
    (registry._path / "aliases" / "prod").unlink()
    (registry._path / "aliases" / "prod").mkdir()
    with pytest.raises(ms.ModelLoadError, match="prod' cannot be read: Is a directory"):
        prod(registry)


def test_an_alias_of_a_version_that_went_is_told(registry):
    shutil.rmtree(registry._path / "2")

    with pytest.raises(ms.ModelLoadError, match="points at version 2, which is not there with a"):
        prod(registry)


def test_bytes_of_another_digest_are_refused_before_and_while_they_serve(registry, hand):
    loader, log = prod(registry, hand)
    damage(only(registry._path / "3"))
    registry.point("prod", "3")
    hand.run(3)

    assert (loader.version, loader.health().state) == ("2", "degraded")
    (failed,) = log.of(LoadFailed)
    assert re.search(
        r"has the digest \w{64}, and its manifest says \w{64}: copy", str(failed.error)
    )
    with pytest.raises(ms.ModelLoadError, match="and its manifest says"):
        ms.ModelLoader(registry.at("prod"), mode="eager")
    with pytest.raises(ms.ModelLoadError, match="and its manifest says"):
        ms.ModelLoader(registry._path, mode="eager")  # the folder of versions, too


TORN = ["", "no digest\n", "{digest}  sub/{name}\n", "{digest}  {name}", "{digest}  {name}\n0\n"]


@pytest.mark.parametrize("text", TORN)
def test_a_torn_manifest_leaves_the_last_good_version(registry, hand, text):
    loader, _ = prod(registry, hand)
    sums = registry._path / "3" / "SHA256SUMS"
    whole = sums.read_text()
    digest, name = whole.split()
    sums.write_text(text.format(digest=digest, name=name))
    with pytest.raises(ms.ModelLoadError, match="SHA256SUMS' is broken: write what `sha256sum` p"):
        registry.point("prod", "3")
    (registry._path / "aliases" / "prod").write_text("3\n")
    hand.run(3)
    assert (loader.health().state, answer(loader)) == ("degraded", 2.0)
    sums.write_text(whole)
    hand.run(10)

    assert (loader.health().state, answer(loader)) == ("ready", 3.0)


def test_a_manifest_can_be_checked_and_written_by_sha256sum(registry, tmp_path, write):
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not installed")
    folder = registry._path / "3"
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    assert subprocess.run(check, cwd=folder, check=False, capture_output=True).returncode == 0
    path = tmp_path / "ranker" / "9" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(models.times(9.0))
    print_sums = ["sha256sum", "--binary", "model.onnx"]
    printed = subprocess.run(print_sums, cwd=path.parent, check=True, capture_output=True).stdout
    (path.parent / "SHA256SUMS").write_bytes(printed)
    registry.point("prod", "9")

    assert answer(prod(registry)[0]) == 9.0


def test_a_model_with_external_data_is_published_with_all_of_it(tmp_path):
    data, weights = models.outside("parts/weights.bin")
    (tmp_path / "parts").mkdir()
    (tmp_path / "model.onnx").write_bytes(data)
    (tmp_path / "parts" / "weights.bin").write_bytes(weights)
    registry = ms.Registry(tmp_path / "registry" / "ranker")
    registry.publish(tmp_path / "model.onnx")
    registry.point("prod", "1")
    loader, _ = prod(registry)
    sums = (registry._path / "1" / "SHA256SUMS").read_bytes()

    assert answer(loader) == 3.0
    assert loader._shelf.now.digest == hashlib.sha256(sums).hexdigest()[:16]
    damage(registry._path / "1" / "parts" / "weights.bin")
    with pytest.raises(ms.ModelLoadError, match="and its manifest says"):
        prod(registry)


def test_a_manifest_gives_no_trust_to_run_code(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(len))
    registry = ms.Registry(tmp_path / "ranker")
    registry.point("prod", registry.publish(path))
    whole = hashlib.sha256(path.read_bytes()).hexdigest()

    for options in ({}, {"allow_pickle": True}, {"allow_pickle": True, "sha256": whole[:63]}):
        with pytest.raises(ms.ModelLoadError, match="can run any code"):
            prod(registry, **options)
    loader, _ = prod(registry, allow_pickle=True, sha256=whole)
    assert loader([1, 2]) == 2
    with pytest.raises(ms.ModelLoadError, match="and sha256= pins 000"):
        prod(registry, allow_pickle=True, sha256="0" * 64)


def test_two_writers_publish_and_point_at_once(tmp_path, write):
    registry = ms.Registry(tmp_path / "ranker")
    paths = [write(factor) for factor in range(20)]
    ready = threading.Barrier(2, timeout=LIMIT)

    def publish(mine):
        ready.wait()
        made = []
        for path in mine:
            made.append(registry.publish(path))
            registry.point("prod", made[-1])
            until(lambda: registry.aliases["prod"] in registry.versions)
        return made

    writers = [start(publish, paths[:10]), start(publish, paths[10:])]
    made = [writer.result(LIMIT) for writer in writers]

    assert sorted(map(int, made[0] + made[1])) == list(range(1, 21))
    for version, factor in zip(made[0] + made[1], range(20), strict=True):
        assert first(ms.ModelLoader(registry._path, version=version)(rows(1))) == factor
    assert registry.aliases["prod"] in {made[0][-1], made[1][-1]}
    assert [each.name for each in registry._path.iterdir() if each.name[0] == "."] == []


def test_a_number_that_another_writer_took_meanwhile_is_left_to_it(registry, monkeypatch, write):
    monkeypatch.setattr(registry.__class__, "_numbers", lambda self: [1])  # as it was before

    assert registry.publish(write(4)) == "4"
    assert answer(ms.ModelLoader(registry._path, version="2")) == 2.0


def test_what_cannot_be_published_leaves_nothing_behind(tmp_path, registry):
    (tmp_path / "notes.md").write_text("# ranker")
    with pytest.raises(ms.ModelLoadError, match="is of no known format: use one of"):
        registry.publish(tmp_path / "notes.md")
    with pytest.raises(ms.ModelLoadError, match=r"'absent\.onnx' does not exist"):
        registry.publish("absent.onnx")

    assert sorted(each.name for each in registry._path.iterdir()) == ["1", "2", "3", "aliases"]


def test_a_disk_that_refuses_is_told_and_cleaned(registry, monkeypatch, write):
    def full(*_):
        raise OSError(28, "No space left on device")

    path = write(4)
    for name in ("rename", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(f"os.{name}", full)
            with pytest.raises(OSError, match="No space left on device"):
                registry.publish(path)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        registry.point("prod", "3")

    assert sorted(each.name for each in registry._path.iterdir()) == ["1", "2", "3", "aliases"]
    assert registry.aliases == {"prod": "2"}


@pytest.mark.parametrize("alias", ["", ".", "..", ".prod", "a/b", "../prod", "a b", "prod\n"])
def test_what_is_no_name_is_no_alias(registry, alias):
    message = re.escape(f"{alias!r} is no alias: use letters")
    with pytest.raises(ValueError, match=message):
        registry.at(alias)
    with pytest.raises(ValueError, match=message):
        registry.point(alias, "1")


@pytest.mark.parametrize("version", ["", "latest", "../1", "-1", "\u0661"])
def test_an_alias_points_at_a_number(registry, version):
    with pytest.raises(ValueError, match=re.escape(f"version {version!r}: pass a number that pub")):
        registry.point("prod", version)


def test_an_alias_does_not_point_at_what_is_not_there(registry):
    (registry._path / "8").mkdir()
    for version in ("8", "9"):
        with pytest.raises(ms.ModelLoadError, match=f"no version {version} with a manifest: publi"):
            registry.point("prod", version)

    assert registry.aliases == {"prod": "2"}


def test_an_alias_says_which_version_alone(registry):
    with pytest.raises(ValueError, match=r"version='3': Alias.*says which version, so leave"):
        ms.ModelLoader(registry.at("prod"), version="3")


def test_a_loader_of_an_alias_travels(registry):
    twin = pickle.loads(pickle.dumps(ms.ModelLoader(registry.at("prod"))))  # noqa: S301 - ours

    assert (answer(twin), twin.version) == (2.0, "2")


def test_two_aliases_of_one_registry_stand_in_one_tree(registry):
    registry.point("canary", "3")
    split = ms.TrafficSplitter(
        ms.Variant("stable", ms.ModelLoader(registry.at("prod")), weight=0.5),
        ms.Variant("candidate", ms.ModelLoader(registry.at("canary")), weight=0.5),
        salt="ranker",
    )
    with split, ms.request(unit="user-1") as r:
        y = first(split(rows(1)))

    told = {key: value for key, value in r.record.items() if key.endswith("@prod.version")}
    told |= {key: value for key, value in r.record.items() if key.endswith("@canary.version")}
    assert list(told.values()) == [str(int(y))]
