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
    upper = _inverse_factor(damped[np.ix_(order, order)])
    rest = weight[:, order].copy()
    integers = np.zeros_like(rest)
    for start in range(0, rest.shape[1], _BLOCK):
        stop = min(start + _BLOCK, rest.shape[1])
        errors = np.zeros((len(rest), stop - start))
        for column in range(start, stop):
            rounded = nearest(rest[:, column : column + 1], order[column : column + 1])[:, 0]
            integers[:, column] = rounded
            error = (rest[:, column] - rounded * scale) / upper[column, column]
            rest[:, column:stop] -= np.outer(error, upper[column, column:stop])
            errors[:, column - start] = error
        rest[:, stop:] -= errors @ upper[start:stop, stop:]
    result: Array = np.empty_like(integers)
    result[:, order] = integers
    return result


def _inverse_factor(matrix: Array) -> Array:
    """The upper triangular U with U.T @ U the inverse: of the matrix written as V @ V.T, U is the inverse of V."""
    reverse = torch.from_numpy(matrix[::-1, ::-1].copy())
    factor = torch.linalg.cholesky(reverse).flip(0, 1)
    identity = torch.eye(len(matrix), dtype=factor.dtype)
    result: Array = torch.linalg.solve_triangular(factor, identity, upper=True).numpy()
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
