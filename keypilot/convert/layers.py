"""A layer's weight as matrices, and its inputs on calibration data: what weights are rounded by."""

from __future__ import annotations

import dataclasses

import numpy as np

from keypilot.convert.graph import Array, Value
from keypilot.convert.ranges import fake_quantize
from keypilot.convert.rounding import Rounded, round_compensated, round_nearest

#: Rows for each column with which correlations are half believed.
_ROWS_PER_COLUMN = 0.1


@dataclasses.dataclass
class WeightMatrices:
    """A weight as one matrix for each group of channels: (groups, rows, columns), columns being taps x channels."""

    matrices: Array
    shape: tuple[int, ...]
    depthwise: bool

    @classmethod
    def of(cls, weight: Value, groups: int) -> WeightMatrices:
        assert weight.data is not None
        stored = weight.data.transpose(weight.order).astype(np.float64)
        if stored.ndim == 3:
            matrices = stored.transpose(2, 0, 1).reshape(stored.shape[2], 1, -1)
            return cls(matrices, stored.shape, True)
        return cls(stored.reshape(groups, stored.shape[0] // groups, -1), stored.shape, False)

    def stored(self, matrices: Array) -> Array:
        """Matrices of this form in the weight's memory order."""
        if self.depthwise:
            height, width, channels = self.shape
            matrices = matrices.reshape(channels, height, width).transpose(1, 2, 0)
        result: Array = matrices.reshape(self.shape)
        return result

    def columns(self, windows: Array) -> Array:
        """Windows (n, taps, channels) as the matrices' inputs: (groups, n, columns)."""
        count, taps, channels = windows.shape
        groups = len(self.matrices)
        split = windows.reshape(count, taps, groups, channels // groups)
        result: Array = split.transpose(2, 0, 1, 3).reshape(groups, count, -1)
        return result


def row_steps(windows: Array) -> tuple[Array, Array]:
    """The lower bound and the step of the 255 that each window (n, taps, channels) is quantised in, (n, 1, 1)."""
    low = np.minimum(windows.min((1, 2), keepdims=True), 0)
    width = np.maximum(windows.max((1, 2), keepdims=True), 0) - low
    return low, np.where(width > 0, width, 1) / np.float32(255)


@dataclasses.dataclass(frozen=True)
class InputQuantization:
    """How a layer's input is quantised: by channel with these scales, or, where they are None, row by row."""

    scale: Array | None = None
    zero_point: Array | None = None

    def apply(self, windows: Array) -> Array:
        """What int8 makes of windows (n, taps, channels)."""
        if self.scale is None or self.zero_point is None:
            low, step = row_steps(windows)
            zero_point = np.rint(low / step)
            result: Array = np.clip(np.rint(windows / step), zero_point, zero_point + 255) * step
            return result
        return fake_quantize(windows, self.scale, self.zero_point)


@dataclasses.dataclass(frozen=True)
class LayerInput:
    """Inputs of a layer's matrices in real numbers, (groups, n, columns): as they are, and as int8 has them."""

    exact: Array
    quantized: Array

    def moments(self) -> Array:
        """The second moments, (groups, columns, columns); the fewer rows there are, the closer to diagonal."""
        count, columns = self.quantized.shape[1:]
        total = np.matmul(self.quantized.transpose(0, 2, 1), self.quantized).astype(np.float64) / count
        trust = count / (count + _ROWS_PER_COLUMN * columns)
        diagonal = np.einsum("gcc->gc", total)  # a view
        kept = trust * diagonal + (1 - trust) * diagonal
        total *= trust
        diagonal[:] = kept
        result: Array = total
        return result

    def powers(self) -> Array:
        """The diagonals of the moments, (groups, columns)."""
        total = np.einsum("gnc,gnc->gc", self.quantized, self.quantized)
        result: Array = total.astype(np.float64) / self.quantized.shape[1]
        return result


@dataclasses.dataclass
class RoundedLayer:
    """A layer's integers (groups, rows, columns) and scales (groups, rows) of the real weight times `column_scale`."""

    rounded: list[Rounded]
    column_scale: Array
    rounding: str

    def weight(self) -> Array:
        """The real weight that the integers stand for, (groups, rows, columns)."""
        result: Array = np.stack([rounded.weight for rounded in self.rounded]) / self.column_scale[:, np.newaxis]
        return result


def round_layer(weight: Array, column_scale: Array, inputs: LayerInput, rounding: str) -> RoundedLayer:
    """A layer's weight (groups, rows, columns) in eight bits.

    Parameters
    ----------
    column_scale : (groups, columns) the input's scales, which the integers include.
    rounding : ``"nearest"`` or ``"compensated"``.
    """
    rounded = [
        round_nearest(matrix * scale, power / scale**2)
        for matrix, scale, power in zip(weight, column_scale, inputs.powers(), strict=True)
    ]
    if rounding == "compensated":
        rounded = [
            round_compensated(matrix * scale, moments / np.outer(scale, scale), start.scale)
            for matrix, scale, moments, start in zip(weight, column_scale, inputs.moments(), rounded, strict=True)
        ]
    return RoundedLayer(rounded, column_scale, rounding)


def relative_error(weight: Array, other: Array, inputs: LayerInput, shift: Array | float = 0.0) -> tuple[float, float]:
    """The squared error of ``other @ quantized`` against ``weight @ exact``, as a share of the latter's variance, and
    that of ``other @ quantized + shift``.

    shift : (groups, rows).
    """
    error = shifted = variance = 0.0
    shifts = np.broadcast_to(np.asarray(shift, np.float64), weight.shape[:2])
    for group, (w, v) in enumerate(zip(weight, other, strict=True)):
        expected = inputs.exact[group] @ w.T.astype(np.float32)
        difference = inputs.quantized[group] @ v.T.astype(np.float32)
        difference -= expected
        squares = np.einsum("nr,nr->r", difference, difference) / len(difference)
        mean = difference.mean(0, dtype=np.float64)
        error += float(squares.sum())
        shifted += float((squares + shifts[group] * (2 * mean + shifts[group])).sum())
        variance += float(expected.var(0, dtype=np.float64).sum())
    scale = max(variance, 1e-30)
    return error / scale, max(shifted, 0.0) / scale


def mean_error(weight: Array, other: Array, inputs: LayerInput) -> Array:
    """What must be added to the output of `other` for its mean to be right, (groups, rows)."""
    exact = inputs.exact.mean(1, dtype=np.float64)
    quantized = inputs.quantized.mean(1, dtype=np.float64)
    result: Array = np.einsum("grc,gc->gr", weight, exact) - np.einsum("grc,gc->gr", other, quantized)
    return result
