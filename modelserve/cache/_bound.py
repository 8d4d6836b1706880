"""What a cache keeps its entries in: one of three ways to bound it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from modelserve.cache._s3fifo import S3Fifo


def bounded(
    maxsize: int | None, max_bytes: int | None, store: MutableMapping[Any, Any] | None
) -> MutableMapping[Any, Any]:
    """Make the store of a cache, or take a user's. Raises ValueError unless one bound is given."""
    if sum(bound is not None for bound in (maxsize, max_bytes, store)) != 1:
        raise ValueError("a cache needs a bound: pass one of maxsize, max_bytes and store")
    for name, bound in (("maxsize", maxsize), ("max_bytes", max_bytes)):
        if bound is not None and bound < 1:
            raise ValueError(f"{name}={bound}: pass 1 or more")
    if store is not None:
        return store
    if max_bytes is not None:
        return S3Fifo(max_bytes, getsizeof=lambda entry: entry.nbytes)
    return S3Fifo(maxsize or 0)
