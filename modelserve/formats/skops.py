"""Estimators of scikit-learn in files of skops, which builds only what it is told to trust."""

from __future__ import annotations

from typing import Any

from modelserve.errors import ModelLoadError
from modelserve.formats._known import Ask, needs
from modelserve.formats._zip import open_zip

try:
    from skops import io
except ImportError as missing:
    raise needs("skops", "sklearn") from missing


def load(data: bytes, ask: Ask) -> Any:
    """Make an estimator of a file's bytes."""
    open_zip(data)
    strange = io.get_untrusted_types(data=data)
    if strange and not ask.trusted:
        raise ModelLoadError(
            f"skops does not trust its types {', '.join(strange)[:300]}: export it as .onnx, "
            "or pass allow_pickle=True and the whole sha256= of a file that you trust"
        )
    return io.loads(data, trusted=strange)
