"""ModelPool: more models than fit into memory, each there when it is called."""

from __future__ import annotations

from modelserve.pool._door import Lease
from modelserve.pool._handle import Pooled
from modelserve.pool._pool import ModelPool
from modelserve.pool._stats import PooledStats, PoolStats

__all__ = ["Lease", "ModelPool", "PoolStats", "Pooled", "PooledStats"]
