"""Torch modules and the weights that go into them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch

from modelserve.errors import ModelLoadError


def fill(factory: Callable[[], Any], state: Mapping[str, Any]) -> torch.nn.Module:
    """Return the module that a factory makes, with these weights. Raises ModelLoadError.

    Names and shapes have to be those of the module; weights that the module ties together may be
    there under one of their names. A module on the meta device, which has no memory yet, takes the
    tensors themselves.
    """
    module = factory()
    if not isinstance(module, torch.nn.Module):
        raise ModelLoadError(
            f"factory= returned a {type(module).__name__}: return the torch module that the "
            "weights belong to"
        )
    own = module.state_dict(keep_vars=True)
    there = {id(own[name]) for name in own if name in state}
    missing = [name for name in own if name not in state and id(own[name]) not in there]
    strange = [str(name) for name in state if name not in own]
    if missing or strange:
        lacks = f"it lacks {', '.join(missing[:5])}" * bool(missing)
        has = f"it has {', '.join(strange[:5])} besides" * bool(strange)
        raise _unlike(" and ".join(filter(None, (lacks, has))))
    meta = any(getattr(value, "is_meta", False) for value in own.values())
    if meta:  # the tensors themselves go in, under every name
        twins = {id(own[name]): state[name] for name in own if name in state}
        state = {name: state.get(name, twins[id(own[name])]) for name in own}
    try:
        module.load_state_dict(state, strict=False, assign=meta)
    except Exception as error:
        raise _unlike(" ".join(str(error).split())[:300]) from error
    _check_memory(module)
    return module


def _check_memory(module: torch.nn.Module) -> None:
    """Refuse a module of which a part is still on the meta device. Raises ModelLoadError."""
    parts = itertools.chain(module.named_parameters(), module.named_buffers())
    empty = [name for name, tensor in parts if tensor.is_meta]
    if empty:
        raise ModelLoadError(
            "let factory= make the module on the CPU, as the file does not have what it left on "
            f"the meta device ({', '.join(empty[:5])})"
        )


def _unlike(why: str) -> ModelLoadError:
    return ModelLoadError(
        "let factory= make the module that the file was saved from, as this one does not take its "
        f"weights ({why})"
    )
