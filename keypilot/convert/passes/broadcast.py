"""Operators that broadcast read the tensor before an `expand`, not the repeated one; others read it written out."""

from __future__ import annotations

from keypilot.convert.graph import Node, Program, Value, as_shape, broadcast_shape
from keypilot.convert.views import Expand


def drop_expansions(program: Program) -> None:
    producers = program.producers()
    for node in program.nodes:
        if node.op in ("binary", "compare", "select"):
            operands = range(len(node.inputs))
        elif node.op == "attention":
            operands = range(3, 4)
        else:
            continue
        for index in operands:
            value = node.inputs[index]
            source = producers.get(value) if value is not None else None
            if source is None or source.op != "view" or not isinstance(source.attributes["view"], Expand):
                continue
            shorter = [*node.inputs]
            shorter[index] = source.input(0)
            if node.op == "attention":
                fits = source.input(0).rank == 4
            else:
                fits = broadcast_shape([v.shape for v in shorter if v is not None]) == node.output.shape
            if fits:
                node.inputs = shorter


def repeat_constants(program: Program) -> None:
    """Writes out a constant that repeats along N or T where an operator that does not broadcast reads it."""
    nodes: list[Node] = []
    for node in program.nodes:
        for index, value in enumerate(node.inputs):
            broadcasts = node.op in ("binary", "compare", "select") or (node.op == "attention" and index == 3)
            if value is None or value.data is None or as_shape(value.data.shape) == value.shape or broadcasts:
                continue
            compact = Value(value.name, as_shape(value.data.shape), value.dtype, value.data, value.order)
            repeated = Value(f"{value.name}.expand", value.shape, value.dtype)
            nodes.append(Node("view", [compact], repeated, {"view": Expand(value.shape)}, node.module))
            node.inputs[index] = repeated
        nodes.append(node)
    program.nodes = nodes
