"""Folders of Hugging Face transformers."""

import errno
import hashlib
import json
import os
import re
import sys
import threading

import numpy as np
import pytest

import modelserve as ms
from modelserve import formats
from modelserve.formats import _folders
from tests.loader.crowds import LIMIT, start
from tests.support.processes import in_child

torch = pytest.importorskip("torch", reason="the extra transformers is not installed")
transformers = pytest.importorskip("transformers", reason="the extra transformers is not installed")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "very"]
SIZES = {
    "vocab_size": len(WORDS),
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
}
IDS = np.array([[2, 7, 5, 3], [2, 6, 3, 0]])


@pytest.fixture
def bert(tmp_path):
    """Return a classifier of texts and its folder."""
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES)).eval()
    model.save_pretrained(tmp_path / "bert")
    return model, tmp_path / "bert"


def logits(model, ids=IDS):
    with torch.inference_mode():
        return model(torch.from_numpy(ids)).logits.numpy()


def with_tokenizer(folder):
    words = {word: number for number, word in enumerate(WORDS)}
    transformers.BertTokenizer(vocab=words).save_pretrained(folder)


def classify(pretrained, texts):
    batch = pretrained.tokenizer(texts, padding=True, return_tensors="pt")
    return pretrained.model(**batch).logits.numpy()


