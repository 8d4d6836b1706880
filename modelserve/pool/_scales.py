"""What models of a pool weigh: told before a load, measured after it, and again after a reload."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from modelserve.errors import ModelLoadError
from modelserve.pool._weigh import EVERYWHERE, Spaces, of_tensors, on_disk, spaces

if TYPE_CHECKING:
    from modelserve.pool._seat import Seat
    from modelserve.pool._settings import Settings

_log = logging.getLogger("modelserve")


class Scales:
    """How a pool was told to weigh."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def told(self, seat: Seat) -> tuple[str, Spaces | None]:
        """Return the format of a model's files, and what is told of its bytes."""
        size, budget = self._settings.size, self._settings.budget
        kind, told = on_disk(seat.part)
        if size is not None:
            return kind, spaces(size(seat.name), budget)
        return kind, None if told is None else spaces(told, _first(budget))

    def weigh(
        self, seat: Seat, told: Spaces | None, grown: int | None, *, alone: bool, expected: Spaces
    ) -> Spaces:
        """Return what a model takes; see the docstring of ModelPool for what is measured."""
        exact = self._exact(seat)
        if exact is not None:
            return exact
        if grown is None and told is None:
            raise ModelLoadError(
                f"{seat.name!r} does not tell what it weighs, and nor does this system: pass weigh="
            )
        if grown is None or (not alone and not seat.guessed):
            return dict(expected)
        measured = spaces(grown, _first(self._settings.budget))
        return {s: max(n, (told or {}).get(s, 0)) for s, n in measured.items()}

    def weigh_again(self, seat: Seat) -> tuple[str, Spaces | None, Spaces] | None:
        """Return what is told of a model and what it takes, if it was weighed as another version.

        None where it was not, and where it does not tell what it takes: by how much the process has
        grown since says nothing of one model.
        """
        if seat.live is None or seat.weighed == seat.versions():
            return None
        try:
            exact = self._exact(seat)
            return None if exact is None else (*self.told(seat), exact)
        except Exception:  # noqa: BLE001 - it leaves just now, or weigh= raised
            _log.debug("%r could not be weighed again", seat.name, exc_info=True)
            return None

    def _exact(self, seat: Seat) -> Spaces | None:
        seat.weighed = seat.versions()
        weigh = self._settings.weigh
        exact = of_tensors(seat.part) if weigh is None else weigh(seat.part)
        return None if exact is None else spaces(exact, self._settings.budget)


def _first(budget: Mapping[str, int]) -> dict[str, int]:
    """Return the space in which a model counts that only tells how many bytes it has."""
    space = next((s for s in (EVERYWHERE, "cpu") if s in budget), next(iter(budget)))
    return {space: budget[space]}
