"""Hugging Face folders: config.json, weights, and for texts tokenizer.json; those of `sentence-transformers` too."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from keypilot.errors import ArgumentError, UnsupportedError
from keypilot.importers.imported import ImageInput, Imported
from keypilot.importers.timm_models import timm_folder
from keypilot.importers.weights import counted, listed
from keypilot.reference.config import IMAGENET_MEAN, IMAGENET_STD
from keypilot.reference.timm_shim import import_timm
from keypilot.reference.tokenizer import tokenizer_metadata

#: Text encoders whose attention goes both ways.
TEXT_TYPES = (
    "albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "roberta", "xlm-roberta",
)  # fmt: skip

#: Those whose positions start behind the padding id.
_OFFSET_TYPES = ("camembert", "roberta", "xlm-roberta")

#: A text tower and an image tower.
_PAIR_TYPES = ("clip", "siglip")

_WEIGHT_FILES = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip

PARTS = ("text", "image")
POOLINGS = ("mean", "cls")

#: Where neither the folder nor the tokenizer says otherwise.
_MOST_TOKENS = 512


def load_folder(folder: str | os.PathLike[str], *, part: str | None = None, pooling: str | None = None) -> Imported:
    """A network from a folder in Hugging Face's form.

    Parameters
    ----------
    folder : with ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``; nothing is downloaded, and no
        code in it is run.
    part : ``"text"`` or ``"image"`` of CLIP and SigLIP; None: all that can be converted.
    pooling : ``"mean"`` over the tokens, or ``"cls"``, the first one, of a text encoder. None: what
        ``1_Pooling/config.json`` says, else the mean.

    Returns
    -------
    Imported : programs ``text`` (input_ids, position_ids, attention_mask (N, T) -> text_embedding) and ``image``
        (image (N, 3, H, W) -> image_embedding, or logits of a classifier). Embeddings of CLIP and SigLIP are
        normalised, and a text encoder's where ``modules.json`` has a Normalize.

    Raises
    ------
    ArgumentError : a file is missing or is not what it should be, or weights do not fit the configuration.
    UnsupportedError : a kind of network, pooling or tokenizer that is not known.
    """
    folder = Path(folder)
    config = _json(folder / "config.json", "a Hugging Face folder's config.json")
    if "architecture" in config and "model_type" not in config:
        return timm_folder(folder, config)
    if not any((folder / name).is_file() for name in _WEIGHT_FILES):
        raise ArgumentError(f"{folder}: expected weights in {' or '.join(_WEIGHT_FILES)}, got none")
    kind = config.get("model_type")
    imported = Imported(folder.absolute().name)
    if kind in _PAIR_TYPES:
        _add_pair(imported, folder, kind, part)
    elif part is not None:
        raise ArgumentError(f"--part: is for {' and '.join(_PAIR_TYPES)}, got a folder of {kind!r}")
    elif kind in TEXT_TYPES:
        _add_text(imported, folder, kind, pooling)
    else:
        _add_image(imported, folder, config)
    return imported


class TextEmbedding(nn.Module):
    """A text encoder, pooled: (N, T) ids, positions and mask -> text_embedding (N, hidden)."""

    def __init__(self, model: nn.Module, pooling: str, *, normalize: bool) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling
        self.normalize = normalize
        self.has_types = "token_type_ids" in inspect.signature(model.forward).parameters

    def forward(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        present = attention_mask != 0
        types = {"token_type_ids": torch.zeros_like(input_ids)} if self.has_types else {}
        hidden = self.model(
            input_ids, attention_mask=present[:, None, None, :], position_ids=position_ids, **types
        ).last_hidden_state
        if self.pooling == "cls":
            embedding = hidden[:, 0]
        else:
            weights = present.to(hidden.dtype).unsqueeze(2)
            embedding = (hidden * weights).sum(1) / weights.sum(1)
        return {"text_embedding": nn.functional.normalize(embedding, dim=1) if self.normalize else embedding}


class ClipEmbeddings(nn.Module):
    """CLIP's tables of tokens and positions, without `transformers`' check of T, which would fix its bound."""

    def __init__(self, embeddings: Any) -> None:
        super().__init__()
        self.token_embedding: nn.Module = embeddings.token_embedding
        self.position_embedding: nn.Module = embeddings.position_embedding

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self.token_embedding(input_ids) + self.position_embedding(position_ids)
        return embedded


class ClipText(nn.Module):
    """CLIP's text tower and projection. Attention looks back only, so that padding behind changes nothing."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.text_model: Any = model.text_model
        self.text_model.embeddings = ClipEmbeddings(self.text_model.embeddings)
        self.text_projection: nn.Module = model.text_projection

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        pooled = self.text_model(input_ids, position_ids=position_ids).pooler_output
        return {"text_embedding": nn.functional.normalize(self.text_projection(pooled), dim=1)}


