"""Hugging Face folders of text encoders and of CLIP, and `keypilot.TextEncoder` beside PyTorch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from model_files import write_model
from sentences import sentences
from test_cli import failure
from test_model import linear_program

import keypilot
from keypilot.cli import main
from keypilot.errors import ArgumentError, UnsupportedError
from keypilot.importers.components import load_component
from keypilot.importers.huggingface import load_folder
from keypilot.reference.config import EncoderConfig
from keypilot.reference.encoder import KeyPilotEncoder
from keypilot.reference.timm_shim import import_timm
from keypilot.reference.tokenizer import TOKENIZERS

import_timm()  # transformers imports torchvision as well
import transformers  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

Floats = npt.NDArray[np.float32]

_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}

#: model_type -> its class, its sizes and the tokenizer that it usually has.
_NETWORKS: dict[str, tuple[str, dict[str, Any], str]] = {
    "bert": ("Bert", _SIZES, "wordpiece"),
    "roberta": ("Roberta", _SIZES, "bpe"),
    "distilbert": ("DistilBert", _DISTIL, "wordpiece"),
    "albert": ("Albert", {**_SIZES, "embedding_size": 16}, "wordpiece"),
    "electra": ("Electra", {**_SIZES, "embedding_size": 16}, "wordpiece"),
    "camembert": ("Camembert", _SIZES, "bpe"),
    "deberta-v2": ("DebertaV2", _SIZES, "wordpiece"),
}


def folder_of(path: Path, kind: str) -> tuple[Path, Any]:
    """A folder with a small network of seeded weights, and the network."""
    name, sizes, tokenizer = _NETWORKS[kind]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(vocab_size=6912, max_position_embeddings=64, **sizes)
    model = getattr(transformers, f"{name}Model")(config).eval()
    model.save_pretrained(path)
    shutil.copy(TOKENIZERS[tokenizer], path / "tokenizer.json")
    return path, model


def torch_embeddings(model: Any, folder: Path, texts: list[str], limit: int, *, pooling: str = "mean") -> Floats:
    """By Hugging Face's tokenizer and network, text by text; the positions are the network's own."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    rows = []
    with torch.no_grad():
        for text in texts:
            hidden = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0]
            rows.append((hidden[0] if pooling == "cls" else hidden.mean(0)).numpy())
    return np.stack(rows)


def assert_close(got: Floats, wanted: Floats) -> None:
    assert got.shape == wanted.shape
    assert got.dtype == np.float32
    assert np.abs(got - wanted).max() <= 1e-4 * np.ptp(wanted)


TEXTS = ["see you at", "", "Wie wäre es morgen um 8?", "on my way", "the quick brown fox jumps over the lazy dog " * 9]


@pytest.mark.parametrize(
    "kind", ["bert", *(pytest.param(kind, marks=pytest.mark.slow) for kind in _NETWORKS if kind != "bert")]
)
def test_a_folder_encodes_as_pytorch_does(tmp_path: Path, kind: str) -> None:
    folder, model = folder_of(tmp_path / "net", kind)
    load_folder(folder).compile(tmp_path / "m.gguf")
    encoder = keypilot.TextEncoder.load(tmp_path / "m.gguf")
    assert_close(encoder.encode(TEXTS), torch_embeddings(model, folder, TEXTS, encoder.max_tokens))
    assert encoder.dimension == 32


