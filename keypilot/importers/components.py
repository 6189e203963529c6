"""Weights into a `KeyPilotEncoder`: its own state dict, or published weights of one of its components."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from keypilot.errors import ArgumentError
from keypilot.importers.weights import State, below, listed, load_state, read_checkpoint, weights_in
from keypilot.reference.config import EncoderConfig
from keypilot.reference.encoder import KeyPilotEncoder
from keypilot.reference.tokenizer import tokenizer_metadata

#: Field of the configuration, or part without one -> the encoder's attribute.
ATTRIBUTES = {
    "backbone": "backbone",
    "neck": "neck",
    "regions": "regions",
    "global_image": "image",
    "roi": "roi",
    "text": "text",
    "user": "user",
    "fusion": "fusion",
}


class Published(NamedTuple):
    """How published weights of a component are read.

    translate : (state, component) -> the state under the component's names.
    kept : patterns of the component's tensors that published weights lack.
    left_out : patterns of translated tensors that the component has no use for.
    """

    translate: Callable[[State, nn.Module], dict[str, torch.Tensor]]
    kept: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def load_encoder_weights(encoder: KeyPilotEncoder, path: str | os.PathLike[str]) -> None:
    """Loads the whole encoder's state dict.

    Raises
    ------
    ArgumentError : the file is not a state dict, or not this encoder's; the message lists the tensors.
    OSError : the file cannot be read.
    """
    state = read_checkpoint(path).state
    load_state(encoder, state, source=str(path), network=f"a KeyPilotEncoder of {encoder.config.name!r}")


def checkpoint_config(path: str | os.PathLike[str]) -> EncoderConfig:
    """The configuration that a checkpoint of the encoder carries, as JSON under ``config``.

    Raises
    ------
    ArgumentError : there is none, or it is not one.
    OSError : the file cannot be read.
    """
    text = read_checkpoint(path).config
    if text is None:
        raise ArgumentError(
            f"{path}: expected a checkpoint with the encoder's configuration under 'config', got one without; name "
            "it: keypilot compile CONFIG --weights FILE"
        )
    try:
        return EncoderConfig.from_json(text)
    except ValueError as error:
        raise ArgumentError(f"{path}: config: {error}") from error


def load_component(encoder: KeyPilotEncoder, component: str, path: str | os.PathLike[str]) -> list[str]:
    """Loads one component's weights: in KeyPilot's own names, or as they are published.

    Parameters
    ----------
    component : a name of `ATTRIBUTES`.
    path : a state dict, or for texts and towers of pictures a Hugging Face folder.

    Returns
    -------
    list : what somebody should know of it, a sentence each.

    Raises
    ------
    ArgumentError : no such component, or the file is not its weights; the message lists the tensors.
    OSError : the file cannot be read.
    """
    if component not in ATTRIBUTES:
        raise ArgumentError(f"--weights: expected a component, one of {', '.join(ATTRIBUTES)}, got {component!r}")
    attribute = ATTRIBUTES[component]
    module = getattr(encoder, attribute)
    name = getattr(encoder.config, component, component)
    if module is None or not module.state_dict():
        raise ArgumentError(f"--weights: {component} of {encoder.config.name!r} is {name!r}, which has no weights")
    path = Path(path)
    state: State = read_checkpoint(weights_in(path) if path.is_dir() else path).state
    network = f"{component} {name!r}"
    own = module.state_dict().keys()
    mine = state if own == state.keys() else below(state, f"{attribute}.")
    if own & mine.keys():
        load_state(module, mine, source=str(path), network=network)
        return []
    published = _PUBLISHED.get((component, name))
    if published is None:
        load_state(module, state, source=str(path), network=network)
        return []
    if component == "text" and (path / "tokenizer.json").is_file():
        set_tokenizer(encoder, path / "tokenizer.json")
    translated = published.translate(state, module)
    extra = load_state(
        module, translated, source=str(path), network=network, kept=published.kept, left_out=published.left_out
    )
    notes = []
    if seeded := [key for key in own - translated.keys() if not key.endswith("num_batches_tracked")]:
        notes.append(
            f"{component}: {len(seeded)} tensors that {path.name} lacks keep their seeds: {listed(sorted(seeded))}"
        )
    if extra:
        notes.append(f"{component}: {len(extra)} tensors of {path.name} are not used: {listed(sorted(extra))}")
    return notes


def set_tokenizer(encoder: KeyPilotEncoder, path: Path) -> None:
    """Gives the encoder's texts the tokenizer that its weights were trained with.

    Raises
    ------
    UnsupportedError : the file is not a tokenizer.json that the C core runs.
    ArgumentError : it has more tokens than the text encoder.
    OSError : the file cannot be read.
    """
    count = len(tokenizer_metadata(path)["tokenizer.ggml.tokens"])
    if count > encoder.text.vocab_size:
        raise ArgumentError(
            f"{path}: expected at most {encoder.text.vocab_size} tokens, the rows of text "
            f"{encoder.config.text!r}, got {count}"
        )
    encoder.text.own_tokenizer = path


def _inside(tower: str, *prefixes: str) -> Callable[[State, nn.Module], dict[str, torch.Tensor]]:
    """Published weights lie under the first of the prefixes that occurs, the component's under `tower`."""

    def translate(state: State, module: nn.Module) -> dict[str, torch.Tensor]:
        prefix = next((prefix for prefix in prefixes if any(key.startswith(prefix) for key in state)), "")
        found = below(state, prefix) if prefix else state
        return {f"{tower}.{_current(key)}": value for key, value in found.items()}

    return translate


