"""What a model weighs: what its tensors tell, else by how much the process grew."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from modelserve.predictor import Primitive, walk

Weight: TypeAlias = "int | Mapping[str, int]"
Spaces = dict[str, int]

EVERYWHERE = "all"
"""The one space of a budget that is one number."""
CPU = "cpu"


SCALARS = (bool, int, float, complex, str, bytes, np.generic, type(None))


class Unknown(Exception):
    """A model does not tell what it weighs."""


def spaces(weight: Weight, budget: Mapping[str, int]) -> Spaces:
    """Bring a weight into the memory spaces of a budget. Raises ValueError where it is unclear."""
    if isinstance(weight, Mapping):
        if EVERYWHERE in budget:
            return {EVERYWHERE: sum(weight.values())}
        return dict(weight)
    if len(budget) == 1:
        return dict.fromkeys(budget, weight)
    if CPU in budget:
        return {CPU: weight}
    raise ValueError(
        f"a model weighs {weight:,} bytes, of which of {', '.join(budget)} is not said: "
        "let weigh= and size= return a mapping by memory space"
    )


def on_disk(part: Primitive[Any, Any]) -> tuple[str, int | None]:
    """Return the format and the bytes of the files that the loaders of a tree were made of.

    The bytes are None where no loader was made of a file, or one is not there.
    """
    kinds, total = list[str](), 0
    for source in _sources(part):
        path = Path(source)
        try:
            files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
            total += sum(file.stat().st_size for file in files)
        except OSError:
            return path.suffix, None
        kinds.append(path.suffix)
    return ("+".join(kinds), total) if kinds else ("", None)


def _sources(part: Primitive[Any, Any]) -> Iterator[str | os.PathLike[str]]:
    for node in walk(part):
        for source in node.part._spec.parts:  # noqa: SLF001 - its own kind
            if isinstance(source, str | os.PathLike):
                yield cast("str | os.PathLike[str]", source)


def of_tensors(part: Primitive[Any, Any]) -> Spaces | None:
    """Add up the arrays and tensors that the loaders of a tree hold, each storage once.

    None where there is no loader, or one holds anything else.
    """
    found: dict[tuple[str, int], int] = {}
    loaders = 0
    for node in walk(part):
        get = cast("Callable[[], Any] | None", getattr(node.part, "get", None))
        if get is not None:
            loaders += 1
            try:
                _add(get(), found)
            except Unknown:
                return None
    total: Spaces = {}
    for (space, _), nbytes in found.items():
        total[space] = total.get(space, 0) + nbytes
    return total if loaders else None


def _add(model: Any, found: dict[tuple[str, int], int]) -> None:
    kind: type[Any] = model.__class__
    torch: Any = sys.modules.get("torch")
    if issubclass(kind, np.ndarray):
        base = model.base
        if issubclass(type(base), np.ndarray):
            _add(base, found)
        else:
            found[CPU, id(model)] = model.nbytes
    elif issubclass(kind, SCALARS):
        found[CPU, id(model)] = sys.getsizeof(model)
    elif issubclass(kind, Mapping | list | tuple):
        for value in model.values() if issubclass(kind, Mapping) else model:
            _add(value, found)
    elif issubclass(kind, getattr(torch, "Tensor", ())):
        storage = model.untyped_storage()
        found[str(model.device), storage.data_ptr()] = storage.nbytes()
    elif issubclass(kind, getattr(getattr(torch, "nn", None), "Module", ())):
        for tensor in (*model.parameters(), *model.buffers()):
            _add(tensor, found)
    else:
        raise Unknown
