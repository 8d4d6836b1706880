"""Torch modules, as they come from a user's function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch


def caller(model: Any) -> Callable[[Any], Any] | None:
    """Return how to call a module, or None for anything else.

    It runs in evaluation and inference mode. Arrays go in as tensors on the module's device and
    come out as arrays; tensors come out as tensors.
    """
    if not isinstance(model, torch.nn.Module):
        return None
    model.eval()
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device

    def call(x: Any) -> Any:
        with torch.inference_mode():
            if isinstance(x, np.ndarray):
                return _array(model(torch.from_numpy(np.ascontiguousarray(x)).to(device)))
            return model(x)

    return call


def _array(y: Any) -> Any:
    if isinstance(y, torch.Tensor):
        return y.cpu().numpy()
    if isinstance(y, dict):
        return {key: _array(value) for key, value in y.items()}
    if isinstance(y, tuple):
        return type(y)(*map(_array, y)) if hasattr(y, "_fields") else tuple(map(_array, y))
    return y


def after_fork(model: torch.nn.Module) -> Literal["keep", "refuse"]:
    """A module on a GPU cannot be used in a child of the process that put it there."""
    on_gpu = any(parameter.device.type == "cuda" for parameter in model.parameters())
    return "refuse" if on_gpu else "keep"