def change(folder, **entries):
    """Write other entries into a configuration."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def refused(folder, message, **options):
    with pytest.raises(ms.ModelLoadError, match=message) as caught:
        ms.ModelLoader(folder, mode="eager", **options)
    assert str(caught.value).startswith(f"'{folder}'")
    assert "modelserve-" not in str(caught.value)


def test_a_folder_answers_as_the_model_that_was_saved(bert):
    model, folder = bert
    loader = ms.ModelLoader(folder)

    np.testing.assert_array_equal(loader(IDS)["logits"], logits(model))
    assert loader.name == "bert"
    assert not loader.get().training
    assert not any(weight.requires_grad for weight in loader.get().parameters())


def test_its_tokenizer_comes_along(bert):
    model, folder = bert
    with_tokenizer(folder)
    loader = ms.ModelLoader(folder, predict=classify)

    np.testing.assert_allclose(
        loader(["very good"]), logits(model, np.array([[2, 7, 5, 3]])), rtol=1e-6
    )
    with pytest.raises(ms.ModelLoadError, match="a Pretrained can neither predict nor be called"):
        ms.ModelLoader(folder, mode="eager")


def test_a_folder_is_pinned_by_all_of_its_files(bert, tmp_path):
    _, folder = bert
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in _folders.names(folder)
    ]
    whole = hashlib.sha256("".join(lines).encode()).hexdigest()
    artefact = formats.read(folder, sha256=whole)

    assert artefact.version == whole[:16]
    assert artefact.nbytes == sum(path.stat().st_size for path in folder.iterdir())
    assert formats.read(folder, whole[:16]) is None
    assert formats.read(folder, promised=whole).version == whole[:16]
    refused(folder, "and sha256= pins 000", sha256="0" * 64)
    with pytest.raises(ms.ModelLoadError, match="and its manifest says 000"):
        formats.read(folder, promised="0" * 64)


def test_a_version_may_be_a_folder(bert, tmp_path):
    model, folder = bert
    (tmp_path / "ranker").mkdir()
    folder.rename(tmp_path / "ranker" / "3")
    loader = ms.ModelLoader(tmp_path / "ranker")

    np.testing.assert_array_equal(loader(IDS)["logits"], logits(model))
    assert loader.version == "3"


def test_a_model_in_half_precision_leaves_the_default_of_torch_alone(bert):
    model, folder = bert
    model.half().save_pretrained(folder)
    loaded = ms.ModelLoader(folder).get()

    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    assert torch.get_default_dtype() is torch.float32


def test_several_are_loaded_at_once(bert):
    model, folder = bert
    ready = threading.Barrier(4, timeout=LIMIT)

    def load():
        ready.wait()
        return ms.ModelLoader(folder)(IDS)["logits"]

    for answer in [start(load) for _ in range(4)]:
        np.testing.assert_array_equal(answer.result(LIMIT), logits(model))
    assert torch.nn.init.normal_.__module__ == "torch.nn.init"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_does_not_wait_for_a_load_of_its_parent():
    from modelserve.formats import transformers as format_transformers

    with format_transformers._loading:
        free = in_child(lambda: format_transformers._loading.acquire(blocking=False))

    assert free == repr(True)  # noqa: FBT003 - what the child printed


@pytest.mark.parametrize(
    ("name", "message"),
    [("config.json", "it holds no config.json"), ("model.safetensors", "it holds no .safetensors")],
)
def test_what_is_missing_is_named(bert, name, message):
    (bert[1] / name).unlink()

    refused(bert[1], re.escape(message))


def test_weights_in_a_pickle_are_not_read(bert):
    model, folder = bert
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")

    refused(folder, r"it holds no \.safetensors")


def test_weights_that_would_be_drawn_at_random_are_refused(bert):
    _, folder = bert
    change(folder, num_hidden_layers=2)
    refused(folder, "its weights are not those of a BertForSequenceClassification: .*layer.1")
    change(folder, num_hidden_layers=1, hidden_size=4)
    refused(folder, "could not be loaded")


def test_a_configuration_that_names_no_model_is_refused(bert):
    _, folder = bert
    for names in (["os"], ["Absent"], [], None, ["BertModel", "BertModel"], [3]):
        change(folder, architectures=names)
        refused(folder, "does not name one class of transformers under 'architectures'|no model")
    change(folder, architectures=["BertConfig"])
    refused(folder, "names BertConfig, which is no model")
    (folder / "config.json").write_text("[")
    refused(folder, "does not name one class of transformers")


@pytest.mark.parametrize(
    "entries",
    [
        {"attn_implementation": "someone/kernels"},
        {"text_config": {"_attn_implementation": {"": "someone/kernels@main"}}},
        {"quantization_config": {"quant_method": "gptq"}},
    ],
)
def test_code_from_elsewhere_is_refused(bert, entries):
    change(bert[1], **entries)

    refused(bert[1], "it needs what is not in it")


def test_an_adapter_whose_model_lies_elsewhere_is_refused(bert):
    (bert[1] / "adapter_config.json").write_text("{}")

    refused(bert[1], r"it needs what is not in it \(adapter_config\.json\): merge it")


def test_code_beside_the_weights_is_not_run(bert):
    model, folder = bert
    (folder / "evil.py").write_text("raise SystemExit('executed')")
    change(folder, auto_map={"AutoModelForSequenceClassification": "evil.Evil"})

    np.testing.assert_array_equal(ms.ModelLoader(folder)(IDS)["logits"], logits(model))


def test_an_index_that_leads_out_of_the_folder_is_refused(bert):
    model, folder = bert
    model.save_pretrained(folder, max_shard_size="1KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    np.testing.assert_array_equal(ms.ModelLoader(folder)(IDS)["logits"], logits(model))
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"][next(iter(index["weight_map"]))] = "../../other.safetensors"
    path.write_text(json.dumps(index))

    refused(folder, r"model\.safetensors\.index\.json names files that are not in it")


def test_torn_weights_are_refused(bert):
    path = bert[1] / "model.safetensors"
    data = path.read_bytes()
    for size in (0, 4, 100, len(data) - 1):
        path.write_bytes(data[:size])
        refused(bert[1], "could not be loaded")


def test_a_disk_without_room_is_told_and_tried_again(bert, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    refused(bert[1], r"it could not be copied \(.*No space left on device\): make room")


def test_a_missing_package_is_named_with_its_extra(bert, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "modelserve.formats.transformers", raising=False)

    refused(bert[1], re.escape("pip install 'modelserve[transformers]'"))
