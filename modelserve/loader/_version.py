"""The versions of one loader."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, final

from modelserve.request import Stamp, current

if TYPE_CHECKING:
    from modelserve import formats
    from modelserve.loader._lease import Hold

KNOWN_VERSIONS = 64
"""How many versions of a loader are known again when they come back."""


class LoaderStats(NamedTuple):
    """Counts of a loader, and the version it serves; ``load_seconds`` is the last good load's.

    ``blocked_loop`` is sync calls that kept an event loop waiting for a first load, and ``device``
    where the model is, as torch names it; None where its kind does not tell.
    """

    version: str | None
    loads: int
    failures: int
    load_seconds: float
    blocked_loop: int = 0
    device: str | None = None


class Fetched(NamedTuple):
    """A model fresh from its source.

    ``label`` is what its version is called, if the source says so, and ``digest`` what its bytes
    make it. ``whole`` says that a manifest promised these bytes, so that they are of one moment
    even if the source changed meanwhile.
    """

    model: Any
    label: str | None
    digest: str | None
    nbytes: int
    whole: bool = False


@final
class Version:
    """One loaded model: how to call it, the stamp that it leaves, and who knows its kind.

    Whoever uses the model holds its version meanwhile, so that it is free when nobody does.
    """

    __slots__ = ("__weakref__", "call", "digest", "hold", "leases", "model", "runtime", "stamp")

    def __init__(
        self,
        model: Any,
        call: Callable[[Any], Any],
        stamp: Stamp,
        runtime: formats.Runtime | None,
        digest: str | None = None,
    ) -> None:
        self.model = model
        self.call = call
        self.stamp = stamp
        self.runtime = runtime
        self.digest = digest
        self.leases: set[object] = set()
        self.hold: Hold | None = None
        """What keeps the model from being closed, if it ever is."""

    def handed(self) -> Any:
        """Return the model, and leave the stamp with the request in force."""
        scope = current()
        if scope is not None:
            scope.trail.append(self.stamp)
        return self.model

    def device(self) -> str | None:
        """Return the device that the model is on, if its kind tells."""
        return None if self.runtime is None else self.runtime.device(self.model)

    def after_fork(self) -> formats.Fate:
        """Say what becomes of it in a forked child."""
        return "keep" if self.runtime is None else self.runtime.after_fork(self.model)


class Stamps:
    """The stamps of a loader's versions, by label."""

    def __init__(self, loader: str) -> None:
        self._loader = loader
        self._known: dict[str, Stamp] = {}

    def of(self, label: str) -> Stamp:
        """A version that comes back brings its stamp along, and answers made by it count again."""
        stamp = self._known.pop(label, None) or Stamp(self._loader, label)
        self._known[label] = stamp
        if len(self._known) > KNOWN_VERSIONS:
            del self._known[next(iter(self._known))]
        return stamp
