"""Where a program computes in int8: which values are stored so, and between which operators values are converted.

Convolutional parts are int8 throughout. The stream of a transformer (linear layers, layer norm, residual additions,
softmax) is float32, and its linear layers quantise their rows when they run: docs/operators.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

from keypilot.convert.graph import ONE, Node, Program, Value
from keypilot.errors import ArgumentError

#: Attention over at least so many pairs of queries and keys multiplies in int8.
ATTENTION_PAIRS = 64 * 64


@dataclasses.dataclass(eq=False)
class Layer:
    """A convolution or linear layer whose weight becomes int8.

    `rows`: its input is float32, and each row is quantised when the layer runs.
    """

    node: Node
    rows: bool


@dataclasses.dataclass(eq=False)
class Placement:
    """What `place` decided: the dtype of every value, and the operators with int8 weights."""

    layers: list[Layer]
    tables: list[Node]
    int8: set[Value]
    kept: list[Node]


def matching(programs: Sequence[Program], patterns: Sequence[str]) -> set[Node]:
    """The operators that the patterns name: by module path, or that of a module around it, by output or by weight.

    Raises
    ------
    ArgumentError : a pattern matches no operator.
    """
    found: set[Node] = set()
    for pattern in patterns:
        matches = {node for program in programs for node in program.nodes if _matches(node, pattern)}
        if not matches:
            raise ArgumentError(f"keep_float: no module or tensor of the model matches {pattern!r}")
        found |= matches
    return found


def _matches(node: Node, pattern: str) -> bool:
    parts = node.module.split(".") if node.module else []
    names = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    names += [node.output.name, *(x.name for x in node.inputs if x is not None and x.data is not None)]
    return any(fnmatchcase(name, pattern) for name in names)


def place(program: Program, keep_float: set[Node]) -> Placement:
    """Decides what is int8; `keep_float` are operators that stay in float32 altogether."""
    able = _able(program, keep_float)
    layers: list[Layer] = []
    tables: list[Node] = []
    kept = [node for node in program.nodes if node in keep_float]
    wanted: dict[Value, set[str]] = {port.value: {"f32"} for port in program.outputs}
    int8: set[Value] = set()

    def ask(value: Value | None, dtype: str) -> None:
        if value is not None:
            wanted.setdefault(value, set()).add(dtype)

    for node in reversed(program.nodes):
        asked = wanted.get(node.output, set())
        if node.output in able and ("i8" in asked or ("any" in asked and "f32" not in asked)):
            int8.add(node.output)
        follow = "i8" if node.output in int8 else "f32"
        x = node.inputs[0]
        if node in keep_float:
            for value in node.inputs:
                ask(value, "f32")
        elif is_layer(node):
            rows = reads_rows(node) and x not in able
            layers.append(Layer(node, rows))
            ask(x, "f32" if rows or _is_pixel(node) else "i8")
            for value in node.inputs[3:]:
                ask(value, "any" if node.op == "conv2d" else "f32")
        elif node.op == "embedding" and _is_float_constant(x):
            tables.append(node)
        elif node.op == "concat" or keeps_channels(node) or spreads_channels(node):
            for value in node.inputs:
                ask(value, follow)
        elif node.op == "binary":
            for value in node.inputs:
                ask(value, "any" if node.output in int8 and value in able else "f32")
        elif node.op == "pool2d" or _is_mean(node):
            ask(x, "any")
        else:
            for value in node.inputs:
                ask(value, "f32")
    for layer in layers:
        # A pixel that is int8 for the sake of another reader is read as it is.
        layer.rows = reads_rows(layer.node) and layer.node.input(0) not in int8
    return Placement(layers[::-1], tables[::-1], int8, kept)


def apply_placement(program: Program, placement: Placement) -> dict[Value, Value]:
    """Gives values their dtypes and puts `quantize` and `dequantize` where they are needed.

    Returns
    -------
    dict : the int8 value of a `quantize` node -> the float32 value that it reads.
    """
    layers = {layer.node: layer for layer in placement.layers}
    kept = set(placement.kept)
    nodes: list[Node] = []
    converted: dict[tuple[Value, str], Value] = {}
    quantized: dict[Value, Value] = {}

    def convert(value: Value, dtype: str) -> Value:
        if value.dtype == dtype or value.data is not None or value.dtype not in ("f32", "i8"):
            return value
        if (value, dtype) not in converted:
            op, suffix = ("quantize", "quantized") if dtype == "i8" else ("dequantize", "dequantized")
            output = Value(f"{value.name}.{suffix}", value.shape, dtype, order=value.order)
            nodes.append(Node(op, [value], output))
            converted[value, dtype] = output
            if dtype == "i8":
                quantized[output] = value
        return converted[value, dtype]

    for node in program.nodes:
        output = "i8" if node.output in placement.int8 else "f32"
        layer = layers.get(node)
        if layer is not None:
            if not layer.rows:
                node.inputs[0] = convert(node.input(0), "i8")
            if output == "i8":
                node.attributes["out"] = "i8"
        elif node not in kept and (node.op == "concat" or keeps_channels(node) or spreads_channels(node)):
            node.inputs = [None if x is None else convert(x, output) for x in node.inputs]
        elif node not in kept and (node.op in ("binary", "pool2d") or _is_mean(node)):
            if node.op == "pool2d" and node.input(0).dtype == "f32":
                output = "f32"
            if node.op == "pool2d" and node.attributes["fn"] == "max":
                node.inputs = [convert(node.input(0), output)]
            elif output == "i8":
                if all(x is None or x.dtype != "i8" for x in node.inputs):
                    output = "f32"
                else:
                    node.attributes["out"] = "i8"
        else:
            node.inputs = [None if x is None else convert(x, "f32") for x in node.inputs]
            if node.op == "attention":
                node.attributes["precision"] = "i8" if node not in kept and _is_large(node) else "f32"
        if node.output.dtype == "f32":
            node.output.dtype = output
        nodes.append(node)
    for port in program.outputs:
        float_value = convert(port.value, "f32") if port.value.dtype == "i8" else port.value
        port.shape, port.order = port.shape or port.value.shape, port.order or port.value.order
        port.value = float_value
    program.nodes = nodes
    return quantized


def is_layer(node: Node) -> bool:
    """A convolution or linear layer with a constant weight, of an input that is computed."""
    return node.op in ("conv2d", "linear") and _is_float_constant(node.inputs[1]) and node.input(0).data is None


def reads_rows(node: Node) -> bool:
    """Each output reads one row of the input: a linear layer, or a 1x1 convolution without stride or padding."""
    if node.op == "linear":
        return True
    weight, attributes = node.input(1), node.attributes
    return (
        weight.rank == 4
        and weight.memory_shape[1:3] == (ONE, ONE)
        and attributes["groups"] == 1
        and set(attributes["stride"]) == {1}
        and set(attributes["pad"]) == {0}
    )


def _able(program: Program, keep_float: set[Node]) -> set[Value]:
    """The values that an operator can give as int8."""
    able: set[Value] = set()
    producers, sole_user = program.producers(), program.sole_user()
    for node in program.nodes:
        if node in keep_float or node.output.dtype != "f32":
            continue
        if (
            (node.op == "conv2d" and is_layer(node))
            or (node.op == "binary" and any(x in able for x in node.inputs))
            or (node.op == "concat" and _joins_channels(node) and all(x in able for x in node.inputs))
            or ((keeps_channels(node) or node.op == "pool2d") and node.input(0) in able)
            or (spreads_channels(node) and _is_own(node.input(0), producers, sole_user) and node.input(0) in able)
        ):
            able.add(node.output)
    return able


def _is_float_constant(value: Value | None) -> bool:
    return value is not None and value.data is not None and value.dtype == "f32"


def _is_pixel(node: Node) -> bool:
    """A 1x1 convolution of pictures of one pixel, as in squeeze-and-excitation: a linear layer."""
    return reads_rows(node) and (node.op == "linear" or node.input(0).memory_shape[1:3] == (ONE, ONE))


def _joins_channels(node: Node) -> bool:
    return bool(node.attributes["axis"] == node.output.rank - 1)


def keeps_channels(node: Node) -> bool:
    """Moves values about without changing them, each within its channel."""
    if node.op == "resize2d":
        return bool(node.attributes["fn"] == "nearest")
    if node.op == "pool2d":
        return bool(node.attributes["fn"] == "max")
    if node.op == "pad":
        return bool(node.attributes["value"] == 0 and not node.attributes["before"][-1] + node.attributes["after"][-1])
    if node.op == "gather":
        return bool(node.attributes["axis"] != node.input(0).rank - 1)
    return _moves_whole_channels(node) and node.input(0).memory_shape[-1] == node.output.memory_shape[-1]


def spreads_channels(node: Node) -> bool:
    """Turns each pixel's channels into several pixels, of a part of them each."""
    return _moves_whole_channels(node) and node.input(0).memory_shape[-1] != node.output.memory_shape[-1]


