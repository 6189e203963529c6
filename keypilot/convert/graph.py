"""The graph that a module is converted through: values, nodes, programs, and dimensions that may hold N and T.

Until the layout pass, shapes and attributes are PyTorch's (a picture is N, C, H, W), and a view is a node of type
``view`` whose attribute ``view`` is one of the dataclasses of `keypilot.convert.views`. Afterwards a value has a
memory `order`, and nodes are operators of docs/operators.md, whose attributes speak of memory dimensions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy.typing as npt

from keypilot.errors import UnsupportedError

Array = npt.NDArray[Any]


class SymbolError(UnsupportedError):
    """A size that is not a constant times powers of N and T."""


@dataclasses.dataclass(frozen=True)
class Dim:
    """``coefficient * N**n * T**t``: a size, stride or offset in elements, exact for every batch N and token count
    T."""

    coefficient: int
    n: int = 0
    t: int = 0

    def __post_init__(self) -> None:
        if self.coefficient == 0 and (self.n or self.t):
            object.__setattr__(self, "n", 0)
            object.__setattr__(self, "t", 0)

    @property
    def static(self) -> bool:
        return self.n == 0 and self.t == 0

    def __mul__(self, other: Dim | int) -> Dim:
        other = as_dim(other)
        return Dim(self.coefficient * other.coefficient, self.n + other.n, self.t + other.t)

    def __add__(self, other: Dim) -> Dim:
        """The sum; a `SymbolError` where it is not a monomial, as N + 1."""
        if other.coefficient == 0 or self.coefficient == 0:
            return self if other.coefficient == 0 else other
        if (self.n, self.t) != (other.n, other.t):
            raise SymbolError(f"the size {self} + {other} is not a product of a constant, N and T")
        return Dim(self.coefficient + other.coefficient, self.n, self.t)

    def divides(self, other: Dim) -> bool:
        return (
            self.coefficient != 0
            and other.coefficient % self.coefficient == 0
            and (other.coefficient == 0 or (self.n <= other.n and self.t <= other.t))
        )

    def __floordiv__(self, other: Dim) -> Dim:
        if not other.divides(self):
            raise SymbolError(f"the size {self} is not a multiple of {other} for every N and T")
        return Dim(self.coefficient // other.coefficient, self.n - other.n, self.t - other.t)

    def evaluate(self, n: int, t: int) -> int:
        """The size at batch `n` and `t` tokens."""
        return int(self.coefficient * n**self.n * t**self.t)

    def __str__(self) -> str:
        """As docs/model-file.md writes it: 12, N, 4N, NT."""
        symbols = "N" * self.n + "T" * self.t
        return symbols if symbols and self.coefficient == 1 else f"{self.coefficient}{symbols}"


Shape = tuple[Dim, ...]

#: Operators with a weight, whose output channels are its first dimension, and a bias.
LAYERS = ("conv2d", "deconv2d", "linear")

ZERO = Dim(0)
ONE = Dim(1)


def as_dim(size: Dim | int) -> Dim:
    return size if isinstance(size, Dim) else Dim(size)


def as_shape(sizes: Iterable[Dim | int]) -> Shape:
    return tuple(as_dim(size) for size in sizes)


def product(shape: Iterable[Dim]) -> Dim:
    result = ONE
    for dim in shape:
        result = result * dim
    return result


def shape_text(shape: Iterable[Dim]) -> str:
    return ",".join(str(dim) for dim in shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Quantization:
    """``real = scale[c] * (q - zero_point[c])`` over the last memory dimension: float32 (C) and int8 (C)."""

    name: str
    scale: Array
    zero_point: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Int4:
    """Rows of int8 as nibbles (rows, cols), -8 to 7, times a multiplier (rows, groups), 1 to 18, for each group of
    32."""

    nibbles: Array
    multipliers: Array


@dataclasses.dataclass(eq=False)
class Value:
    """A tensor: an input, a constant, or one node's output.

    `shape` is PyTorch's. `order` is the memory order: memory dimension i is dimension order[i] of `shape`. A
    constant's `data` has PyTorch's dimensions too, and as many; where `data` has size 1 and `shape` has not, it
    repeats (which is how a constant has a symbolic shape).

    An ``i8`` value that is computed has a `quantization`. An ``i8`` constant has a `scale` for each output channel, and
    `int4` where it is stored in four bits.
    """

    name: str
    shape: Shape
    dtype: str
    data: Array | None = None
    order: tuple[int, ...] = ()
    quantization: Quantization | None = None
    scale: Array | None = None
    int4: Int4 | None = None

    def __post_init__(self) -> None:
        if not self.order:
            self.order = tuple(range(len(self.shape)))

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def memory_shape(self) -> Shape:
        return tuple(self.shape[i] for i in self.order)

    @property
    def plain(self) -> bool:
        """Memory order is PyTorch's."""
        return self.order == tuple(range(self.rank))

    @property
    def uniform(self) -> float | int | None:
        """The single number that a constant repeats; None for other values."""
        return self.data.reshape(-1)[0].item() if self.data is not None and self.data.size == 1 else None

    @property
    def repeats(self) -> bool:
        """A constant whose data is smaller than its shape."""
        return self.data is not None and as_shape(self.data.shape) != self.shape

    def with_rank(self, rank: int) -> Value:
        """A constant with as many dimensions, new ones of size 1 in front."""
        assert self.data is not None
        new = rank - self.rank
        return Value(self.name, (ONE,) * new + self.shape, self.dtype, self.data.reshape((1,) * new + self.data.shape))


