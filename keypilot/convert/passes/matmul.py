"""A matrix product with a constant matrix on the right is a linear layer."""

from __future__ import annotations

import numpy as np

from keypilot.convert.graph import Program, Value, as_shape


def constant_matmul_to_linear(program: Program) -> None:
    for node in program.nodes:
        if node.op != "matmul":
            continue
        weight = node.input(1)
        if weight.data is None or weight.rank != 2 or node.input(0).data is not None:
            continue
        data = np.ascontiguousarray(weight.data.T.astype(np.float64) * node.attributes["alpha"])
        transposed = Value(weight.name, as_shape(data.shape), "f32", data)
        node.op, node.inputs, node.attributes = "linear", [node.input(0), transposed, None], {}
