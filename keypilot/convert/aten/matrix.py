"""Linear layers, matrix products, attention, embeddings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from keypilot.convert.aten.elementwise import arithmetic
from keypilot.convert.aten.registry import lowers
from keypilot.convert.graph import ONE, Value, product

if TYPE_CHECKING:
    from keypilot.convert.importer import Builder


@lowers("linear.default")
def linear(b: Builder, x: Value, weight: Value, bias: Value | None) -> Value:
    if weight.data is None or (bias is not None and bias.data is None):
        raise b.unsupported("a weight that is computed at run time; use matmul")
    return b.emit("linear", [x, weight, bias])


@lowers("matmul.default", "mm.default", "bmm.default", "__matmul__.default")
def matmul(b: Builder, x: Value, y: Value) -> Value:
    # PyTorch treats vectors as a row on the left and as a column on the right.
    left = b.reshape(x, (ONE, *x.shape)) if x.rank == 1 else x
    right = b.reshape(y, (*y.shape, ONE)) if y.rank == 1 else y
    leading = b.shape[: len(b.shape) - (x.rank > 1) - (y.rank > 1)]
    shape = (*leading, left.shape[-2], right.shape[-1])
    return b.reshape(b.emit("matmul", [left, right], shape, alpha=1.0), b.shape)


@lowers("addmm.default", "baddbmm.default")
def add_matmul(b: Builder, added: Value, x: Value, y: Value, beta: float, alpha: float) -> Value:
    result = b.emit("matmul", [x, y], alpha=float(alpha))
    return arithmetic(b, "add", result, added if beta == 1 else arithmetic(b, "mul", added, beta))


@lowers("embedding.default")
def embedding(b: Builder, table: Value, ids: Value, *_options: object) -> Value:
    if table.data is None:
        raise b.unsupported("a table that is computed at run time")
    return b.emit("embedding", [table, b.cast(ids, "i32")])


@lowers("scaled_dot_product_attention.default")
def attention(
    b: Builder,
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None,
    _dropout: float,
    causal: bool,
    scale: float | None,
    grouped: bool,
) -> Value:
    if grouped:
        raise b.unsupported("grouped-query attention; repeat the keys and values")
    if scale is None:
        scale = 1 / math.sqrt(b.static(q.shape[-1], "the head dimension"))
    return emit_attention(b, q, k, v, mask, scale, causal)


def emit_attention(b: Builder, q: Value, k: Value, v: Value, mask: Value | None, scale: float, causal: bool) -> Value:
    """softmax(scale * q k^T + mask) v for q, k, v of shape (..., L, D), as an `attention` node.

    The node takes q, k and v as (B, H, L, D) and gives (B, L, H * D), which is where its heads lie in memory.
    """
    shape = (*q.shape[:-1], v.shape[-1])
    if k.shape[-1] != v.shape[-1] or q.shape[:-2] != k.shape[:-2] or k.shape[:-1] != v.shape[:-1]:
        raise b.unsupported("attention whose q, k and v differ in batch, heads or head dimension")
    if q.rank == 4:
        batch, heads = q.shape[0], q.shape[1]
    else:
        batch, heads = product(q.shape[:-2]), ONE
        q, k, v = (b.reshape(x, (batch, heads, *x.shape[-2:])) for x in (q, k, v))
        if mask is not None and mask.rank > 2:
            full = (*shape[:-2], *mask.shape[-2:])
            mask = b.reshape(b.expand(mask, full), (batch, heads, *mask.shape[-2:]))
    rows, width = q.shape[2], q.shape[3]
    flat = b.emit(
        "attention",
        [q, k, v, _additive(b, mask)],
        (batch, rows, heads * width),
        heads=b.static(heads, "the number of heads"),
        head_dim=b.static(width, "the head dimension"),
        scale=float(scale),
        causal=int(causal),
    )
    return b.reshape(b.permute(b.reshape(flat, (batch, rows, heads, width)), (0, 2, 1, 3)), shape)


def _additive(b: Builder, mask: Value | None) -> Value | None:
    """The mask with four dimensions; a constant of booleans becomes 0 and -infinity, since files store no booleans."""
    if mask is None:
        return None
    if mask.data is not None and mask.dtype == "bool":
        constant = b.constant(np.where(mask.data, np.float32(0), np.float32(-np.inf)), label="mask")
        constant.shape = mask.shape
        mask = constant
    if mask.data is not None:
        return mask.with_rank(4)
    return b.reshape(mask, (ONE,) * (4 - mask.rank) + mask.shape)
