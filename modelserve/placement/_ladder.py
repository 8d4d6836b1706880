"""What to do when a device is full: make room, try once more, go on to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from modelserve.errors import ModelLoadError, causes, is_out_of_memory

T = TypeVar("T")


def climb(
    load: Callable[[str], T],
    places: Iterable[str],
    *,
    evict: Callable[[str], bool] | None = None,
    name: str = "the model",
) -> tuple[str, T]:
    """Load on the first place that has the memory for it; return the place and what was loaded.

    ``places`` are devices in the order in which they are tried, the CPU last. Where ``load(place)``
    runs out of memory, ``evict(place)`` makes room there and says whether it could; if so the load
    is tried once more. Then comes the next place. Whatever else goes wrong is raised at once.

    Raises ModelLoadError, with what each place said, where none has enough.

    >>> def load(place):
    ...     if place != "cpu":
    ...         raise MemoryError(f"{place} has 3 bytes left")
    ...     return "a model"
    >>> climb(load, ["cuda:0", "cuda:1", "cpu"])
    ('cpu', 'a model')
    """
    said: list[str] = []
    last: BaseException | None = None
    for place in places:
        for attempt in (1, 2):
            try:
                return place, load(place)
            except Exception as error:
                chain = list(causes(error))
                if not any(map(is_out_of_memory, chain)):
                    raise
                for each in chain:
                    each.__traceback__ = None  # its frames hold what was loaded so far
                last = error
            if attempt == 1 and (evict is None or not evict(place)):
                break
        said.append(f"{place}: {last}")
    raise ModelLoadError(
        f"{name} found no device with enough memory ({'; '.join(said) or 'none was given'}): "
        "evict or shrink others, or compress it"
    ) from last