def _moves_whole_channels(node: Node) -> bool:
    """A view whose every element has the index in its last dimension that it had, or that modulo this dimension."""
    if node.op not in ("alias", "rearrange") or not (node.input(0).rank and node.output.rank):
        return False
    from_channels, channels = (value.memory_shape[-1] for value in (node.input(0), node.output))
    if not (from_channels.static and channels.static and channels != ONE and channels.divides(from_channels)):
        return False
    if node.op == "alias":
        return True
    strides, offset = node.attributes["strides"], node.attributes["offset"]
    return bool(
        strides[-1] == ONE
        and channels.divides(node.attributes["dims"][-1])
        and all(stride.coefficient % channels.coefficient == 0 for stride in (*strides[:-1], offset))
    )


def _is_own(value: Value, producers: Mapping[Value, Node], sole_user: Callable[[Value], Node | None]) -> bool:
    """A convolution's output that one operator reads: nothing else depends on how its channels are quantised."""
    return value in producers and producers[value].op == "conv2d" and sole_user(value) is not None


def _is_mean(node: Node) -> bool:
    """A mean that leaves the channels."""
    return (
        node.op == "reduce"
        and node.attributes["fn"] == "mean"
        and node.input(0).rank - 1 not in node.attributes["axes"]
    )


def _is_large(node: Node) -> bool:
    queries, keys = (node.input(index).memory_shape[1] for index in (0, 1))
    return queries.static and keys.static and queries.coefficient * keys.coefficient >= ATTENTION_PAIRS
