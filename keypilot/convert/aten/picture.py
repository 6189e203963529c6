"""Convolution, batch norm, pooling and resizing of N, C, H, W pictures (and N, C, L signals, as pictures one high)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keypilot.convert.aten.elementwise import reduction
from keypilot.convert.aten.registry import lowers
from keypilot.convert.graph import ONE, Array, Dim, Value, as_shape

if TYPE_CHECKING:
    from keypilot.convert.importer import Builder

Pair = tuple[int, int]


def _pair(sizes: int | Sequence[int], one: int = 1) -> Pair:
    """(h, w) of a size given for both, or for the only dimension of a signal."""
    sizes = [sizes] if isinstance(sizes, int) else list(sizes)
    return (sizes[0], sizes[1]) if len(sizes) == 2 else (sizes[0], sizes[0])


def _constant(b: Builder, weight: Value, bias: Value | None) -> Array:
    """The data of a weight, which files hold, as those of the bias."""
    if weight.data is None or (bias is not None and bias.data is None):
        raise b.unsupported("a weight that is computed at run time")
    return weight.data


def _emit_conv(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Pair,
    pad: tuple[int, int, int, int],
    dilation: Pair,
    groups: int,
) -> Value:
    _constant(b, weight, bias)
    return b.emit("conv2d", [x, weight, bias], stride=stride, pad=pad, dilation=dilation, groups=groups)


@lowers("conv2d.default", "conv2d.padding")
def conv2d(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
) -> Value:
    kernel = [dim.coefficient for dim in weight.shape[2:]]
    top, bottom, left, right = _padding(padding, kernel, _pair(dilation))
    return _emit_conv(b, x, weight, bias, _pair(stride), (top, left, bottom, right), _pair(dilation), groups)


@lowers("conv1d.default", "conv1d.padding")
def conv1d(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
) -> Value:
    data = _constant(b, weight, bias)
    kernel = [dim.coefficient for dim in weight.shape[2:]]
    left, right = _padding(padding, kernel, (dilation[0],))
    flat = Value(weight.name, (*weight.shape[:2], ONE, weight.shape[2]), "f32", np.expand_dims(data, 2))
    row = b.reshape(x, (*x.shape[:2], ONE, x.shape[2]))
    result = b.shape
    b.shapes = [(*result[:2], ONE, result[2])]
    y = _emit_conv(b, row, flat, bias, (1, stride[0]), (0, left, 0, right), (1, dilation[0]), groups)
    return b.reshape(y, result)


@lowers("convolution.default")
def convolution(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Value:
    if weight.rank not in (3, 4):
        raise b.unsupported("a three-dimensional convolution")
    if transposed:
        return deconv2d(b, x, weight, bias, stride, padding, output_padding, groups, dilation)
    lowering = conv2d if weight.rank == 4 else conv1d
    result: Value = lowering(b, x, weight, bias, stride, padding, dilation, groups)
    return result


@lowers("conv_transpose2d.input")
def deconv2d(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    _output_padding: Sequence[int],
    groups: int,
    dilation: Sequence[int],
) -> Value:
    """A `deconv2d` node, whose weight has the output channels first, as a convolution's: (O, I / groups, kh, kw)."""
    data = _constant(b, weight, bias)
    if weight.rank != 4 or _pair(dilation) != (1, 1):
        raise b.unsupported("a transposed convolution that is dilated or of signals")
    for dim in (*x.shape[2:], *b.shape[2:]):
        b.static(dim, "the side of a transposed convolution's picture")
    parts = data.reshape(groups, -1, *data.shape[1:]).swapaxes(1, 2)
    data = np.ascontiguousarray(parts.reshape(-1, *parts.shape[2:]))
    turned = Value(weight.name, as_shape(data.shape), "f32", data)
    return b.emit("deconv2d", [x, turned, bias], stride=_pair(stride), padding=_pair(padding), groups=groups)


