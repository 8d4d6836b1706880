"""PredictionCache: an answer that was given once is given again."""

from __future__ import annotations

from modelserve.cache._cache import PredictionCache
from modelserve.cache._decorator import cached
from modelserve.cache._table import CacheStats

__all__ = ["CacheStats", "PredictionCache", "cached"]
