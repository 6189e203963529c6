"""Attention: softmax(q k^T * c + mask) v written out becomes one `attention`, and factors of q and k join its scale."""

from __future__ import annotations

import dataclasses

import numpy as np

from keypilot.convert.graph import ONE, Node, Program, Value
from keypilot.convert.views import Permute, Reshape


@dataclasses.dataclass
class _Scores:
    """scale * q k^T + mask, as the operands of its matmul: k is (..., D, Lk)."""

    q: Value
    k: Value
    scale: float = 1.0
    mask: Value | None = None


def find_attention(program: Program) -> None:
    producers = program.producers()
    users = program.users()
    nodes: list[Node] = []
    for node in program.nodes:
        nodes += _written_out(node, producers, users) or [node]
    for node in nodes:
        if node.op == "attention":
            for operand in (0, 1):
                node.inputs[operand], factor = _without_factor(node.input(operand), producers)
                node.attributes["scale"] *= factor
    program.nodes = nodes


def _written_out(node: Node, producers: dict[Value, Node], users: dict[Value, list[Node]]) -> list[Node] | None:
    """The nodes of an `attention` in place of the second matmul of the pattern."""
    softmax = producers.get(node.input(0)) if node.op == "matmul" else None
    if softmax is None or softmax.op != "softmax" or softmax.attributes["axis"] != softmax.output.rank - 1:
        return None
    if len(users[softmax.output]) > 1 or node.attributes["alpha"] != 1:
        return None
    scores = _scores(softmax.input(0), producers, users)
    v = node.input(1)
    if scores is None or scores.q.rank not in (3, 4) or v.rank != scores.q.rank or scores.k.rank != v.rank:
        return None
    q, k, rank = scores.q, scores.k, v.rank
    if q.shape[:-2] != v.shape[:-2] or k.shape[:-2] != v.shape[:-2] or q.shape[-1] != v.shape[-1]:
        return None
    heads = v.shape[1] if rank == 4 else ONE
    width = v.shape[-1]
    if not (heads.static and width.static) or (scores.mask is not None and scores.mask.rank > 4):
        return None
    result: list[Node] = []

    def view(x: Value, change: Permute | Reshape) -> Value:
        shape = change.shape if isinstance(change, Reshape) else tuple(x.shape[i] for i in change.order)
        output = Value(f"{node.output.name}.view", shape, x.dtype)
        result.append(Node("view", [x], output, {"view": change}, node.module))
        return output

    keys = view(k, Permute((*range(rank - 2), rank - 1, rank - 2)))
    operands = [x if rank == 4 else view(x, Reshape((x.shape[0], ONE, *x.shape[1:]))) for x in (q, keys, v)]
    mask = scores.mask
    if mask is not None:
        # Scores (B, L, L) become (B, 1, L, L), and so does their mask; a smaller one gets dimensions in front.
        inserted = (1,) if rank == mask.rank == 3 else tuple(range(4 - mask.rank))
        shape = list(mask.shape)
        for axis in inserted:
            shape.insert(axis, ONE)
        if mask.data is not None:
            mask = Value(mask.name, tuple(shape), mask.dtype, np.expand_dims(mask.data, inserted))
        else:
            mask = view(mask, Reshape(tuple(shape)))
    rows = q.shape[-2]
    flat = Value(f"{node.output.name}.attention", (q.shape[0], rows, heads * width), "f32")
    attributes = {"heads": heads.coefficient, "head_dim": width.coefficient, "scale": scores.scale, "causal": 0}
    result.append(Node("attention", [*operands, mask], flat, attributes, node.module))
    by_head = view(flat, Reshape((q.shape[0], rows, heads, width)))
    swapped = view(by_head, Permute((0, 2, 1, 3)))
    result.append(Node("view", [swapped], node.output, {"view": Reshape(node.output.shape)}, node.module))
    return result


def _scores(value: Value, producers: dict[Value, Node], users: dict[Value, list[Node]]) -> _Scores | None:
    """Reads the scores' expression backwards: factors, at most one mask, then the matmul."""
    scale, mask = 1.0, None
    while True:
        node = producers.get(value)
        if node is None or len(users.get(value, [])) > 1:
            return None
        if node.op == "matmul":
            return _Scores(node.input(0), node.input(1), scale * node.attributes["alpha"], mask)
        if node.op != "binary":
            return None
        x, y = node.input(0), node.input(1)
        fn = node.attributes["fn"]
        if fn in ("mul", "div") and y.uniform is not None:
            scale *= y.uniform if fn == "mul" else 1 / y.uniform
            value = x
        elif fn == "mul" and x.uniform is not None:
            scale *= x.uniform
            value = y
        elif fn == "add" and mask is None and scale == 1 and x.shape == value.shape:
            mask, value = y, x
        else:
            return None


def _without_factor(value: Value, producers: dict[Value, Node]) -> tuple[Value, float]:
    """(x, c) where the value is x * c for a number c."""
    node = producers.get(value)
    if node is not None and node.op == "binary" and node.attributes["fn"] in ("mul", "div"):
        x, y = node.input(0), node.input(1)
        if y.uniform is not None and x.shape == value.shape:
            return x, float(y.uniform if node.attributes["fn"] == "mul" else 1 / y.uniform)
        if x.uniform is not None and node.attributes["fn"] == "mul":
            return y, float(x.uniform)
    return value, 1.0