def _padding(padding: Sequence[int] | str, kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """Before and after, for each dimension."""
    if padding == "valid":
        return [0, 0] * len(kernel)
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return [side for total in totals for side in (total // 2, total - total // 2)]
    assert not isinstance(padding, str)
    sizes = list(padding) if len(padding) == len(kernel) else [padding[0]] * len(kernel)
    return [size for size in sizes for _side in range(2)]


@lowers("_native_batch_norm_legit_no_training.default")
def batch_norm(
    b: Builder,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value,
    variance: Value,
    _momentum: float,
    eps: float,
) -> list[Value | None]:
    """Inference: y = x * scale + shift per channel (Ioffe & Szegedy 2015, arXiv:1502.03167), in float64 until it
    is folded."""

    def parameter(value: Value | None, default: float) -> Array:
        return np.float64(default) if value is None or value.data is None else value.data.astype(np.float64)

    scale = parameter(weight, 1) / np.sqrt(parameter(variance, 1) + eps)
    shift = parameter(bias, 0) - parameter(mean, 0) * scale
    inputs: list[Value | None] = [x, b.constant(scale, label="scale"), b.constant(shift, label="shift")]
    return [b.emit("channel_affine", inputs, axis=1), None, None]


@lowers("batch_norm.default")
def batch_norm_of_evaluation(
    b: Builder,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    variance: Value | None,
    training: bool,
    momentum: float,
    eps: float,
    _cudnn: bool,
) -> Value | None:
    if training or mean is None or variance is None:
        raise b.unsupported("batch statistics; compile in eval mode, with running statistics")
    return batch_norm(b, x, weight, bias, mean, variance, momentum, eps)[0]


# ---- Pooling ----------------------------------------------------------------------------------------------------


@lowers("max_pool2d.default", "max_pool2d_with_indices.default")
def max_pool2d(
    b: Builder,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil: bool,
) -> Value | list[Value | None]:
    if _pair(dilation) != (1, 1):
        raise b.unsupported("a dilated maximum pooling")
    result = _pool(b, "max", x, _pair(kernel), _pair(stride or kernel), _pair(padding), ceil)
    return [result, None] if "indices" in b.operator else result


@lowers("avg_pool2d.default")
def avg_pool2d(
    b: Builder,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil: bool,
    count_pad: bool,
    divisor: int | None,
) -> Value:
    if divisor is not None:
        raise b.unsupported("divisor_override")
    return _pool(b, "average", x, _pair(kernel), _pair(stride or kernel), _pair(padding), ceil, count_pad)


def _pool(
    b: Builder, fn: str, x: Value, kernel: Pair, stride: Pair, padding: Pair, ceil: bool, count_pad: bool = True
) -> Value:
    sizes = [b.static(dim, "the side of a pooled picture") for dim in x.shape[2:]]
    outputs = [b.static(dim, "the side of a pooled picture") for dim in b.shape[2:]]
    whole = [(i + 2 * p - k) // s + 1 for i, k, s, p in zip(sizes, kernel, stride, padding, strict=True)]
    if ceil and outputs != whole:
        raise b.unsupported("ceil_mode with a last window that reaches outside")
    pad = (padding[0], padding[1], padding[0], padding[1])
    return b.emit("pool2d", [x], fn=fn, kernel=kernel, stride=stride, pad=pad, count_include_pad=int(count_pad))


@lowers("adaptive_avg_pool2d.default", "_adaptive_avg_pool2d.default")
def adaptive_avg_pool2d(b: Builder, x: Value, size: Sequence[int]) -> Value:
    outputs = [b.static(dim, "the side of a pooled picture") for dim in b.shape[2:]]
    if outputs == [1, 1]:
        return reduction(b, "mean", x, [2, 3], True)
    sizes = [b.static(dim, "the side of a pooled picture") for dim in x.shape[2:]]
    if any(i % o for i, o in zip(sizes, outputs, strict=True)):
        raise b.unsupported(f"adaptive pooling of {sizes} to {outputs}; the sizes must divide")
    kernel = (sizes[0] // outputs[0], sizes[1] // outputs[1])
    return _pool(b, "average", x, kernel, kernel, (0, 0), False)


# ---- Resizing ---------------------------------------------------------------------------------------------------


@lowers("upsample_nearest2d.vec")
def resize_nearest(b: Builder, x: Value, _size: object, scales: Sequence[float] | None) -> Value:
    return _resize(b, "nearest", x, scales)


@lowers("upsample_nearest2d.default")
def resize_nearest_to(b: Builder, x: Value, _size: object, scale_h: float | None, scale_w: float | None) -> Value:
    return _resize(b, "nearest", x, _scales(scale_h, scale_w))


@lowers("upsample_bilinear2d.vec")
def resize_bilinear(b: Builder, x: Value, _size: object, align_corners: bool, scales: Sequence[float] | None) -> Value:
    return _resize(b, "bilinear", x, scales, align_corners)


@lowers("upsample_bilinear2d.default")
def resize_bilinear_to(
    b: Builder, x: Value, _size: object, align_corners: bool, scale_h: float | None, scale_w: float | None
) -> Value:
    return _resize(b, "bilinear", x, _scales(scale_h, scale_w), align_corners)


def _scales(h: float | None, w: float | None) -> Sequence[float] | None:
    return None if h is None or w is None else (h, w)


def _resize(b: Builder, fn: str, x: Value, scales: Sequence[float] | None, align_corners: bool = False) -> Value:
    if align_corners:
        raise b.unsupported("align_corners=True")
    sizes = [b.static(dim, "the side of a resized picture") for dim in x.shape[2:]]
    outputs = [b.static(dim, "the side of a resized picture") for dim in b.shape[2:]]
    # PyTorch samples by the scale factor it was given; the operator by the sizes' ratio.
    for scale, i, o in zip(scales or (), sizes, outputs, strict=False):
        if not math.isclose(scale * i, o, rel_tol=1e-9):
            raise b.unsupported(f"a scale factor of {scale} from {i} to {o}; give interpolate a size")
    if sizes == outputs:
        return x
    return b.emit("resize2d", [x], fn=fn, size=(outputs[0], outputs[1]))


@lowers("upsample_nearest1d.vec", "upsample_nearest1d.default")
def resize_signal(b: Builder, x: Value, *_options: object) -> Value:
    length, result = b.static(x.shape[2], "the length of a resized signal"), b.shape
    if b.static(result[2], "the length of a resized signal") % length:
        raise b.unsupported("a resize by a factor that is not whole")
    factor = Dim(result[2].coefficient // length)
    columns = b.expand(b.reshape(x, (*x.shape, ONE)), (*x.shape, factor))
    return b.reshape(columns, result)
