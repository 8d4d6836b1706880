"""What pools and placers infer."""

from __future__ import annotations

from typing import Any, assert_type

import modelserve as ms
from modelserve.placement import Ask, Plan
from modelserve.pool import Lease, Pooled, PoolStats
from modelserve.predictor import Primitive


def load(name: str) -> ms.ModelLoader[Any, Any]:
    return ms.ModelLoader(lambda: str.upper, name=name)


def weigh(p: Primitive[Any, Any]) -> dict[str, int]:
    return {p.name: 1}


pool = ms.ModelPool(load, budget=1_000)
assert_type(pool, ms.ModelPool)
assert_type(pool["a"], Pooled)
assert_type(pool.lease("a"), Lease)
assert_type(pool.stats, PoolStats)
assert_type(list(pool), list[str])
by_space = ms.ModelPool(load, budget={"cpu": 1}, weigh=weigh, size=len)
assert_type(ms.DevicePlacer().plan({"a": 1}), Plan)
assert_type(ms.DevicePlacer().plan([Ask("a", 1)]), Plan)
assert_type(ms.devices(), tuple[ms.Device, ...])


def check_lease() -> None:
    with pool.lease("a") as predictor:
        assert_type(predictor, Primitive[Any, Any])


async def check_async_lease() -> None:
    async with pool.lease("a") as predictor:
        assert_type(predictor, Primitive[Any, Any])
