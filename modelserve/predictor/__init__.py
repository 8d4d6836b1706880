"""Predictors: one input, one output, two faces, and the tree they make."""

from __future__ import annotations

from modelserve.predictor._base import (
    Counter,
    Level,
    PartHealth,
    Primitive,
    Spec,
    achunks,
    chunks,
    closed,
    each,
)
from modelserve.predictor._bind import Home
from modelserve.predictor._fork import on_fork
from modelserve.predictor._laws import check_call
from modelserve.predictor._lazy import aio
from modelserve.predictor._life import Life
from modelserve.predictor._lift import Function, Inline, inline, lift, predictor, wraps
from modelserve.predictor._names import name_of
from modelserve.predictor._relief import Relief, relieve
from modelserve.predictor._threads import (
    background_loop,
    block_on,
    crowd_of,
    end_pools,
    hop,
    refuse_on_loop,
)
from modelserve.predictor._together import CHUNK, Together
from modelserve.predictor._tree import Health, awarm, describe, health, walk, warm
from modelserve.predictor._waiting import (
    FutureSink,
    LoopSink,
    Outcome,
    Sink,
    Tally,
    ThreadSink,
    deliver,
    running_loop,
)

__all__ = [
    "CHUNK",
    "Counter",
    "Function",
    "FutureSink",
    "Health",
    "Home",
    "Inline",
    "Level",
    "Life",
    "LoopSink",
    "Outcome",
    "PartHealth",
    "Primitive",
    "Relief",
    "Sink",
    "Spec",
    "Tally",
    "ThreadSink",
    "Together",
    "achunks",
    "aio",
    "awarm",
    "background_loop",
    "block_on",
    "check_call",
    "chunks",
    "closed",
    "crowd_of",
    "deliver",
    "describe",
    "each",
    "end_pools",
    "health",
    "hop",
    "inline",
    "lift",
    "name_of",
    "on_fork",
    "predictor",
    "refuse_on_loop",
    "relieve",
    "running_loop",
    "walk",
    "warm",
    "wraps",
]
