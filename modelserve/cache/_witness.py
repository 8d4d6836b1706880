"""What tells of versions where no trail does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from modelserve.predictor import Primitive, walk
from modelserve.request import Stamp, stamps, tick

if TYPE_CHECKING:
    from modelserve.cache._flight import Run


class Doubt(Stamp):
    """In place of the stamps of a run in which versions changed unseen: it was retired always."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("", "")
        self.retired = tick()

    def write(self, record: dict[str, Any]) -> None:
        """Add nothing to a record, as nothing is known."""


_DOUBT = Doubt()


class Witness:
    """Watches the loaders that functions use: they may call them where no scope reaches.

    ``told`` is the version that a user tells of, if they do.
    """

    def __init__(self, used: list[Primitive[Any, Any]], told: Callable[[], str] | None) -> None:
        self._used = used
        self.told = told

    def begin(self, run: Run) -> None:
        """Look before a run."""
        if self._used:
            run.before = tuple(loader.stamp() for loader in self._used)
            run.began = tick()

    def end(self, run: Run) -> None:
        """Look after a run that has given or failed: name the versions that took part."""
        trail = run.scope.trail
        after = [loader.stamp() for loader in self._used] if run.began else []
        pairs = zip(run.before, after, strict=bool(after))
        if all(_stood(was, now, run.began) for was, now in pairs):
            trail.extend(now for now in after if now is not None and now not in trail)
        else:
            trail.append(_DOUBT)
        run.by = stamps(trail)


def _stood(was: Stamp | None, now: Stamp | None, began: int) -> bool:
    """Whether nothing but ``now`` was handed out since then; a first load replaces nothing."""
    return (was is None or was is now) and (now is None or now.since < began)


def used_by_functions(cache: Primitive[Any, Any]) -> list[Primitive[Any, Any]]:
    """List the loaders below functions of a tree: those that ``uses=`` names."""
    nodes = list(walk(cache))
    functions = {node.path for node in nodes if node.part.parts_level == "any"}
    below = (n.part for n in nodes if any(n.path[: len(f)] == f for f in functions))
    return list(
        dict.fromkeys(part for part in below if type(part).stamp is not Primitive[Any, Any].stamp)
    )