def test_pooling_and_truncation_are_the_folders(tmp_path: Path) -> None:
    folder, model = folder_of(tmp_path / "net", "bert")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}'
    )
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    modules = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling")]
    entries = [{"name": n, "path": p, "type": f"sentence_transformers.models.{t}"} for n, p, t in modules]
    (folder / "modules.json").write_text(json.dumps(entries))
    imported = load_folder(folder)
    assert imported.metadata["keypilot.tokenizer.max_tokens"] == 16
    assert imported.notes == []
    module = imported.programs["text"].module
    ids = torch.randint(5, 6912, (2, 9))
    with torch.no_grad():
        got = module(ids, torch.arange(9).expand(2, -1), torch.ones_like(ids))["text_embedding"]
        torch.testing.assert_close(got, model(ids).last_hidden_state[:, 0])

    entries.append({"name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(
        UnsupportedError, match=r"modules\.json: expected Transformer, Pooling and Normalize, got Dense"
    ):
        load_folder(folder)


def test_pytorch_model_bin_is_read_as_safetensors_is(tmp_path: Path) -> None:
    folder, model = folder_of(tmp_path / "net", "bert")
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    state = load_folder(folder).programs["text"].module.state_dict()
    assert torch.equal(state["model.embeddings.word_embeddings.weight"], model.embeddings.word_embeddings.weight)


# ---- What cannot be used says why ----


def test_folders_that_cannot_be_used_say_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = folder_of(tmp_path / "net", "bert")
    config = json.loads((folder / "config.json").read_text())
    capsys.readouterr()  # transformers' progress

    def refused(**changes: Any) -> str:
        (folder / "config.json").write_text(json.dumps(config | changes))
        return failure(capsys, "compile", folder, "--out", tmp_path / "m.gguf")

    assert "model_type: expected one that transformers has, got 'martian'" in refused(model_type="martian")
    assert "model_type: expected a text encoder (albert, bert" in refused(model_type="gpt2")
    message = refused(num_hidden_layers=3)
    assert "missing: encoder.layer.2." in message
    message = refused(intermediate_size=128)
    assert "of another shape: encoder.layer.0.intermediate.dense" in message
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer | {"model": {"type": "Unigram", "vocab": {}}}))
    assert "tokenizer.json" in failure(capsys, "compile", folder, "--out", tmp_path / "m.gguf")
    (folder / "tokenizer.json").unlink()
    assert "expected a tokenizer.json, got none" in failure(capsys, "compile", folder, "--out", tmp_path / "m.gguf")
    (folder / "model.safetensors").unlink()
    assert "expected weights in model.safetensors" in failure(capsys, "compile", folder, "--out", tmp_path / "m.gguf")


def test_models_without_texts_are_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", {"linear": linear_program()})
    with pytest.raises(UnsupportedError, match="a program 'text', got linear"):
        keypilot.TextEncoder.load(path)


# ---- CLIP ----


@pytest.mark.slow
def test_clip_gives_both_towers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {**_SIZES, "hidden_size": 32}
    text = {**sizes, "vocab_size": 6912, "max_position_embeddings": 24, "eos_token_id": 6911, "bos_token_id": 6910}
    config = transformers.CLIPConfig(
        text_config=text, vision_config={**sizes, "image_size": 32, "patch_size": 8}, projection_dim=16
    )
    model = transformers.CLIPModel(config).eval()
    folder = tmp_path / "clip"
    model.save_pretrained(folder)
    shutil.copy(TOKENIZERS["clip"], folder / "tokenizer.json")
    load_folder(folder).compile(tmp_path / "m.gguf")
    encoder = keypilot.TextEncoder.load(tmp_path / "m.gguf")
    texts = ["a photo of a cat", "two dogs", "the quick brown fox jumps over the lazy dog " * 9]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(24)
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        rows = [model.get_text_features(torch.tensor([tokenizer.encode(text).ids])).pooler_output[0] for text in texts]
        wanted = torch.nn.functional.normalize(torch.stack(rows), dim=1).numpy()
        pictures = torch.nn.functional.normalize(model.get_image_features(image).pooler_output, dim=1).numpy()
    assert_close(encoder.encode(texts), wanted)
    assert_close(encoder.model.run("image", image=image.numpy())["image_embedding"], pictures)


