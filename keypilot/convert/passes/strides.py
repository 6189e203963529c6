"""Composes chains of views into `alias` (memory under another shape), `rearrange` (one strided copy), or nothing.

Attention and matrix products read strided operands themselves: heads inside packed rows by offset and head stride,
and a transposed matrix by a flag. Taps and outputs stay views of memory where a permutation of dimensions
expresses them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from keypilot.convert.graph import ONE, ZERO, Dim, Node, Port, Program, Shape, Value, permuted, product, shape_text
from keypilot.convert.passes.dead_code import remove_dead_code
from keypilot.convert.views import Atom, NotStridedError, Permute, Reshape, Strided, View
from keypilot.errors import UnsupportedError

#: Dimensions of a tensor in the C core (KP_MAX_RANK).
MAX_RANK = 8

#: Operators whose constants may be smaller than their shape: they broadcast.
_BROADCASTING = ("binary", "compare", "select", "attention")


def lower_views(program: Program) -> None:
    _Lowering(program).run()


@dataclasses.dataclass
class _Packed:
    """Heads inside rows: an operand of `attention`."""

    source: Value
    offset: int
    head_stride: int


class _Lowering:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes: list[Node] = []
        self.views = {node.output: node for node in program.nodes if node.op == "view"}
        self.memory: dict[Value, Value] = {}  # a view -> the value whose memory is it, in the view's memory order
        self.aliases: dict[tuple[Value, Shape], Value] = {}
        self.module = ""

    def run(self) -> None:
        for node in self.program.nodes:
            self.module = node.module
            if node.op == "view":
                continue
            if node.op == "attention":
                self._attention(node)
            elif node.op == "matmul":
                self._matmul(node)
            else:
                node.inputs = [self._operand(node, x) for x in node.inputs]
            self.nodes.append(node)
        self.program.outputs = [self._output(port) for port in self.program.outputs]
        self.program.nodes = self.nodes
        remove_dead_code(self.program)  # copies on the way to others, which then found a shorter one
        computed = {node.output for node in self.program.nodes}
        taps = [self._port(port, computed) for port in self.program.taps]
        self.program.taps = [tap for tap in taps if tap is not None]

    # ---- operands ---------------------------------------------------------------------------------------------

    def _operand(self, node: Node, x: Value | None) -> Value | None:
        if x is None:
            return None
        as_stored = x.data is not None and x.dtype != "bool" and (not x.repeats or node.op in _BROADCASTING)
        return x if as_stored else self.materialise(x)

    def _attention(self, node: Node) -> None:
        for index, name in enumerate("qkv"):
            packed = self._packed(node.input(index), node.attributes["head_dim"])
            node.inputs[index] = packed.source
            node.attributes[f"{name}_offset"] = packed.offset
            node.attributes[f"{name}_head_stride"] = packed.head_stride
        if node.inputs[3] is None:
            del node.inputs[3]
        else:
            mask = node.input(3)
            if not mask.plain:
                mask = self._view(mask, Reshape(mask.shape), mask.shape)
            node.inputs[3] = self._operand(node, mask)

    def _packed(self, x: Value, width: int) -> _Packed:
        """(B, H, L, D) as rows (B, L, C) that hold each head's D values somewhere inside."""
        for source, strided in self._readings(x):
            found = _packed_rows(strided, product(source.shape))
            if found is not None:
                rows, offset, head_stride = found
                return _Packed(self._alias(source, rows), offset, head_stride)
        batch, heads, length, depth = x.shape
        swapped = self._view(x, Permute((0, 2, 1, 3)), (batch, length, heads, depth))
        packed = (batch, length, heads * depth)
        return _Packed(self.materialise(self._view(swapped, Reshape(packed), packed)), 0, width)

    def _matmul(self, node: Node) -> None:
        for index, flag in enumerate(("transpose_a", "transpose_b")):
            x = node.input(index)
            swapped = (*range(x.rank - 2), x.rank - 1, x.rank - 2)
            lies_swapped = None if x.data is not None or self._dense(x, x.order) else self._dense(x, swapped)
            if lies_swapped is None:
                node.inputs[index] = self._operand(node, x)
            else:
                node.inputs[index] = self._alias(lies_swapped, permuted(x.shape, swapped))
                node.attributes[flag] = 1

    def _view(self, x: Value, view: View, shape: Shape) -> Value:
        output = Value(x.name, shape, x.dtype)
        self.views[output] = Node("view", [x], output, {"view": view}, self.module)
        return output

    # ---- memory -----------------------------------------------------------------------------------------------

    def materialise(self, x: Value) -> Value:
        """The value whose memory is x, in x's memory order."""
        if x in self.memory:
            return self.memory[x]
        if x.data is not None:
            self.memory[x] = self._constant(x)
        elif x not in self.views:
            return x
        else:
            self.memory[x] = self._aliased_or_copied(x)
        return self.memory[x]

    def _aliased_or_copied(self, x: Value) -> Value:
        source = self._dense(x, x.order)
        return self._copied(x) if source is None else self._alias(source, x.memory_shape)

    def _dense(self, x: Value, order: tuple[int, ...]) -> Value | None:
        """The nearest value in memory that x is, all of it, where x's dimensions are taken in `order`."""
        for source, strided in self._readings(x):
            if source.data is None and strided.is_dense(order, product(source.shape)):
                return source
        return None

    def _readings(self, x: Value) -> Iterator[tuple[Value, Strided]]:
        """Every value in memory that x is a strided view of, nearest first."""
        chain: list[View] = []
        value = x
        while True:
            in_memory = value if value not in self.views else self.memory.get(value)
            if value.data is not None and value.dtype == "bool":
                in_memory = self.materialise(value)
            if in_memory is not None:
                stored = in_memory is value
                strided = _apply(_start(value) if stored else Strided.dense(value.shape, value.order), chain)
                if strided is not None:
                    yield in_memory, strided
            if value not in self.views:
                return
            chain.insert(0, self.views[value].attributes["view"])
            value = self.views[value].input(0)

    def _copied(self, x: Value) -> Value:
        """x by a `rearrange` of the source furthest back; in several steps where one does not express it."""
        readings = list(self._readings(x))
        for source, strided in reversed(readings):
            atoms = strided.merged(x.order)
            if len(atoms) <= MAX_RANK:
                return self._rearrange(x, source, atoms, strided.offset)
        before = self.views[x].input(0)
        if before not in self.views or before in self.memory:
            shapes = f"({shape_text(before.shape)}) to ({shape_text(x.shape)})"
            raise UnsupportedError(f"{self.module}: a view of {shapes} is not one of at most {MAX_RANK} strides")
        self.materialise(before)
        return self._aliased_or_copied(x)

    def _rearrange(self, x: Value, source: Value, atoms: tuple[Atom, ...], offset: Dim) -> Value:
        atoms = tuple(part for atom in atoms for part in _without_powers(atom))
        dims, strides = (tuple(atom.size for atom in atoms), tuple(atom.stride for atom in atoms))
        for step in (*strides, offset):
            if step.n > 1 or step.t > 1:
                raise UnsupportedError(
                    f"{self.module or 'the module itself'}: a view whose elements are {step} apart; files write no "
                    "powers of N and T. Compile with fixed sizes, or move this view's dimensions otherwise"
                )
        return self._emit(
            "rearrange", source, x, dims=dims or (ONE,), strides=strides or (ONE,), offset=offset, shape=x.memory_shape
        )

    def _constant(self, x: Value) -> Value:
        """A constant at its full shape; booleans, which files do not store, from integers."""
        assert x.data is not None
        weight = x
        if x.dtype == "bool":
            # Files have no tensors without dimensions; one of size 1 broadcasts as well.
            shape, data = x.shape or (ONE,), np.atleast_1d(x.data.astype(np.int64))
            x = Value(x.name, shape, "bool", data, x.order or (0,))
            weight = Value(x.name, shape, "i32", data, x.order)
        if x.repeats:
            weight = self._rearrange(weight, weight, _start(weight).merged(x.order), ZERO)
        return self._emit("cast", weight, x, to="bool") if x.dtype == "bool" else weight

    def _alias(self, source: Value, shape: Shape) -> Value:
        if source.memory_shape == shape:
            return source
        key = (source, shape)
        if key not in self.aliases:
            plain = Value(source.name, shape, source.dtype)
            self.aliases[key] = self._emit("alias", source, plain, shape=shape)
        return self.aliases[key]

    def _emit(self, op: str, source: Value, like: Value, **attributes: object) -> Value:
        """A node whose output has the memory shape and dtype of `like` (a cast's own dtype apart)."""
        prefix = f"{self.module}." if self.module else ""
        dtype = like.dtype if op == "cast" else source.dtype
        output = Value(f"{prefix}{op}", like.memory_shape, dtype)
        self.nodes.append(Node(op, [source], output, dict(attributes), self.module))
        return output

    # ---- ports ------------------------------------------------------------------------------------------------

    def _output(self, port: Port) -> Port:
        computed = {node.output for node in self.nodes}
        found = self._port(port, computed)
        if found is not None:
            return found
        value = self.materialise(port.value)
        if value not in {node.output for node in self.nodes}:  # an input or a weight, given back
            value = self._emit("alias", value, value, shape=value.memory_shape)
        return Port(port.name, value, port.value.shape, port.value.order)

    def _port(self, port: Port, computed: set[Value]) -> Port | None:
        """The tensor as a computed value's memory; None where it is not in memory."""
        x = port.value
        if x in self.memory and self.memory[x] in computed:
            return Port(port.name, self.memory[x], x.shape, x.order)
        if x.data is not None:
            return None
        for source, strided in self._readings(x):
            order = strided.dense_order(product(source.shape))
            if source in computed and order is not None:
                return Port(port.name, source, x.shape, order)
        return None


