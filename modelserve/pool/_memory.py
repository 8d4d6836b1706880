"""What this process holds of memory, and giving back what it no longer needs."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from modelserve.predictor import on_fork

STATM = Path("/proc/self/statm")


def resident() -> int | None:
    """Return the bytes of memory that this process holds, where the system tells (Linux)."""
    try:
        pages = int(STATM.read_bytes().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


class GiveBack:
    """Give freed memory back to the system; unloads that end together share one round."""

    def __init__(self) -> None:
        self.rounds = 0
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        self._busy = threading.Lock()
        self._asked = False

    def __call__(self) -> None:
        """See to it that a round begins after this call; it may be another caller's."""
        self._asked = True
        while self._asked and self._busy.acquire(blocking=False):
            try:
                self._asked = False
                self.rounds += 1
                trim()
                empty_caches()
            finally:
                self._busy.release()


def trim() -> bool:
    """Return the free pages of the C heap to the system; say whether this C library can (glibc)."""
    import ctypes

    try:
        return bool(ctypes.CDLL(None).malloc_trim(0) >= 0)
    except (AttributeError, OSError, TypeError):
        return False


def empty_caches() -> None:
    """Let torch return the GPU memory that it keeps, if it is there and has any."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is not None and cuda.is_initialized():
        cuda.empty_cache()


give_back = GiveBack()
