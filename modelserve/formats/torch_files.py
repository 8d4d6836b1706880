"""Files of ``torch.save`` and of TorchScript.

Weights are read by torch's own reader of weights alone, which runs no code; there is no other way
in for them. A TorchScript file is a program, of which torch says that it can be made to run
anything (https://docs.pytorch.org/docs/stable/generated/torch.jit.load.html).
"""

from __future__ import annotations

import pickle
import re
from io import BytesIO
from typing import Any

from modelserve.errors import ModelLoadError
from modelserve.formats._known import Ask, cannot, demand_trust, needs
from modelserve.formats._zip import open_zip

try:
    import torch
except ImportError as missing:
    raise needs("torch", "torch") from missing

from modelserve.formats._fill import fill


def load(data: bytes, ask: Ask) -> torch.nn.Module:
    """Make a module of a file's bytes, on the CPU."""
    if not data.startswith(b"PK"):
        remedy = "save its state_dict() with torch.save of torch 1.6 or later"
        raise ModelLoadError(cannot("torch", "it is no zip archive", remedy))
    names = open_zip(data).namelist()
    if any(name.split("/")[1:] == ["constants.pkl"] for name in names):
        return _program(data, ask)
    if ask.factory is None:
        raise ModelLoadError(
            "it holds weights alone: pass factory=, a function of no arguments that returns the "
            "torch module that they belong to"
        )
    try:
        state: Any = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))
        why = f"it asks for {name[1]}" if name else "it is broken"
        remedy = "save the state_dict() alone"
        raise ModelLoadError(cannot("torch's reader of weights", why, remedy)) from error
    if not issubclass(state.__class__, dict):
        why = f"it holds a {type(state).__name__}"
        raise ModelLoadError(cannot("torch", why, "save the state_dict() alone"))
    return fill(ask.factory, state)


def _program(data: bytes, ask: Ask) -> torch.nn.Module:
    demand_trust(ask, "a TorchScript program")
    if ask.factory is not None:
        raise ModelLoadError("a TorchScript program takes no factory=: leave it out")
    return torch.jit.load(BytesIO(data), map_location="cpu")
