"""What a model weighs: what its tensors tell, else by how much the process grew."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
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
    """Return the format and the bytes of the files that the loaders of a tree read.

    The bytes are None where no loader reads a file, or one is not there.
    """
    files = [file for node in walk(part) if (file := node.part.file()) is not None]
    kind = "+".join(suffix for suffix, _ in files)
    sizes = [nbytes for _, nbytes in files if nbytes is not None]
    return kind, sum(sizes) if files and len(sizes) == len(files) else None


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
