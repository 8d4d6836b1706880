"""modelserve: primitives for serving trained models inside your own service.

>>> import modelserve as ms
>>> upper = ms.PredictionCache(str.upper, maxsize=100)
>>> upper("a")
'A'
"""

from __future__ import annotations

import importlib
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
from modelserve.loader import Every, ModelLoader, OnChange, Registry, checks
from modelserve.predictor import Health, awarm, describe, health, inline, predictor, warm
from modelserve.request import Request, Stamp, current_request, request
from modelserve.splitter import (
    KLUCB,
    UCB1,
    Assignment,
    EpsilonGreedy,
    Exposures,
    HashSplit,
    ThompsonSampling,
    TrafficSplitter,
    Variant,
    off_policy,
)

if TYPE_CHECKING:
    from modelserve.placement import Device, DevicePlacer, devices
    from modelserve.pool import ModelPool
    from modelserve.replicas import Replicas

LATER = {
    "Device": "placement",
    "DevicePlacer": "placement",
    "ModelPool": "pool",
    "Replicas": "replicas",
    "devices": "placement",
}
"""Where that lies which few services need: it is imported when it is asked for."""

__all__ = [  # noqa: RUF022 - sorted by letter, whatever they are
    "AsList",
    "Assignment",
    "BadInput",
    "BadOutput",
    "Closed",
    "DeadlineExceeded",
    "Device",
    "DevicePlacer",
    "DynamicBatcher",
    "EpsilonGreedy",
    "Every",
    "Exposures",
    "Forked",
    "HashSplit",
    "Health",
    "KLUCB",
    "ModelLoadError",
    "ModelLoader",
    "ModelPool",
    "ModelServeError",
    "NestingError",
    "OnChange",
    "Overloaded",
    "Pad",
    "PredictionCache",
    "Registry",
    "Replicas",
    "Request",
    "Stack",
    "Stamp",
    "Stuck",
    "ThompsonSampling",
    "TrafficSplitter",
    "UCB1",
    "Variant",
    "awarm",
    "batched",
    "cached",
    "checks",
    "current_request",
    "describe",
    "devices",
    "health",
    "inline",
    "off_policy",
    "predictor",
    "request",
    "tune",
    "warm",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Import what was not asked for yet."""
    if name not in LATER:
        raise AttributeError(f"module 'modelserve' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"modelserve.{LATER[name]}"), name)
    return globals().setdefault(name, found)
