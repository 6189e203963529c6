"""Activations and residual additions move into the convolution or linear layer before them.

The operators compute ``act(conv + bias) + residual``; a fused intermediate is not in memory any more, so that it
must have no other reader.
"""

from __future__ import annotations

from keypilot.convert.graph import LAYERS, Node, Program, Value

_ACTIVATIONS = frozenset(
    ("relu", "relu6", "hardswish", "hardsigmoid", "sigmoid", "silu", "gelu", "gelu_tanh", "quick_gelu", "tanh")
)


def fuse_epilogues(program: Program) -> None:
    producers = program.producers()
    position = {node.output: index for index, node in enumerate(program.nodes)}
    sole_user = program.sole_user()
    moved: dict[Node, Node] = {}
    fused: set[Node] = set()
    for node in program.nodes:
        if node.op == "unary" and node.attributes["fn"] in _ACTIVATIONS:
            producer = producers.get(node.input(0))
            if producer is not None and _takes_activation(producer) and sole_user(node.input(0)) is node:
                producer.attributes["act"] = node.attributes["fn"]
                _take_over(producer, node, producers)
                position[node.output] = position[node.input(0)]
                fused.add(node)
        elif node.op == "binary" and node.attributes["fn"] == "add":
            candidates = [
                (position[x], x, other)
                for x, other in (node.inputs, node.inputs[::-1])
                if x is not None
                and other is not None
                and _takes_residual(producers.get(x), x, other, node)
                and sole_user(x) is node
            ]
            if candidates:
                # The later of two: the earlier is then complete when it runs.
                _position, x, other = max(candidates, key=lambda candidate: candidate[0])
                producer = producers[x]
                producer.inputs = [*producer.inputs, *[None] * (3 - len(producer.inputs)), other]
                _take_over(producer, node, producers)
                moved[node] = producer
    leaving = set(moved.values())
    program.nodes = [moved.get(node, node) for node in program.nodes if node not in leaving and node not in fused]


def _takes_activation(node: Node) -> bool:
    return node.op in LAYERS and "act" not in node.attributes and len(node.inputs) <= 3


def _takes_residual(node: Node | None, x: Value, other: Value, add: Node) -> bool:
    if node is None or node.op not in ("conv2d", "linear") or len(node.inputs) > 3:
        return False
    if other.data is not None or x.shape != other.shape or x.shape != add.output.shape:
        return False
    return not (node.op == "conv2d" and is_depthwise(node))


def _take_over(producer: Node, node: Node, producers: dict[Value, Node]) -> None:
    producer.output = node.output
    producers[node.output] = producer


def is_depthwise(node: Node) -> bool:
    """One filter per channel (docs/operators.md)."""
    groups = node.attributes["groups"]
    return bool(groups > 1 and node.input(1).shape[0].coefficient == groups == node.input(0).shape[1].coefficient)
