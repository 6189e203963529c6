"""Computes once what is written twice: nodes with the same operator, operands and attributes become one."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable

from keypilot.convert.graph import Program, Value


def merge_common(program: Program) -> None:
    first: dict[Hashable, Value] = {}
    merged: dict[Value, Value] = {}
    identities: dict[Value, Hashable] = {}

    def identity(value: Value | None) -> Hashable:
        """Equal for equal operands: every use of a number has a constant of its own, so constants go by content."""
        if value is None or value.data is None:
            return value
        if value not in identities:
            content = hashlib.sha256(value.data.tobytes()).digest()
            identities[value] = (value.dtype, value.shape, value.data.dtype.str, value.data.shape, content)
        return identities[value]

    for node in program.nodes:
        node.inputs = [None if value is None else merged.get(value, value) for value in node.inputs]
        key = (node.op, tuple(map(identity, node.inputs)), tuple(sorted(node.attributes.items())))
        known = first.setdefault(key, node.output)
        if known is not node.output:
            merged[node.output] = known
    program.nodes = [node for node in program.nodes if node.output not in merged]
    program.replace(merged)
