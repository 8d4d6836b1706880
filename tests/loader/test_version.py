"""Versions by themselves: their stamps, and what becomes of them in a forked child."""

import modelserve as ms
from modelserve.loader._version import KNOWN_VERSIONS, Stamps, Version
from modelserve.request import Stamp


def test_a_label_that_comes_back_brings_its_stamp_along():
    stamps = Stamps("ranker")
    one, two = stamps.of("v1"), stamps.of("v2")

    assert stamps.of("v1") is one
    assert (one.loader, one.version, two.version) == ("ranker", "v1", "v2")


def test_labels_that_went_long_ago_are_forgotten():
    stamps = Stamps("ranker")
    first, second = stamps.of("first"), stamps.of("second")
    for i in range(KNOWN_VERSIONS - 2):
        stamps.of(f"v{i}")
    assert stamps.of("first") is first

    stamps.of("one more")
    assert stamps.of("first") is first
    assert stamps.of("second") is not second


def test_a_version_that_is_handed_out_leaves_its_stamp():
    version = Version("model", str.upper, Stamp("ranker", "v1"), None)
    with ms.request() as r:
        assert version.handed() == "model"

    assert r.trail == [version.stamp]
    assert version.handed() == "model"


class Runtime:
    def after_fork(self, model):
        return f"fate of {model}"


def test_who_knows_a_models_kind_says_what_becomes_of_it():
    version = Version("model", str.upper, Stamp("ranker", "v1"), Runtime())

    assert version.after_fork() == "fate of model"
    version.runtime = None
    assert version.after_fork() == "keep"
