"""Views: PyTorch's, one by one, and their composition into one strided reading of a source's memory.

A `Strided` says where every element of a tensor lies in another's memory, exactly, for every N and T: a dimension
is a list of atoms (size, stride), outermost first, so that merging dimensions costs nothing and splitting one
splits its atoms. It is the stride calculus behind `torch.Tensor.view`, with dimensions that may consist of several
strides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from keypilot.convert.graph import ONE, ZERO, Dim, Shape, SymbolError, inverse, permuted, product


@dataclasses.dataclass(frozen=True)
class Reshape:
    """The same elements in row-major order under another shape, whatever the strides."""

    shape: Shape


@dataclasses.dataclass(frozen=True)
class Permute:
    """Dimension i of the result is dimension order[i] of the source."""

    order: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Expand:
    """Dimensions of size 1 repeat; new ones come in front."""

    shape: Shape


@dataclasses.dataclass(frozen=True)
class Slice:
    """Elements start, start + step, ... of one axis, `length` of them."""

    axis: int
    start: Dim
    length: Dim
    step: int = 1


View = Reshape | Permute | Expand | Slice


class NotStridedError(Exception):
    """The view cannot be read with one stride per dimension."""


@dataclasses.dataclass(frozen=True)
class Atom:
    size: Dim
    stride: Dim


@dataclasses.dataclass(frozen=True)
class Strided:
    """Where a tensor's elements lie: `dims`, one tuple of atoms per dimension, and an offset, in elements of the
    source."""

    dims: tuple[tuple[Atom, ...], ...]
    offset: Dim = ZERO

    @classmethod
    def dense(cls, shape: Shape, order: Sequence[int]) -> Strided:
        """All of a tensor that lies in memory with its dimensions in `order`."""
        strides: list[Dim] = []
        stride = ONE
        for index in reversed(order):
            strides.insert(0, stride)
            stride = stride * shape[index]
        by_dimension = permuted(strides, inverse(order))
        return cls(tuple((Atom(size, s),) for size, s in zip(shape, by_dimension, strict=True)))

    @property
    def shape(self) -> Shape:
        return tuple(product(atom.size for atom in atoms) for atoms in self.dims)

    def apply(self, view: View) -> Strided:
        """The view of this tensor. `NotStridedError` where one stride per atom does not express it."""
        try:
            if isinstance(view, Permute):
                return Strided(permuted(self.dims, view.order), self.offset)
            if isinstance(view, Reshape):
                return Strided(_split([a for atoms in self.dims for a in atoms], view.shape), self.offset)
            if isinstance(view, Expand):
                return Strided(self._expanded(view.shape), self.offset)
            atoms, offset = _sliced(_merge(self.dims[view.axis]), view)
            dims = (*self.dims[: view.axis], atoms, *self.dims[view.axis + 1 :])
            return Strided(dims, self.offset + offset)
        except SymbolError as error:
            raise NotStridedError(str(error)) from error

    def _expanded(self, shape: Shape) -> tuple[tuple[Atom, ...], ...]:
        own = self.shape
        new = len(shape) - len(own)
        dims: list[tuple[Atom, ...]] = [(Atom(size, ZERO),) for size in shape[:new]]
        for atoms, size, wanted in zip(self.dims, own, shape[new:], strict=True):
            dims.append(atoms if size == wanted else (Atom(wanted, ZERO),))
        return tuple(dims)

    def merged(self, order: Sequence[int]) -> tuple[Atom, ...]:
        """The fewest atoms that give the elements with the dimensions in `order`."""
        return _merge([atom for index in order for atom in self.dims[index]])

    def is_dense(self, order: Sequence[int], elements: Dim) -> bool:
        """Reads the whole source, of `elements` elements, from its first to its last."""
        atoms = self.merged(order)
        return (
            self.offset == ZERO and product(self.shape) == elements and (atoms == () or atoms == (Atom(elements, ONE),))
        )

    def dense_order(self, elements: Dim) -> tuple[int, ...] | None:
        """The order of dimensions in which this reads the whole source from first to last; None where there is none."""
        merged = [_merge(atoms) for atoms in self.dims]
        large = [index for index, atoms in enumerate(merged) if atoms]
        if any(len(merged[index]) > 1 for index in large):
            return None
        order: list[int] = []
        stride = ONE
        for _ in large:  # innermost first: the dimension whose stride is the size of all inside it
            found = [i for i in large if i not in order and merged[i][0].stride == stride]
            if not found:
                return None
            order.insert(0, found[0])
            stride = stride * merged[found[0]][0].size
        # Dimensions of size 1 may stand anywhere; each stays where the plain order has it.
        for index, atoms in enumerate(merged):
            if not atoms:
                position = next((p for p, other in enumerate(order) if other > index), len(order))
                order.insert(position, index)
        return tuple(order) if self.is_dense(order, elements) else None


def _merge(atoms: Sequence[Atom]) -> tuple[Atom, ...]:
    """Joins neighbours that one stride covers, and drops atoms of size 1."""
    result: list[Atom] = []
    for atom in atoms:
        if atom.size == ONE:
            continue
        if result and result[-1].stride == atom.stride * atom.size:
            result[-1] = Atom(result[-1].size * atom.size, atom.stride)
        else:
            result.append(atom)
    return tuple(result)


def _split(atoms: Sequence[Atom], shape: Shape) -> tuple[tuple[Atom, ...], ...]:
    """Distributes atoms over dimensions of the given sizes."""
    rest = list(_merge(atoms))
    dims = []
    for size in shape:
        dim: list[Atom] = []
        need = size
        while need != ONE:
            if not rest:
                raise NotStridedError("the shapes have different numbers of elements")
            atom = rest.pop(0)
            if atom.size.divides(need):
                dim.append(atom)
                need = need // atom.size
            elif need.divides(atom.size):
                inner = atom.size // need
                dim.append(Atom(need, atom.stride * inner))
                rest.insert(0, Atom(inner, atom.stride))
                need = ONE
            else:
                raise NotStridedError(f"a dimension of {atom.size} elements does not split into {need}")
        dims.append(tuple(dim))
    if rest:
        raise NotStridedError("the shapes have different numbers of elements")
    return tuple(dims)


def _sliced(atoms: tuple[Atom, ...], view: Slice) -> tuple[tuple[Atom, ...], Dim]:
    """The atoms and the offset of a slice of one dimension."""
    if not atoms:
        return (), ZERO
    if len(atoms) == 1:
        return (Atom(view.length, atoms[0].stride * view.step),), view.start * atoms[0].stride
    inner = product(atom.size for atom in atoms[1:])
    if not (inner.static and view.start.static and view.length.static):
        raise NotStridedError("a slice of a dimension with several strides, at a symbolic position")
    block, start, length = inner.coefficient, view.start.coefficient, view.length.coefficient
    last = start + (length - 1) * view.step
    if start // block == last // block:
        rest, offset = _sliced(atoms[1:], Slice(view.axis, Dim(start % block), view.length, view.step))
        return rest, offset + atoms[0].stride * (start // block)
    if view.step == 1 and start % block == 0 and length % block == 0:
        outer = Atom(Dim(length // block), atoms[0].stride)
        return (outer, *atoms[1:]), atoms[0].stride * (start // block)
    raise NotStridedError("a slice that cuts through a dimension with several strides")
