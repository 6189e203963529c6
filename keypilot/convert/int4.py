"""Weights in four bits: nibbles times a small integer for each group of 32, which unpack to int8 with one scale a row
(docs/model-file.md)."""

from __future__ import annotations

import numpy as np

from keypilot.convert.graph import Array, Int4
from keypilot.convert.rounding import Rounded, compensate, output_error, refitted

GROUP = 32

#: The largest multiplier: 7 * 18 is within 127.
_MULTIPLIERS = 18

#: A nibble of -8 times more than this is below -127.
_ASYMMETRIC = 15

#: Shares of a group's largest magnitude, and of the scale that the largest group asks for, that the search tries.
_CLIPS = (1.0, 0.93, 0.86, 0.79, 0.72)
_SCALES = (1.0, 0.95, 0.9, 0.85, 0.8)

#: Rows that are searched at once: a bound on memory.
_ROWS = 1024


def round_int4(weight: Array, moments: Array | None = None) -> tuple[Rounded, Int4]:
    """A weight (rows, columns) on the grid of four bits.

    Parameters
    ----------
    moments : the second moments of the layer's inputs, by which errors are weighed and carried over from column to
        column; None: every element counts alike, and is rounded to the nearest.
    """
    importance = np.ones(weight.shape[1]) if moments is None else np.maximum(np.diag(moments), 0)
    parts = [_search(weight[row : row + _ROWS], importance) for row in range(0, len(weight), _ROWS)]
    scale, multipliers = (np.concatenate([part[i] for part in parts]) for i in (0, 1))

    def nearest(columns: Array, which: Array) -> Array:
        chosen = multipliers[:, which // GROUP]
        return chosen * _nibbles(columns / (scale[:, np.newaxis] * chosen), chosen)

    integers = nearest(weight, np.arange(weight.shape[1]))
    if moments is not None:
        plain = Rounded(integers, refitted(weight, integers, moments, scale))
        carried = compensate(weight, moments, nearest, scale)
        best = Rounded(carried, refitted(weight, carried, moments, scale))
        errors = [output_error(weight, rounded.weight, moments).sum() for rounded in (plain, best)]
        rounded = best if errors[1] <= errors[0] else plain
    else:
        rounded = Rounded(integers, refitted(weight, integers, None, scale))
    nibbles = rounded.integers / np.repeat(multipliers, GROUP, 1)[:, : weight.shape[1]]
    return rounded, Int4(np.rint(nibbles).astype(np.int8), multipliers.astype(np.int8))


def stored_bytes(rows: int, columns: int) -> int:
    """Of the nibbles and multipliers."""
    return rows * (-(-columns // 2) + -(-columns // GROUP))


def _search(weight: Array, importance: Array) -> tuple[Array, Array]:
    """(scale (rows), multipliers (rows, groups)) of the least squared error."""
    pad = -weight.shape[1] % GROUP
    groups = np.pad(weight, ((0, 0), (0, pad))).reshape(len(weight), -1, GROUP)
    counts = np.pad(importance, (0, pad)).reshape(-1, GROUP)
    bound = np.abs(groups).max(2)
    top = bound.max(1) / (7 * _MULTIPLIERS)
    top = np.where(top > 1e-30, top, 1.0)
    best = np.full(len(weight), np.inf)
    best_scale = top.copy()
    best_multipliers = np.ones(bound.shape)
    for share in _SCALES:
        scale = top * share
        error = np.full(bound.shape, np.inf)
        multipliers = np.ones(bound.shape)
        for clip in _CLIPS:
            tried = np.clip(np.rint(bound * clip / (7 * scale[:, np.newaxis])), 1, _MULTIPLIERS)
            step = (scale[:, np.newaxis] * tried)[:, :, np.newaxis]
            difference = groups - step * _nibbles(groups / step, tried[:, :, np.newaxis])
            found = np.einsum("rgc,gc->rg", np.square(difference), counts)
            better = found < error
            error[better], multipliers[better] = found[better], tried[better]
        total = error.sum(1)
        better = total < best
        best[better], best_scale[better], best_multipliers[better] = total[better], scale[better], multipliers[better]
    return best_scale, best_multipliers


def _nibbles(values: Array, multipliers: Array) -> Array:
    result: Array = np.clip(np.rint(values), np.where(multipliers > _ASYMMETRIC, -7, -8), 7)
    return result
