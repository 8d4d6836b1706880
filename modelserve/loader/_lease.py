"""Models that are held for a while, and closed once nobody holds them."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, final
from weakref import WeakValueDictionary

from modelserve.events import Hook, StageDone, tell
from modelserve.loader._reaper import reaper

if TYPE_CHECKING:
    from types import TracebackType

    from modelserve.loader._version import Version
    from modelserve.typing import Clock

_log = logging.getLogger("modelserve")


@final
class Lease:
    """A model that is not closed inside of this ``with`` block, whatever replaces it meanwhile."""

    __slots__ = ("_anow", "_now", "_version")

    def __init__(self, now: Callable[[], Version], anow: Callable[[], Awaitable[Version]]) -> None:
        self._now = now
        self._anow = anow
        self._version: Version | None = None

    def __enter__(self) -> Any:
        """Hold the version of now and return its model."""
        return self._hold(self._now())

    async def __aenter__(self) -> Any:
        """Hold the version of now and return its model, without blocking the event loop."""
        return self._hold(await self._anow())

    def _hold(self, version: Version) -> Any:
        if self._version is not None:
            raise RuntimeError("this lease is held: ask the loader for another")
        version.leases.add(self)
        self._version = version
        return version.handed()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go."""
        version, self._version = self._version, None
        if version is not None:
            version.leases.discard(self)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go."""
        self.__exit__(exc_type, exc, traceback)


@final
class Closing:
    """Closes the models of one loader, each once nobody holds its version.

    A version is held by the loader, by leases and by calls in flight. Versions of one and the same
    model have one hold on it in common, whose end is the model's.
    """

    def __init__(
        self, name: str, close: Callable[[Any], object], clock: Clock, on_event: Hook | None
    ) -> None:
        self._name = name
        self._close = close
        self._clock = clock
        self._on_event = on_event
        self._holds: WeakValueDictionary[int, Hold] = WeakValueDictionary()

    def when_free(self, version: Version) -> None:
        """Close a version's model once it is free, unless that is disowned."""
        model = version.model
        hold = self._holds.get(id(model))  # it would keep the model alive, so it is of this one
        if hold is None:
            hold = self._holds[id(model)] = Hold(partial(self._run, model, version.stamp.version))
        version.hold = hold

    def _run(self, model: Any, label: str) -> None:
        started = self._clock()
        try:
            self._close(model)
        except BaseException:  # noqa: BLE001 - others wait to be closed, too
            _log.exception("version %s of %r could not be closed", label, self._name)
        if self._on_event is not None:
            seconds = self._clock() - started
            tell(self._on_event, StageDone(self._name, "close", label, seconds))


@final
class Hold:
    """What the versions of a model share: the model is to be closed when it goes."""

    __slots__ = ("__weakref__", "_finalizer")

    def __init__(self, job: Callable[[], None]) -> None:
        reaper.expect()
        self._finalizer = weakref.finalize(self, reaper.put, job)
        self._finalizer.atexit = False  # it was never let go

    def disown(self) -> None:
        """Leave closing the model to somebody else."""
        if self._finalizer.detach() is not None:
            reaper.put(None)
