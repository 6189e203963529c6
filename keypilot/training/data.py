"""Rendered screens as what the encoder's programs take, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from keypilot.reference.config import EncoderConfig
from keypilot.reference.image import letterbox, normalize
from keypilot.reference.regions import grid_box
from keypilot.training.screens import LAYOUTS, Screen, render

#: Crops are taken from a picture of so many times the screenshot's side: they come from the full screenshot later.
_DETAIL = 2


class Batch(NamedTuple):
    """Screens with what is known of them; R regions, S mask cells a side.

    images : float32 (N, 3, side, side), normalised.
    crops : float32 (N, R, 3, crop, crop), normalised; of the region, or of its cell of the grid where it is absent.
    masks : float32 (N, R, S, S), 0 or 1.
    present : bool (N, R).
    layouts : int64 (N), into `LAYOUTS`.
    captions, texts : N strings each: what the screen shows, and what is written on it.
    """

    images: torch.Tensor
    crops: torch.Tensor
    masks: torch.Tensor
    present: torch.Tensor
    layouts: torch.Tensor
    captions: list[str]
    texts: list[str]


class Screens(Dataset[Screen]):
    """`count` rendered screens, of the seeds from `first` on, in twice the encoder's resolution."""

    def __init__(self, config: EncoderConfig, first: int, count: int) -> None:
        self.side = _DETAIL * config.image_side
        self.first = first
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Screen:
        return render(self.first + index, self.side)


def batches(
    config: EncoderConfig, first: int, count: int, *, batch_size: int, crops: bool = True, workers: int = 0
) -> Iterator[Batch]:
    """The screens of seeds `first` to ``first + count``, in that order, `batch_size` at a time.

    Parameters
    ----------
    crops : False leaves the regions' crops out: `Batch.crops` is empty.
    workers : processes that render beside this one.
    """

    def collate(screens: list[Screen]) -> Batch:
        return _batch(config, screens, crops)

    yield from DataLoader(Screens(config, first, count), batch_size, num_workers=workers, collate_fn=collate)


def _batch(config: EncoderConfig, screens: list[Screen], crops: bool) -> Batch:
    side, cells = config.image_side, config.mask_side
    images = [np.asarray(Image.fromarray(s.pixels).resize((side, side), Image.Resampling.BILINEAR)) for s in screens]
    masks = np.stack([screen.masks for screen in screens])
    masks = masks.reshape(len(screens), masks.shape[1], cells, _DETAIL, cells, _DETAIL).mean((3, 5)) >= 0.5
    cut = [_crops(config, screen) for screen in screens] if crops else []
    return Batch(
        images=_normalized(config, np.stack(images)),
        crops=torch.stack([_normalized(config, found) for found in cut]) if cut else torch.empty(0),
        masks=torch.from_numpy(masks.astype(np.float32)),
        present=torch.from_numpy(np.stack([screen.present for screen in screens])),
        layouts=torch.tensor([LAYOUTS.index(screen.layout) for screen in screens]),
        captions=[screen.caption for screen in screens],
        texts=[screen.text for screen in screens],
    )


def _crops(config: EncoderConfig, screen: Screen) -> npt.NDArray[np.uint8]:
    """(R, crop, crop, 3)."""
    x0, y0, x1, y1 = screen.content
    found = []
    for cell, box, present in zip(config.grid, screen.boxes, screen.present, strict=True):
        if present:
            edges = [*np.floor(box[:2]).astype(int).tolist(), *np.ceil(box[2:]).astype(int).tolist()]
        else:
            left, top, right, bottom = grid_box(cell, x1 - x0, y1 - y0)
            edges = [x0 + left, y0 + top, x0 + right, y0 + bottom]
        found.append(letterbox(screen.pixels, edges, config.crop_side, config.image_pad))
    return np.stack(found)


def _normalized(config: EncoderConfig, pictures: npt.NDArray[np.uint8]) -> torch.Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W), in channels-last memory."""
    values = normalize(pictures, config.image_mean, config.image_std)
    return torch.from_numpy(values).permute(0, 3, 1, 2)