@dataclasses.dataclass(eq=False)
class Node:
    """An operator applied: `module` is the path of the PyTorch module it came from."""

    op: str
    inputs: list[Value | None]
    output: Value
    attributes: dict[str, Any] = dataclasses.field(default_factory=dict)
    module: str = ""

    def input(self, index: int) -> Value:
        """A required input."""
        value = self.inputs[index]
        assert value is not None
        return value


@dataclasses.dataclass
class Port:
    """A tensor under the name by which PyTorch knows it; `shape` and `order` describe it where they are not the
    value's own."""

    name: str
    value: Value
    shape: Shape = ()
    order: tuple[int, ...] = ()


@dataclasses.dataclass
class Program:
    """Nodes in execution order, with the ports. Taps are module outputs, in execution order."""

    name: str
    inputs: list[Port] = dataclasses.field(default_factory=list)
    outputs: list[Port] = dataclasses.field(default_factory=list)
    taps: list[Port] = dataclasses.field(default_factory=list)
    nodes: list[Node] = dataclasses.field(default_factory=list)

    def producers(self) -> dict[Value, Node]:
        return {node.output: node for node in self.nodes}

    def users(self) -> dict[Value, list[Node]]:
        """The nodes that read each value, once for each time they do."""
        users: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.inputs:
                if value is not None:
                    users.setdefault(value, []).append(node)
        return users

    def output_values(self) -> set[Value]:
        return {port.value for port in self.outputs}

    def sole_user(self) -> Callable[[Value], Node | None]:
        """A function from a value to the one node that reads it: None where several do, or the value is an output."""
        users, outputs = self.users(), self.output_values()

        def lookup(value: Value) -> Node | None:
            readers = users.get(value, [])
            return readers[0] if len(readers) == 1 and value not in outputs else None

        return lookup

    def replace(self, replacements: dict[Value, Value]) -> None:
        """Puts `replacements[v]` wherever v is read, tapped or an output."""
        if not replacements:
            return

        def final(value: Value) -> Value:
            while value in replacements:
                value = replacements[value]
            return value

        for node in self.nodes:
            node.inputs = [None if value is None else final(value) for value in node.inputs]
        for port in (*self.outputs, *self.taps):
            port.value = final(port.value)

    def values(self) -> Iterator[Value]:
        """Inputs, then every node's inputs and output, each once."""
        seen: set[Value] = set()
        candidates: list[Value | None] = [port.value for port in self.inputs]
        for node in self.nodes:
            candidates += [*node.inputs, node.output]
        candidates += [port.value for port in self.outputs]
        for value in candidates:
            if value is not None and value not in seen:
                seen.add(value)
                yield value


class Uses(NamedTuple):
    """What makes and what reads the values of several programs: producer, readers (once for each time they read), and
    those that are outputs."""

    producers: dict[Value, Node]
    users: dict[Value, list[Node]]
    outputs: set[Value]

    @classmethod
    def of(cls, programs: Sequence[Program]) -> Uses:
        uses = cls({}, {}, set())
        for program in programs:
            uses.producers.update(program.producers())
            uses.users.update(program.users())
            uses.outputs.update(program.output_values())
        return uses


def broadcast_shape(shapes: Sequence[Shape]) -> Shape:
    """NumPy's rule."""
    rank = max(map(len, shapes))
    padded = [(ONE,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(next((dim for dim in dims if dim != ONE), ONE) for dims in zip(*padded, strict=True))


def permuted(items: Sequence[Any], order: Sequence[int]) -> tuple[Any, ...]:
    return tuple(items[i] for i in order)


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    result = [0] * len(order)
    for position, index in enumerate(order):
        result[index] = position
    return tuple(result)
