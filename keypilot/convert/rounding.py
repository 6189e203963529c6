"""Weights to int8 with one scale for each output channel: to the nearest, or so that the layer's output errs least."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from keypilot.convert.graph import Array

#: Shares of a row's largest magnitude that the search for its scale tries.
_CLIPS = np.linspace(1.0, 0.7, 13)

#: The share of the mean second moment that is added to each, so that few samples do not overfit (GPTQ's damping).
_DAMPING = 0.01

_BLOCK = 64


@dataclasses.dataclass(frozen=True)
class Rounded:
    """Integers (rows, columns) of -127 to 127 and the scale of each row: the weight is ``scale * integers``."""

    integers: Array
    scale: Array

    @property
    def weight(self) -> Array:
        result: Array = self.integers * self.scale[:, np.newaxis]
        return result


def output_error(weight: Array, rounded: Array, moments: Array) -> Array:
    """The mean squared error of each row's output, for inputs of these second moments (columns, columns)."""
    difference = weight - rounded
    result: Array = np.einsum("rc,rc->r", difference @ moments, difference)
    return np.maximum(result, 0.0)


def round_nearest(weight: Array, importance: Array) -> Rounded:
    """To the nearest, with the scale of each row, out of some that clip, that gives the least squared error.

    importance : (columns) what an error of each column counts for.
    """
    bound = np.abs(weight).max(1)
    best = np.full(len(weight), np.inf)
    scale = _positive(bound / 127)
    for clip in _CLIPS:
        candidate = _positive(bound * clip / 127)
        error = np.square(_nearest(weight, candidate) * candidate[:, np.newaxis] - weight) @ importance
        better = error < best
        best[better], scale[better] = error[better], candidate[better]
    return Rounded(_nearest(weight, scale), scale)


def round_compensated(weight: Array, moments: Array, scale: Array) -> Rounded:
    """Column by column, the error of each carried over to those that follow (GPTQ, Frantar et al. 2022,
    arXiv:2210.17323), the columns of the largest second moments first."""

    def nearest(columns: Array, _which: Array) -> Array:
        return _nearest(columns, scale)

    integers = compensate(weight, moments, nearest, scale)
    return Rounded(integers, refitted(weight, integers, moments, scale))


def compensate(weight: Array, moments: Array, nearest: Callable[[Array, Array], Array], scale: Array) -> Array:
    """The integers of GPTQ's order of rounding; `nearest(columns, indices)` rounds (rows, n) columns of the weight."""
    damped = moments + np.eye(len(moments)) * max(_DAMPING * float(np.trace(moments)) / len(moments), 1e-30)
    order = np.argsort(-np.diag(moments), kind="stable")
    feedback = _feedback(damped[np.ix_(order, order)])
    sorted_weight = weight[:, order]
    integers, errors = np.zeros_like(sorted_weight), np.zeros_like(sorted_weight)
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        block = sorted_weight[:, start:stop] + errors[:, :start] @ feedback[:start, start:stop]
        for column in range(start, stop):
            wanted = block[:, column - start : column - start + 1]
            integers[:, column] = nearest(wanted, order[column : column + 1])[:, 0]
            errors[:, column] = sorted_weight[:, column] - integers[:, column] * scale
            block[:, column - start + 1 :] += np.outer(errors[:, column], feedback[column, column + 1 : stop])
    result: Array = np.empty_like(integers)
    result[:, order] = integers
    return result


def _feedback(matrix: Array) -> Array:
    """What of a column's error is added to each that follows: the unit upper triangular U of matrix = U @ D @ U.T. This
    is GPTQ without an inverse (LDLQ, Chee et al. 2023, arXiv:2307.13304, theorem 6)."""
    reverse = torch.from_numpy(matrix[::-1, ::-1].copy())
    factor: Array = torch.linalg.cholesky(reverse).flip(0, 1).numpy()
    result: Array = factor / np.diag(factor)
    return result


def refitted(weight: Array, integers: Array, moments: Array | None, scale: Array) -> Array:
    """The scale of each row that fits its integers best, by least squares on the outputs, or on the weights."""
    weighted = integers if moments is None else integers @ moments
    power = np.einsum("rc,rc->r", weighted, integers)
    fitted = np.einsum("rc,rc->r", weighted, weight) / np.where(power > 0, power, 1)
    return np.where((power > 0) & (fitted > 0), fitted, scale)


def _nearest(weight: Array, scale: Array) -> Array:
    result: Array = np.clip(np.rint(weight / scale[:, np.newaxis]), -127, 127)
    return result


def _positive(scale: Array) -> Array:
    """A row of zeros has the scale 1."""
    return np.where(scale > 1e-30, scale, 1.0)
