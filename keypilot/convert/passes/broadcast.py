"""Operators that broadcast read the tensor before an `expand`, not the repeated one."""

from __future__ import annotations

from keypilot.convert.graph import Program, broadcast_shape
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
