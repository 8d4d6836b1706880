"""Torch modules, as they come from a user's function."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from modelserve.formats._budget import BUDGET


def knows(model: Any) -> bool:
    """Say whether a model is a module."""
    return isinstance(model, torch.nn.Module)


def caller(model: torch.nn.Module) -> Callable[[Any], Any]:
    """Return how to call a module.

    It runs in evaluation and inference mode. Arrays go in as tensors on the module's device and
    come out as arrays; tensors come out as tensors.
    """
    with contextlib.suppress(NotImplementedError):  # an exported program has no modes
        model.eval()
    device = next((tensor.device for tensor in _tensors(model)), torch.device("cpu"))

    def call(x: Any) -> Any:
        with torch.inference_mode():
            if issubclass(x.__class__, np.ndarray):
                x = np.require(x, requirements=["C", "W"])  # all that torch can share
                return _array(model(torch.from_numpy(x).to(device)))
            return model(x)

    return call


def budgeted(call: Callable[[Any], Any], threads: int) -> Callable[[Any], Any]:
    """Return a call that torch runs on so many threads of the CPU."""
    return partial(BUDGET.run, threads, call)


def _tensors(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    return itertools.chain(model.parameters(), model.buffers())


def _array(y: Any) -> Any:
    if isinstance(y, torch.Tensor):
        return y.numpy(force=True)
    kind = y.__class__
    if issubclass(kind, dict):
        return {key: _array(value) for key, value in y.items()}
    if issubclass(kind, list | tuple):
        values = map(_array, y)
        return y.__class__(*values) if hasattr(y, "_fields") else y.__class__(values)
    return y


def device(model: torch.nn.Module) -> str:
    """Return the device of its tensors, the first's if they are on several."""
    return next((str(tensor.device) for tensor in _tensors(model)), "cpu")


def put(model: torch.nn.Module, device: str) -> torch.nn.Module:
    """Move a module, whose tensors stay its own."""
    return model.to(device)


def after_fork(model: torch.nn.Module) -> Literal["keep", "refuse"]:
    """A module on a GPU cannot be used in a child of the process that put it there."""
    on_cpu = all(tensor.device.type == "cpu" for tensor in _tensors(model))
    return "keep" if on_cpu else "refuse"
