"""DynamicBatcher: calls that come one by one run together."""

from __future__ import annotations

from modelserve._policy.costs import Costs
from modelserve.batcher._batcher import DynamicBatcher
from modelserve.batcher._decorator import batched
from modelserve.batcher._layout import AsList, Layout, Stack
from modelserve.batcher._pad import Pad
from modelserve.batcher._stats import BatcherStats, Spread
from modelserve.batcher._tune import tune
from modelserve.batcher._tuning import Tuning, TuningRow

__all__ = [
    "AsList",
    "BatcherStats",
    "Costs",
    "DynamicBatcher",
    "Layout",
    "Pad",
    "Spread",
    "Stack",
    "Tuning",
    "TuningRow",
    "batched",
    "tune",
]
