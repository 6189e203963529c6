"""The inputs of layers whose rows are quantised when they run: those that meet one weight, and how they are centred.

A row's scale is its range, so that what all rows have in common costs resolution. Where the mean of a channel can be
taken off upstream, in a layer norm's beta or in the bias of an attention's values (whose weights add up to 1), the
bias of each layer that reads it, or adds it as its residual, makes up for it, exactly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from keypilot.convert.calibrate import Calibration, Samples
from keypilot.convert.graph import Array, Node, Program, Uses, Value, as_shape
from keypilot.convert.layers import row_steps
from keypilot.convert.placement import Placement, is_layer


@dataclasses.dataclass(eq=False)
class RowInputs:
    """Float32 inputs of layers that read rows, in one program or several, that meet the same weights.

    readers : the layers of each input.
    """

    readers: dict[Value, list[Node]]

    def nodes(self) -> Iterator[Node]:
        for nodes in self.readers.values():
            yield from nodes


def row_inputs(placements: Mapping[str, Placement], shared: Sequence[Sequence[Node]]) -> list[RowInputs]:
    """All of them. `shared` are the layers with one weight each."""
    readers: dict[Value, list[Node]] = {}
    for placement in placements.values():
        for layer in placement.layers:
            if layer.rows:
                readers.setdefault(layer.node.input(0), []).append(layer.node)
    same = {node: nodes for nodes in shared for node in nodes}
    found: list[RowInputs] = []
    decided: set[Value] = set()
    for first in readers:
        if first in decided:
            continue
        inputs = [first]
        for x in inputs:  # which grows
            others = (other.input(0) for node in readers[x] for other in same[node])
            inputs += [y for y in dict.fromkeys(others) if y in readers and y not in inputs]
        decided.update(inputs)
        found.append(RowInputs({x: readers[x] for x in inputs}))
    return found


def centre(
    programs: Sequence[Program],
    inputs: Sequence[RowInputs],
    shared: Sequence[Sequence[Node]],
    calibration: Calibration,
) -> list[str]:
    """Takes the mean of each channel off the inputs where it can be and narrows the rows of data that it was not taken
    from; returns the names of those. `shared` as in `row_inputs`.

    Tensors that are no longer PyTorch's lose their taps.
    """
    producers, users, outputs = Uses.of(programs)
    same = {node: nodes for nodes in shared for node in nodes}
    centred: list[str] = []
    shifted: set[Value] = set()
    for group in inputs:
        others = {user for x, nodes in group.readers.items() for user in users[x] if user not in nodes}
        if any(x in outputs for x in group.readers) or not all(_adds(user, group) for user in others):
            continue
        if any(set(same[user]) - others for user in others):
            continue
        if any(node.inputs.count(x) != 1 for x, nodes in group.readers.items() for node in nodes):
            continue
        origins = [_origin(producers.get(x), producers, users, outputs) for x in group.readers]
        if any(origin is None for origin in origins):
            continue
        samples = Samples()
        for node in group.nodes():
            samples = samples.joined(calibration.windows[node])
        if not _narrows(samples):
            continue
        mean = samples.all()[:, 0].mean(0, dtype=np.float64)
        for origin in origins:
            assert origin is not None
            origin.subtract(mean)
            shifted.add(origin.node.output)
        for x, nodes in group.readers.items():
            calibration.values[x] = calibration.values[x].shifted(mean.astype(np.float32))
            for node in nodes:
                weight = node.input(1)
                assert weight.data is not None
                _add_bias(node, weight.data.reshape(weight.data.shape[0], -1).astype(np.float64) @ mean)
                calibration.windows[node] = calibration.windows[node].shifted(mean.astype(np.float32))
        for user in others:
            _add_bias(user, mean)
        centred += [x.name for x in group.readers]
        shifted.update(group.readers)
    for program in programs:
        program.taps = [port for port in program.taps if port.value not in shifted]
    return centred


def _adds(node: Node, group: RowInputs) -> bool:
    """A layer that adds an input of the group as its residual, and does nothing else with it."""
    places = [index for index, x in enumerate(node.inputs) if x in group.readers]
    return is_layer(node) and places == [3] and node.attributes.get("act", "none") == "none"


def _narrows(samples: Samples) -> bool:
    """The mean of one half makes the steps of the other's rows smaller."""
    fit, judge = samples.half(0), samples.half(1)
    mean = fit.mean((0, 1), dtype=np.float64).astype(np.float32)
    before, after = (float(np.square(row_steps(rows)[1]).mean()) for rows in (judge, judge - mean))
    return after < before


@dataclasses.dataclass(frozen=True)
class _Origin:
    """An operator whose constant `index` shifts the channels `places` of what reaches the layers."""

    node: Node
    index: int
    places: Array

    def subtract(self, mean: Array) -> None:
        old = self.node.inputs[self.index]
        size = self.node.output.memory_shape[-1].coefficient
        data = np.zeros(size) if old is None or old.data is None else old.data.astype(np.float64)
        data[self.places] -= mean
        name = old.name if old is not None else _sibling(self.node.input(1).name)
        self.node.inputs[self.index] = Value(name, as_shape((size,)), "f32", data)


def _origin(
    node: Node | None, producers: Mapping[Value, Node], users: Mapping[Value, list[Node]], outputs: set[Value]
) -> _Origin | None:
    if node is None:
        return None
    channels = node.output.memory_shape[-1].coefficient
    if node.op == "layer_norm":
        beta = node.inputs[2] if len(node.inputs) > 2 else None
        return _Origin(node, 2, np.arange(channels)) if beta is not None and beta.data is not None else None
    if node.op != "attention":
        return None
    v, attributes = node.input(2), node.attributes
    linear = producers.get(v)
    alone = all(user is node or (user.op == "attention" and v not in user.inputs[2:3]) for user in users[v])
    if linear is None or not is_layer(linear) or linear.op != "linear" or not alone or v in outputs:
        return None
    if linear.attributes.get("act", "none") != "none" or any(linear.inputs[3:]):
        return None
    heads, depth = attributes["heads"], attributes["head_dim"]
    starts = attributes.get("v_offset", 0) + np.arange(heads) * attributes.get("v_head_stride", depth)
    places = (starts[:, np.newaxis] + np.arange(depth)).reshape(-1)
    reads = [
        attributes.get(f"{name}_offset", 0)
        + np.arange(heads)[:, np.newaxis] * attributes.get(f"{name}_head_stride", depth)
        + np.arange(depth)
        for name, operand in (("q", node.input(0)), ("k", node.input(1)))
        if operand is v
    ]
    if any(np.intersect1d(read, places).size for read in reads):
        return None
    linear.inputs += [None] * (3 - len(linear.inputs))
    return _Origin(linear, 2, places)


def _add_bias(node: Node, shift: Array) -> None:
    node.inputs += [None] * (3 - len(node.inputs))
    old = node.inputs[2]
    data = shift if old is None or old.data is None else old.data.astype(np.float64) + shift
    name = old.name if old is not None else _sibling(node.input(1).name)
    node.inputs[2] = Value(name, as_shape((len(shift),)), "f32", data)


def _sibling(weight: str) -> str:
    """The name of the bias beside a weight."""
    return f"{weight.removesuffix('weight').removesuffix('.')}.bias"
