"""Which formats there are, and what is asked of whoever reads one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from modelserve.errors import ModelLoadError


class Form(NamedTuple):
    """One format: the module of this folder that reads it, and who reads the bytes in the end.

    ``code`` says that a file can run anything when it is loaded, ``fragile`` that its reader
    believes what it reads, so that a broken file can end the process, and ``factory`` whether its
    weights go into a torch module.
    """

    module: str
    reader: str
    code: bool = False
    fragile: bool = False
    factory: bool = False


FORMS = {
    ".onnx": Form("onnx", "ONNX Runtime"),
    ".safetensors": Form("safetensors", "safetensors", factory=True),
    ".pt": Form("torch_files", "torch", factory=True),
    ".pth": Form("torch_files", "torch", factory=True),
    ".bin": Form("torch_files", "torch", factory=True),
    ".pt2": Form("torch_export", "torch.export", code=True),
    ".npz": Form("npz", "numpy"),
    ".skops": Form("skops", "skops"),
    ".ubj": Form("xgboost", "XGBoost", fragile=True),
    ".json": Form("xgboost", "XGBoost", fragile=True),
    ".txt": Form("lightgbm", "LightGBM", fragile=True),
    ".pkl": Form("pickles", "pickle", code=True),
    ".joblib": Form("pickles", "joblib", code=True),
}
"""The formats by the suffix of their files."""


class Ask(NamedTuple):
    """What is known of a file: what takes its weights, if it may run code, where it goes."""

    factory: Callable[[], Any] | None = None
    trusted: bool = False
    suffix: str = ""
    beside: Mapping[str, bytes] = MappingProxyType({})
    device: str | None = None
    threads: int | None = None


NOTHING = Ask()


def demand_trust(ask: Ask, what: str) -> None:
    """Refuse what can run code, unless the user allows it for these very bytes."""
    if not ask.trusted:
        raise ModelLoadError(
            f"{what} can run any code: export it to a format that cannot, such as .onnx or "
            ".safetensors, or pass allow_pickle=True and the whole sha256= of a file that you trust"
        )


def needs(package: str, extra: str) -> ModelLoadError:
    """Return the error of a format whose package is not installed."""
    return ModelLoadError(f"{package} is not installed: pip install 'modelserve[{extra}]'")


def told(error: BaseException) -> str:
    """Return what an error says, in a line."""
    text = re.sub(r"\x1b\[\d*m", "", str(error)).strip()
    line = text.partition("\n")[0].strip()
    return line[:300] or type(error).__name__


def cannot(reader: str, why: str, remedy: str = "copy or export it again") -> str:
    """Return what to say of bytes that a reader cannot make a model of."""
    return f"{remedy}, as {reader} cannot read it ({why})"


def guess(data: bytes) -> tuple[str, str] | tuple[str] | None:
    """Return the reason and the remedy where a file plainly is something else."""
    start = data[:200].lstrip().lower()
    if not data:
        return ("it is empty",)
    if start.startswith((b"<!doctype", b"<html")):
        return "it is a web page", "download the file itself"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS", "fetch what it points to with `git lfs pull`"
    return None
