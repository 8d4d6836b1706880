"""How many bytes a model will take: what it took before, else what its kind makes of a file.

>>> sizing = Sizing()
>>> sizing.predict("a", "onnx", {"cpu": 100})
{'cpu': 100}
>>> sizing.observe("a", "onnx", {"cpu": 100}, {"cpu": 150})
>>> sizing.predict("a", "onnx", {"cpu": 100}), sizing.predict("b", "onnx", {"cpu": 200})
({'cpu': 150}, {'cpu': 300})
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

FADE = 0.8
"""What earlier loads of a kind count for at each load, so that a kind that changes is followed."""

Bytes = Mapping[str, int]


class _Kind:
    """What loads of one kind took, by memory space, against what was told of them before."""

    __slots__ = ("_told", "loads", "taken")

    def __init__(self) -> None:
        self.loads = 0.0
        self.taken: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def add(self, told: Bytes, taken: Bytes) -> None:
        self.loads = FADE * self.loads + 1.0
        _fade(self.taken, taken)
        _fade(self._told, told)

    def scale(self, told: Bytes) -> dict[str, int]:
        """Return what will be taken where so much is told.

        What was taken in a space of which nothing is ever told, as on a GPU by a model of which
        the size of its file is known, goes with all that is told.
        """
        total, known = sum(told.values()), sum(self._told.values())
        if not known:
            return dict(told)
        scaled: dict[str, int] = {}
        for space, taken in self.taken.items():
            before = self._told.get(space)
            share = total / known if before is None else told.get(space, 0) / max(before, 1.0)
            scaled[space] = round(taken * share)
        return scaled


def _fade(sums: dict[str, float], more: Bytes) -> None:
    for space in {*sums, *more}:
        sums[space] = FADE * sums.get(space, 0.0) + more.get(space, 0)


@final
class Sizing:
    """What loads took, by name and by kind; a kind is a format such as ``"onnx"``.

    A model takes what it took last time. One that was never loaded takes what is told of it, as
    the size of its file, times what others of its kind took over what was told of them: the ratio
    of the sums (Cochran, "Sampling Techniques", 3rd ed., 1977, section 6.1), so that large models
    count for more, and by memory space. One of which nothing is told takes what its kind takes on
    average, and None is said if nothing is known of that either.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[Bytes, Bytes | None]] = {}
        self._told: dict[str, _Kind] = {}
        self._untold: dict[str, _Kind] = {}

    def predict(self, name: str, kind: str, told: Bytes | None) -> dict[str, int] | None:
        """Return the bytes that a load will take by memory space, or None if nothing is known."""
        last = self._last.get(name)
        if last is not None and last[1] == told:
            return dict(last[0])
        if told is None:
            alike = self._untold.get(kind)
            if alike is None:
                return None
            return {space: round(n / alike.loads) for space, n in alike.taken.items()}
        known = self._told.get(kind)
        return dict(told) if known is None else known.scale(told)

    def observe(self, name: str, kind: str, told: Bytes | None, taken: Bytes) -> None:
        """Learn what a load took of which so many bytes had been told."""
        self._last[name] = (dict(taken), told if told is None else dict(told))
        kinds = self._untold if told is None else self._told
        kinds.setdefault(kind, _Kind()).add(told or {}, taken)
