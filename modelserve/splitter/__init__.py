"""TrafficSplitter: which variant of a model answers for whom."""

from __future__ import annotations

from modelserve.splitter import off_policy
from modelserve.splitter._exposures import Exposure, Exposures, ExposuresStats
from modelserve.splitter._policies import KLUCB, UCB1, EpsilonGreedy, ThompsonSampling
from modelserve.splitter._rewards import Outcomes
from modelserve.splitter._splitter import TrafficSplitter
from modelserve.splitter._variant import (
    Assignment,
    HashSplit,
    SplitterStats,
    Variant,
    VariantStats,
)

__all__ = [
    "KLUCB",
    "UCB1",
    "Assignment",
    "EpsilonGreedy",
    "Exposure",
    "Exposures",
    "ExposuresStats",
    "HashSplit",
    "Outcomes",
    "SplitterStats",
    "ThompsonSampling",
    "TrafficSplitter",
    "Variant",
    "VariantStats",
    "off_policy",
]
