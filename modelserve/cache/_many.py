"""Looking many inputs up at once: what was found for each."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

from modelserve.cache._fill import Leads
from modelserve.cache._flight import Entry, Flight, Run
from modelserve.predictor import Primitive, Sink


class Ask(NamedTuple):
    """In place of an answer: who is to be asked for it, alone."""

    p: Primitive[Any, Any]


class Found(NamedTuple):
    """What one input of many finds; ``sink`` if another's flight must be waited for."""

    entry: Entry | None = None
    flight: Flight | None = None
    sink: Sink | None = None
    came: int = 0
    joins: bool = False
    error: Exception | None = None


class Plan:
    """What many inputs find, the flights that are theirs to fill, and the runs noted so far."""

    __slots__ = ("found", "leads", "led", "noted", "run")

    def __init__(self, run: Run) -> None:
        self.run = run
        self.found: list[Found] = []
        self.leads: Leads = []
        self.led: dict[Hashable, Flight] = {}
        self.noted: set[Run] = set()
