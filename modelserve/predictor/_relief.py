"""Who can make room on a device when a load finds too little.

Devices are the process's: whoever holds memory there that it could do without says so here, and is
asked by whoever runs out of it.
"""

from __future__ import annotations

import threading
import weakref
from typing import Protocol, final

from modelserve.predictor._fork import on_fork


class Relief(Protocol):
    """What holds memory that it could do without."""

    def relieve(self, device: str) -> bool:
        """Make room on a device, within seconds; say whether any came free."""
        ...


@final
class Reliefs:
    """All of a process; none is kept alive."""

    def __init__(self) -> None:
        self._known: weakref.WeakSet[Relief] = weakref.WeakSet()
        self.after_fork()
        on_fork(self)

    def after_fork(self) -> None:
        """Be usable in the child."""
        self._lock = threading.Lock()

    def add(self, relief: Relief) -> None:
        """Ask this one, too, as long as it lives."""
        with self._lock:
            self._known.add(relief)

    def __call__(self, device: str) -> bool:
        """Have all of them make room; say whether any did."""
        with self._lock:
            known = list(self._known)
        freed = [relief.relieve(device) for relief in known]
        return any(freed)


relieve = Reliefs()
