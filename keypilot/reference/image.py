"""What csrc/image does, on Pillow and NumPy: crop, letterbox, normalise. docs/numerics.md, "Pictures"."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from keypilot.errors import ArgumentError
from keypilot.picture import load_rgb


class Letterbox(NamedTuple):
    """Where a picture lies in its letterbox: scaled to width x height, at (x, y)."""

    x: int
    y: int
    width: int
    height: int


def as_rgb(picture: str | os.PathLike[str] | Image.Image | npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Any picture that the encoder takes as uint8 (H, W, 3): see `keypilot.picture.load_rgb` for what is no array.

    Arrays are uint8 or uint16, of which the upper 8 bits are kept, (H, W) or (H, W, 1, 3 or 4); alpha is dropped.
    """
    if not isinstance(picture, np.ndarray):
        return load_rgb(picture)
    pixels = picture[..., np.newaxis] if picture.ndim == 2 else picture
    native = pixels.dtype.newbyteorder("=")
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or native not in (np.uint8, np.uint16):
        raise ArgumentError(
            "image: expected uint8 or uint16, (height, width) or (height, width, 1, 3 or 4), "
            f"got {picture.dtype} {picture.shape}"
        )
    if native == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]


def letterbox_fit(width: int, height: int, side: int) -> Letterbox:
    """The longer side becomes `side`, the other is rounded half up, but at least 1; centred, towards the origin."""
    longer = max(width, height)
    scaled_width = max(1, (2 * width * side + longer) // (2 * longer))
    scaled_height = max(1, (2 * height * side + longer) // (2 * longer))
    return Letterbox((side - scaled_width) // 2, (side - scaled_height) // 2, scaled_width, scaled_height)


def letterbox(rgb: npt.NDArray[np.uint8], box: Sequence[int], side: int, pad: Sequence[int]) -> npt.NDArray[np.uint8]:
    """The rectangle `box` (x0, y0, x1, y1) of a picture, scaled into a square with margins of colour `pad`.

    Returns uint8 (side, side, 3).
    """
    x0, y0, x1, y1 = box
    fit = letterbox_fit(x1 - x0, y1 - y0, side)
    crop = Image.fromarray(np.ascontiguousarray(rgb[y0:y1, x0:x1]))
    square = np.empty((side, side, 3), np.uint8)
    square[:] = pad
    scaled = np.asarray(crop.resize((fit.width, fit.height), Image.Resampling.BILINEAR))
    square[fit.y : fit.y + fit.height, fit.x : fit.x + fit.width] = scaled
    return square


def normalize(pixels: npt.NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> npt.NDArray[np.float32]:
    """``(v / 255 - mean) / std`` of (..., 3), in float64 from float32 parameters, rounded once to float32."""
    mean64, std64 = (np.asarray(values, np.float32).astype(np.float64) for values in (mean, std))
    return ((pixels / 255.0 - mean64) / std64).astype(np.float32)
