"""modelserve: primitives for serving trained models inside your own service.

>>> import modelserve as ms
>>> upper = ms.PredictionCache(str.upper, maxsize=100)
>>> upper("a")
'A'
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from modelserve.batcher import AsList, DynamicBatcher, Pad, Stack, batched, tune
from modelserve.cache import PredictionCache, cached
from modelserve.errors import (
    BadInput,
    BadOutput,
    Closed,
    DeadlineExceeded,
    Forked,
    ModelLoadError,
    ModelServeError,
    NestingError,
    Overloaded,
    Stuck,
)
from modelserve.loader import ModelLoader
from modelserve.pool import ModelPool
from modelserve.predictor import Health, awarm, describe, health, inline, predictor, warm
from modelserve.replicas import Replicas
from modelserve.request import Request, Stamp, current_request, request
from modelserve.splitter import Assignment, HashSplit, TrafficSplitter, Variant

if TYPE_CHECKING:
    from modelserve.placement import Device, DevicePlacer, devices

__all__ = [
    "AsList",
    "Assignment",
    "BadInput",
    "BadOutput",
    "Closed",
    "DeadlineExceeded",
    "Device",
    "DevicePlacer",
    "DynamicBatcher",
    "Forked",
    "HashSplit",
    "Health",
    "ModelLoadError",
    "ModelLoader",
    "ModelPool",
    "ModelServeError",
    "NestingError",
    "Overloaded",
    "Pad",
    "PredictionCache",
    "Replicas",
    "Request",
    "Stack",
    "Stamp",
    "Stuck",
    "TrafficSplitter",
    "Variant",
    "awarm",
    "batched",
    "cached",
    "current_request",
    "describe",
    "devices",
    "health",
    "inline",
    "predictor",
    "request",
    "tune",
    "warm",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Import what most services never need when it is asked for."""
    if name in {"Device", "DevicePlacer", "devices"}:
        from modelserve import placement

        return getattr(placement, name)
    raise AttributeError(f"module 'modelserve' has no attribute {name!r}")
