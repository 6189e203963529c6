"""Ranges of values by channel, and the int8 quantisation that they give."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from keypilot.convert.calibrate import ChannelStatistics
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

#: What is clipped counts so many times: unlike rounding, it is no noise that the next layer averages out, but a change
#: of whole regions of a picture that differs from those of the calibration.
_CLIPPING = 4.0

#: Rows that ranges are fitted to.
_SEARCHED = 2048


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

    Each is fitted to one half of the sample and judged on the other, so that what pictures that calibration has not
    seen hold beyond the bounds counts for what it costs.

    Parameters
    ----------
    weights : (C) what a channel's squared error counts for.
    """
    errors: dict[tuple[str, float], float] = {}
    for half in (0, 1):
        judge, rows = statistics.samples.half(1 - half), _some(statistics.samples.half(half))
        low, high = statistics.bounds(half)
        for method, fitted in _METHODS.items():
            found = Range(*fitted(low, high, rows), method)
            for evenness in EVENNESS:
                scale, zero_point = found.quantization(evenness)
                error = (squared_error(judge, scale, zero_point, _CLIPPING) * weights).sum()
                errors[method, evenness] = errors.get((method, evenness), 0.0) + float(error) / _HEADROOM.get(method, 1)
    method, evenness = min(errors, key=lambda choice: errors[choice])
    low, high = _METHODS[method](*statistics.bounds(), _some(statistics.samples.all()))
    return Range(low, high, method), evenness


def squared_error(rows: Array, scale: Array, zero_point: Array, clipping: float = 1.0) -> Array:
    """The mean squared error of each channel, (C), in which what is clipped counts `clipping` times."""
    difference = fake_quantize(rows, scale, zero_point)
    difference -= rows
    if clipping != 1:
        difference[np.abs(difference) > scale] *= np.float32(np.sqrt(clipping))
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


def _bounds(low: Array, high: Array, _rows: Array) -> tuple[Array, Array]:
    return np.minimum(low, 0), np.maximum(high, 0)


def _widened(factor: float) -> _Method:
    def fit(low: Array, high: Array, rows: Array) -> tuple[Array, Array]:
        low, high = _bounds(low, high, rows)
        return (low * factor).astype(np.float32), (high * factor).astype(np.float32)

    return fit


def _percentile(percentile: float) -> _Method:
    def fit(_low: Array, _high: Array, rows: Array) -> tuple[Array, Array]:
        low, high = np.percentile(rows, (100 - percentile, percentile), axis=0).astype(np.float32)
        return np.minimum(low, 0), np.maximum(high, 0)

    return fit


def _least_error(low: Array, high: Array, rows: Array) -> tuple[Array, Array]:
    """Shrinks both ends together, then each alone, as long as the squared error of a channel falls."""
    low, high = _bounds(low, high, rows)
    best = squared_error(rows, *Range(low, high, "").quantization())
    for shares in (_BOTH, _LOW, _HIGH):
        start_low, start_high = low.copy(), high.copy()
        for share_low, share_high in shares:
            try_low, try_high = (start_low * share_low).astype(np.float32), (start_high * share_high).astype(np.float32)
            error = squared_error(rows, *Range(try_low, try_high, "").quantization())
            better = error < best
            best[better], low[better], high[better] = error[better], try_low[better], try_high[better]
    return low, high


_Method = Callable[[Array, Array, Array], tuple[Array, Array]]

#: What gives (low, high) by channel from the bounds of all data and a sample of rows.
_METHODS: dict[str, _Method] = {
    "min-max": _bounds,
    "min-max x 1.25": _widened(1.25),
    "min-max x 1.6": _widened(1.6),
    "min-max x 2": _widened(2.0),
    "percentile 99.9": _percentile(99.9),
    "percentile 99.99": _percentile(99.99),
    "squared error": _least_error,
}

#: What a wider range may err more in exchange for its headroom: a sample shows little of what calibration has not seen.
_HEADROOM = {"min-max x 1.25": 1.5, "min-max x 1.6": 2.5, "min-max x 2": 3.0}
