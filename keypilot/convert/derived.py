"""Further views of calibration pictures, for the bounds of ranges alone: a few pictures show little of what a network
meets, and inverted, recoloured, turned and enlarged they show more of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keypilot.convert.graph import Array, Dim, Port, Program

Batch = Mapping[str, Any]


def views_of(program: Program, batches: Sequence[Batch]) -> Callable[[Batch], Iterator[Batch]]:
    """A function from a batch of a program to its derived views; there are none where no input is a picture,
    (N, 3, H, W) in float32."""
    pictures = [port.name for port in program.inputs if _is_picture(port)]
    ends = {name: _ends([np.asarray(batch[name], np.float32) for batch in batches]) for name in pictures}

    def views(batch: Batch) -> Iterator[Batch]:
        if not pictures:
            return
        for view in (_inverted, _recoloured, _upside_down, _enlarged):
            changed = {name: view(np.asarray(batch[name], np.float32), *ends[name]) for name in pictures}
            yield {**batch, **{name: np.ascontiguousarray(x) for name, x in changed.items()}}

    return views


def _is_picture(port: Port) -> bool:
    shape = port.shape or port.value.shape
    return port.value.dtype == "f32" and len(shape) == 4 and shape[1] == Dim(3)


def _ends(arrays: Sequence[Array]) -> tuple[Array, Array]:
    """The smallest and the largest value of each colour, (1, 3, 1, 1): black and white."""
    axes = (0, 2, 3)
    low = np.min([x.min(axes, keepdims=True) for x in arrays], 0)
    high = np.max([x.max(axes, keepdims=True) for x in arrays], 0)
    return low, high


def _inverted(x: Array, low: Array, high: Array) -> Array:
    """Dark for light."""
    result: Array = low + high - x
    return result


def _recoloured(x: Array, low: Array, high: Array) -> Array:
    """Green, blue and red for red, green and blue."""
    share = (x - low) / np.where(high > low, high - low, 1)
    result: Array = low + share[:, [1, 2, 0]] * (high - low)
    return result


def _upside_down(x: Array, _low: Array, _high: Array) -> Array:
    return x[:, :, ::-1]


def _enlarged(x: Array, _low: Array, _high: Array) -> Array:
    """The middle, at twice the size."""
    height, width = x.shape[2:]
    rows, columns = (size // 4 + np.arange(size) // 2 for size in (height, width))
    result: Array = x[:, :, rows][:, :, :, columns]
    return result