def _start(value: Value) -> Strided:
    """A value's own memory, as its dimensions; a constant's repeated dimensions have stride 0."""
    if value.data is None:
        return Strided.dense(value.shape, value.order)
    stored = tuple(Dim(size) for size in value.data.shape)
    strided = Strided.dense(stored, value.order)
    dims = [
        atoms if size == full else (Atom(full, ZERO),)
        for atoms, size, full in zip(strided.dims, stored, value.shape, strict=True)
    ]
    return Strided(tuple(dims))


def _apply(strided: Strided, chain: list[View]) -> Strided | None:
    try:
        for view in chain:
            strided = strided.apply(view)
    except NotStridedError:
        return None
    return strided


def _without_powers(atom: Atom) -> tuple[Atom, ...]:
    """An atom of TT elements as two: files write no powers of N and T."""
    n, t = int(atom.size.n > 1), int(atom.size.t > 1)
    if not (n or t):
        return (atom,)
    outer = Dim(1, n, t)
    inner = atom.size // outer
    return (Atom(outer, atom.stride * inner), *_without_powers(Atom(inner, atom.stride)))


def _packed_rows(strided: Strided, elements: Dim) -> tuple[Shape, int, int] | None:
    """((B, L, C), offset, head stride) where (B, H, L, D) lies so in a source of `elements`; None where it does not."""
    batch, heads, length, depth = strided.shape
    atoms = [strided.merged((axis,)) for axis in range(4)]
    if any(len(dim) > 1 for dim in atoms):
        return None
    stride = [dim[0].stride if dim else None for dim in atoms]
    row = stride[2] if stride[2] is not None else stride[0]
    if row is None or not row.static or row == ZERO or stride[3] not in (None, ONE):
        return None
    if stride[0] is not None and stride[0] != row * length:
        return None
    head_stride = stride[1] if stride[1] is not None else depth
    if not (head_stride.static and strided.offset.static) or head_stride == ZERO or batch * length * row != elements:
        return None
    last = strided.offset + head_stride * (heads.coefficient - 1) + depth
    if last.coefficient > row.coefficient:
        return None
    return (batch, length, row), strided.offset.coefficient, head_stride.coefficient
