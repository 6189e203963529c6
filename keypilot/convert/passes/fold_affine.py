"""Folds batch norm, LayerScale and other per-channel constants into the convolution or linear layer before them.

The arithmetic is in float64; weights are rounded to float32 once, when the file is written. What has no
convolution or linear layer before it becomes a multiplication and an addition.
"""

from __future__ import annotations

import numpy as np

from keypilot.convert.graph import LAYERS, Array, Node, Program, Value, as_shape


def fold_affine(program: Program) -> None:
    producers = program.producers()
    sole_user = program.sole_user()
    nodes: list[Node] = []
    for node in program.nodes:
        found = _affine(node)
        producer = producers.get(found[0]) if found else None
        if found and producer is not None and _absorb(producer, found[1], found[2], sole_user(found[0]) is node):
            producer.output = node.output
            producers[node.output] = producer
        elif node.op == "channel_affine":
            nodes += _written_out(node)
        else:
            nodes.append(node)
    program.nodes = nodes


def _affine(node: Node) -> tuple[Value, Array, Array] | None:
    """(x, scale, shift) where the node gives x * scale + shift, arrays of the node's rank or a vector of channels."""
    one, zero = np.float64(1), np.float64(0)
    if node.op == "channel_affine":
        scale, shift = (_channel_shaped(node, i) for i in (1, 2))
        return node.input(0), scale, shift
    if node.op != "binary" or node.output.dtype != "f32":
        return None
    x, y = node.input(0), node.input(1)
    fn = node.attributes["fn"]
    if x.data is not None and fn in ("add", "mul"):
        x, y = y, x
    if y.data is None or x.data is not None or x.shape != node.output.shape:
        return None
    data = y.data.astype(np.float64)
    if fn == "div" and np.all(data != 0):
        return x, 1 / data, zero
    by_function = {"add": (one, data), "sub": (one, -data), "mul": (data, zero)}
    return (x, *by_function[fn]) if fn in by_function else None


def _channel_shaped(node: Node, index: int) -> Array:
    """A batch norm's parameter with the rank that broadcasts along axis 1."""
    data = node.input(index).data
    assert data is not None
    return data.reshape(-1, *(1,) * (node.output.rank - 2))


def _absorb(producer: Node, scale: Array, shift: Array, alone: bool) -> bool:
    """Changes the producer's weights, if it can; True where it did."""
    if not alone or producer.op not in LAYERS:
        return False
    axis = producer.output.rank - 1 if producer.op == "linear" else 1
    channels = producer.input(1).shape[0].coefficient
    vectors = [_vector(array, axis, producer.output.rank, channels) for array in (scale, shift)]
    if vectors[0] is None or vectors[1] is None:
        return False
    weight, bias = producer.input(1), producer.inputs[2]
    assert weight.data is not None
    old = np.zeros(channels) if bias is None or bias.data is None else bias.data.astype(np.float64)
    scaled = weight.data.astype(np.float64) * vectors[0].reshape(-1, *(1,) * (weight.rank - 1))
    name = bias.name if bias is not None else _sibling(weight.name)
    producer.inputs[1] = Value(weight.name, weight.shape, "f32", scaled)
    producer.inputs[2] = Value(name, as_shape((channels,)), "f32", old * vectors[0] + vectors[1])
    return True


def _vector(array: Array, axis: int, rank: int, channels: int) -> Array | None:
    """An operand that varies along the channel axis only, one number per channel; None where it varies elsewhere."""
    if array.ndim > rank:
        return None
    shape = [1] * (rank - array.ndim) + list(array.shape)
    if any(size != 1 for i, size in enumerate(shape) if i != axis) or shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,)).astype(np.float64)


def _sibling(weight: str) -> str:
    """The name of the bias beside a weight."""
    return f"{weight.removesuffix('weight')}bias" if weight.endswith("weight") else f"{weight}.bias"


def _written_out(node: Node) -> list[Node]:
    prefix = f"{node.module}." if node.module else ""
    scale, shift = (
        Value(f"{prefix}{name}", as_shape(data.shape), "f32", data)
        for name, data in (("scale", _channel_shaped(node, 1)), ("shift", _channel_shaped(node, 2)))
    )
    scaled = Value(f"{prefix}scaled", node.output.shape, "f32")
    return [
        Node("binary", [node.input(0), scale], scaled, {"fn": "mul"}, node.module),
        Node("binary", [scaled, shift], node.output, {"fn": "add"}, node.module),
    ]