def _current(key: str) -> str:
    """LayerNorm's parameters were once called gamma and beta."""
    return re.sub(r"LayerNorm\.(gamma|beta)$", lambda m: f"LayerNorm.{'weight' if m[1] == 'gamma' else 'bias'}", key)


def _mobileclip_image(state: State, module: Any) -> dict[str, torch.Tensor]:
    """Apple's ``image_encoder.model.*`` by timm's own translation, or timm's names as they are."""
    from timm.models.fastvit import checkpoint_filter_fn

    published = {key: value for key, value in state.items() if not key.startswith("text_encoder.")}
    translated: Mapping[str, torch.Tensor] = checkpoint_filter_fn(published, module.tower)
    return {f"tower.{key}": value for key, value in translated.items()}


def _mobileclip_text(state: State, module: nn.Module) -> dict[str, torch.Tensor]:
    prefix = "text_encoder." if any(key.startswith("text_encoder.") for key in state) else ""
    return {f"text_encoder.{key}": value for key, value in below(state, prefix).items()}


def _yolo(state: State, module: nn.Module) -> dict[str, torch.Tensor]:
    """Ultralytics' ``model.N.*``; a state dict of its outermost class has ``model.`` once more."""
    return below(state, "model.") if any(key.startswith("model.model.") for key in state) else dict(state)


def _unchanged(state: State, module: nn.Module) -> dict[str, torch.Tensor]:
    return dict(state)


def _text(tower: str, prefix: str) -> Published:
    heads = ("pooler.*", "cls.*", "lm_head.*", "vocab_*", "classifier.*", "qa_outputs.*")
    extra = tuple(f"{tower}.{head}" for head in heads)
    return Published(_inside(tower, f"{prefix}."), ("projection.*",), (*extra, f"{tower}.*.layer.*"))


_TOWER = ("projection.*",)

#: (component, its name) -> how published weights become its own.
_PUBLISHED: dict[tuple[str, str], Published] = {
    ("global_image", "mobileclip_s0"): Published(_mobileclip_image, _TOWER, ("tower.logit_scale",)),
    ("global_image", "mobileclip_s1"): Published(_mobileclip_image, _TOWER, ("tower.logit_scale",)),
    ("global_image", "clip_vit_tiny"): Published(_inside("tower", "vision_model."), _TOWER),
    ("global_image", "siglip_small"): Published(_inside("tower", "vision_model."), _TOWER),
    # TinyViT's classifier, and a buffer that older files have.
    ("regions", "mobile_sam"): Published(
        _unchanged, (), ("image_encoder.norm_head.*", "image_encoder.head.*", "*.attention_bias_idxs")
    ),
    ("regions", "fast_sam_s"): Published(_yolo),
    ("regions", "fast_sam_x"): Published(_yolo),
    ("text", "mobileclip"): Published(_mobileclip_text, _TOWER),
    ("text", "roberta_tiny"): _text("roberta", "roberta"),
    ("text", "distilbert_tiny"): _text("distilbert", "distilbert"),
    ("text", "bert_tiny"): _text("bert", "bert"),
    ("text", "tinybert"): _text("bert", "bert"),
    ("text", "minilm_2"): _text("bert", "bert"),
    ("text", "minilm_6"): _text("bert", "bert"),
    ("backbone", "mobilevit_xxs"): Published(_unchanged, (), ("final_conv.*", "head.*")),
    ("backbone", "mobilevit_xs"): Published(_unchanged, (), ("final_conv.*", "head.*")),
    ("backbone", "mobilenetv3_small"): Published(_inside("net"), (), ("net.conv_head.*", "net.classifier.*")),
}
