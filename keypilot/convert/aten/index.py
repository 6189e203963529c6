"""Reading by index: gather, index_select, x[i, j], and the ranges, sums and maxima that indices are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keypilot.convert.aten.elementwise import arithmetic, reduction
from keypilot.convert.aten.registry import lowers
from keypilot.convert.graph import ONE, ZERO, Dim, Shape, Value, as_dim, broadcast_shape, product
from keypilot.convert.views import Expand, Reshape

if TYPE_CHECKING:
    from keypilot.convert.importer import Builder


# ---- Ranges, sums, maxima ---------------------------------------------------------------------------------------


@lowers("arange.default", "arange.start", "arange.start_step")
def arange(b: Builder, *args: Any) -> Value:
    """0, 1, ... up to a symbolic size, which is not a constant; others are, and do not come here."""
    if b.operator == "aten.arange.default":
        start, step = 0, 1
    else:
        start, step = args[0], args[2] if b.operator.endswith("step") else 1
    if not isinstance(start, int) or not isinstance(step, int):
        raise b.unsupported(f"a range from {start} by {step}; both must be whole numbers that do not depend on N and T")
    dtype = b.dtypes[0]
    result = b.emit("arange", [], dtype="i32")
    b.dtypes = ["i32"]
    if step != 1:
        result = arithmetic(b, "mul", result, step)
    return b.cast(arithmetic(b, "add", result, start) if start else result, dtype)


@lowers("cumsum.default")
def cumsum(b: Builder, x: Value, dim: int, _dtype: Any) -> Value:
    return b.emit("cumsum", [b.cast(x, b.dtypes[0])], axis=dim % x.rank)


@lowers("argmax.default", "argmin.default")
def argmax(b: Builder, x: Value, dim: int | None, _keepdim: bool) -> Value:
    if "argmin" in b.operator:
        b.dtypes = [x.dtype]
        x = b.emit("binary", [x, b.constant(-1, x.dtype)], x.shape, fn="mul")
    if x.dtype == "bool":
        x = b.cast(x, "i32")
    if dim is None:
        size = b.static(product(x.shape), "the size of a tensor that is searched")
        x, dim = b.reshape(x, (Dim(size),)), 0
    axis = dim % x.rank
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    return b.reshape(b.emit("argmax", [x], shape, "i32", axis=axis), b.shape)


@lowers("max.dim", "min.dim")
def extreme_and_where(b: Builder, x: Value, dim: int, keepdim: bool) -> list[Value]:
    fn = b.operator.split(".")[1]
    if x.dtype == "bool":
        raise b.unsupported(f"a {fn} of booleans; cast them first")
    shapes = b.shapes
    value = reduction(b, fn, x, dim, keepdim)
    if fn == "min":
        x = b.emit("binary", [x, b.constant(-1, x.dtype)], x.shape, fn="mul")
    axis = dim % x.rank
    where = b.emit("argmax", [x], (*x.shape[:axis], *x.shape[axis + 1 :]), "i32", axis=axis)
    return [value, b.reshape(where, shapes[1])]


# ---- Gathering --------------------------------------------------------------------------------------------------


def _gather(b: Builder, x: Value, index: Value, axis: int, batch: int = 0) -> Value:
    shape = (*x.shape[:axis], *index.shape[batch:], *x.shape[axis + 1 :])
    return b.emit("gather", [x, b.cast(index, "i32")], shape, x.dtype, axis=axis, batch=batch)


@lowers("index_select.default")
def index_select(b: Builder, x: Value, dim: int, index: Value) -> Value:
    return b.reshape(_gather(b, x, index, dim % x.rank), b.shape)


@lowers("gather.default")
def gather(b: Builder, x: Value, dim: int, index: Value, *_options: Any) -> Value:
    """result[..., i, ...] = x[..., index[..., i, ...], ...]: one index for every element."""
    if x.data is not None and np.all(x.data == x.data.reshape(-1)[:1]):
        return b.expand(b.constant(x.data.reshape(-1)[0]), b.shape)  # whichever is taken
    axis = dim % x.rank
    for other, size in enumerate(index.shape):
        if other != axis and x.shape[other] != size:
            x = b.slice(x, other, ZERO, size)
    order = [*(i for i in range(x.rank) if i != axis), axis]
    taken = _gather(b, b.permute(x, order), b.permute(index, order), x.rank - 1, x.rank - 1)
    return b.unpermute(taken, order)


@lowers("index.Tensor")
def index(b: Builder, x: Value, indices: Sequence[Value | None]) -> Value:
    """x[:, i], x[i, j]: one index of any contents; others that count up along a dimension of their own."""
    axes = [axis for axis, index in enumerate(indices) if index is not None]
    found = [index for index in indices if index is not None]
    if any(index.dtype == "bool" for index in found):
        raise b.unsupported("an index of booleans; the result's shape depends on the data")
    if axes != list(range(axes[0], axes[0] + len(axes))):
        raise b.unsupported("indices of dimensions that are not neighbours")
    if len(axes) == 1:
        return _gather(b, x, found[0], axes[0])
    together = broadcast_shape([index.shape for index in found])
    counted = [_counted(b, index, x.shape[axis], together) for axis, index in zip(axes, found, strict=True)]
    if None not in counted:
        return _diagonal(b, x, axes[0], [axis for axis in counted if axis is not None], together)
    last = len(axes) - 1
    if counted[:last] != list(range(last)) or axes[0] != 0:
        raise b.unsupported(
            "several indices; supported are x[i], and x[arange(x.shape[0]), i] for as many leading dimensions"
        )
    return _gather(b, x, b.expand(found[last], together), last, last)


def _counted(b: Builder, index: Value, size: Dim, together: Shape) -> int | None:
    """The dimension of the broadcast indices along which this one counts 0, 1, ..., size - 1; None where there is
    none."""
    large = [axis for axis, dim in enumerate(index.shape) if dim != ONE]
    if len(large) != 1 or index.shape[large[0]] != size:
        return None
    if index.data is None:
        source = index
        while (node := b.producer(source)) is not None and node.op == "view":
            if not isinstance(node.attributes["view"], Reshape | Expand):
                return None
            source = node.input(0)
        if node is None or node.op != "arange":
            return None
    elif not size.static or not np.array_equal(index.data.reshape(-1), np.arange(size.coefficient)):
        return None
    return large[0] + len(together) - index.rank


def _diagonal(b: Builder, x: Value, first: int, counted: Sequence[int], together: Shape) -> Value:
    """x whose dimensions from `first` on lie along these of the broadcast indices."""
    if len(set(counted)) != len(counted):
        raise b.unsupported("two indices along one dimension; a diagonal")
    order = sorted(range(len(counted)), key=lambda i: counted[i])
    moved = b.permute(x, [*range(first), *(first + i for i in order), *range(first + len(order), x.rank)])
    spread = tuple(as_dim(dim if axis in counted else ONE) for axis, dim in enumerate(together))
    rest = moved.shape[first + len(order) :]
    return b.expand(b.reshape(moved, (*moved.shape[:first], *spread, *rest)), b.shape)
