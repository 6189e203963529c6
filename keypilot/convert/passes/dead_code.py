"""Removes nodes whose results reach no output. A tap does not keep a node."""

from __future__ import annotations

from keypilot.convert.graph import Node, Program


def remove_dead_code(program: Program) -> None:
    live = program.output_values()
    kept: list[Node] = []
    for node in reversed(program.nodes):
        if node.output in live:
            kept.append(node)
            live.update(value for value in node.inputs if value is not None)
    program.nodes = kept[::-1]
