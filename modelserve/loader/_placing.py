"""Where the models of a loader go: the devices that are tried, in their order."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, final

from modelserve.errors import ModelLoadError
from modelserve.predictor import relieve

if TYPE_CHECKING:
    from modelserve.loader._source import Source
    from modelserve.placement import DevicePlacer

T = TypeVar("T")
CPU, GPU = "cpu", "cuda"


@final
class Placing:
    """What a loader was told of devices. Raises ValueError for what names none."""

    def __init__(self, name: str, device: str | DevicePlacer) -> None:
        self._shown = repr(name)
        self._placer = None if isinstance(device, str) else device
        self._named: str | None = None
        if isinstance(device, str) and device != "auto":
            if not re.fullmatch(r"[a-z]+(:\d+)?", device):
                raise ValueError(
                    f"device={device!r}: pass 'auto', 'cpu', 'cuda:0' or a DevicePlacer"
                )
            self._named = f"{GPU}:0" if device == GPU else device

    def through(self, source: Source, load: Callable[[str | None], T]) -> T:
        """Load on the first device that has the memory for it.

        Raises ModelLoadError where none has, or there is none such.
        """
        places = self._places(source)
        if not places:
            return load(None)
        from modelserve.placement import climb

        return climb(load, places, evict=relieve, name=self._shown)[1]

    def check(self, device: str | None) -> None:
        """Refuse a model that is not where it was wanted, as its kind cannot be moved."""
        if self._named is not None and (device or CPU) != self._named:
            raise ModelLoadError(
                f"{self._shown} cannot be put on {self._named}, as it is made for "
                f"{device or CPU}: let the function that makes it put it there"
            )

    def _places(self, source: Source) -> tuple[str, ...]:
        if self._named is not None:
            self._check_named(self._named, source)
            return (self._named,)
        if self._placer is not None:
            return self._placed(self._placer, source)
        if source.is_file and source.takes(GPU):
            from modelserve.placement import DevicePlacer

            places = DevicePlacer().order(_nbytes(source))
            if places and places != (CPU,):
                return places
        return ()

    def _check_named(self, named: str, source: Source) -> None:
        if named == CPU:
            return
        from modelserve.placement import devices

        there = [device.name for device in devices()]
        if named not in there:
            raise ModelLoadError(
                f"{self._shown} cannot be put on {named}: there are {', '.join(there)}"
            )
        if not source.takes(named):
            raise ModelLoadError(
                f"{self._shown} cannot be put on {named}: what reads its file runs on the CPU "
                "alone here"
            )

    def _placed(self, placer: DevicePlacer, source: Source) -> tuple[str, ...]:
        nbytes = _nbytes(source)
        places = tuple(place for place in placer.order(nbytes) if source.takes(place))
        if places:
            return places
        plan = placer.plan({self._shown: nbytes or 0})
        why = plan.refused.get(self._shown, "it runs on the CPU alone")
        raise ModelLoadError(f"{self._shown} found no device that may take it: it {why}")


def _nbytes(source: Source) -> int | None:
    file = source.file()
    return None if file is None else file[1]
