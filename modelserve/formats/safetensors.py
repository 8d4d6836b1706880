"""Weights in safetensors files: arrays by name, or a torch module that holds them.

The format is that of https://github.com/huggingface/safetensors#format: the length of a header in
eight bytes, the header in JSON, and the numbers.
"""

from __future__ import annotations

import json
from math import prod
from typing import Any

from modelserve.errors import ModelLoadError
from modelserve.formats._known import Ask, cannot, needs

try:
    from safetensors.numpy import load as arrays
except ImportError as missing:
    raise needs("safetensors", "safetensors") from missing

HEADER_LIMIT = 16 << 20
"""Bytes that a header has at most; a hundred thousand tensors fit."""
LENGTH = 8
MOST_AXES = 64
"""Axes that a tensor has at most, in numpy and in torch; numbers are multiplied under the GIL."""


def load(data: bytes, ask: Ask) -> Any:
    """Make a dict of arrays of a file's bytes, or a torch module that ``factory`` gives."""
    check(data)
    if ask.factory is None:
        return arrays(data)
    from safetensors.torch import load as tensors

    from modelserve.formats._fill import fill

    return fill(ask.factory, tensors(data))


def check(data: bytes) -> None:
    """Refuse a header that promises what the file does not have. Raises ModelLoadError."""
    length = int.from_bytes(data[:LENGTH], "little")
    start = LENGTH + length
    if len(data) < LENGTH or length > HEADER_LIMIT or start > len(data):
        raise _broken(f"its header has {length:,} bytes, and the file {len(data):,}")
    header = json.loads(data[LENGTH:start])
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        if not 0 <= first <= last <= len(data) - start:
            raise _broken(f"the tensor {name[:80]!r} lies outside of the file")
        shape = entry["shape"]
        if len(shape) > MOST_AXES or not all(0 <= axis < 1 << 63 for axis in shape):
            raise _broken(f"the tensor {name[:80]!r} is of no shape that there is")
        if prod(shape) > 8 * (last - first):  # no number has less than a bit
            raise _broken(f"the tensor {name[:80]!r} is larger than its bytes")


def _broken(why: str) -> ModelLoadError:
    return ModelLoadError(cannot("safetensors", why))
