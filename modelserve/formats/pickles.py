"""Pickles, by ``pickle`` and by joblib: programs that end in an object.

They are loaded only where the user allows it for the very bytes that ``sha256=`` pins.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import threading
from io import BytesIO
from types import TracebackType
from typing import Any

from modelserve.formats._known import Ask, demand_trust, needs


def load(data: bytes, ask: Ask) -> Any:
    """Make whatever a file's bytes make."""
    demand_trust(ask, "a pickle")
    with PAUSE:
        if ask.suffix != ".joblib":
            return pickle.Unpickler(_Steps(data)).load()  # noqa: S301 - the user trusts it
        try:
            import joblib
        except ImportError as missing:
            raise needs("joblib", "sklearn") from missing
        return joblib.load(BytesIO(data))


class _Steps:
    """Bytes in a file whose methods are Python: between two of them other threads may run.

    ``pickle.loads`` would hold them up for as long as it takes.
    """

    def __init__(self, data: bytes) -> None:
        self._file = BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def readinto(self, buffer: bytearray) -> int:
        return self._file.readinto(buffer)

    def readline(self) -> bytes:
        return self._file.readline()


def _call_old() -> None:
    """Put all objects among the oldest, which are looked at rarely, without a look at any of them.

    Else the first collection to come would be of all that was made.
    """
    if not gc.get_freeze_count():  # else others were set apart by somebody who wants them there
        gc.freeze()
        gc.unfreeze()


class _Pause:
    """No garbage collection while objects are made by the million, whoever else does the same.

    Each collection would look at all of them again, and holds up every thread as it does.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, as a forked child does: who paused here is not there."""
        self._lock = threading.Lock()
        self._inside = 0
        self._was_on = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._was_on = gc.isenabled()
                gc.disable()
            self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._was_on:
                _call_old()
                gc.enable()

    def after_fork(self) -> None:
        """Collect again in a child that was forked during a pause."""
        if self._inside and self._was_on:
            gc.enable()
        self.reset()


PAUSE = _Pause()
with contextlib.suppress(AttributeError):  # not every system forks
    os.register_at_fork(after_in_child=PAUSE.after_fork)
