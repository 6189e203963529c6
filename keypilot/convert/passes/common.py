"""Computes once what is written twice: nodes with the same operator, operands and attributes become one."""

from __future__ import annotations

from collections.abc import Hashable

from keypilot.convert.graph import Program, Value


def merge_common(program: Program) -> None:
    first: dict[Hashable, Value] = {}
    merged: dict[Value, Value] = {}
    for node in program.nodes:
        node.inputs = [None if value is None else merged.get(value, value) for value in node.inputs]
        key = (node.op, tuple(map(_identity, node.inputs)), tuple(sorted(node.attributes.items())))
        known = first.setdefault(key, node.output)
        if known is not node.output:
            merged[node.output] = known
    program.nodes = [node for node in program.nodes if node.output not in merged]
    program.replace(merged)


def _identity(value: Value | None) -> Hashable:
    """Equal for equal operands; numbers are compared by what they are, since each use has a constant of its own."""
    if value is None or value.uniform is None:
        return value
    return value.dtype, value.shape, value.uniform
