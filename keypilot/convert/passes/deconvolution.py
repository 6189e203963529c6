"""A transposed convolution becomes a convolution whose channels are then spread over pixels.

With stride s, output row s q + r reads input rows q, q - 1, ... through kernel rows r, r + s, ...: for each of the
s * s positions (r, r') a convolution of the input with a part of the kernel. Together they are one convolution with
s * s times the output channels (Shi et al. 2016, arXiv:1609.07009), 1x1 where the kernel is as large as the stride.
"""

from __future__ import annotations

import numpy as np

from keypilot.convert.graph import Array, Dim, Node, Program, Shape, Value, as_dim, as_shape
from keypilot.convert.views import Permute, Reshape, Slice, View
from keypilot.errors import UnsupportedError


def lower_deconvolutions(program: Program) -> None:
    program.nodes = [n for node in program.nodes for n in (_lowered(node) if node.op == "deconv2d" else [node])]


def _lowered(node: Node) -> list[Node]:
    x, weight, bias = node.input(0), node.input(1), node.inputs[2]
    assert weight.data is not None
    groups, stride = node.attributes["groups"], node.attributes["stride"]
    channels = weight.data.shape[0]
    before, after, cut, steps = [], [], [], []
    for axis in (0, 1):
        size, out = x.shape[2 + axis].coefficient, node.output.shape[2 + axis].coefficient
        taps = -(-weight.data.shape[2 + axis] // stride[axis])
        padding = node.attributes["padding"][axis]
        skipped = padding // stride[axis]  # input steps whose outputs are all cut off
        count = -(-(out + padding) // stride[axis]) - skipped
        before.append(taps - 1 - skipped)
        after.append(count - size - before[-1] + taps - 1)
        cut.append(padding - skipped * stride[axis])
        steps.append(count)
    if min(*before, *after) < 0:
        raise UnsupportedError(f"{node.module}: a transposed convolution with a padding as large as its kernel")
    data = _parts(weight.data, groups, stride)
    count = stride[0] * stride[1]
    spread = None
    if bias is not None and bias.data is not None:
        parts = np.repeat(bias.data.reshape(groups, 1, -1), count, axis=1).reshape(-1)
        spread = Value(bias.name, as_shape(parts.shape), "f32", parts)
    attributes = {"stride": (1, 1), "pad": (*before, *after), "dilation": (1, 1), "groups": groups}
    if "act" in node.attributes:
        attributes["act"] = node.attributes["act"]
    shape = (x.shape[0], Dim(channels * count), *map(Dim, steps))
    nodes: list[Node] = []

    def emit(op: str, inputs: list[Value | None], shape: Shape, attributes: dict[str, object]) -> Value:
        output = Value(f"{node.output.name}.parts", shape, "f32")
        nodes.append(Node(op, inputs, output, attributes, node.module))
        return output

    def view(x: Value, change: View, shape: Shape) -> Value:
        return emit("view", [x], shape, {"view": change})

    y = emit("conv2d", [x, Value(weight.name, as_shape(data.shape), "f32", data), spread], shape, attributes)
    if count > 1:
        split = (y.shape[0], *map(Dim, (groups, *stride, channels // groups, *steps)))
        order = (0, 1, 4, 5, 2, 6, 3)
        y = view(y, Reshape(split), split)
        y = view(y, Permute(order), tuple(split[i] for i in order))
        whole = (y.shape[0], Dim(channels), Dim(steps[0] * stride[0]), Dim(steps[1] * stride[1]))
        y = view(y, Reshape(whole), whole)
    for axis in (2, 3):
        length = node.output.shape[axis]
        if y.shape[axis] != length:
            shape = (*y.shape[:axis], length, *y.shape[axis + 1 :])
            y = view(y, Slice(axis, as_dim(cut[axis - 2]), length), shape)
    nodes[-1].output = node.output
    return nodes


def _parts(weight: Array, groups: int, stride: tuple[int, int]) -> Array:
    """The kernel (O, I, kh, kw) as (groups * sh * sw * O / groups, I, taps, taps): a kernel for each position."""
    channels, inputs, height, width = weight.shape
    taps = (-(-height // stride[0]), -(-width // stride[1]))
    padded = np.zeros((channels, inputs, taps[0] * stride[0], taps[1] * stride[1]), weight.dtype)
    padded[:, :, :height, :width] = weight
    parts = padded.reshape(groups, channels // groups, inputs, taps[0], stride[0], taps[1], stride[1])
    parts = parts[:, :, :, ::-1, :, ::-1].transpose(0, 4, 6, 1, 2, 3, 5)
    return np.ascontiguousarray(parts.reshape(-1, inputs, *taps))
