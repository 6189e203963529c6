"""What csrc/encoder/detections.c does, in NumPy: an instance segmentation network's detections to the screen's regions.

docs/numerics.md, "Detections".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keypilot.reference.image import letterbox_fit
from keypilot.reference.regions import covers_picture, fill, grid_box

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class Detections(NamedTuple):
    """The outputs of `keypilot.reference.fast_sam.FastSam` for one picture.

    boxes : float32 (A, 4), x0, y0, x1, y1 in pixels of the letterboxed picture.
    scores : float32 (A,).
    coefficients : float32 (A, K).
    prototypes : float32 (K, S, S).
    """

    boxes: Floats
    scores: Floats
    coefficients: Floats
    prototypes: Floats


class Limits(NamedTuple):
    """Boxes of a lower score are left out, and those that overlap a better one by more; at most so many are kept."""

    min_score: float = 0.4
    max_overlap: float = 0.9
    max_count: int = 100


#: FastSAM's.
LIMITS = Limits()


def keep(boxes: Floats, scores: Floats, limits: Limits = LIMITS) -> list[int]:
    """Non-maximum suppression: the indices of the boxes kept, by falling score, equals by rising index.

    A box is left out where its intersection over union with one kept before exceeds `limits.max_overlap`.
    """
    candidates = np.flatnonzero(scores >= np.float32(limits.min_score))
    ranked = candidates[np.argsort(-scores[candidates], kind="stable")]
    kept: list[int] = []
    for index in ranked.tolist():
        if len(kept) == limits.max_count:
            break
        if not any(_overlap(boxes[index], boxes[other], np.float32(limits.max_overlap)) for other in kept):
            kept.append(index)
    return kept


def detection_masks(
    found: Detections, limits: Limits, grid: Sequence[Sequence[int]], *, image_side: int, width: int, height: int
) -> Mask:
    """For each cell of the grid the mask, of the detections kept, whose intersection over union with it is largest.

    A mask holds the pixels that cover the picture, whose upper left corner lies in the detection's box, and where the
    prototypes weighted by the coefficients add up to more than zero.

    Parameters
    ----------
    grid : (R, 4), each region's cell in thousandths of the picture's sides.
    image_side : the letterbox's side in pixels, a multiple of S.
    width, height : the picture's.

    Returns
    -------
    masks : bool (R, S, S); all False where no mask meets the cell.
    """
    side = found.prototypes.shape[1]
    scale, fit = image_side // side, letterbox_fit(width, height, image_side)
    picture = covers_picture(side, scale, fit)
    corners = (np.arange(side) * scale).astype(np.float32)
    cells = [fill(side, scale, fit, width, height, grid_box(cell, width, height)) for cell in grid]
    chosen = np.zeros((len(cells), side, side), np.bool_)
    best = [(0, 1)] * len(cells)  # pixels: intersection and union
    for index in keep(found.boxes, found.scores, limits):
        x0, y0, x1, y1 = found.boxes[index]
        inside = ((corners >= y0) & (corners < y1))[:, np.newaxis] & ((corners >= x0) & (corners < x1))
        mask = (_weighted_sum(found.coefficients[index], found.prototypes) > 0) & inside & picture
        for region, cell in enumerate(cells):
            both, either = int((mask & cell).sum()), int((mask | cell).sum())
            if both * best[region][1] > best[region][0] * either:
                best[region] = both, either
                chosen[region] = mask
    return chosen


def _overlap(a: Floats, b: Floats, most: np.float32) -> bool:
    """In float32, operation by operation as in C."""
    with np.errstate(all="ignore"):
        width = (a[2] if a[2] < b[2] else b[2]) - (a[0] if a[0] > b[0] else b[0])
        height = (a[3] if a[3] < b[3] else b[3]) - (a[1] if a[1] > b[1] else b[1])
        if not (width > 0 and height > 0):
            return False
        both = width * height
        either = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
        return bool(both > most * either)


def _weighted_sum(coefficients: Floats, prototypes: Floats) -> Floats:
    """The prototypes times their coefficients, added up one after the other."""
    total: npt.NDArray[Any] = np.zeros(prototypes.shape[1:], np.float32)
    with np.errstate(all="ignore"):
        for coefficient, prototype in zip(coefficients, prototypes, strict=True):
            total += coefficient * prototype
    return total
