"""What an int8 model file means, without the C core: docs/operators.md ("Operators on int8") in NumPy and PyTorch.

Products of integers are exact; what follows them is computed in float64 and rounded to float32, so that a result may
differ from the core's by a step where the two sums lie on either side of a rounding boundary.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from model_oracle import OPERATORS, Array, ModelOracle, _unary


class Scale(NamedTuple):
    """The quantisation of an int8 value: by channel, its last dimension."""

    scale: Array
    zero_point: Array

    def real(self, q: Array) -> Array:
        return (q.astype(np.float64) - self.zero_point) * self.scale

    def quantize(self, y: Array) -> Array:
        steps = y.astype(np.float64) * (np.float32(1) / self.scale)
        return np.clip(np.rint(steps + self.zero_point), -128, 127).astype(np.int8)


class QuantizedOracle(ModelOracle):
    """An int8 model file's programs. Values that are int8 come out of taps as real numbers."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        for name in [name for name in self.weights if name.endswith(".q4")]:
            self.weights[name.removesuffix(".q4")] = self._unpacked(name)

    def _unpacked(self, name: str) -> Array:
        packed, multipliers = self.weights[name].view(np.uint8), self.weights[f"{name}.multiplier"]
        nibbles = np.stack([packed & 15, packed >> 4], 2).reshape(len(packed), -1).astype(np.int8)
        nibbles = np.where(nibbles > 7, nibbles - 16, nibbles)
        flat = nibbles * np.repeat(multipliers, 32, 1)[:, : nibbles.shape[1]].astype(np.int64)
        assert np.abs(flat).max() <= 127 and multipliers.min() >= 1 and multipliers.max() <= 18
        return flat.astype(np.int8).reshape(self._shape_of(name.removesuffix(".q4"), len(packed)))

    def _shape_of(self, name: str, rows: int) -> tuple[int, ...]:
        for program in self.keys["keypilot.programs"]:
            names = self.keys[f"keypilot.{program}.values.name"]
            if name in names:
                text = self.keys[f"keypilot.{program}.values.shape"][names.index(name)]
                shape = tuple(map(int, text.split(",")))
                assert shape[0] == rows
                return shape
        raise AssertionError(f"{name}: no program has this weight")

    def _quantization(self, key: str, value: int) -> Scale | None:
        names = self.keys.get(f"{key}.values.quantization", [])
        name = names[value] if names and value >= 0 else ""
        assert (self.keys[f"{key}.values.dtype"][value] == "i8") == bool(name) or value in self.keys[f"{key}.weights"]
        return Scale(self.weights[f"{name}.scale"], self.weights[f"{name}.zero_point"]) if name else None

    def _compute(
        self, key: str, op: str, operands: list[Any], indices: list[int], output: int, attributes: dict[str, Any]
    ) -> Array:
        scales = [self._quantization(key, index) if index >= 0 else None for index in indices]
        to = self._quantization(key, output)
        out = attributes.pop("out", "f32")
        precision = attributes.pop("precision", "f32")
        names = self.keys[f"{key}.values.name"]
        if op in ("conv2d", "linear", "embedding"):
            index = 0 if op == "embedding" else 1
            if operands[index].dtype == np.int8:
                weight_scale = self.weights[f"{names[indices[index]]}.scale"]
                if op == "embedding":
                    return weight_scale[operands[1]][..., np.newaxis] * operands[0][operands[1]].astype(np.float32)
                y = _layer(op, operands, scales, weight_scale, **attributes)
                assert (out == "i8") == (to is not None)
                return y if to is None else to.quantize(y)
        if op == "quantize":
            assert to is not None
            return to.quantize(operands[0])
        if op == "attention" and precision == "i8":
            return _attention_int8(*operands, **attributes)
        if all(x is None or x.dtype != np.int8 for x in operands):
            return super()._compute(key, op, operands, indices, output, attributes)
        if op in ("concat", "rearrange", "alias", "resize2d", "pad", "gather") or (
            op == "pool2d" and attributes["fn"] == "max"
        ):
            assert to is not None
            joined = np.concatenate([s.scale for s in scales if s is not None])
            assert np.array_equal(joined, np.tile(to.scale, len(joined) // len(to.scale)))
            if op == "pad":
                return to.quantize(OPERATORS[op](to.real(operands[0]), **attributes))
            return _moved(op, operands, attributes)
        real = [x if s is None else s.real(x).astype(np.float32) for x, s in zip(operands, scales, strict=True)]
        if op == "dequantize":
            return real[0]
        assert op in ("binary", "pool2d", "reduce"), op
        y = OPERATORS[op](*real, **attributes)
        assert (out == "i8") == (to is not None)
        return y if to is None else to.quantize(y)

    def _ports(self, key: str, values: dict[int, Array], sizes: dict[str, int]) -> dict[str, Array]:
        program = key.rpartition(".")[0]
        real = dict(values)
        for value in self.keys.get(f"{key}.value", []):
            scale = self._quantization(program, value)
            if scale is not None:
                real[value] = scale.real(values[value]).astype(np.float32)
        return super()._ports(key, real, sizes)


#: A row's scale as a share of its range: docs/numerics.md.
ROW_STEP = np.float32(float.fromhex("0x1.0102p-8"))


def quantize_rows(x: Array) -> tuple[Array, Array]:
    """Integers less their zero points, which is a whole number from -128 to 127, and each row's scale."""
    low, high = np.minimum(x.min(-1, keepdims=True), 0), np.maximum(x.max(-1, keepdims=True), 0)
    scale = high * ROW_STEP - low * ROW_STEP
    scale[scale < 2.0**-100] = 0
    inverse = np.where(scale > 0, np.float32(1) / np.where(scale > 0, scale, 1), 0).astype(np.float64)
    zero_point = -128 - np.rint(low * inverse)
    q = np.rint(x * inverse + zero_point)
    q[np.broadcast_to(scale == 0, q.shape)] = -128
    assert np.abs(q + 0.5).max(initial=0) <= 127.5
    assert np.abs(zero_point + 0.5).max(initial=0) <= 127.5
    return q - zero_point, scale


def quantize_symmetric(x: Array) -> tuple[Array, Array]:
    """Integers of -127 to 127 and each row's scale, as in attention."""
    bound = np.abs(x).max(-1, keepdims=True)
    inverse = np.where(bound > 0, np.float32(127) / np.where(bound > 0, bound, 1), 0).astype(np.float32)
    return np.rint(x.astype(np.float64) * inverse), (bound / np.float32(127)).astype(np.float32)


def _layer(
    op: str, operands: list[Any], scales: list[Scale | None], weight_scale: Array, *, act: str = "none", **where: Any
) -> Array:
    x, weight, bias, residual = [*operands, None, None][:4]
    if x.dtype == np.int8:
        assert scales[0] is not None
        rows, row_scale = x.astype(np.float64) - scales[0].zero_point, np.float32(1)
    else:
        rows, row_scale = quantize_rows(x)
    if op == "linear" or (x.dtype != np.int8):
        acc = rows @ weight.reshape(len(weight), -1).T.astype(np.float64)
    else:
        acc = _convolution(rows, weight.astype(np.float64), **where)
    assert np.abs(acc).max(initial=0) < 2**31
    multiplier = (row_scale * weight_scale).astype(np.float32).astype(np.float64)
    y = acc.astype(np.float32) * multiplier + (0 if bias is None else bias)
    y = _unary(y.astype(np.float32), act)
    if residual is not None:
        scale = scales[3]
        y = y + (residual if scale is None else scale.real(residual))
    return y.astype(np.float32)


def _convolution(
    x: Array,
    weight: Array,
    *,
    stride: Any = (1, 1),
    pad: Any = (0, 0, 0, 0),
    dilation: Any = (1, 1),
    groups: Any = (1,),
) -> Array:
    """x less its zero point, so that padding is 0."""
    kernel = weight.transpose(2, 0, 1)[:, np.newaxis] if weight.ndim == 3 else weight.transpose(0, 3, 1, 2)
    top, left, bottom, right = pad
    padded = F.pad(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), (left, right, top, bottom))
    y = F.conv2d(padded, torch.from_numpy(kernel.copy()), None, stride, 0, dilation, groups[0])
    result: Array = np.rint(y.numpy().transpose(0, 2, 3, 1))
    return result


def _moved(op: str, operands: list[Array], attributes: dict[str, Any]) -> Array:
    """Integers below 2^24 survive the float operators."""
    if op in ("resize2d", "pool2d"):
        y = OPERATORS[op](operands[0].astype(np.float32), **attributes)
        return y.astype(np.int8)
    result: Array = OPERATORS[op](*operands, **attributes)
    return result


def _attention_int8(
    q: Array, k: Array, v: Array, mask: Array | None = None, *, heads: Any, head_dim: Any, scale: float,
    causal: Any = (0,), **where: Any,
) -> Array:  # fmt: skip
    count, width = heads[0], head_dim[0]
    assert mask is None and not causal[0]

    def split(x: Array, name: str) -> Array:
        offset, stride = where.get(f"{name}_offset", (0,))[0], where.get(f"{name}_head_stride", head_dim)[0]
        return np.stack([x[:, :, offset + h * stride :][:, :, :width] for h in range(count)], 1)

    q8, sq = quantize_symmetric(split(q, "q"))
    k8, sk = quantize_symmetric(split(k, "k"))
    v8, sv = quantize_symmetric(split(v, "v").swapaxes(-1, -2))
    scores = (q8 @ k8.swapaxes(-1, -2)) * sk.swapaxes(-1, -2) * sq * scale
    p = np.rint(np.exp2((scores - scores.max(-1, keepdims=True)) * math.log2(math.e) + math.log2(255)))
    out = (p @ v8.swapaxes(-1, -2)) * sv.swapaxes(-1, -2) / p.sum(-1, keepdims=True)
    return out.swapaxes(1, 2).reshape(q.shape[0], q.shape[1], count * width).astype(np.float32)