@pytest.mark.slow
def test_siglip_and_vits_give_their_image_programs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vision = {**_SIZES, "image_size": 32, "patch_size": 8}
    siglip = transformers.SiglipModel(transformers.SiglipConfig(text_config=_SIZES, vision_config=vision)).eval()
    vit = transformers.ViTForImageClassification(transformers.ViTConfig(**vision, num_labels=5)).eval()
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        pooled = siglip.get_image_features(image).pooler_output
        cases = (
            ("siglip", siglip, "image_embedding", torch.nn.functional.normalize(pooled, dim=1)),
            ("vit", vit, "logits", vit(image).logits),
        )
    for name, model, output, wanted in cases:
        model.save_pretrained(tmp_path / name)
        load_folder(tmp_path / name).compile(tmp_path / "m.gguf")
        got = keypilot.Model.load(tmp_path / "m.gguf").run("image", image=image.numpy())[output]
        assert_close(got, wanted.numpy())


# ---- MiniLM with its own weights ----


@pytest.fixture(scope="module")
def minilm_file(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("minilm") / "minilm.gguf"
    assert main(["compile", str(minilm), "--out", str(path)]) == 0
    return path


def test_minilm_is_pytorchs(minilm: Path, minilm_file: Path) -> None:
    encoder = keypilot.TextEncoder.load(minilm_file)
    assert (encoder.dimension, encoder.max_tokens) == (384, 256)
    texts = [*sentences(12), *TEXTS, "naïve 漢字 \u00ad 🙂", "word " * 400]
    model = transformers.AutoModel.from_pretrained(minilm, dtype=torch.float32).eval()
    wanted = torch_embeddings(model, minilm, texts, 256)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    got = encoder.encode(texts)
    assert_close(got, wanted)
    assert (got * wanted).sum(1).min() > 0.999999

    tokenizer = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    for text in texts:
        assert encoder.model.tokenize(text).tolist() == tokenizer.encode(text).ids

    np.testing.assert_array_equal(encoder.encode(texts[3]), encoder.encode([texts[3]])[0])
    np.testing.assert_allclose(encoder.encode(texts, batch_size=1), got, rtol=0, atol=1e-5)
    assert encoder.encode([]).shape == (0, 384)
    for wrong, words in (({"texts": ["a", 3]}, r"texts\[1\]"), ({"texts": ["a"], "batch_size": 0}, "batch_size")):
        with pytest.raises(ArgumentError, match=words):
            encoder.encode(**wrong)


def ranks(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Ranks from 0; equal values have their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    means: npt.NDArray[np.float64] = np.cumsum(counts) - (counts + 1) / 2
    return means[inverse]


@pytest.mark.slow
def test_int8_minilm_ranks_pairs_of_sentences_as_float32_does(minilm: Path, minilm_file: Path, tmp_path: Path) -> None:
    assert main(["compile", str(minilm), "--out", str(tmp_path / "int8.gguf"), "--precision", "int8"]) == 0
    int8 = keypilot.TextEncoder.load(tmp_path / "int8.gguf")
    texts = sentences(600)
    wanted, got = keypilot.TextEncoder.load(minilm_file).encode(texts), int8.encode(texts)
    first, second = np.triu_indices(len(texts), 1)
    chosen = np.random.default_rng(0).choice(len(first), 2000, replace=False)
    first, second = first[chosen], second[chosen]
    similarities = [(x[first] * x[second]).sum(1) for x in (wanted, got)]
    assert np.corrcoef(*map(ranks, similarities))[0, 1] >= 0.995

    alone = np.stack([int8.encode(text) for text in texts[:40]])
    assert alone.tobytes() == got[:40].tobytes()  # neither the batch nor the place in it matters


def test_minilm_cut_to_two_layers_is_a_component(minilm: Path) -> None:
    encoder: Any = KeyPilotEncoder(EncoderConfig(text="minilm_2")).eval()
    notes = load_component(encoder, "text", minilm)
    assert any("projection" in note and "keep their seeds" in note for note in notes)
    assert any("bert.encoder.layer.2" in note and "not used" in note for note in notes)
    assert encoder.text.tokenizer_file == minilm / "tokenizer.json"
    whole = transformers.AutoModel.from_pretrained(minilm, dtype=torch.float32)
    state = whole.state_dict()
    for key, value in encoder.text.bert.state_dict().items():
        assert torch.equal(value, state[key]), key
