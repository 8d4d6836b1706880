"""Events are plain values, and a hook hurts nobody."""

import logging
from typing import get_args

import pytest

from modelserve import events
from modelserve.events import (
    Admitted,
    BatchDone,
    Event,
    Evicted,
    Loaded,
    LoadFailed,
    Retired,
    RolledBack,
    StageDone,
    tell,
)
from modelserve.testing import EventLog

ALL = [
    StageDone("ranker", "load", "v1", 0.25, 1024),
    Loaded("ranker", "v1", 0.5),
    RolledBack("ranker", "v0"),
    LoadFailed("ranker", OSError("gone"), 0.1),
    Retired("ranker", "v1"),
    BatchDone("ranker", 32, 0.001, 0.004, None),
    Admitted("ranker", {"cpu": 100}, {"cpu": 143}, 0.5),
    Evicted("ranker", {"cpu": 143}, "room"),
]


def test_every_event_is_listed_once():
    assert {type(event) for event in ALL} == set(get_args(Event))
    assert {cls.__name__ for cls in get_args(Event)} | {"Event", "Hook"} == set(events.__all__)


@pytest.mark.parametrize("event", ALL, ids=lambda e: type(e).__name__)
def test_an_event_is_a_tuple_that_begins_with_its_part(event):
    assert event._fields[0] == "part"
    assert next(iter(event)) == event.part == "ranker"
    with pytest.raises(AttributeError):
        event.part = "other"


@pytest.mark.parametrize("event", ALL, ids=lambda e: type(e).__name__)
def test_tell_hands_the_event_over(event):
    log = EventLog()
    tell(log, event)

    assert list(log) == [event]


def test_what_a_hook_raises_is_logged_and_reaches_nobody(caplog):
    def hook(event):
        raise ValueError(event.part)

    with caplog.at_level(logging.ERROR, logger="modelserve"):
        tell(hook, ALL[0])

    [record] = caplog.records
    assert "on_event" in record.getMessage()
    assert record.exc_info[0] is ValueError


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
def test_a_hook_may_end_the_process(signal):
    def hook(event):
        raise signal

    with pytest.raises(signal):
        tell(hook, ALL[0])
