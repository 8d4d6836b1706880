"""How many threads torch runs a call on, where a model has a number of its own.

``torch.set_num_threads`` of torch 2.13 (OpenMP) sets the number of the calling thread at once,
and the one that every thread takes over which uses torch for the first time later; others keep
theirs (``aten/src/ATen/ParallelOpenMP.cpp``, and so it is seen to). So a call sets and restores it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

import torch


class Budget:
    """Runs calls on so many threads, and knows what was usual before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._usual = 0
        self._given: list[int] = []
        """The numbers of all calls in progress."""
        self._here = threading.local()

    def _mine(self) -> list[int]:
        """Return the numbers of this thread's calls in progress."""
        mine: list[int] = self._here.__dict__.setdefault("given", [])
        return mine

    def after_fork(self) -> None:
        """Forget, in a child, the calls of the parent's other threads."""
        self._lock = threading.Lock()
        mine = self._mine()
        if self._given and not mine:
            torch.set_num_threads(self._usual)
        self._given = list(mine)

    def run(self, threads: int, call: Callable[[Any], Any], x: Any) -> Any:
        """Call with so many threads."""
        mine = self._mine()
        with self._lock:
            before = torch.get_num_threads()
            if not self._given:
                self._usual = before
            elif before in self._given and not mine:  # a new thread took it over from others
                before = self._usual
            self._given.append(threads)
            mine.append(threads)
            torch.set_num_threads(threads)
        try:
            return call(x)
        finally:
            with self._lock:
                self._given.remove(threads)
                mine.pop()
                torch.set_num_threads(before)


BUDGET = Budget()
with contextlib.suppress(AttributeError):  # not every system forks
    os.register_at_fork(after_in_child=BUDGET.after_fork)
