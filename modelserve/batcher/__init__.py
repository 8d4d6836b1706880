"""DynamicBatcher: calls that come one by one run together."""

from __future__ import annotations

from modelserve.batcher._batcher import DynamicBatcher
from modelserve.batcher._core import BatcherStats
from modelserve.batcher._decorator import batched
from modelserve.batcher._layout import AsList, Layout, Stack

__all__ = ["AsList", "BatcherStats", "DynamicBatcher", "Layout", "Stack", "batched"]
