"""Moves what a layer can absorb in front of the reshape after it, as after a 1-D convolution done as a 2-D one."""

from __future__ import annotations

from keypilot.convert.graph import Node, Program, Value
from keypilot.convert.views import Reshape


def delay_reshapes(program: Program) -> None:
    """reshape then activation or batch norm becomes the same the other way round, where the reshape reads a layer."""
    producers = program.producers()
    sole_user = program.sole_user()
    layers = {node.output for node in program.nodes if node.op in ("conv2d", "linear")}
    nodes: list[Node] = []
    for node in program.nodes:
        view = producers.get(node.input(0)) if node.op in ("unary", "channel_affine") else None
        if view is None or sole_user(view.output) is not node or not _passes(node, view, layers):
            nodes.append(node)
            continue
        x = view.input(0)
        moved = Value(node.output.name, x.shape, node.output.dtype)
        nodes.remove(view)
        nodes.append(Node(node.op, [x, *node.inputs[1:]], moved, node.attributes, node.module))
        after = Node("view", [moved], node.output, {"view": Reshape(node.output.shape)}, view.module)
        nodes.append(after)
        producers[node.output] = after
        layers.add(moved)
    program.nodes = nodes


def _passes(node: Node, view: Node, layers: set[Value]) -> bool:
    if view.op != "view" or not isinstance(view.attributes["view"], Reshape) or view.input(0) not in layers:
        return False
    return node.op == "unary" or view.input(0).shape[:2] == view.output.shape[:2]
