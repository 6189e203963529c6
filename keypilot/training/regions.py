"""The first stage: backbone, neck and SAM-Lite learn the masks of rendered screens."""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch
from torch import nn

from keypilot.errors import ArgumentError
from keypilot.reference.encoder import KeyPilotEncoder
from keypilot.reference.roi import SamLite
from keypilot.training.data import Batch, batches
from keypilot.training.loop import Losses, Schedule, train
from keypilot.training.losses import mask_loss
from keypilot.training.screens import REGIONS

#: Screens of an evaluation.
_EVALUATED = 512


class RegionModel(nn.Module):
    """The parts of an encoder that find regions, sharing its parameters: images (N, 3, side, side) to mask logits."""

    def __init__(self, encoder: KeyPilotEncoder) -> None:
        super().__init__()
        if not isinstance(encoder.regions, SamLite):
            raise ArgumentError(
                f"training regions: expected an encoder with regions 'sam_lite', got {encoder.config.regions!r}"
            )
        self.backbone = encoder.backbone
        self.neck = encoder.neck
        self.regions = encoder.regions

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.regions(self.neck(self.backbone(images)))
        return logits


def train_regions(
    encoder: KeyPilotEncoder,
    schedule: Schedule,
    folder: str | os.PathLike[str],
    *,
    minutes: float | None = None,
    workers: int = 1,
) -> bool:
    """Trains the encoder's regions in place; see `keypilot.training.loop.train` for what it gives and keeps.

    Parameters
    ----------
    workers : processes that render screens.
    """
    encoder.requires_grad_(False)
    model = RegionModel(encoder).requires_grad_(True)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def losses(batch: Batch) -> Losses:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(batch.images)
        return {"masks": mask_loss(logits.float(), batch.masks)}

    def data(first: int, count: int) -> Iterator[Batch]:
        return batches(encoder.config, first, count, batch_size=schedule.batch_size, crops=False, workers=workers)

    ended = train(model, losses, data, schedule, folder, minutes=minutes)
    encoder.eval()
    return ended


def evaluate_regions(encoder: KeyPilotEncoder, *, count: int = _EVALUATED, batch_size: int = 32) -> dict[str, float]:
    """What the encoder's masks are worth on rendered screens that are never trained on.

    Returns
    -------
    dict : for each region the mean intersection over union of its mask where it is present, and under
        ``"<region> absent"`` the share of screens without it whose mask is empty.
    """
    encoder.eval()
    model = RegionModel(encoder)
    overlaps, empty, present = [], [], []
    with torch.no_grad():
        for batch in batches(encoder.config, 0, count, batch_size=batch_size, crops=False):
            found, wanted = model(batch.images) > 0, batch.masks > 0
            union = (found | wanted).sum((2, 3)).clamp(min=1)
            overlaps.append((found & wanted).sum((2, 3)) / union)
            empty.append(~found.flatten(2).any(-1))
            present.append(batch.present)
    iou, absent, there = torch.cat(overlaps), torch.cat(empty).float(), torch.cat(present)
    result = {}
    for index, name in enumerate(REGIONS):
        result[name] = float(iou[there[:, index], index].mean())
        result[f"{name} absent"] = float(absent[~there[:, index], index].mean())
    return result
