"""Views, joins and copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keypilot.convert.aten.registry import lowers
from keypilot.convert.graph import ONE, ZERO, Dim, Shape, Value, as_dim

if TYPE_CHECKING:
    from keypilot.convert.importer import Builder

#: Inputs of a `concat` (KP_MAX_OP_INPUTS).
MAX_PARTS = 16


@lowers(
    "view.default",
    "_unsafe_view.default",
    "reshape.default",
    "flatten.using_ints",
    "unflatten.int",
    "unsqueeze.default",
    "squeeze.default",
    "squeeze.dim",
    "squeeze.dims",
    "view_as.default",
    "reshape_as.default",
)
def reshape(b: Builder, x: Value, *_shape: Any) -> Value:
    return b.reshape(x, b.shape)


@lowers(
    "clone.default",
    "contiguous.default",
    "alias.default",
    "detach.default",
    "lift_fresh_copy.default",
    "dropout.default",
    "feature_dropout.default",
    "native_dropout.default",
    "positive.default",
)
def identity(b: Builder, x: Value, *_options: Any) -> Value:
    return x


@lowers("permute.default")
def permute(b: Builder, x: Value, dims: Sequence[int]) -> Value:
    return b.permute(x, [d % x.rank for d in dims])


@lowers("transpose.int", "swapaxes.default")
def transpose(b: Builder, x: Value, a: int, c: int) -> Value:
    order = list(range(x.rank))
    order[a], order[c] = order[c], order[a]
    return b.permute(x, order)


@lowers("t.default", "mT.default")
def matrix_transpose(b: Builder, x: Value) -> Value:
    return transpose(b, x, -1, -2) if x.rank > 1 else x


@lowers("movedim.int", "movedim.intlist")
def movedim(b: Builder, x: Value, source: int | list[int], destination: int | list[int]) -> Value:
    sources = [s % x.rank for s in ([source] if isinstance(source, int) else source)]
    targets = [d % x.rank for d in ([destination] if isinstance(destination, int) else destination)]
    rest = iter([i for i in range(x.rank) if i not in sources])
    placed = dict(zip(targets, sources, strict=True))
    return b.permute(x, [placed[i] if i in placed else next(rest) for i in range(x.rank)])


@lowers("expand.default", "expand_as.default")
def expand(b: Builder, x: Value, *_shape: Any) -> Value:
    return b.expand(x, b.shape)


@lowers("repeat.default")
def repeat(b: Builder, x: Value, repeats: Sequence[int | Dim]) -> Value:
    x = b.reshape(x, (ONE,) * (len(repeats) - x.rank) + x.shape)
    split = tuple(dim for size in x.shape for dim in (ONE, size))
    tiled = tuple(dim for count, size in zip(repeats, x.shape, strict=True) for dim in (as_dim(count), size))
    return b.reshape(b.expand(b.reshape(x, split), tiled), b.shape)


@lowers("repeat_interleave.self_int")
def repeat_interleave(b: Builder, x: Value, repeats: int | Dim, dim: int | None, _size: Any) -> Value:
    if dim is None:
        raise b.unsupported("give repeat_interleave a dim")
    axis = dim % x.rank + 1
    x = b.reshape(x, (*x.shape[:axis], ONE, *x.shape[axis:]))
    return b.reshape(b.expand(x, (*x.shape[:axis], as_dim(repeats), *x.shape[axis + 1 :])), b.shape)


@lowers("slice.Tensor")
def slice_(b: Builder, x: Value, dim: int, start: int | Dim | None, _end: Any, step: int) -> Value:
    axis = dim % x.rank
    return b.slice(x, axis, _position(b, start or 0, x.shape[axis]), b.shape[axis], step)


@lowers("narrow.default")
def narrow(b: Builder, x: Value, dim: int, start: int | Dim, _length: Any) -> Value:
    axis = dim % x.rank
    return b.slice(x, axis, _position(b, start, x.shape[axis]), b.shape[axis])


@lowers("select.int")
def select(b: Builder, x: Value, dim: int, index: int | Dim) -> Value:
    axis = dim % x.rank
    return b.reshape(b.slice(x, axis, _position(b, index, x.shape[axis]), ONE), b.shape)


@lowers("unbind.int")
def unbind(b: Builder, x: Value, dim: int) -> list[Value]:
    axis = dim % x.rank
    return [b.reshape(b.slice(x, axis, Dim(i), ONE), shape) for i, shape in enumerate(b.shapes)]


@lowers("split.Tensor", "split_with_sizes.default", "split.sizes", "chunk.default", "tensor_split.sections")
def split(b: Builder, x: Value, _sizes: Any, dim: int) -> list[Value]:
    axis = dim % x.rank
    start, parts = ZERO, []
    for shape in b.shapes:
        parts.append(b.slice(x, axis, start, shape[axis]))
        start = start + shape[axis]
    return parts


@lowers("cat.default", "concat.default")
def cat(b: Builder, tensors: Sequence[Value], dim: int) -> Value:
    # PyTorch lets an empty vector stand among tensors of any rank, as an empty cache of keys.
    parts = [b.cast(x, b.dtypes[0]) for x in tensors if x.shape != (ZERO,)]
    return _joined(b, parts, dim % len(b.shape), b.shape)


@lowers("slice_scatter.default")
def slice_scatter(b: Builder, x: Value, part: Value, dim: int, start: int | Dim | None, _end: Any, step: int) -> Value:
    """What an assignment to a slice is without writing in place: x around the new part."""
    if step != 1:
        raise b.unsupported(f"an assignment to a slice with a step of {step}")
    axis = dim % x.rank
    return _replaced(b, x, b.cast(part, x.dtype), axis, _position(b, start or 0, x.shape[axis]))


@lowers("select_scatter.default")
def select_scatter(b: Builder, x: Value, part: Value, dim: int, index: int | Dim) -> Value:
    axis = dim % x.rank
    part = b.reshape(b.cast(part, x.dtype), (*x.shape[:axis], ONE, *x.shape[axis + 1 :]))
    return _replaced(b, x, part, axis, _position(b, index, x.shape[axis]))


def _replaced(b: Builder, x: Value, part: Value, axis: int, start: Dim) -> Value:
    """x with `part` at `start` of an axis."""
    size, length = x.shape[axis], part.shape[axis]
    if length == size:
        return part
    what = "the size of a dimension that is assigned to in part"
    end = b.static(start, what) + b.static(length, what)
    pieces = [b.slice(x, axis, ZERO, start), part, b.slice(x, axis, Dim(end), Dim(b.static(size, what) - end))]
    return b.emit("concat", [piece for piece in pieces if piece.shape[axis] != ZERO], axis=axis)


@lowers("copy.default")
def copy(b: Builder, _x: Value, source: Value, *_options: Any) -> Value:
    return b.expand(b.cast(source, b.dtypes[0]), b.shape)


@lowers("fill.Scalar", "fill.Tensor")
def fill(b: Builder, _x: Value, value: Value | float) -> Value:
    return b.expand(value if isinstance(value, Value) else b.constant(value, b.dtypes[0]), b.shape)


@lowers("stack.default")
def stack(b: Builder, tensors: Sequence[Value], dim: int) -> Value:
    axis = dim % len(b.shape)
    shape = (*b.shape[:axis], ONE, *b.shape[axis + 1 :])
    return _joined(b, [b.reshape(b.cast(x, b.dtypes[0]), shape) for x in tensors], axis, b.shape)


def _joined(b: Builder, parts: Sequence[Value], axis: int, shape: Shape) -> Value:
    """A `concat`, or several where there are more parts than it takes."""
    if len(parts) == 1:
        return parts[0]
    if len(parts) > MAX_PARTS:
        starts = range(0, len(parts), MAX_PARTS)
        groups = [parts[start : start + MAX_PARTS] for start in starts]
        joined = []
        for group in groups:
            size = ZERO
            for part in group:
                size = size + part.shape[axis]
            joined.append(_joined(b, group, axis, (*shape[:axis], size, *shape[axis + 1 :])))
        parts = joined
    return b.emit("concat", parts, shape, axis=axis)


@lowers("roll.default")
def roll(b: Builder, x: Value, shifts: Sequence[int], dims: Sequence[int]) -> Value:
    if not dims:
        raise b.unsupported("give roll its dims")
    for shift, dim in zip(shifts, dims, strict=True):
        axis = dim % x.rank
        size = b.static(x.shape[axis], "the size of a rolled dimension")
        cut = -shift % size
        if cut:
            parts = [
                b.slice(x, axis, Dim(cut), Dim(size - cut)),
                b.slice(x, axis, ZERO, Dim(cut)),
            ]
            x = b.emit("concat", parts, axis=axis)
    return x


@lowers("constant_pad_nd.default")
def constant_pad(b: Builder, x: Value, pads: Sequence[int], value: float) -> Value:
    """Pads of the last dimension come first; those below zero cut off."""
    sides = {x.rank - 1 - i: (pads[2 * i], pads[2 * i + 1]) for i in range(len(pads) // 2)}
    for axis, (before, after) in sides.items():
        if before < 0 or after < 0:
            size = b.static(x.shape[axis], "the size of a dimension that is cut")
            start, cut = max(-before, 0), max(-before, 0) + max(-after, 0)
            x = b.slice(x, axis, Dim(start), Dim(size - cut))
    rims = [tuple(max(sides.get(axis, (0, 0))[i], 0) for axis in range(x.rank)) for i in (0, 1)]
    if not any((*rims[0], *rims[1])):
        return x
    return b.emit("pad", [b.cast(x, "f32")], before=rims[0], after=rims[1], value=float(value))


def _position(b: Builder, index: int | Dim, size: Dim) -> Dim:
    """An index into a dimension, counted from its start; a start past the end is the end."""
    if isinstance(index, Dim):
        return index
    if index < 0:
        return Dim(index + b.static(size, "the size of a dimension indexed from its end"))
    return Dim(min(index, size.coefficient)) if size.static else Dim(index)
