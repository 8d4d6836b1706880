"""modelserve: primitives for serving trained models inside your own service.

>>> import modelserve as ms
>>> upper = ms.PredictionCache(str.upper, maxsize=100)
>>> upper("a")
'A'
"""

from __future__ import annotations

import logging

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
from modelserve.loader import Every, ModelLoader, OnChange, checks
from modelserve.predictor import Health, awarm, describe, health, inline, predictor, warm
from modelserve.request import Request, Stamp, current_request, request
from modelserve.splitter import Assignment, HashSplit, TrafficSplitter, Variant

__all__ = [
    "AsList",
    "Assignment",
    "BadInput",
    "BadOutput",
    "Closed",
    "DeadlineExceeded",
    "DynamicBatcher",
    "Every",
    "Forked",
    "HashSplit",
    "Health",
    "ModelLoadError",
    "ModelLoader",
    "ModelServeError",
    "NestingError",
    "OnChange",
    "Overloaded",
    "Pad",
    "PredictionCache",
    "Request",
    "Stack",
    "Stamp",
    "Stuck",
    "TrafficSplitter",
    "Variant",
    "awarm",
    "batched",
    "cached",
    "checks",
    "current_request",
    "describe",
    "health",
    "inline",
    "predictor",
    "request",
    "tune",
    "warm",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())
