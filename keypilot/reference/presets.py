"""Encoders with seeded weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from keypilot.reference.config import EncoderConfig, resolve_config
from keypilot.reference.encoder import KeyPilotEncoder
from keypilot.reference.roi import SamLite
from keypilot.reference.text import text_inputs


def build(name: str, *, seed: int = 0) -> KeyPilotEncoder:
    """The encoder of a preset, or of what else `resolve_config` takes, with seeded, untrained weights, in eval mode.

    BatchNorm's running statistics are those of drawn screens, so that activations have the scales of a trained
    network's, and SamLite's mask logits are shifted so that each region covers about a third of such a screen.

    Raises
    ------
    ArgumentError : as `resolve_config`.
    """
    return build_config(resolve_config(name), seed=seed)


def build_config(config: EncoderConfig, *, seed: int = 0) -> KeyPilotEncoder:
    """As `build`, for any configuration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = KeyPilotEncoder(config)
        _settle(encoder, seed)
    return encoder.eval().requires_grad_(False)


def drawn_screens(count: int, side: int, *, seed: int) -> npt.NDArray[np.uint8]:
    """Pictures with the look of phone screens: bars, bubbles, lines of text, a keyboard. (count, side, side, 3)."""
    rng = np.random.default_rng(seed)
    screens = np.empty((count, side, side, 3), np.uint8)
    for screen in screens:
        dark = rng.random() < 0.5
        paper, ink = (
            (rng.integers(0, 60, 3), rng.integers(180, 256, 3))
            if dark
            else (rng.integers(200, 256, 3), rng.integers(0, 90, 3))
        )
        accent = rng.integers(0, 256, 3)
        screen[:] = paper
        left, right = (int(x * side) for x in (rng.uniform(0.0, 0.27), rng.uniform(0.73, 1.0)))
        keyboard = int(rng.uniform(0.55, 0.7) * side)
        screen[: side // 12, left:right] = accent
        for top in range(side // 8, keyboard - side // 8, side // 9):
            start = left + int(rng.uniform(0.0, 0.3) * (right - left))
            end = min(right, start + int(rng.uniform(0.3, 0.7) * (right - left)))
            screen[top : top + side // 12, start:end] = accent if rng.random() < 0.4 else (paper + ink) // 2
            strokes = rng.random((side // 12 - 4, max(1, end - start - 6))) < 0.3
            screen[top + 2 : top + 2 + strokes.shape[0], start + 3 : start + 3 + strokes.shape[1]][strokes] = ink
        row, column = max(1, (side - keyboard) // 4), max(1, (right - left) // 10)
        for top in range(keyboard, side - row + 1, row):
            for start in range(left, right - column + 1, column):
                screen[top + 1 : top + row - 1, start + 1 : start + column - 1] = (paper + accent) // 2
                screen[top + row // 3 : top + row // 2, start + column // 3 : start + column // 2] = ink
    return screens


def _settle(encoder: KeyPilotEncoder, seed: int) -> None:
    """Sets BatchNorm's statistics, and SamLite's bias, from drawn screens and random texts.

    In float64: PyTorch's float32 sums depend on the number of threads, and an untrained network amplifies that.
    """
    config = encoder.config
    encoder.double().eval()
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average: one pass is enough
        norm.train()
    with torch.no_grad():
        images = _pictures(8, config.image_side, config.image_mean, config.image_std, seed)
        features = encoder.neck(encoder.backbone(images))
        if isinstance(encoder.regions, SamLite):
            encoder.regions(features)
        elif encoder.regions_picture is not None and encoder.regions is not None:
            encoder.regions(_pictures(2, *encoder.regions_picture, seed))
        if encoder.image_picture is not None:
            encoder.image(_pictures(8, *encoder.image_picture, seed))
        if any(isinstance(module, nn.BatchNorm2d) for module in encoder.text.modules()):
            ids = np.random.default_rng(seed).integers(encoder.text.vocab_size, size=(8, config.max_tokens))
            encoder.text(**text_inputs(encoder.text, torch.from_numpy(ids)))
        encoder.eval()
        if isinstance(encoder.regions, SamLite):
            logits = encoder.regions(encoder.neck(encoder.backbone(images)))
            encoder.regions.bias.copy_(-logits.transpose(0, 1).flatten(1).quantile(0.67, dim=1).view(1, -1, 1))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    encoder.float()


def _pictures(count: int, side: int, mean: Sequence[float], std: Sequence[float], seed: int) -> torch.Tensor:
    """Drawn screens, normalised: float64 (count, 3, side, side)."""
    pictures = torch.from_numpy(drawn_screens(count, side, seed=seed)).permute(0, 3, 1, 2)
    normalised = (pictures / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    return normalised.double()
