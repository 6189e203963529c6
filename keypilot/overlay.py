"""The regions of a screen, drawn on its picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keypilot.reference.config import REGIONS

if TYPE_CHECKING:
    from PIL.Image import Image

    from keypilot.encoder import EncoderOutput

#: A colour for each region, RGB, told apart in every colour vision (Okabe and Ito 2008, "Color Universal Design").
_COLORS = ((0, 114, 178), (0, 158, 115), (213, 94, 0), (204, 121, 167))

#: A picture whose longer side is below this is drawn enlarged, so that labels are legible.
_MIN_SIDE = 480

_TINT = 0.35


def draw_regions(picture: npt.NDArray[Any], out: EncoderOutput, regions_side: int) -> Image:
    """Draws the masks as tints and the boxes as labelled frames; a box from the fixed grid is dashed.

    Parameters
    ----------
    picture : uint8 (H, W, 3). What was encoded.
    out : what came of it.
    regions_side : of the letterbox that the masks lie over, in pixels: `Encoder.regions_side`.

    Returns
    -------
    Image : RGB, W x H or a whole multiple of it.
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width = picture.shape[:2]
    tinted = picture.astype(np.float32)
    for mask, color in zip(out.masks, _COLORS, strict=True):
        inside = _mask_in_picture(mask, width, height, regions_side)
        tinted[inside] += _TINT * (np.asarray(color, np.float32) - tinted[inside])
    zoom = max(1, -(-_MIN_SIDE // max(width, height)))
    image = Image.fromarray(tinted.astype(np.uint8)).resize((width * zoom, height * zoom), Image.Resampling.NEAREST)

    draw = ImageDraw.Draw(image)
    line = max(2, max(image.size) // 400)
    font = ImageFont.load_default(size=max(12.0, max(image.size) / 55))
    taken: list[tuple[float, float, float, float]] = []
    for name, box, valid, color in zip(REGIONS, out.boxes, out.roi_valid, _COLORS, strict=True):
        x0, y0, x1, y1 = (int(edge) * zoom for edge in box)
        for segment in _frame((x0, y0, x1 - 1, y1 - 1), dash=0 if valid else 6 * line):
            draw.line(segment, fill=color, width=line)
        label = name.replace("_", " ") + ("" if valid else " (fixed grid)")
        left, top, right, bottom = draw.textbbox((0, 0), label, font=font)
        pad = line + 2
        size = (right - left + 2 * pad, bottom - top + 2 * pad)
        place = _free_place((x0, y0), size, image.size, taken)
        taken.append((*place, place[0] + size[0], place[1] + size[1]))
        draw.rectangle(taken[-1], fill=color)
        draw.text((place[0] + pad - left, place[1] + pad - top), label, font=font, fill=(255, 255, 255))
    return image


def _mask_in_picture(mask: npt.NDArray[np.bool_], width: int, height: int, regions_side: int) -> npt.NDArray[np.bool_]:
    """The mask of the letterbox, (S, S), looked up at each of the picture's pixels: (height, width)."""
    longer = max(width, height)
    side = mask.shape[0]

    def cells(size: int) -> npt.NDArray[np.int64]:
        fitted = max(1, (2 * size * regions_side + longer) // (2 * longer))
        offset = (regions_side - fitted) // 2
        centers = offset + (np.arange(size) + 0.5) * fitted / size
        found: npt.NDArray[np.int64] = np.minimum(centers * side // regions_side, side - 1).astype(np.int64)
        return found

    return mask[np.ix_(cells(height), cells(width))]


def _frame(box: tuple[int, int, int, int], dash: int) -> Iterator[tuple[int, int, int, int]]:
    """The four sides of a box as segments: whole, or dashes of this length with gaps as long."""
    x0, y0, x1, y1 = box
    if dash == 0:
        yield from ((x0, y0, x1, y0), (x0, y1, x1, y1), (x0, y0, x0, y1), (x1, y0, x1, y1))
        return
    for x in range(x0, x1 + 1, 2 * dash):
        for y in (y0, y1):
            yield x, y, min(x + dash, x1), y
    for y in range(y0, y1 + 1, 2 * dash):
        for x in (x0, x1):
            yield x, y, x, min(y + dash, y1)


def _free_place(
    corner: tuple[int, int],
    size: tuple[float, float],
    canvas: tuple[int, int],
    taken: list[tuple[float, float, float, float]],
) -> tuple[float, float]:
    """Where a label goes: inside the picture, at the corner, or below labels that are there already."""
    x = max(0.0, min(corner[0], canvas[0] - size[0]))
    y = max(0.0, min(corner[1], canvas[1] - size[1]))
    for left, top, right, bottom in sorted(taken, key=lambda other: other[1]):
        if x < right and left < x + size[0] and y < bottom and top < y + size[1]:
            y = bottom + 1
    if y + size[1] > canvas[1]:  # no room below: above the highest
        y = max(0.0, min((top for _, top, _, _ in taken), default=0.0) - size[1] - 1)
    return x, y
