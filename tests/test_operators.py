"""Every operator of docs/operators.md against PyTorch, and what each refuses. Products are in another file."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

torch = pytest.importorskip("torch")
F = torch.nn.functional

from model_files import ProgramBuilder, write_model  # noqa: E402
from one_operator import (  # noqa: E402
    ACTIVATIONS,
    DTYPES,
    Array,
    Attributes,
    Check,
    Refuse,
    apply,
    integers,
    make_model,
    normal,
    tensor,
    text_of,
)

import keypilot  # noqa: E402
from keypilot import _core  # noqa: E402
from keypilot.errors import ArgumentError  # noqa: E402

DIM_LIMIT = 6

# ---- The table ----


def test_the_table_has_every_operator_of_the_docs() -> None:
    docs = Path(__file__).parent.parent / "docs" / "operators.md"
    documented = [line.split("`")[1] for line in docs.read_text().splitlines() if line.startswith("| `")]
    assert sorted(schema["name"] for schema in _core.op_schemas()) == sorted(documented)


# ---- Row-wise: softmax, layer_norm, embedding ----


@pytest.mark.parametrize("shape", [(7,), (5, 33), (3, 4, 5), (2, 300, 40), (1, 1, 1)])
def test_softmax_is_pytorchs(check: Check, shape: tuple[int, ...]) -> None:
    x = 4 * normal(*shape)
    for axis in range(len(shape)):
        check("softmax", [x], {"axis": axis}, torch.softmax(tensor(x).double(), axis).float())


def test_softmax_refuses(refuse: Refuse) -> None:
    refuse("softmax", [(2, 3)], {"axis": 2}, "axis", "got 2")
    refuse("softmax", [(2, 0)], {"axis": 1}, "at least one element")
    refuse("softmax", [(2, 3)], {}, "axis")


@pytest.mark.parametrize("shape", [(5,), (6, 48), (2, 300, 64), (1, 9, 256), (3, 312)])
@pytest.mark.parametrize("affine", ["none", "gamma", "both"])
def test_layer_norm_is_pytorchs(check: Check, shape: tuple[int, ...], affine: str) -> None:
    x = 3 * normal(*shape) + 1
    gamma = None if affine == "none" else normal(shape[-1], seed=1)
    beta = normal(shape[-1], seed=2) if affine == "both" else None
    y = F.layer_norm(
        tensor(x).double(),
        shape[-1:],
        None if gamma is None else tensor(gamma).double(),
        None if beta is None else tensor(beta).double(),
        1e-5,
    )
    check("layer_norm", [x, gamma, beta], {"eps": 1e-5}, y.float())


def test_layer_norm_refuses(refuse: Refuse) -> None:
    refuse("layer_norm", [(2, 4), (5,)], {"eps": 1e-5}, "gamma has 5 channels, the input 4")
    refuse("layer_norm", [(2, 4)], {"eps": -1.0}, "eps", "-1")
    refuse("layer_norm", [()], {"eps": 1e-5}, "rank 1")


def test_embedding_looks_rows_up(check: Check) -> None:
    table, ids = normal(50, 12), integers(0, 50, 3, 7)
    check("embedding", [table, ids], {}, table[ids], exact=True)
    check("embedding", [table, ids[0, 0]], {}, table[ids[0, 0]], exact=True)


@pytest.mark.parametrize("bad", [-1, 50, 2**31 - 1, -(2**31)])
def test_an_id_outside_the_table_is_an_error(tmp_path: Path, bad: int) -> None:
    table, ids = normal(50, 12), np.array([0, 49, bad], np.int32)
    with pytest.raises(ArgumentError, match=rf"from 0 to 49, got {bad} at element 2"):
        apply(tmp_path / "model.gguf", "embedding", [table, ids], {}, normal(3, 12))


def test_embedding_refuses(refuse: Refuse) -> None:
    refuse("embedding", [(5, 4), (3,)], {}, "ids of dtype i32, got f32")
    refuse("embedding", [(5,), (3,)], {}, "table of rank 2", dtypes=[np.float32, np.int32])


# ---- Element-wise ----


@pytest.mark.parametrize("fn", sorted({*ACTIVATIONS, "exp", "sqrt"} - {"none"}))
def test_unary_is_pytorchs(check: Check, fn: str) -> None:
    function = {**ACTIVATIONS, "exp": torch.exp, "sqrt": torch.sqrt}[fn]
    x = 4 * normal(40, 500)
    if fn == "sqrt":
        x = np.abs(x)
    check("unary", [x], {"fn": fn}, function(tensor(x).double()).float())


@pytest.mark.parametrize("fn", ["sin", "cos", "log"])
def test_rare_functions_are_rounded_once(tmp_path: Path, fn: str) -> None:
    """Over floats of all magnitudes, and near the zeros."""
    bits = np.random.default_rng(3).integers(0, 0x7F800000, 60_000).astype(np.uint32)
    special = np.array([0.0, 1.0, 2.0**30, np.float32(1e-45), 3.4e38, 0.99999994, 1.0000001], np.float32)
    near = np.float32(np.arange(1, 4000) * (np.pi / 2))
    x = np.concatenate([bits.view(np.float32), special, near])
    if fn != "log":
        x = np.concatenate([x, -x])
        x = x[np.abs(x) <= 2**30]
    with np.errstate(divide="ignore"):
        exact = getattr(np, fn)(x.astype(np.longdouble))
    got = apply(tmp_path / "m.gguf", "unary", [x], {"fn": fn}, x).astype(np.longdouble)
    finite = np.isfinite(exact)
    ulp = np.spacing(np.abs(exact[finite]).astype(np.float32))
    assert np.max(np.abs(got[finite] - exact[finite]) / ulp) <= 0.501
    np.testing.assert_array_equal(got[~finite], exact[~finite])


@st.composite
def broadcasts(draw: st.DrawFn, operands: int) -> tuple[tuple[int, ...], ...]:
    """Shapes that broadcast, of ranks 0 to 5; some dimensions long enough for several tasks."""
    full = draw(st.lists(st.sampled_from([1, 2, 3, 5, 17, 40]), max_size=5))
    if draw(st.booleans()) and full:
        full[draw(st.integers(0, len(full) - 1))] = 130
    while np.prod(full) > 200_000:
        full.remove(max(full))
    shapes = []
    for _ in range(operands):
        rank = draw(st.integers(0, len(full)))
        shapes.append(tuple(1 if draw(st.booleans()) else dim for dim in full[len(full) - rank :]))
    return tuple(shapes)


@settings(max_examples=80, deadline=None)
@given(shapes=broadcasts(2), fn=st.sampled_from(["add", "sub", "mul", "div", "min", "max"]))
def test_binary_broadcasts_as_numpy(check: Check, shapes: Any, fn: str) -> None:
    a, b = normal(*shapes[0]), normal(*shapes[1], seed=1)
    function = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "min": np.minimum,
                "max": np.maximum}[fn]  # fmt: skip
    check("binary", [np.asarray(a), np.asarray(b)], {"fn": fn}, function(a, b), exact=True)


@pytest.mark.parametrize(
    ("a", "b"), [((2, 20, 20, 24), (2, 1, 1, 24)), ((3, 50, 1), (3, 50, 400)), ((400, 1), (1, 300)), ((50_000,), ())]
)
def test_binary_broadcasts_large_operands(check: Check, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = normal(*a), np.asarray(normal(*b, seed=1))
    check("binary", [x, y], {"fn": "mul"}, x * y, exact=True)
    check("binary", [y, x], {"fn": "sub"}, y - x, exact=True)


@pytest.mark.parametrize(("fn", "function"), [("add", np.add), ("sub", np.subtract), ("mul", np.multiply),
                                              ("min", np.minimum), ("max", np.maximum)])  # fmt: skip
def test_binary_of_integers_wraps_around(check: Check, fn: str, function: Callable[..., Array]) -> None:
    a, b = integers(-(2**31), 2**31, 30, 1), integers(-(2**31), 2**31, 7)
    check("binary", [a, b], {"fn": fn}, function(a, b), exact=True)


def test_binary_refuses(refuse: Refuse) -> None:
    refuse("binary", [(2, 3), (2, 4)], {"fn": "add"}, "(2,3)", "(2,4)", "broadcast")
    refuse("binary", [(2,), (2,)], {"fn": "div"}, "div takes f32", dtypes=[np.int32, np.int32])
    refuse("binary", [(2,), (2,)], {"fn": "add"}, "b of dtype f32, got i32", dtypes=[np.float32, np.int32])
    refuse("binary", [(2,), (2,)], {"fn": "pow"}, "fn")
    refuse("binary", [(1 << 16, 1), (1, 1 << 16)], {"fn": "add"}, "(65536,65536)")


@settings(max_examples=40, deadline=None)
@given(shapes=broadcasts(2), fn=st.sampled_from(["eq", "ne", "gt", "lt", "ge", "le"]), whole=st.booleans())
def test_compare_broadcasts_as_numpy(check: Check, shapes: Any, fn: str, whole: bool) -> None:
    a, b = (np.asarray(integers(-2, 3, *shape)) for shape in shapes)
    function = {"eq": np.equal, "ne": np.not_equal, "gt": np.greater, "lt": np.less, "ge": np.greater_equal,
                "le": np.less_equal}[fn]  # fmt: skip
    if not whole:
        a, b = a.astype(np.float32), b.astype(np.float32)
    check("compare", [a, b], {"fn": fn}, function(a, b), exact=True)


@settings(max_examples=40, deadline=None)
@given(shapes=broadcasts(3), dtype=st.sampled_from([np.float32, np.int32, np.bool_]))
def test_select_broadcasts_as_numpy(check: Check, shapes: Any, dtype: Any) -> None:
    condition = np.asarray(integers(0, 2, *shapes[0]).astype(np.bool_))
    a, b = (np.asarray(integers(0, 3, *shape).astype(dtype)) for shape in shapes[1:])
    check("select", [condition, a, b], {}, np.where(condition, a, b), exact=True)


def test_compare_and_select_refuse(refuse: Refuse) -> None:
    refuse("compare", [(2,), (3,)], {"fn": "eq"}, "(2)", "(3)", "broadcast")
    refuse("compare", [(2,), (2,)], {"fn": "eq"}, "a of dtype f32, got bool", dtypes=[np.bool_, np.bool_])
    refuse("select", [(2,), (2,), (2,)], {}, "condition of dtype bool, got f32")
    refuse("select", [(2,), (2,), (3,)], {}, "broadcast", dtypes=[np.bool_, np.float32, np.float32])


@pytest.mark.parametrize("to", ["f32", "i32", "bool"])
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.bool_])
def test_cast_is_numpys(check: Check, dtype: Any, to: str) -> None:
    numbers = np.append(integers(-5, 6, 40_000) / 2, [-0.0, 0.99, -0.99, 2.0**30])
    x = numbers.astype(np.float32).astype(dtype)
    check("cast", [x], {"to": to}, x.astype({"f32": np.float32, "i32": np.int32, "bool": np.bool_}[to]), exact=True)


def test_a_cast_to_integers_saturates(check: Check) -> None:
    x = np.array([3e9, -3e9, 2**31, -(2**31)], np.float32)
    check("cast", [x], {"to": "i32"}, np.array([2**31 - 1, -(2**31), 2**31 - 1, -(2**31)], np.int32), exact=True)


# ---- reduce, pool2d, resize2d ----


@pytest.mark.parametrize("shape", [(6,), (3, 50), (2, 8, 8, 20), (3, 4, 5, 6, 2), (2, 1, 7), (1, 300, 400)])
@pytest.mark.parametrize("keepdim", [0, 1])
def test_reduce_is_pytorchs_over_any_axes(check: Check, shape: tuple[int, ...], keepdim: int) -> None:
    x = normal(*shape) + 0.25
    double = tensor(x).double()
    for count in range(1, len(shape) + 1):
        for axes in itertools.combinations(range(len(shape)), count):
            attributes = {"axes": axes, "keepdim": keepdim}
            check("reduce", [x], {"fn": "mean", **attributes}, double.mean(axes, bool(keepdim)).float())
            check("reduce", [x], {"fn": "sum", **attributes}, double.sum(axes, bool(keepdim)).float())
            norm = torch.linalg.vector_norm(double, dim=axes, keepdim=bool(keepdim))
            check("reduce", [x], {"fn": "l2norm", **attributes}, norm.float())
            for values in (x, (9 * x).astype(np.int32)):
                for fn, function in (("max", np.max), ("min", np.min)):
                    check("reduce", [values], {"fn": fn, **attributes}, function(values, axes, keepdims=bool(keepdim)))
            total = values.sum(axes, np.int32, keepdims=bool(keepdim))
            check("reduce", [values], {"fn": "sum", **attributes}, total)


def test_reduce_refuses(refuse: Refuse) -> None:
    refuse("reduce", [(2, 3)], {"fn": "mean", "axes": (1, 0)}, "ascending axes, got 0 after 1")
    refuse("reduce", [(2, 3)], {"fn": "mean", "axes": (0, 0)}, "ascending axes, got 0 after 0")
    refuse("reduce", [(2, 3)], {"fn": "mean", "axes": (2,)}, "axes", "got 2")
    refuse("reduce", [(2, 0)], {"fn": "mean", "axes": (1,)}, "at least one element")
    for fn in ("mean", "l2norm"):
        refuse("reduce", [(2, 3)], {"fn": fn, "axes": (1,)}, "dtype f32, got i32", dtypes=[np.int32])
    refuse("reduce", [(2, 3)], {"fn": "max", "axes": (1,)}, "dtype f32, got bool", dtypes=[np.bool_])


@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "pad"),
    [
        ((2, 9, 11, 5), (5, 5), (1, 1), (2, 2, 2, 2)),
        ((1, 64, 64, 24), (4, 4), (4, 4), (0, 0, 0, 0)),
        ((1, 7, 8, 33), (3, 2), (2, 1), (1, 0, 1, 0)),
        ((3, 5, 5, 1), (2, 2), (2, 2), (1, 1, 1, 1)),
        ((1, 3, 3, 4), (3, 3), (1, 1), (0, 0, 0, 0)),
    ],
)
def test_pool2d_is_pytorchs(check: Check, shape: Any, kernel: Any, stride: Any, pad: Any) -> None:
    x = normal(*shape)
    picture = tensor(x).double().permute(0, 3, 1, 2)
    attributes = {"kernel": kernel, "stride": stride, "pad": pad}
    y = F.max_pool2d(picture, kernel, stride, pad[:2]).permute(0, 2, 3, 1)
    check("pool2d", [x], {"fn": "max", **attributes}, y.float(), exact=True)
    for whole in (0, 1):
        y = F.avg_pool2d(picture, kernel, stride, pad[:2], count_include_pad=bool(whole)).permute(0, 2, 3, 1)
        check("pool2d", [x], {"fn": "average", "count_include_pad": whole, **attributes}, y.float())


def test_pool2d_pads_each_side_by_its_own(check: Check) -> None:
    x = normal(1, 6, 6, 3)
    padded = np.pad(x, ((0, 0), (1, 0), (0, 2), (0, 0)))
    y = F.avg_pool2d(tensor(padded).double().permute(0, 3, 1, 2), 3, 2).permute(0, 2, 3, 1)
    check("pool2d", [x], {"fn": "average", "kernel": (3, 3), "stride": (2, 2), "pad": (1, 0, 0, 2)}, y.float())


def test_pool2d_refuses(refuse: Refuse) -> None:
    good = {"fn": "max", "kernel": (2, 2), "stride": (1, 1)}
    refuse("pool2d", [(1, 4, 4, 1)], {**good, "stride": (1, 0)}, "stride", "got 0")
    refuse("pool2d", [(1, 4, 4, 1)], {**good, "kernel": (0, 1)}, "kernel", "got 0")
    refuse("pool2d", [(1, 4, 4, 1)], {**good, "pad": (2, 0, 0, 0)}, "padding below the kernel's 2")
    refuse("pool2d", [(1, 4, 4, 1)], {**good, "kernel": (5, 1)}, "kernel of 5", "side of 4")
    refuse("pool2d", [(4, 4, 1)], good, "x of rank 4")


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (3, 20), (1, 1), (13, 5), (31, 29)])
@pytest.mark.parametrize("shape", [(2, 7, 7, 10), (1, 16, 12, 3), (1, 1, 1, 64)])
def test_resize2d_is_pytorchs(check: Check, shape: Any, size: Any) -> None:
    x = normal(*shape)
    picture = tensor(x).permute(0, 3, 1, 2)
    nearest = F.interpolate(picture, size, mode="nearest").permute(0, 2, 3, 1)
    check("resize2d", [x], {"fn": "nearest", "size": size}, nearest, exact=True)
    bilinear = F.interpolate(picture, size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    check("resize2d", [x], {"fn": "bilinear", "size": size}, bilinear)


def test_resize2d_refuses(refuse: Refuse) -> None:
    refuse("resize2d", [(1, 4, 4, 1)], {"fn": "nearest", "size": (0, 4)}, "size", "got 0")
    refuse("resize2d", [(1, 4, 4, 1)], {"fn": "nearest", "size": (1 << 20, 1 << 20)}, "at most")
    refuse("resize2d", [(4, 4, 1)], {"fn": "nearest", "size": (4, 4)}, "x of rank 4")


# ---- Moving data: concat, rearrange, alias ----


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.bool_])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concat_is_numpys(check: Check, axis: int, dtype: Any) -> None:
    arrays = []
    for length in (3, 1, 40, 7):
        shape = [20, 30, 50]
        shape[axis] = length
        arrays.append(integers(0, 2, *shape).astype(dtype))
    check("concat", arrays, {"axis": axis}, np.concatenate(arrays, axis), exact=True)


def test_concat_refuses(refuse: Refuse) -> None:
    refuse("concat", [(2, 3), (2, 4)], {"axis": 0}, "(2,4)", "(2,3)", "axis 0")
    refuse("concat", [(2, 3), (2, 3, 1)], {"axis": 0}, "(2,3,1)")
    refuse("concat", [(2, 3), (2, 3)], {"axis": 2}, "axis", "got 2")
    refuse("concat", [(2, 3), (2, 3)], {"axis": 0}, "dtype f32, got i32", dtypes=[np.float32, np.int32])


def strided(x: Array, dims: Sequence[int], strides: Sequence[int], offset: int) -> Array:
    """What `rearrange` gives: element i0,i1,... is x's element offset + sum i_k * stride_k."""
    index = np.full(tuple(dims), offset, np.int64)
    for axis, (dim, stride) in enumerate(zip(dims, strides, strict=True)):
        index += (np.arange(dim) * stride).reshape([-1 if i == axis else 1 for i in range(len(dims))])
    return x.reshape(-1)[index]


