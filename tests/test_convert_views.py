"""Any chain of views is one strided reading of memory: the converter's algebra against NumPy's own views."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from keypilot.convert.graph import ONE, Dim, SymbolError, product  # noqa: E402
from keypilot.convert.views import Expand, NotStridedError, Permute, Reshape, Slice, Strided  # noqa: E402

N, T = Dim(1, 1), Dim(1, 0, 1)

_SIZES = ((2, 3), (3, 5), (1, 1))


def _numbers(shape, sizes):
    return tuple(dim.evaluate(*sizes) for dim in shape)


def _numpy(array, view, sizes):
    """The view by NumPy."""
    if isinstance(view, Permute):
        return array.transpose(view.order)
    if isinstance(view, Reshape):
        return array.reshape(_numbers(view.shape, sizes))
    if isinstance(view, Expand):
        return np.broadcast_to(array, _numbers(view.shape, sizes))
    start, length = view.start.evaluate(*sizes), view.length.evaluate(*sizes)
    index = [slice(None)] * array.ndim
    index[view.axis] = slice(start, start + (length - 1) * view.step + 1, view.step)
    return array[tuple(index)]


def _positions(strided, sizes):
    """The element offsets that a `Strided` reads, in the shape it describes."""
    atoms = strided.merged(range(len(strided.dims)))
    positions = np.full((), strided.offset.evaluate(*sizes))
    for atom in atoms:
        steps = np.arange(atom.size.evaluate(*sizes)) * atom.stride.evaluate(*sizes)
        positions = positions[..., None] + steps
    return positions.reshape(_numbers(strided.shape, sizes))


@st.composite
def _view(draw, shape):
    """A random view of a tensor of that shape."""
    kind = draw(st.sampled_from(["permute", "split", "merge", "slice", "expand"]))
    rank = len(shape)
    if kind == "permute":
        return Permute(tuple(draw(st.permutations(range(rank)))))
    axis = draw(st.integers(0, rank - 1))
    size = shape[axis]
    if kind == "merge" and rank > 1:
        axis = min(axis, rank - 2)
        return Reshape((*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))
    if kind == "split":
        factors = [f for f in range(1, size.coefficient + 1) if size.coefficient % f == 0]
        inner = Dim(draw(st.sampled_from(factors)))
        return Reshape((*shape[:axis], size // inner, inner, *shape[axis + 1 :]))
    if kind == "slice" and size.static and size != ONE:
        start = draw(st.integers(0, size.coefficient - 1))
        step = draw(st.integers(1, 3))
        length = draw(st.integers(1, (size.coefficient - 1 - start) // step + 1))
        return Slice(axis, Dim(start), Dim(length), step)
    widened = tuple(Dim(3) if dim == ONE else dim for dim in shape)
    return Expand((Dim(2), *widened))


def _applied(shape, view):
    if isinstance(view, Permute):
        return tuple(shape[i] for i in view.order)
    if isinstance(view, Slice):
        return (*shape[: view.axis], view.length, *shape[view.axis + 1 :])
    return view.shape


@st.composite
def _chain(draw, dims, length):
    """(shape, memory order, views, `Strided`) of a random chain that one strided reading expresses."""
    shape = start = tuple(draw(st.permutations(dims)))
    order = draw(st.permutations(range(len(shape))))
    strided = Strided.dense(shape, order)
    views = []
    for _ in range(length):
        view = draw(_view(shape))
        try:
            strided = strided.apply(view)
        except NotStridedError:
            break
        views.append(view)
        shape = _applied(shape, view)
    return start, order, views, strided


@settings(max_examples=300, deadline=None)
@given(_chain([N, T * 4, Dim(6), Dim(4)], 6))
def test_a_chain_of_views_reads_the_elements_that_numpys_views_show(chain):
    shape, order, views, strided = chain
    for sizes in _SIZES:
        stored = _numbers([shape[i] for i in order], sizes)
        array = np.arange(math.prod(stored)).reshape(stored).transpose(np.argsort(order))
        for view in views:
            array = _numpy(array, view, sizes)
        np.testing.assert_array_equal(_positions(strided, sizes), array)


@settings(max_examples=300, deadline=None)
@given(_chain([N, Dim(6), Dim(1), Dim(4)], 3))
def test_a_view_is_dense_exactly_where_it_is_the_memory_itself(chain):
    _shape, _order, _views, strided = chain
    positions = _positions(strided, (2, 1))

    def is_memory(dims):
        return positions.size == 48 and np.array_equal(positions.transpose(dims).reshape(-1), np.arange(48))

    plain = tuple(range(positions.ndim))
    assert strided.is_dense(plain, N * 24) == is_memory(plain)
    order = strided.dense_order(N * 24)
    if order is not None:
        assert is_memory(order)
    elif positions.ndim <= 5:
        assert not any(map(is_memory, itertools.permutations(plain)))


@pytest.mark.parametrize("coefficient", [1, 2, 12])
def test_a_dimension_is_written_as_the_model_file_writes_it(coefficient):
    factor = "" if coefficient == 1 else str(coefficient)
    assert str(Dim(coefficient, 1)) == f"{factor}N"
    assert str(Dim(coefficient, 1, 1)) == f"{factor}NT"
    assert str(Dim(coefficient)) == str(coefficient)


def test_sizes_that_are_no_products_are_refused():
    with pytest.raises(SymbolError, match=r"N \+ 1"):
        N + ONE
    with pytest.raises(SymbolError, match="not a multiple"):
        N // Dim(2)
    assert product((N, T, Dim(4))) // (N * 2) == T * 2
