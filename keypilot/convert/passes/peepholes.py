"""Functions written out in PyTorch that have an operator of their own: SiLU, quick GELU, layer norm."""

from __future__ import annotations

import math

import numpy as np

from keypilot.convert.graph import Node, Program, Value, as_shape
from keypilot.convert.views import Permute


def apply_peepholes(program: Program) -> None:
    producers = program.producers()
    nodes: list[Node] = []
    for node in program.nodes:
        _sigmoid_gate(node, producers)
        nodes += _layer_norm(node, producers) or [node]
    program.nodes = nodes


def _sigmoid_gate(node: Node, producers: dict[Value, Node]) -> None:
    """x * sigmoid(x) and x * sigmoid(1.702 x) (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""
    if not _is(node, "binary", "mul"):
        return
    for x, gate in (node.inputs, node.inputs[::-1]):
        sigmoid = producers.get(gate) if gate is not None else None
        if x is None or sigmoid is None or not _is(sigmoid, "unary", "sigmoid"):
            continue
        argument, factor = _scaled(sigmoid.input(0), producers)
        fn = {np.float32(1): "silu", np.float32(1.702): "quick_gelu"}.get(np.float32(factor))
        if argument is x and fn is not None:
            node.op, node.inputs, node.attributes = "unary", [x], {"fn": fn}
            return


def _scaled(value: Value, producers: dict[Value, Node]) -> tuple[Value, float]:
    """(x, c) where the value is x * c, for a number c."""
    node = producers.get(value)
    if node is not None and _is(node, "binary", "mul"):
        for x, c in (node.inputs, node.inputs[::-1]):
            if x is not None and c is not None and c.uniform is not None:
                return x, c.uniform
    return value, 1.0


def _layer_norm(node: Node, producers: dict[Value, Node]) -> list[Node] | None:
    """w * (x - mean x) / sqrt(mean (x - mean x)^2 + eps) + b over one axis, as SAM's and ConvNeXt's LayerNorm2d
    write it."""
    beta, scaled = _constant_and_node(node, "add", producers)
    gamma, divided = _constant_and_node(scaled, "mul", producers)
    if beta is None or gamma is None or divided is None or not _is(divided, "binary", "div"):
        return None
    centred, root = (producers.get(value) for value in (divided.input(0), divided.input(1)))
    if centred is None or root is None or not _is(centred, "binary", "sub") or not _is(root, "unary", "sqrt"):
        return None
    eps, variance = _constant_and_node(producers.get(root.input(0)), "add", producers)
    mean = producers.get(centred.input(1))
    if eps is None or eps.uniform is None or variance is None or mean is None:
        return None
    squared = producers.get(variance.input(0)) if _is(variance, "reduce", "mean") else None
    axes = mean.attributes.get("axes", ())
    x = node.output
    if (
        squared is None
        or not _is(squared, "binary", "mul")
        or squared.inputs != [centred.output, centred.output]
        or not _is(mean, "reduce", "mean")
        or mean.input(0) is not centred.input(0)
        or variance.attributes != mean.attributes
        or len(axes) != 1
        or not mean.attributes["keepdim"]
    ):
        return None
    axis, x = axes[0], centred.input(0)
    parameters = [_along(parameter, axis, x) for parameter in (gamma, beta)]
    if any(parameter is None for parameter in parameters):
        return None
    order = (*(i for i in range(x.rank) if i != axis), axis)
    back = (*range(axis), x.rank - 1, *range(axis, x.rank - 1))
    rows = Value(f"{node.output.name}.rows", tuple(x.shape[i] for i in order), "f32")
    normalised = Value(f"{node.output.name}.normalised", rows.shape, "f32")
    return [
        Node("view", [x], rows, {"view": Permute(order)}, node.module),
        Node("layer_norm", [rows, *parameters], normalised, {"eps": float(eps.uniform)}, node.module),
        Node("view", [normalised], node.output, {"view": Permute(back)}, node.module),
    ]


def _constant_and_node(node: Node | None, fn: str, producers: dict[Value, Node]) -> tuple[Value | None, Node | None]:
    """The constant and the other operand's node of a binary node."""
    if node is not None and _is(node, "binary", fn):
        for constant, other in (node.inputs, node.inputs[::-1]):
            if constant is not None and other is not None and constant.data is not None and other in producers:
                return constant, producers[other]
    return None, None


def _along(constant: Value, axis: int, x: Value) -> Value | None:
    """A constant that varies along one axis only, as a vector."""
    assert constant.data is not None
    size = x.shape[axis]
    aligned = constant.with_rank(x.rank)
    shape = tuple(dim.coefficient if i == axis else 1 for i, dim in enumerate(x.shape))
    if not size.static or aligned.data is None or aligned.data.size != math.prod(shape) or aligned.data.shape != shape:
        return None
    return Value(constant.name, as_shape((size,)), "f32", np.ascontiguousarray(aligned.data.reshape(-1)))


def _is(node: Node, op: str, fn: str) -> bool:
    return node.op == op and node.attributes.get("fn") == fn
