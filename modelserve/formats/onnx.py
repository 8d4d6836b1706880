"""ONNX files and sessions, by ONNX Runtime."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from modelserve.errors import BadInput, ModelLoadError
from modelserve.formats._known import NOTHING, Ask, cannot, needs, told

try:
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
except ImportError as missing:
    raise needs("ONNX Runtime", "onnx") from missing

DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint64)": np.uint64,
    "tensor(uint32)": np.uint32,
    "tensor(uint16)": np.uint16,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}
"""The dtype of each ONNX type that numpy has a like of; values of others pass as they are."""


PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""What runs models on each kind of device."""


def load(data: bytes, ask: Ask = NOTHING) -> onnxruntime.InferenceSession:
    """Make a session of a file's bytes, on the device asked for. Raises ModelLoadError.

    Its threads sleep between calls: by default they would spin, on cores that a service shares
    with its models. External data is handed over in memory, so that nothing is read by name.
    """
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # nothing is guessed
    if ask.threads is not None:
        options.intra_op_num_threads = ask.threads
    if ask.beside:
        _hand_over(options, ask.beside)
    try:
        return onnxruntime.InferenceSession(
            data, options, providers=_providers(ask.device), enable_fallback=0
        )
    except Exception as error:
        raise ModelLoadError(cannot("ONNX Runtime", told(error))) from error


def takes(device: str) -> bool:
    """Say whether ONNX Runtime has a provider for a device."""
    return PROVIDERS.get(device.partition(":")[0]) in onnxruntime.get_available_providers()


def _providers(device: str | None) -> list[Any]:
    """Return the providers of a device, the CPU's for what runs there alone."""
    kind, _, index = (device or "cpu").partition(":")
    if kind == "cpu":
        return [PROVIDERS["cpu"]]
    return [(PROVIDERS[kind], {"device_id": int(index or 0)}), PROVIDERS["cpu"]]


def device(model: onnxruntime.InferenceSession) -> str:
    """Return the device that a session's first provider runs on."""
    first = model.get_providers()[0]
    kind = next((kind for kind, name in PROVIDERS.items() if name == first), "cpu")
    index = model.get_provider_options()[first].get("device_id", "0")
    return kind if kind == "cpu" else f"{kind}:{index}"


def _hand_over(options: onnxruntime.SessionOptions, files: Mapping[str, bytes]) -> None:
    """Give the contents of files by the names that the model has for them."""
    give = getattr(options, "add_external_initializers_from_files_in_memory", None)
    if give is None:
        raise ModelLoadError(
            f"ONNX Runtime {onnxruntime.__version__} takes no external data from memory: install a "
            "newer one, or export the model as one file"
        )
    give(list(files), list(files.values()), [len(data) for data in files.values()])


def knows(model: Any) -> bool:
    """Say whether a model is a session."""
    return isinstance(model, onnxruntime.InferenceSession)


def caller(model: onnxruntime.InferenceSession) -> Callable[[Any], Any]:
    """Return how to call a session.

    It takes an array, or a dict of arrays by input name where the model has several, and gives an
    array, or a dict by output name where it has several. Raises BadInput for what it cannot take,
    with the names and the axes of what it can.
    """
    inputs = {i.name: DTYPES.get(i.type) for i in model.get_inputs()}
    outputs = [o.name for o in model.get_outputs()]

    def call(x: Any) -> Any:
        feed = _feed(x, inputs)
        try:
            results = model.run(None, feed)
        except InvalidArgument as error:
            wanted = ", ".join(map(_shown, model.get_inputs()))
            raise BadInput(f"the model takes {wanted}: {told(error)}") from error
        return results[0] if len(outputs) == 1 else dict(zip(outputs, results, strict=True))

    return call


def _shown(wanted: Any) -> str:
    """Tell an input as ``'x' tensor(float)[n, 2]``, with a ``?`` for an axis of no name."""
    axes = ("?" if axis is None else str(axis) for axis in wanted.shape)
    return f"{wanted.name!r} {wanted.type}[{', '.join(axes)}]"


def _feed(x: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    if not issubclass(x.__class__, Mapping):
        if len(inputs) != 1:
            raise BadInput(f"the model has the inputs {list(inputs)}: pass a dict of arrays")
        x = dict.fromkeys(inputs, x)
    elif set(x) != set(inputs):
        raise BadInput(f"the model has the inputs {list(inputs)}, and not {list(x)}")
    return {name: _cast(name, value, inputs[name]) for name, value in x.items()}


def _cast(name: str, value: Any, dtype: Any) -> Any:
    if dtype is None:
        return value
    array = np.asarray(value)
    if array.dtype == dtype:
        return array
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise BadInput(
            f"the input {name!r} wants {np.dtype(dtype)}, and {array.dtype} does not "
            "turn into it without loss of kind: cast it first"
        )
    return array.astype(dtype)


def after_fork(model: onnxruntime.InferenceSession) -> Literal["reload"]:
    """A session's threads stay with the parent, and its calls would wait for them.

    So would its end, or crash: the child keeps it for ever.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(model))
    return "reload"
