"""What a model file means, without the C core: docs/model-file.md and docs/operators.md in NumPy and PyTorch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import torch.nn.functional as F

Array = np.ndarray[Any, np.dtype[Any]]

_DIM = re.compile(r"(\d*)(N?)(T?)")
_DTYPES = {"f32": np.float32, "i32": np.int32, "bool": np.bool_, "i8": np.int8}
_FLOATS = ("eps", "alpha", "scale", "value")
_WORDS = ("fn", "act", "to", "out", "precision")


class ModelOracle:
    """A model file's programs; `run` gives outputs and taps in PyTorch's shapes."""

    def __init__(self, path: str | Path) -> None:
        reader = gguf.GGUFReader(path)
        self.keys = {name: field.contents() for name, field in reader.fields.items()}
        self.weights = {
            tensor.name: np.array(tensor.data).reshape(tuple(map(int, tensor.shape[::-1]))) for tensor in reader.tensors
        }

    def run(self, program: str, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        key = f"keypilot.{program}"
        get = lambda name: self.keys.get(f"{key}.{name}", [])  # noqa: E731
        sizes = self._sizes(key, inputs)
        values: dict[int, Array] = {i: self.weights[get("values.name")[i]] for i in get("weights")}
        for name, value, order in zip(get("inputs.name"), get("inputs.value"), get("inputs.order"), strict=True):
            dtype = _DTYPES[get("values.dtype")[value]]
            values[value] = np.ascontiguousarray(inputs[name].transpose(_ints(order))).astype(dtype)
        rows = zip(*(get(f"ops.{field}") for field in ("type", "inputs", "output", "attributes")), strict=True)
        for op, indices, output, text in rows:
            operands = [None if i < 0 else values[i] for i in _ints(indices)]
            result = np.array(self._compute(key, op, operands, _ints(indices), output, _attributes(text, sizes)))
            expected = _shape(get("values.shape")[output], sizes)
            assert result.shape == expected, (
                f"{op} {get('values.name')[output]}: {result.shape}, the file says {expected}"
            )
            assert result.dtype == _DTYPES[get("values.dtype")[output]], (
                f"{op} {get('values.name')[output]}: {result.dtype}"
            )
            values[output] = result
        return self._ports(f"{key}.outputs", values, sizes), self._ports(f"{key}.taps", values, sizes)

    def _compute(
        self, key: str, op: str, operands: list[Any], indices: list[int], output: int, attributes: dict[str, Any]
    ) -> Array:
        """One operator of the program under `key`, on operands that are the values of these indices."""
        result: Array = OPERATORS[op](*operands, **attributes)
        return result

    def _sizes(self, key: str, inputs: Mapping[str, Array]) -> dict[str, int]:
        sizes = {"N": 1, "T": 1}
        for name, shape in zip(self.keys[f"{key}.inputs.name"], self.keys[f"{key}.inputs.shape"], strict=True):
            for dim, size in zip(shape.split(","), inputs[name].shape, strict=True):
                if dim in sizes:
                    sizes[dim] = size
        return sizes

    def _ports(self, key: str, values: dict[int, Array], sizes: dict[str, int]) -> dict[str, Array]:
        fields = [self.keys.get(f"{key}.{field}", []) for field in ("name", "value", "shape", "order")]
        ports = {}
        for name, value, text, order_text in zip(*fields, strict=True):
            shape, order = _shape(text, sizes), _ints(order_text)
            stored = values[value].reshape([shape[i] for i in order])
            ports[name] = stored.transpose(np.argsort(order)) if order else stored
        return ports


def _ints(text: str) -> list[int]:
    return [int(item) for item in text.split(",")] if text else []


def _shape(text: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
    dims = []
    for item in text.split(",") if text else []:
        match = _DIM.fullmatch(item)
        assert match is not None and item, f"a dimension {item!r}"
        factor, n, t = match.groups()
        dims.append(int(factor or 1) * (sizes["N"] if n else 1) * (sizes["T"] if t else 1))
    return tuple(dims)


def _attributes(text: str, sizes: Mapping[str, int]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for pair in text.split(" ") if text else []:
        name, value = pair.split("=")
        if name in _WORDS:
            result[name] = value
        elif name in _FLOATS:
            result[name] = float.fromhex(value)
        else:
            result[name] = _shape(value, sizes)
    return result


def _unary(x: Array, fn: str) -> Array:
    t = torch.from_numpy(x)
    special = {
        "none": lambda: t,
        "relu6": lambda: F.relu6(t),
        "hardswish": lambda: F.hardswish(t),
        "hardsigmoid": lambda: F.hardsigmoid(t),
        "silu": lambda: F.silu(t),
        "gelu": lambda: F.gelu(t),
        "gelu_tanh": lambda: F.gelu(t, approximate="tanh"),
        "quick_gelu": lambda: t * torch.sigmoid(1.702 * t),
    }
    result: torch.Tensor = special[fn]() if fn in special else getattr(torch, fn)(t)
    return result.numpy()


def _conv2d(
    x: Array, weight: Array, bias: Array | None = None, residual: Array | None = None, *, stride: Any = (1, 1),
    pad: Any = (0, 0, 0, 0), dilation: Any = (1, 1), groups: Any = (1,), act: str = "none",
) -> Array:  # fmt: skip
    depthwise = weight.ndim == 3
    kernel = weight.transpose(2, 0, 1)[:, None] if depthwise else weight.transpose(0, 3, 1, 2)
    assert not depthwise or residual is None
    top, left, bottom, right = pad
    padded = F.pad(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), (left, right, top, bottom))
    y = F.conv2d(
        padded,
        torch.from_numpy(kernel.copy()),
        None if bias is None else torch.from_numpy(bias.copy()),
        stride,
        0,
        dilation,
        groups[0],
    )
    result = _unary(y.numpy().transpose(0, 2, 3, 1), act)
    return result if residual is None else result + residual


def _linear(
    x: Array, weight: Array, bias: Array | None = None, residual: Array | None = None, *, act: str = "none"
) -> Array:
    y = x @ weight.T
    result = _unary(y if bias is None else y + bias, act)
    if residual is not None:
        assert residual.shape == result.shape
        result = result + residual
    return result


def _matmul(a: Array, b: Array, *, transpose_a: Any = (0,), transpose_b: Any = (0,), alpha: float = 1.0) -> Array:
    a = a.swapaxes(-1, -2) if transpose_a[0] else a
    b = b.swapaxes(-1, -2) if transpose_b[0] else b
    return (np.float32(alpha) * (a @ b)).astype(np.float32)


def _attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    *,
    heads: Any,
    head_dim: Any,
    scale: float,
    causal: Any = (0,),
    **where: Any,
) -> Array:
    count, width = heads[0], head_dim[0]

    def split(x: Array, name: str) -> Array:
        offset, stride = where.get(f"{name}_offset", (0,))[0], where.get(f"{name}_head_stride", head_dim)[0]
        return np.stack([x[:, :, offset + h * stride :][:, :, :width] for h in range(count)], 1)

    scores = split(q, "q") @ split(k, "k").swapaxes(-1, -2) * scale
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == np.bool_ else scores + mask
    if causal[0]:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
    heads_out = _softmax(scores, axis=(scores.ndim - 1,)) @ split(v, "v")
    return heads_out.swapaxes(1, 2).reshape(q.shape[0], q.shape[1], count * width).astype(np.float32)


def _softmax(x: Array, *, axis: Any) -> Array:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    result: Array = e / e.sum(axis=axis, keepdims=True)
    return result


def _layer_norm(x: Array, gamma: Array | None = None, beta: Array | None = None, *, eps: float) -> Array:
    mean = x.mean(-1, keepdims=True)
    y = (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + eps)
    y = y if gamma is None else y * gamma
    return (y if beta is None else y + beta).astype(np.float32)


def _binary(a: Array, b: Array, *, fn: str) -> Array:
    assert a.dtype == b.dtype and a.dtype in (np.float32, np.int32)
    functions = {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "div": np.divide,
        "min": np.minimum,
        "max": np.maximum,
    }
    result: Array = functions[fn](a, b)
    return result


def _compare(a: Array, b: Array, *, fn: str) -> Array:
    assert a.dtype == b.dtype and a.dtype in (np.float32, np.int32)
    names = {"eq": "equal", "ne": "not_equal", "gt": "greater", "lt": "less", "ge": "greater_equal", "le": "less_equal"}
    result: Array = getattr(np, names[fn])(a, b)
    return result


def _select(condition: Array, a: Array, b: Array) -> Array:
    assert condition.dtype == np.bool_ and a.dtype == b.dtype
    return np.where(condition, a, b)


def _reduce(x: Array, *, fn: str, axes: Any, keepdim: Any = (0,)) -> Array:
    assert list(axes) == sorted(axes)
    keep = bool(keepdim[0])
    if fn == "l2norm":
        return np.sqrt((x * x).sum(axes, keepdims=keep))
    result: Array = getattr(x, fn)(axes, keepdims=keep)
    return result.astype(x.dtype)


def _pool2d(
    x: Array, *, fn: str, kernel: Any, stride: Any, pad: Any = (0, 0, 0, 0), count_include_pad: Any = (1,)
) -> Array:
    top, left, bottom, right = pad
    t = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    if fn == "max":
        y = F.max_pool2d(F.pad(t, (left, right, top, bottom), value=-math.inf), kernel, stride)
    else:
        y = F.avg_pool2d(F.pad(t, (left, right, top, bottom)), kernel, stride)
        if not count_include_pad[0]:
            y = y / F.avg_pool2d(F.pad(torch.ones_like(t), (left, right, top, bottom)), kernel, stride)
    return y.numpy().transpose(0, 2, 3, 1)


def _resize2d(x: Array, *, fn: str, size: Any) -> Array:
    y = F.interpolate(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), size=size, mode=fn)
    return y.numpy().transpose(0, 2, 3, 1)


def _rearrange(x: Array, *, dims: Any, strides: Any, offset: Any = (0,), shape: Any) -> Array:
    last = offset[0] + sum((d - 1) * s for d, s in zip(dims, strides, strict=True))
    assert len(dims) <= 8 and offset[0] >= 0 and last < x.size and math.prod(dims) == math.prod(shape)
    flat = x.reshape(-1)[offset[0] :]
    bytes_ = [s * x.itemsize for s in strides]
    return np.lib.stride_tricks.as_strided(flat, dims, bytes_, writeable=False).reshape(shape)


def _alias(x: Array, *, shape: Any = ()) -> Array:
    return x.reshape(shape)


def _cast(x: Array, *, to: str) -> Array:
    return x != 0 if to == "bool" else x.astype(_DTYPES[to])


def _gather(x: Array, index: Array, *, axis: Any, batch: Any = (0,)) -> Array:
    def along(x: Array, index: Array, batch: int) -> Array:
        if batch == 0:
            return np.take(x, index, axis[0] - depth)
        return np.stack([along(part, i, batch - 1) for part, i in zip(x, index, strict=True)])

    depth = batch[0]
    return along(x, index, depth)


def _pad(x: Array, *, before: Any, after: Any, value: float = 0.0) -> Array:
    return np.pad(x, list(zip(before, after, strict=True)), constant_values=value)


OPERATORS: dict[str, Any] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "matmul": _matmul,
    "attention": _attention,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "embedding": lambda table, ids: table[ids],
    "unary": _unary,
    "binary": _binary,
    "compare": _compare,
    "select": _select,
    "reduce": _reduce,
    "pool2d": _pool2d,
    "resize2d": _resize2d,
    "concat": lambda *parts, axis: np.concatenate(parts, axis[0]),
    "rearrange": _rearrange,
    "alias": _alias,
    "cast": _cast,
    "argmax": lambda x, axis: x.argmax(axis[0]).astype(np.int32),
    "cumsum": lambda x, axis: x.cumsum(axis[0], np.float64 if x.dtype == np.float32 else x.dtype).astype(x.dtype),
    "gather": _gather,
    "pad": _pad,
}
