"""How files are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class How(NamedTuple):
    """What a loader was told of its files; see :func:`modelserve.formats.read`."""

    factory: Callable[[], Any] | None = None
    sha256: str | None = None
    allow_pickle: bool = False
    threads: int | None = None


PLAINLY = How()