@settings(max_examples=150, deadline=None)
@given(data=st.data(), dtype=st.sampled_from([np.float32, np.int32, np.bool_]))
def test_rearrange_of_permuted_slices(check: Check, data: st.DataObject, dtype: Any) -> None:
    shape = data.draw(st.lists(st.integers(1, DIM_LIMIT), min_size=1, max_size=8).filter(lambda s: np.prod(s) < 20_000))
    order = data.draw(st.permutations(range(len(shape))))
    x = integers(0, 2 if dtype == np.bool_ else 2**20, *shape).astype(dtype)
    steps = np.array([int(np.prod(shape[i + 1 :])) for i in range(len(shape))])
    dims, strides, offset = [], [], 0
    for axis in order:
        start = data.draw(st.integers(0, shape[axis] - 1))
        step = data.draw(st.integers(1, 2))
        offset += start * int(steps[axis])
        repeated = data.draw(st.integers(0, 9)) == 0
        dims.append(data.draw(st.integers(1, DIM_LIMIT)) if repeated else -(-(shape[axis] - start) // step))
        strides.append(0 if repeated else step * int(steps[axis]))
    y = strided(x, dims, strides, offset)
    attributes = {"dims": dims, "strides": strides, "offset": offset, "shape": (y.size,)}
    check("rearrange", [x], attributes, y.reshape(-1), exact=True)


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((300, 200), (1, 0)),
        ((2, 48, 40, 40), (0, 2, 3, 1)),  # NCHW to NHWC
        ((2, 40, 40, 48), (0, 3, 1, 2)),
        ((4, 64, 64, 3), (3, 0, 1, 2)),
        ((1, 100, 12, 26), (0, 2, 1, 3)),  # heads
        ((1, 16, 2, 16, 2, 24), (0, 2, 4, 1, 3, 5)),  # MobileViT's patches
        ((8, 9, 10, 11), (3, 2, 1, 0)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.bool_])
def test_rearrange_permutes(check: Check, shape: tuple[int, ...], order: tuple[int, ...], dtype: Any) -> None:
    x = normal(*shape) if dtype == np.float32 else normal(*shape) > 0
    y = np.ascontiguousarray(x.transpose(order))
    steps = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
    attributes = {"dims": y.shape, "strides": [steps[i] for i in order], "shape": y.shape}
    check("rearrange", [x], attributes, y, exact=True)


def test_rearrange_follows_the_batch_and_the_text(tmp_path: Path) -> None:
    program = ProgramBuilder()
    x = program.input("x", "N,T,6")
    y = program.op("rearrange", [x], "y", "N,2,T,3", "dims=N,2,T,3 strides=6T,3,6,1 shape=N,2,T,3")
    program.port("outputs", "y", y, "N,2,T,3")
    model = keypilot.Model.load(write_model(tmp_path / "model.gguf", {"p": program}))
    for batch, tokens in ((1, 1), (3, 5)):
        array = normal(batch, tokens, 6)
        expected = array.reshape(batch, tokens, 2, 3).transpose(0, 2, 1, 3)
        np.testing.assert_array_equal(model.run("p", x=array)["y"], expected)


def test_rearrange_refuses(refuse: Refuse) -> None:
    refuse("rearrange", [(4, 4)], {"dims": (4, 4), "strides": (1, 4), "offset": 1, "shape": (16,)}, "reach element 16")
    refuse("rearrange", [(4, 4)], {"dims": (2, 2), "strides": (2**31 - 1,) * 2, "shape": (4,)}, "reach element")
    refuse("rearrange", [(4, 4)], {"dims": (4, 4), "strides": (1,), "shape": (16,)}, "as many strides as dims")
    refuse("rearrange", [(4, 4)], {"dims": (4, 4), "strides": (1, 4), "shape": (15,)}, "(15)", "(4,4)")
    refuse("rearrange", [(4,)], {"dims": (1 << 20,) * 2, "strides": (0, 0), "shape": (1 << 20,) * 2}, "at most")
    refuse("rearrange", [(4,)], {"dims": (4,), "strides": (-1,), "offset": 3, "shape": (4,)}, "strides")


def test_alias_reshapes(check: Check) -> None:
    x = normal(4, 6)
    for shape in [(24,), (2, 3, 4), (1, 24, 1)]:
        check("alias", [x], {"shape": shape}, x.reshape(shape), exact=True)


def test_alias_refuses(refuse: Refuse) -> None:
    refuse("alias", [(4, 6)], {"shape": (5, 5)}, "(5,5)", "(4,6)")
    refuse("alias", [(4, 6)], {}, "shape")


# ---- Reading by index, running sums ----


def _gathered(x: Array, index: Array, axis: int, batch: int) -> Array:
    if batch == 0:
        return np.take(x, index, axis)
    return np.stack([_gathered(*pair, axis - 1, batch - 1) for pair in zip(x, index, strict=True)])


@pytest.mark.parametrize(
    ("shape", "index", "axis", "batch"),
    [
        ((7, 5), (3,), 0, 0),
        ((4, 7, 5), (4,), 1, 1),  # the row of each text's last token
        ((4, 7, 5), (4, 2), 1, 1),
        ((4, 3, 7), (4, 3, 6), 2, 2),
        ((4, 3, 7), (), 1, 0),
        ((2, 3, 7, 5), (2, 4), 2, 1),
        ((2, 3, 7), (0,), 2, 0),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.bool_])
def test_gather_takes_rows(check: Check, shape: Any, index: Any, axis: int, batch: int, dtype: Any) -> None:
    x = (3 * normal(*shape)).astype(dtype)
    indices = np.asarray(integers(-shape[axis], shape[axis], *index))
    check("gather", [x, indices], {"axis": axis, "batch": batch}, _gathered(x, indices, axis, batch), exact=True)


@pytest.mark.parametrize("bad", [7, -8, 2**31 - 1, -(2**31)])
def test_an_index_outside_the_axis_is_an_error(tmp_path: Path, bad: int) -> None:
    with pytest.raises(ArgumentError, match=rf"gather: .* from -7 to 6, got {bad} at element 1"):
        apply(tmp_path / "m.gguf", "gather", [normal(7, 2), np.array([0, bad], np.int32)], {"axis": 0}, normal(2, 2))


def test_gather_refuses(refuse: Refuse) -> None:
    types = [np.float32, np.int32]
    refuse("gather", [(4, 5), (4,)], {"axis": 0}, "index of dtype i32, got f32")
    refuse("gather", [(4, 5), (4,)], {"axis": 2}, "axis", "got 2", dtypes=types)
    refuse("gather", [(4, 5), (4,)], {"axis": 0, "batch": 1}, "batch", "got 1", dtypes=types)
    refuse("gather", [(4, 5), (3,)], {"axis": 1, "batch": 1}, "(3)", "(4,5)", dtypes=types)
    refuse("gather", [(4, 5), ()], {"axis": 1, "batch": 1}, "batch 1", dtypes=types)
    refuse("gather", [(1,) * 8, (1, 1)], {"axis": 1}, "does not fit", dtypes=types)
    refuse("gather", [(), (1,)], {"axis": 0}, "axis", dtypes=types)
    refuse("gather", [(4, 1 << 15), (1 << 20,)], {"axis": 0}, "at most", dtypes=types)


@pytest.mark.parametrize("shape", [(9,), (5, 33), (3, 4, 5), (2, 300, 40), (40, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_argmax_and_cumsum_are_pytorchs(check: Check, shape: tuple[int, ...], dtype: Any) -> None:
    x = (3 * normal(*shape)).astype(dtype)  # as integers, with many equal ones
    for axis in range(len(shape)):
        check("argmax", [x], {"axis": axis}, x.argmax(axis).astype(np.int32))
        sums = torch.cumsum(tensor(x), axis, dtype=torch.float64 if dtype == np.float32 else torch.int32)
        check("cumsum", [x], {"axis": axis}, sums.numpy().astype(dtype), exact=True)


def test_integer_sums_wrap_around(check: Check) -> None:
    x = np.array([2**31 - 1, 1, -5], np.int32)
    check("cumsum", [x], {"axis": 0}, np.array([2**31 - 1, -(2**31), 2**31 - 5], np.int64).astype(np.int32))


def test_argmax_and_cumsum_refuse(refuse: Refuse) -> None:
    for kind in ("argmax", "cumsum"):
        refuse(kind, [(4, 5)], {"axis": 2}, "axis", "got 2")
        refuse(kind, [()], {"axis": 0}, "axis")
        refuse(kind, [(4, 5)], {"axis": 0}, "x of dtype f32, got bool", dtypes=[np.bool_])
    refuse("argmax", [(4, 0)], {"axis": 1}, "at least one element")


@pytest.mark.parametrize(
    ("shape", "before", "after"),
    [
        ((5,), (2,), (0,)),
        ((2, 3, 4), (0, 0, 0), (0, 0, 0)),
        ((2, 3, 4), (1, 0, 2), (0, 2, 1)),
        ((2, 62, 60, 40), (0, 0, 0, 0), (0, 8, 10, 0)),  # pictures up to whole windows
        ((2, 0, 3), (0, 2, 0), (0, 1, 1)),
        ((0, 2), (0, 1), (0, 0)),
        ((3, 2), (70_000, 0), (1, 0)),
    ],
)
@pytest.mark.parametrize("value", [0.0, -1.5])
def test_pad_is_numpys(check: Check, shape: Any, before: Any, after: Any, value: float) -> None:
    x = normal(*shape)
    padded = np.pad(x, list(zip(before, after, strict=True)), constant_values=value)
    check("pad", [x], {"before": before, "after": after, "value": value}, padded, exact=True)


def test_pad_refuses(refuse: Refuse) -> None:
    refuse("pad", [(2, 3)], {"before": (0, -1), "after": (0, 0)}, "before", "-1")
    refuse("pad", [(2, 3)], {"before": (0, 0), "after": (0, -1)}, "after", "-1")
    refuse("pad", [(2, 3)], {"before": (0,), "after": (0, 0)}, "expected 2 values", "1 and 2")
    refuse("pad", [(2, 3)], {"before": (0, 0), "after": (0, 2**31 - 1)}, "at most")
    refuse("pad", [(2, 3)], {"before": (0, 0), "after": (0, 0), "value": 1e300}, "finite", "1e+300")
    refuse("pad", [(2, 3)], {"before": (0, 0), "after": (0, 0)}, "dtype f32, got i32", dtypes=[np.int32])


# ---- Memory ----


@pytest.mark.parametrize(
    ("kind", "attributes", "dying"),
    [
        ("unary", {"fn": "gelu"}, 0),
        ("binary", {"fn": "sub"}, 0),
        ("binary", {"fn": "sub"}, 1),
        ("layer_norm", {"eps": 1e-5}, 0),
        ("softmax", {"axis": 1}, 0),
        ("softmax", {"axis": 0}, 0),
        ("cumsum", {"axis": 0}, 0),
        ("select", {}, 1),
        ("select", {}, 2),
    ],
)
def test_an_operator_that_takes_over_its_inputs_memory_gives_the_same(
    tmp_path: Path, kind: str, attributes: Attributes, dying: int
) -> None:
    shape = (90, 250)
    count = {"binary": 2, "select": 3}.get(kind, 1)
    arrays: list[Array] = [normal(*shape, seed=i) for i in range(count)]
    if kind == "select":
        arrays[0] = arrays[0] > 0
    expected = apply(tmp_path / "apart.gguf", kind, arrays, attributes, arrays[-1])

    program = ProgramBuilder()
    values = [program.input(f"x{i}", text_of(shape), DTYPES[array.dtype.name]) for i, array in enumerate(arrays)]
    zero = program.weight("zero", np.zeros(1, np.float32))
    values[dying] = program.op("binary", [values[dying], zero], "copy", text_of(shape), "fn=add")
    text = " ".join(f"{name}={text_of(value)}" for name, value in attributes.items())
    y = program.op(kind, values, "z", text_of(shape), text)
    last = program.op("binary", [y, zero], "y", text_of(shape), "fn=add")
    program.port("outputs", "y", last, text_of(shape))
    model = keypilot.Model.load(write_model(tmp_path / "model.gguf", {"p": program}), threads=1)
    got = model.run("p", **{f"x{i}": array for i, array in enumerate(arrays)})["y"]
    np.testing.assert_array_equal(got, expected)
    tensor_bytes = 4 * int(np.prod(shape))
    assert model.cost("p").arena_bytes < 2 * tensor_bytes  # one place for all three tensors


# ---- Costs ----


@pytest.mark.parametrize(
    ("kind", "shapes", "attributes", "shape", "macs"),
    [
        ("conv2d", [(2, 8, 8, 4), (6, 3, 3, 4)], {"pad": (1, 1, 1, 1)}, (2, 8, 8, 6), 2 * 64 * 6 * 36),
        ("conv2d", [(1, 8, 8, 4), (3, 3, 4)], {"groups": 4}, (1, 6, 6, 4), 36 * 4 * 9),
        ("linear", [(3, 5, 4), (7, 4)], {}, (3, 5, 7), 15 * 7 * 4),
        ("matmul", [(2, 5, 4), (4, 6)], {}, (2, 5, 6), 2 * 5 * 4 * 6),
        ("attention", [(2, 5, 8)] + [(2, 7, 8)] * 2, {"heads": 2, "head_dim": 4, "scale": 1.0}, (2, 5, 8),
         2 * 2 * 2 * 5 * 7 * 4),
        ("unary", [(4,)], {"fn": "relu"}, (4,), 0),
    ],
)  # fmt: skip
def test_costs_count_multiply_accumulates(
    tmp_path: Path, kind: str, shapes: Any, attributes: Attributes, shape: Any, macs: int
) -> None:
    inputs = [np.zeros(s, np.float32) for s in shapes]
    model = keypilot.Model.load(make_model(tmp_path / "model.gguf", kind, inputs, attributes, shape, "f32"))
    assert model.cost("p").macs == macs
