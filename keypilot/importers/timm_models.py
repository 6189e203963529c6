"""timm's networks with weights from a file."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from keypilot.errors import UnsupportedError
from keypilot.importers.imported import ImageInput, Imported
from keypilot.importers.weights import load_state, read_checkpoint, weights_in
from keypilot.reference.timm_shim import import_timm


def load_timm(architecture: str, weights: str | os.PathLike[str], *, features: bool = False) -> Imported:
    """A timm network with the weights of a file.

    Parameters
    ----------
    architecture : a name of ``timm.list_models()``, with or without the tag of pretrained weights.
    weights : a state dict of timm's key names, or of those that timm itself translates.
    features : leave the classifier out: the output is the pooled features.

    Returns
    -------
    Imported : program ``image``: image (N, 3, H, W) -> logits (N, classes), or features (N, C). H and W are those of
        the network's pretrained weights; parallel branches are joined, as timm's ``reparameterize_model`` does.

    Raises
    ------
    UnsupportedError : timm has no network of that name.
    ArgumentError : the file is not a state dict, or not of this network; the message lists the tensors.
    OSError : the file cannot be read.
    """
    return _load(architecture, Path(weights), features=features, classes=None, settings={})


def timm_folder(folder: Path, config: Mapping[str, Any]) -> Imported:
    """A timm network from a folder as Hugging Face's hub has them: config.json with its ``architecture``."""
    weights = weights_in(folder)
    settings = config.get("pretrained_cfg") or {}
    imported = _load(
        str(config["architecture"]), weights, features=False, classes=config.get("num_classes"), settings=settings
    )
    imported.name = folder.absolute().name
    return imported


def _load(
    architecture: str, weights: Path, *, features: bool, classes: int | None, settings: Mapping[str, Any]
) -> Imported:
    timm = import_timm()
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=6)
        raise UnsupportedError(
            f"timm has no network {architecture!r}" + (f"; names like it: {', '.join(near)}" if near else "")
        )
    state: Mapping[str, torch.Tensor] = read_checkpoint(weights).state
    net = timm.create_model(architecture, pretrained=False)
    heads = _heads(net)
    if translate := _translation(net):
        state = translate(dict(state), net)
    if classes is None:
        classes = next((len(state[f"{head}.weight"]) for head in heads if f"{head}.weight" in state), None)
    left_out: list[str] = []
    if features or classes == 0:
        net.reset_classifier(0)
        left_out = [f"{head}.*" for head in heads]
    elif classes is not None and classes != net.num_classes:
        net.reset_classifier(classes)
    load_state(net, state, source=str(weights), network=f"timm's {architecture}", left_out=left_out)
    net = timm.utils.reparameterize_model(net.eval(), inplace=True)
    data = timm.data.resolve_model_data_config(net, pretrained_cfg={**net.pretrained_cfg, **settings})
    _, height, width = data["input_size"]
    imported = Imported(architecture)
    has_classes = not features and getattr(net, "num_classes", 0) > 0
    imported.add_image(
        ImageNet(net, "logits" if has_classes else "features"),
        ImageInput(height, width, tuple(data["mean"]), tuple(data["std"])),
    )
    return imported


class ImageNet(nn.Module):
    """image (N, 3, H, W) -> the network's output, under a name."""

    def __init__(self, net: nn.Module, output: str) -> None:
        super().__init__()
        self.net = net
        self.output = output

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {self.output: self.net(image)}


def _heads(net: Any) -> list[str]:
    names = net.pretrained_cfg.get("classifier") or ()
    return [names] if isinstance(names, str) else list(names)


def _translation(net: Any) -> Any:
    """timm's own translation of published key names, which lies in the architecture's module."""
    return getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
