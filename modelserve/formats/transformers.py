"""Folders of Hugging Face transformers: a configuration, safetensors, and maybe a tokenizer."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from modelserve.errors import ModelLoadError
from modelserve.formats._known import needs
from modelserve.formats.safetensors import check

try:
    import torch
    import transformers
except ImportError as missing:
    raise needs("transformers", "transformers") from missing

TOKENIZERS = ("tokenizer.json", "tokenizer_config.json")
SAFELY = {"local_files_only": True, "trust_remote_code": False}
ELSEWHERE = {"quantization_config", "adapter_config"}
"""What has transformers fetch code or weights that are not in the folder."""
_loading = threading.Lock()


def _arm() -> None:
    """Wait in a forked child for no load of its parent."""
    global _loading  # noqa: PLW0603 - there is one transformers in a process
    _loading = threading.Lock()


with contextlib.suppress(AttributeError):  # not every system forks
    os.register_at_fork(after_in_child=_arm)


class Pretrained(NamedTuple):
    """A model and the tokenizer that lies in its folder."""

    model: Any
    tokenizer: Any


def load_folder(folder: Path) -> Any:
    """Make a module of a folder that nobody else writes to, with its tokenizer if it has one.

    The class is the one that the configuration names, of transformers itself. It comes with the
    dtype of torch's default, on the CPU, in evaluation mode, without gradients.
    """
    kind = _kind(folder)
    _check_weights(folder)
    with _loading:  # transformers exchanges functions of torch meanwhile
        model, found = kind.from_pretrained(
            folder,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.get_default_dtype(),  # another would be every thread's meanwhile
            **SAFELY,
        )
    wrong = sorted(map(str, {*found["missing_keys"], *found["mismatched_keys"]}))
    if wrong:
        raise ModelLoadError(
            f"its weights are not those of a {kind.__name__}: {', '.join(wrong)[:300]} would be "
            "drawn at random: save it anew with model.save_pretrained(folder)"
        )
    model.eval().requires_grad_(requires_grad=False)
    if not any((folder / name).exists() for name in TOKENIZERS):
        return model
    return Pretrained(model, transformers.AutoTokenizer.from_pretrained(folder, **SAFELY))


def _check_weights(folder: Path) -> None:
    """Refuse weights that are broken or not in the folder. Raises ModelLoadError."""
    weights = {path.name: path for path in folder.glob("*.safetensors")}
    if not weights:
        raise ModelLoadError("it holds no .safetensors: save it with model.save_pretrained(folder)")
    for path in weights.values():
        check(path.read_bytes())
    for path in folder.glob("*.index.json"):
        named = set(json.loads(path.read_bytes())["weight_map"].values())
        if not named <= weights.keys():
            raise ModelLoadError(f"{path.name} names files that are not in it: copy it again")


def _kind(folder: Path) -> Any:
    """Return the class that a configuration names. Raises ModelLoadError."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        (name,) = config["architectures"]
        kind = getattr(transformers, name)
    except FileNotFoundError:
        raise ModelLoadError("it holds no config.json: pass the path of the file in it") from None
    except Exception as error:
        raise ModelLoadError(
            "its config.json does not name one class of transformers under 'architectures': save "
            "it anew with model.save_pretrained(folder)"
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise ModelLoadError(f"its config.json names {name[:80]}, which is no model: save it anew")
    strange = [key for key, value in _entries(config) if _leads_elsewhere(key, value)]
    if strange or (folder / "adapter_config.json").exists():
        raise ModelLoadError(
            f"it needs what is not in it ({', '.join(strange) or 'adapter_config.json'}): merge it "
            "into a plain model, or pass a function that loads it"
        )
    return kind


def _entries(config: Any) -> Iterator[tuple[str, Any]]:
    """Give all entries of a configuration and of those in it."""
    if isinstance(config, dict):
        for key, value in cast("dict[str, Any]", config).items():
            yield key, value
            yield from _entries(value)


def _leads_elsewhere(key: str, value: Any) -> bool:
    """Say whether an entry has code fetched: an implementation may be that of a repository."""
    return key in ELSEWHERE or ("implementation" in key and "/" in json.dumps(value))
