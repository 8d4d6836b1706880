"""Programs of ``torch.export``, which hold pickles: torch reads some of them without any bounds.

``torch/export/pt2_archive/_package.py`` of torch 2.13 calls ``pickle.loads`` for constants and
``torch.load(weights_only=False)`` for weights of certain kinds, whichever the file says.
"""

from __future__ import annotations

import importlib
from io import BytesIO
from typing import Any

from modelserve.formats._known import Ask, demand_trust, needs
from modelserve.formats._zip import open_zip

try:
    import torch
except ImportError as missing:
    raise needs("torch", "torch") from missing


def load(data: bytes, ask: Ask) -> torch.nn.Module:
    """Make a module of a file's bytes."""
    demand_trust(ask, "a torch.export program")
    open_zip(data)
    program = torch.export.load(BytesIO(data))
    if ask.device is not None:  # the program names its devices, beside its weights
        passes: Any = importlib.import_module("torch.export.passes")
        program = passes.move_to_device_pass(program, ask.device)
    return program.module()
