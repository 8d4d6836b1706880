"""TrafficSplitter: which variant of a model answers for whom."""

from __future__ import annotations

from modelserve.splitter._exposures import Exposure, Exposures, ExposuresStats
from modelserve.splitter._splitter import TrafficSplitter
from modelserve.splitter._variant import (
    Assignment,
    HashSplit,
    SplitterStats,
    Variant,
    VariantStats,
)

__all__ = [
    "Assignment",
    "Exposure",
    "Exposures",
    "ExposuresStats",
    "HashSplit",
    "SplitterStats",
    "TrafficSplitter",
    "Variant",
    "VariantStats",
]
