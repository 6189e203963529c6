"""Ranges 0, 1, ... of symbolic length become running sums of ones."""

from __future__ import annotations

import numpy as np

from keypilot.convert.graph import Node, Program, Value


def lower_ranges(program: Program) -> None:
    nodes: list[Node] = []
    for node in program.nodes:
        if node.op != "arange":
            nodes.append(node)
            continue
        name, shape = node.output.name, node.output.shape
        ones = Value(f"{name}.ones", shape, "i32", np.ones(1, np.int64))
        one = Value(f"{name}.one", (), "i32", np.ones((), np.int64))
        counted = Value(f"{name}.counted", shape, "i32")
        nodes.append(Node("cumsum", [ones], counted, {"axis": 0}, node.module))
        nodes.append(Node("binary", [counted, one], node.output, {"fn": "sub"}, node.module))
    program.nodes = nodes
