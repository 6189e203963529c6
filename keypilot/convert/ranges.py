"""Ranges of values by channel, and the int8 quantisation that they give."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from keypilot.convert.calibrate import Bounds, ChannelStatistics
from keypilot.convert.graph import Array

#: A channel's step is at least this share of the tensor's largest: what looks dead on the calibration data may not be.
_SMALLEST = 1e-3

#: Below this a tensor's largest step is that of zeros: 1 / step could overflow.
_DEAD = 1e-30

#: How far the steps of a tensor's channels may be drawn together: see `Range.steps`.
EVENNESS = (0.0, 0.25, 0.5)

#: Shares of the low and of the high bound that the search by squared error tries, one list after the other.
_BOTH = [(share, share) for share in np.linspace(0.95, 0.4, 12)]
_LOW = [(share, 1.0) for share in (0.94, 0.88, 0.82)]
_HIGH = [(1.0, share) for share in (0.94, 0.88, 0.82)]

#: Rows that ranges are fitted to.
_SEARCHED = 1024


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds by channel, (C) each, low <= 0 <= high, and how they were chosen."""

    low: Array
    high: Array
    method: str

    def steps(self, evenness: float = 0.0) -> Array:
        """The scale of each channel: the step that 255 of cover its range, moved towards the largest of the tensor.

        With s the steps and S the largest, ``S**evenness * s**(1 - evenness)``: at 0 each channel has its own, at 1
        all have one. Never below a channel's own, so that nothing more is clipped.
        """
        steps = (self.high - self.low).astype(np.float64) / 255
        largest = steps.max(initial=0.0)
        if largest < _DEAD:
            return np.ones_like(steps)
        steps = np.maximum(steps, _SMALLEST * largest)
        scale: Array = largest**evenness * steps ** (1 - evenness)
        return scale

    def quantization(self, evenness: float = 0.0) -> tuple[Array, Array]:
        """(scale float32, zero point int8) by channel; real zero is `zero_point` exactly."""
        scale = self.steps(evenness).astype(np.float32)
        # Of the 255 steps, those that the range leaves over lie on both sides.
        spare = 255 - (self.high - self.low) / scale
        zero = np.rint(-128 + spare / 2 - self.low / scale)
        return scale, np.clip(zero, -128, 127).astype(np.int8)


def choose_range(statistics: ChannelStatistics, weights: Array) -> tuple[Range, float]:
    """The range, and the evenness of its steps, of the least squared error, of those by bounds, percentiles and search.

    Each is fitted to all folds of the calibration data but one and judged on that one, for every fold, so that what
    data that calibration has not seen hold beyond the bounds counts for what it costs.

    Parameters
    ----------
    weights : (C) what a channel's squared error counts for.
    """
    errors: dict[tuple[str, float], float] = {}
    for bounds, fit, judge in statistics.splits():
        rows = _some(fit)
        for method, fitted in _METHODS.items():
            found = Range(*fitted(bounds, rows), method)
            for evenness in EVENNESS:
                scale, zero_point = found.quantization(evenness)
                error = float(squared_error(judge, scale, zero_point) @ weights)
                errors[method, evenness] = errors.get((method, evenness), 0.0) + error
    method, evenness = min(errors, key=lambda choice: errors[choice])
    low, high = _METHODS[method](statistics.whole(), _some(statistics.samples.all()))
    return Range(low, high, method), evenness


def squared_error(rows: Array, scale: Array, zero_point: Array) -> Array:
    """The mean squared error of each channel, (C)."""
    difference = fake_quantize(rows, scale, zero_point)
    difference -= rows
    result: Array = np.einsum("rc,rc->c", difference, difference) / len(rows)
    return result


def fake_quantize(x: Array, scale: Array, zero_point: Array) -> Array:
    """What int8 makes of float32 values, as float32."""
    zero = zero_point.astype(np.float32)
    q = np.rint(x * (np.float32(1) / scale))
    np.clip(q, -128 - zero, 127 - zero, out=q)
    q *= scale
    result: Array = q
    return result


def _some(rows: Array) -> Array:
    return rows[:: max(1, len(rows) // _SEARCHED)]


def _bounds(bounds: Bounds, _rows: Array) -> tuple[Array, Array]:
    return np.minimum(bounds.low, 0), np.maximum(bounds.high, 0)


def _widened(factor: float) -> _Method:
    def fit(bounds: Bounds, _rows: Array) -> tuple[Array, Array]:
        low, high = np.minimum(bounds.wide_low, 0), np.maximum(bounds.wide_high, 0)
        return (low * factor).astype(np.float32), (high * factor).astype(np.float32)

    return fit


def _percentile(percentile: float) -> _Method:
    def fit(_bounds: Bounds, rows: Array) -> tuple[Array, Array]:
        low, high = np.percentile(rows, (100 - percentile, percentile), axis=0).astype(np.float32)
        return np.minimum(low, 0), np.maximum(high, 0)

    return fit


def _least_error(bounds: Bounds, rows: Array) -> tuple[Array, Array]:
    """Shrinks both ends together, then each alone, as long as the squared error of a channel falls."""
    low, high = _bounds(bounds, rows)
    best = squared_error(rows, *Range(low, high, "").quantization())
    for shares in (_BOTH, _LOW, _HIGH):
        start_low, start_high = low.copy(), high.copy()
        for share_low, share_high in shares:
            try_low, try_high = (start_low * share_low).astype(np.float32), (start_high * share_high).astype(np.float32)
            error = squared_error(rows, *Range(try_low, try_high, "").quantization())
            better = error < best
            best[better], low[better], high[better] = error[better], try_low[better], try_high[better]
    return low, high


_Method = Callable[[Bounds, Array], tuple[Array, Array]]

#: What gives (low, high) by channel from the bounds of all data and a sample of rows.
_METHODS: dict[str, _Method] = {
    "min-max": _bounds,
    "views": _widened(1.0),
    **{f"views x {factor}": _widened(factor) for factor in (1.15, 1.3, 1.6, 2.0, 2.5)},
    "percentile 99.9": _percentile(99.9),
    "percentile 99.99": _percentile(99.99),
    "squared error": _least_error,
}
