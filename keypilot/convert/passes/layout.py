"""Chooses every value's memory order: NHWC for pictures that convolutions, poolings and resizes meet, else PyTorch's.

Element-wise operators, joins and reductions work in any order, with their axes renamed; where an order does not
fit, an identity view with another order goes in between, and `lower_views` merges it with its neighbours.
Afterwards attributes speak of memory dimensions.
"""

from __future__ import annotations

import numpy as np

from keypilot.convert.graph import ONE, Node, Program, Value, permuted
from keypilot.convert.passes.epilogue import is_depthwise
from keypilot.convert.views import Reshape, Slice

NHWC = (0, 2, 3, 1)

_PICTURE_OPS = ("conv2d", "pool2d", "resize2d")
_ELEMENTWISE = ("unary", "binary", "compare", "select", "cast", "concat", "pad")


def assign_layout(program: Program) -> None:
    _Layout(program).run()


class _Layout:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.pictures = _wanted_as_pictures(program)
        self.nodes: list[Node] = []

    def run(self) -> None:
        for port in self.program.inputs:
            if port.order:
                port.value.order = port.order
            elif port.value in self.pictures:
                port.value.order = NHWC
        for node in self.program.nodes:
            if node.op == "view":
                node.output.order = self._preferred(node.output)
            elif node.op in _PICTURE_OPS:
                self._picture(node)
            elif node.op in _ELEMENTWISE:
                self._elementwise(node)
            elif node.op == "softmax":
                node.output.order = node.input(0).order
                node.attributes["axis"] = node.output.order.index(node.attributes["axis"])
            elif node.op == "reduce":
                _reduce(node)
            elif node.op != "attention":  # which reads its operands by strides, see `lower_views`
                node.inputs = [None if x is None else self._in_order(x, tuple(range(x.rank))) for x in node.inputs]
            self.nodes.append(node)
        self.program.nodes = self.nodes

    def _preferred(self, value: Value) -> tuple[int, ...]:
        return NHWC if value in self.pictures else tuple(range(value.rank))

    def _picture(self, node: Node) -> None:
        node.output.order = NHWC
        if node.op == "conv2d":
            weight = node.input(1)
            if is_depthwise(node):
                assert weight.data is not None
                channels, _one, height, width = weight.shape
                data = np.squeeze(weight.data, 1)
                node.inputs[1] = Value(weight.name, (channels, height, width), "f32", data, (1, 2, 0))
            else:
                node.inputs[1] = Value(weight.name, weight.shape, "f32", weight.data, NHWC)
        node.inputs = [
            self._in_order(x, NHWC) if x is not None and index in (0, 3) else x for index, x in enumerate(node.inputs)
        ]

    def _elementwise(self, node: Node) -> None:
        rank = node.output.rank
        computed = [x for x in node.inputs if x is not None and x.data is None and x.rank == rank]
        orders = [x.order for x in computed if not x.plain]
        order = orders[0] if orders and node.output not in self.pictures else self._preferred(node.output)
        node.output.order = order
        node.inputs = [None if x is None else self._operand(x, rank, order) for x in node.inputs]
        if "axis" in node.attributes:
            node.attributes["axis"] = order.index(node.attributes["axis"])
        for sides in ("before", "after"):
            if sides in node.attributes:
                node.attributes[sides] = permuted(node.attributes[sides], order)

    def _operand(self, x: Value, rank: int, order: tuple[int, ...]) -> Value:
        """An operand that broadcasts against tensors of `rank` dimensions in `order`."""
        if order == tuple(range(rank)) and x.plain:
            return x
        if x.rank < rank:
            if x.data is not None:
                x = x.with_rank(rank)
            else:
                shape = (ONE,) * (rank - x.rank) + x.shape
                x = self._view(x, Value(f"{x.name}.aligned", shape, x.dtype))
        return self._in_order(x, order)

    def _in_order(self, x: Value, order: tuple[int, ...]) -> Value:
        if x.order == order:
            return x
        other = Value(x.name, x.shape, x.dtype, x.data, order)
        return other if x.data is not None else self._view(x, other)

    def _view(self, x: Value, output: Value) -> Value:
        self.nodes.append(Node("view", [x], output, {"view": Reshape(output.shape)}))
        return output


def _wanted_as_pictures(program: Program) -> set[Value]:
    """Values that a picture operator reads or gives, directly or through element-wise operators and
    slices."""
    wanted: set[Value] = set()
    for node in reversed(program.nodes):
        if node.op in _PICTURE_OPS:
            inputs = [node.input(0), *node.inputs[3:4]]
        elif node.output in wanted and (node.op in _ELEMENTWISE or isinstance(node.attributes.get("view"), Slice)):
            inputs = list(node.inputs)
        else:
            continue
        wanted.update(x for x in inputs if x is not None and x.data is None and x.rank == 4)
    return wanted


def _reduce(node: Node) -> None:
    order = node.input(0).order
    axes = node.attributes["axes"]
    node.attributes["axes"] = tuple(sorted(order.index(axis) for axis in axes))
    if node.attributes["keepdim"]:
        node.output.order = order
    else:
        left = [axis for axis in range(len(order)) if axis not in axes]
        node.output.order = tuple(left.index(axis) for axis in order if axis in left)
