"""Looking many inputs up at once: what was found for each."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from modelserve.cache._fill import Leads
from modelserve.cache._flight import Entry, Flight
from modelserve.predictor import Sink

ANEW = object()
"""In place of an answer: what was found is of no use to this caller, who asks again."""


class Found(NamedTuple):
    """What one input of many finds; ``sink`` if another's flight must be waited for."""

    entry: Entry | None = None
    flight: Flight | None = None
    sink: Sink | None = None
    came: int = 0
    error: Exception | None = None


class Plan(NamedTuple):
    """What many inputs find, and the flights that are theirs to fill."""

    found: list[Found]
    leads: Leads
    led: dict[Hashable, Flight]
