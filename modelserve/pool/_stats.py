"""What a pool and its models count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class PoolStats(NamedTuple):
    """Counts of a pool. ``nbytes`` is what its models weigh now, by memory space.

    ``hits`` are calls that found their model in memory and ``misses`` those that it was loaded for,
    one an input of a ``map``; calls of a model that could not be loaded are neither. ``refused``
    are loads for which there was no room; ``evictions`` are not those that went with the pool;
    ``load_seconds`` is the sum over all loads.
    """

    loaded: tuple[str, ...]
    nbytes: Mapping[str, int]
    hits: int
    misses: int
    loads: int
    failures: int
    evictions: int
    refused: int
    load_seconds: float


class PooledStats(NamedTuple):
    """Counts of one model of a pool; ``nbytes`` is what it weighs, 0 while it is not in memory.

    ``blocked_loop`` is sync calls that kept an event loop waiting for a load.
    """

    calls: int
    misses: int
    loads: int
    nbytes: int
    blocked_loop: int = 0