class PairImage(nn.Module):
    """CLIP's or SigLIP's image tower, and CLIP's projection."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision_model: nn.Module = model.vision_model
        self.visual_projection: nn.Module = getattr(model, "visual_projection", nn.Identity())

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        pooled = self.visual_projection(self.vision_model(image).pooler_output)
        return {"image_embedding": nn.functional.normalize(pooled, dim=1)}


class ImageNetwork(nn.Module):
    """Any network of pictures: its logits, else its pooled output, else its last hidden state."""

    def __init__(self, model: nn.Module, *, classifies: bool) -> None:
        super().__init__()
        self.model = model
        self.classifies = classifies

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        out = self.model(pixel_values=image)
        if self.classifies:
            return {"logits": out.logits}
        pooled = getattr(out, "pooler_output", None)
        return {"image_embedding": out.last_hidden_state if pooled is None else pooled.flatten(1)}


def _add_text(imported: Imported, folder: Path, kind: str, pooling: str | None) -> None:
    modules = _sentence_modules(folder)
    tokenizer = folder_tokenizer(folder)
    model: Any = _pretrained(imported, folder, "AutoModel", unused=("pooler.",))
    if hasattr(model, "pooler"):
        model.pooler = None
    config = model.config
    offset = config.pad_token_id + 1 if kind in _OFFSET_TYPES else 0
    positions = config.max_position_embeddings - offset
    tokenizer |= {
        "keypilot.tokenizer.max_tokens": _max_tokens(folder, positions),
        "keypilot.tokenizer.position_offset": offset,
    }
    _check_vocabulary(folder, tokenizer, config.vocab_size)
    if pooling is None:
        pooling = _folder_pooling(folder, modules)
    if pooling is None:
        pooling = "mean"
        imported.notes.append("the folder names no pooling: the embedding is the mean over the tokens (--pooling)")
    if pooling not in POOLINGS:
        raise UnsupportedError(f"{folder}: pooling: expected {' or '.join(POOLINGS)}, got {pooling!r}")
    module = TextEmbedding(model, pooling, normalize="Normalize" in modules)
    imported.add_text(module, ("input_ids", "position_ids", "attention_mask"), tokenizer)


def _add_pair(imported: Imported, folder: Path, kind: str, part: str | None) -> None:
    if part not in (None, *PARTS):
        raise ArgumentError(f"--part: expected {' or '.join(PARTS)}, got {part!r}")
    if kind == "siglip" and part == "text":
        raise UnsupportedError(
            f"{folder}: SigLIP's text tower is read at the last of its 64 padded tokens, which come from a tokenizer "
            "of another type than BPE and WordPiece; its image tower converts"
        )
    tokenizer = folder_tokenizer(folder) if kind == "clip" and part != "image" else None
    model: Any = _pretrained(imported, folder, "AutoModel")
    if tokenizer is not None:
        config = model.config.text_config
        tokenizer |= {
            "keypilot.tokenizer.max_tokens": _max_tokens(folder, config.max_position_embeddings),
            "keypilot.tokenizer.position_offset": 0,
        }
        _check_vocabulary(folder, tokenizer, config.vocab_size)
        imported.add_text(ClipText(model), ("input_ids", "position_ids"), tokenizer)
    if part != "text":
        imported.add_image(PairImage(model), _image_input(folder, model.config.vision_config))
    if kind == "siglip" and part is None:
        imported.notes.append("the image tower alone: SigLIP's tokenizer is of another type")


def _add_image(imported: Imported, folder: Path, config: Mapping[str, Any]) -> None:
    import_timm()  # transformers imports torchvision as well
    from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, MODEL_MAPPING, AutoConfig

    try:
        known = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError) as error:
        raise UnsupportedError(
            f"{folder}/config.json: model_type: expected one that transformers has, got {config.get('model_type')!r}"
        ) from error
    classifies = any(name.endswith("ForImageClassification") for name in config.get("architectures") or ())
    mapping = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING if classifies else MODEL_MAPPING
    network = mapping.get(type(known), None)
    if network is None or getattr(network, "main_input_name", None) != "pixel_values":
        raise UnsupportedError(
            f"{folder}/config.json: model_type: expected a text encoder ({', '.join(TEXT_TYPES)}), "
            f"{', '.join(_PAIR_TYPES)} or a network of pictures, got {config.get('model_type')!r}"
        )
    model = _pretrained(imported, folder, "AutoModelForImageClassification" if classifies else "AutoModel")
    imported.add_image(ImageNetwork(model, classifies=classifies), _image_input(folder, model.config))


def _pretrained(imported: Imported, folder: Path, loader: str, unused: tuple[str, ...] = ()) -> nn.Module:
    """`transformers`' network with the folder's weights. Only what starts with `unused` may be missing."""
    import_timm()  # transformers imports torchvision as well
    import transformers
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, found = getattr(transformers, loader).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, weights_only=True, output_loading_info=True,
            ignore_mismatched_sizes=True, dtype=torch.float32,
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"{folder}: transformers cannot load it: {str(error).splitlines()[0]}") from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    missing = sorted(key for key in found["missing_keys"] if not key.startswith(unused or ("\0",)))
    wrong = sorted(str(key[0]) if isinstance(key, tuple) else str(key) for key in found["mismatched_keys"])
    extra = sorted(found["unexpected_keys"])
    if missing or wrong:
        differences = counted({"missing": missing, "of another shape": wrong, "unexpected": extra})
        raise ArgumentError(f"{folder}: not the weights of {type(model).__name__} as config.json has it; {differences}")
    if extra:
        imported.notes.append(f"{len(extra)} tensors of the file are not used: {listed(extra)}")
    network: nn.Module = model.eval().requires_grad_(False)
    return network


def folder_tokenizer(folder: Path) -> dict[str, Any]:
    """The model file's keys of a folder's tokenizer.json, but those of the text encoder."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ArgumentError(
            f"{folder}: expected a tokenizer.json, got none; transformers writes one: "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    return tokenizer_metadata(path)


