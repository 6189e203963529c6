"""What csrc/encoder/regions.c does, in NumPy: masks to boxes and back. docs/numerics.md, "Masks, boxes, crops".

A mask (S, S) lies over the letterboxed picture: each of its pixels covers `scale` x `scale` pixels of the letterbox.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from keypilot.reference.image import Letterbox, letterbox_fit

Mask = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]


def find_regions(
    masks: npt.NDArray[np.bool_] | None,
    grid: Sequence[Sequence[int]],
    *,
    image_side: int,
    mask_side: int,
    width: int,
    height: int,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Each region's cleaned mask and box.

    Parameters
    ----------
    masks : bool (R, S, S), where the logits are positive; None where the regions are the grid's cells.
    grid : (R, 4), each region's cell in thousandths of the picture's sides; used where a mask is empty.
    image_side : the letterbox's side in pixels, a multiple of `mask_side`, S.
    width, height : the picture's.

    Returns
    -------
    masks : bool (R, S, S).
    boxes : int32 (R, 4), x0, y0, x1, y1 in the picture's pixels, x1 and y1 exclusive.
    valid : bool (R,), False where a mask was empty.
    """
    fit = letterbox_fit(width, height, image_side)
    scale = image_side // mask_side
    found, boxes, valid = [], [], []
    for region, cell in enumerate(grid):
        mask = np.zeros((mask_side, mask_side), np.bool_)
        if masks is not None:
            mask = largest_component(masks[region] & covers_picture(mask_side, scale, fit))
        if mask.any():
            box = mask_box(mask, scale, fit, width, height)
            valid.append(True)
        else:
            box = grid_box(cell, width, height)
            mask = fill(mask_side, scale, fit, width, height, box)
            valid.append(masks is None)
        found.append(mask)
        boxes.append(box)
    return np.array(found), np.array(boxes, np.int32), np.array(valid)


def covers_picture(mask_side: int, scale: int, fit: Letterbox) -> Mask:
    """True for the mask's pixels that cover any pixel of the picture, (S, S)."""
    start = np.arange(mask_side) * scale
    columns = (start + scale > fit.x) & (start < fit.x + fit.width)
    rows = (start + scale > fit.y) & (start < fit.y + fit.height)
    return rows[:, np.newaxis] & columns


def largest_component(mask: Mask) -> Mask:
    """The largest 4-connected component; of equals the one that comes first in raster order."""
    remaining = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    largest: set[tuple[int, int]] = set()
    for seed in sorted(remaining):
        if seed not in remaining:
            continue
        remaining.remove(seed)
        component, queue = {seed}, deque([seed])
        while queue:
            y, x = queue.popleft()
            for neighbour in ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)):
                if neighbour in remaining:
                    remaining.remove(neighbour)
                    component.add(neighbour)
                    queue.append(neighbour)
        if len(component) > len(largest):
            largest = component
    result = np.zeros_like(mask)
    for pixel in largest:
        result[pixel] = True
    return result


def mask_box(mask: Mask, scale: int, fit: Letterbox, width: int, height: int) -> Box:
    """The bounding box of a mask that is not empty, in the picture's pixels, rounded outwards and clamped."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x0, x1 = _to_picture(int(columns[0]), int(columns[-1]) + 1, scale, fit.x, fit.width, width)
    y0, y1 = _to_picture(int(rows[0]), int(rows[-1]) + 1, scale, fit.y, fit.height, height)
    return x0, y0, x1, y1


def grid_box(cell: Sequence[int], width: int, height: int) -> Box:
    """A cell in thousandths of the picture's sides, in pixels; never empty."""
    x0, y0 = (min(int(edge) * size // 1000, size - 1) for edge, size in zip(cell[:2], (width, height), strict=True))
    x1, y1 = (int(edge) * size // 1000 for edge, size in zip(cell[2:], (width, height), strict=True))
    return x0, y0, max(x0 + 1, x1), max(y0 + 1, y1)


def fill(mask_side: int, scale: int, fit: Letterbox, width: int, height: int, box: Box) -> Mask:
    """The mask of a rectangle of the picture: its pixels that cover any of it, (S, S)."""
    columns = _covers_range(mask_side, scale, fit.x, fit.width, width, box[0], box[2])
    rows = _covers_range(mask_side, scale, fit.y, fit.height, height, box[1], box[3])
    return rows[:, np.newaxis] & columns


def _to_picture(start: int, end: int, scale: int, offset: int, scaled: int, size: int) -> tuple[int, int]:
    """A range of mask pixels to pixels of the picture, along one axis."""
    first = (start * scale - offset) * size // scaled
    last = -((offset - end * scale) * size // scaled)
    return min(max(first, 0), size), min(max(last, 0), size)


def _covers_range(mask_side: int, scale: int, offset: int, scaled: int, size: int, start: int, end: int) -> Mask:
    """Along one axis. Both ranges are scaled by `size`, so that their ends are integers."""
    cell = np.arange(mask_side, dtype=np.int64) * scale * size
    return (cell + scale * size > offset * size + start * scaled) & (cell < offset * size + end * scaled)