def _check_vocabulary(folder: Path, tokenizer: Mapping[str, Any], rows: int) -> None:
    count = len(tokenizer["tokenizer.ggml.tokens"])
    if count > rows:
        raise ArgumentError(
            f"{folder}: tokenizer.json has {count} tokens, and the network's table of embeddings {rows} rows"
        )


def _max_tokens(folder: Path, positions: int) -> int:
    """What `sentence-transformers` truncates to, else what the tokenizer's settings say."""
    found = [positions, _MOST_TOKENS]
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        if (folder / name).is_file():
            value = _json(folder / name, "settings").get(key)
            if isinstance(value, int) and value > 0:
                found.append(value)
                break
    return min(found)


def _sentence_modules(folder: Path) -> dict[str, Path]:
    """The kinds of modules in modules.json, and their folders; empty where there is none."""
    if not (folder / "modules.json").is_file():
        return {}
    entries = _json(folder / "modules.json", "a list of modules", list)
    modules = {entry["type"].rpartition(".")[2]: folder / entry["path"] for entry in entries}
    if unknown := modules.keys() - {"Transformer", "Pooling", "Normalize"}:
        raise UnsupportedError(
            f"{folder}/modules.json: expected Transformer, Pooling and Normalize, got {', '.join(sorted(unknown))}"
        )
    return modules


def _folder_pooling(folder: Path, modules: Mapping[str, Path]) -> str | None:
    path = modules.get("Pooling", folder / "1_Pooling") / "config.json"
    if not path.is_file():
        return None
    settings = _json(path, "settings of a pooling")
    short = {"cls_token": "cls", "mean_tokens": "mean"}
    modes = [
        key.removeprefix("pooling_mode_") for key, on in settings.items() if key.startswith("pooling_mode_") and on
    ]
    return "+".join(short.get(mode, mode) for mode in modes) or settings.get("pooling_mode")


def _image_input(folder: Path, config: Any) -> ImageInput:
    """The picture's sides from the network's configuration or the preprocessor's, and its normalisation."""
    path = folder / "preprocessor_config.json"
    settings = _json(path, "a preprocessor's settings") if path.is_file() else {}
    sides = None
    for size in (getattr(config, "image_size", None), settings.get("crop_size"), settings.get("size")):
        sides = sides or _sides(size)
    if sides is None:
        raise ArgumentError(
            f"{folder}: expected the picture's size as image_size in config.json, or as crop_size or size in "
            "preprocessor_config.json"
        )
    mean, std = settings.get("image_mean", IMAGENET_MEAN), settings.get("image_std", IMAGENET_STD)
    if not settings.get("do_normalize", True):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return ImageInput(*sides, tuple(mean), tuple(std))


def _sides(size: Any) -> tuple[int, int] | None:
    if isinstance(size, Mapping):
        size = [size["height"], size["width"]] if "height" in size else size.get("shortest_edge")
    if isinstance(size, int):
        size = [size, size]
    return (int(size[0]), int(size[1])) if isinstance(size, (list, tuple)) and len(size) == 2 else None


def _json(path: Path, what: str, kind: type = dict) -> Any:
    if not path.is_file():
        raise ArgumentError(
            f"{path.parent}: expected {what}, got {'no such file' if path.parent.is_dir() else 'no such folder'}"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArgumentError(f"{path}: expected {what}, got what is not JSON: {error}") from error
    if not isinstance(content, kind):
        raise ArgumentError(f"{path}: expected {what}, a JSON {kind.__name__}, got a {type(content).__name__}")
    return content
