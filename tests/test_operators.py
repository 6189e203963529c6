"""Every operator of docs/operators.md against PyTorch, and what each refuses."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from model_files import ProgramBuilder, write_model

import keypilot
from keypilot import _core
from keypilot.errors import ArgumentError, KeyPilotError

torch = pytest.importorskip("torch")
F = torch.nn.functional

import activations  # noqa: E402

Array = npt.NDArray[Any]
Attributes = Mapping[str, Any]

DTYPES = {"float32": "f32", "int32": "i32", "bool": "bool"}
DIM_LIMIT = 6


def text_of(value: Any) -> str:
    """An attribute's value as the model file has it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, Sequence):
        return ",".join(map(text_of, value))
    return str(int(value))


def make_model(
    path: Path, kind: str, inputs: Sequence[Array | None], attributes: Attributes, shape: Sequence[int], dtype: str
) -> Path:
    """Writes a model of one program, `p`, that applies one operator to inputs `x0`, `x1`, ... and gives `y`."""
    program = ProgramBuilder()
    values = [
        -1
        if array is None
        else program.input(f"x{i}", text_of(array.shape), DTYPES[array.dtype.name], order=range(array.ndim))
        for i, array in enumerate(inputs)
    ]
    text = " ".join(f"{name}={text_of(value)}" for name, value in attributes.items())
    output = program.op(kind, values, "y", text_of(shape), text, dtype)
    program.port("outputs", "y", output, text_of(shape), range(len(shape)))
    return write_model(path, {"p": program})


def apply(
    path: Path, kind: str, inputs: Sequence[Array | None], attributes: Attributes, like: Array, threads: int = 1
) -> Array:
    """The operator's result, whose shape and dtype the model states as those of `like`."""
    make_model(path, kind, inputs, attributes, like.shape, DTYPES[like.dtype.name])
    feeds = {f"x{i}": array for i, array in enumerate(inputs) if array is not None}
    return keypilot.Model.load(path, threads=threads).run("p", **feeds)["y"]


Check = Callable[..., None]


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    """Compares an operator's result, with one thread and with three, to PyTorch's."""
    path = tmp_path_factory.mktemp("operators") / "model.gguf"

    def compare(
        kind: str, inputs: Sequence[Array | None], attributes: Attributes, expected: Any, *, exact: bool = False
    ) -> None:
        wanted = np.asarray(expected)
        for threads in (1, 3):
            got = apply(path, kind, inputs, attributes, wanted, threads)
            assert got.shape == wanted.shape
            assert got.dtype == wanted.dtype
            if exact or wanted.dtype != np.float32:
                np.testing.assert_array_equal(got, wanted)
            elif wanted.size:
                bound = 2e-6 * max(1.0, float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0)))
                np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=bound)

    return compare


Refuse = Callable[..., None]


@pytest.fixture
def refuse(tmp_path: Path) -> Refuse:
    """Expects that a model with this operator is refused with a message that has all of `words`."""

    def expect(
        kind: str,
        shapes: Sequence[Sequence[int] | None],
        attributes: Attributes,
        *words: str,
        dtypes: Sequence[type] | None = None,
    ) -> None:
        types = dtypes or [np.float32] * len(shapes)
        inputs: list[Array | None] = [
            None if shape is None else np.broadcast_to(np.zeros((), dtype), shape)
            for shape, dtype in zip(shapes, types, strict=True)
        ]
        path = make_model(tmp_path / "model.gguf", kind, inputs, attributes, (1,), "f32")
        feeds = {f"x{i}": array for i, array in enumerate(inputs) if array is not None}
        with pytest.raises(KeyPilotError) as raised:
            keypilot.Model.load(path).run("p", **feeds)
        for word in (kind, *words):
            assert word in str(raised.value)

    return expect


def normal(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def integers(low: int, high: int, *shape: int) -> npt.NDArray[np.int32]:
    return np.random.default_rng([high, *shape]).integers(low, high, shape).astype(np.int32)


def tensor(array: Array) -> Any:
    return torch.from_numpy(np.ascontiguousarray(array))


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {"none": lambda x: x, **activations.ACTIVATIONS}

# ---- The table ----


def test_the_table_has_every_operator_of_the_docs() -> None:
    docs = Path(__file__).parent.parent / "docs" / "operators.md"
    documented = [line.split("`")[1] for line in docs.read_text().splitlines() if line.startswith("| `")]
    assert sorted(schema["name"] for schema in _core.op_schemas()) == sorted(documented)


# ---- conv2d ----


def convolve(
    x: Array, weight: Array, bias: Array | None, residual: Array | None, attributes: Attributes
) -> npt.NDArray[np.float32]:
    """`conv2d` as docs/operators.md defines it, by PyTorch in double precision."""
    top, left, bottom, right = attributes.get("pad", (0, 0, 0, 0))
    picture = F.pad(tensor(x).double().permute(0, 3, 1, 2), (left, right, top, bottom))
    kernel = tensor(weight).double()
    kernel = kernel.permute(2, 0, 1)[:, None] if kernel.ndim == 3 else kernel.permute(0, 3, 1, 2)
    y = F.conv2d(
        picture,
        kernel,
        None if bias is None else tensor(bias).double(),
        attributes.get("stride", 1),
        0,
        attributes.get("dilation", 1),
        attributes.get("groups", 1),
    )
    y = ACTIVATIONS[attributes.get("act", "none")](y).permute(0, 2, 3, 1)
    if residual is not None:
        y = y + tensor(residual).double()
    result: npt.NDArray[np.float32] = y.float().numpy()
    return result


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """(x's shape, weight's shape, attributes) that fit each other."""
    side = st.integers(1, 12)
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (5, 5), (1, 7), (2, 3)]))
    attributes: dict[str, Any] = {
        "stride": (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        "dilation": (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        "act": draw(st.sampled_from(sorted(ACTIVATIONS))),
    }
    pad = [draw(st.integers(0, k)) for k in (*kernel, *kernel)]
    height, width = (
        max(draw(side), (k - 1) * d + 1 - before - after)
        for k, d, before, after in zip(kernel, attributes["dilation"], pad[:2], pad[2:], strict=True)
    )
    attributes["pad"] = tuple(pad)
    batch = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 2, 3, 0]))
    if groups == 0:  # depthwise
        channels = draw(st.integers(2, 40))
        attributes["groups"] = channels
        return (batch, height, width, channels), (*kernel, channels), attributes
    attributes["groups"] = groups
    inputs, outputs = draw(st.integers(1, 9)), draw(st.integers(1, 20))
    if groups > 1 and inputs == outputs == 1:
        outputs = 2
    return (batch, height, width, inputs * groups), (outputs * groups, *kernel, inputs), attributes


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=convolutions(), with_bias=st.booleans(), with_residual=st.booleans())
def test_conv2d_is_pytorchs(check: Check, case: Any, with_bias: bool, with_residual: bool) -> None:
    shape, weight_shape, attributes = case
    x, weight = normal(*shape), normal(*weight_shape, seed=1)
    outputs = weight_shape[-1] if len(weight_shape) == 3 else weight_shape[0]
    bias = normal(outputs, seed=2) if with_bias else None
    y = convolve(x, weight, bias, None, attributes)
    residual = normal(*y.shape, seed=3) if with_residual and len(weight_shape) == 4 else None
    check("conv2d", [x, weight, bias, residual], attributes, convolve(x, weight, bias, residual, attributes))


@pytest.mark.parametrize(
    ("side", "channels", "outputs", "kernel", "stride", "groups"),
    [
        (64, 3, 16, 3, 2, 1),  # a stem
        (48, 16, 64, 1, 1, 1),  # an expansion
        (24, 96, 48, 3, 1, 1),  # MobileViT's fusion
        (33, 24, 24, 3, 2, 24),  # depthwise
        (20, 64, 64, 3, 1, 64),
        (17, 32, 64, 3, 1, 32),  # two outputs of each input channel
        (8, 72, 288, 1, 1, 1),
        (16, 40, 40, 1, 2, 1),  # a strided projection
    ],
)
def test_conv2d_of_networks_sizes(
    check: Check, side: int, channels: int, outputs: int, kernel: int, stride: int, groups: int
) -> None:
    depthwise = groups == channels == outputs
    x = normal(2, side, side + 3, channels)
    weight_shape = (kernel, kernel, channels) if depthwise else (outputs, kernel, kernel, channels // groups)
    weight = normal(*weight_shape, seed=1)
    bias = normal(outputs, seed=2)
    attributes = {"stride": (stride, stride), "pad": (kernel // 2,) * 4, "groups": groups, "act": "silu"}
    y = convolve(x, weight, bias, None, attributes)
    residual = None if depthwise else normal(*y.shape, seed=3)
    check("conv2d", [x, weight, bias, residual], attributes, convolve(x, weight, bias, residual, attributes))


@pytest.mark.parametrize(
    ("shapes", "attributes", "words"),
    [
        ([(1, 8, 8, 4), (8, 3, 3, 3)], {}, ["weight has 3 input channels, the input 4"]),
        ([(1, 8, 8), (8, 3, 3, 3)], {}, ["expected x of rank 4", "(1,8,8)"]),
        ([(1, 8, 8, 4), (8, 3)], {}, ["weight", "rank 4"]),
        ([(1, 8, 8, 4), (8, 3, 3, 4)], {"stride": (0, 1)}, ["stride", "got 0"]),
        ([(1, 8, 8, 4), (8, 3, 3, 4)], {"dilation": (1, 0)}, ["dilation", "got 0"]),
        ([(1, 8, 8, 4), (8, 3, 3, 4)], {"pad": (0, 0, 0, -1)}, ["pad"]),
        ([(1, 8, 8, 4), (8, 9, 1, 4)], {}, ["window of 9", "side of 8"]),
        ([(1, 8, 8, 4), (9, 3, 3, 2)], {"groups": 2}, ["2 groups do not divide"]),
        ([(1, 8, 8, 4), (3, 3, 4)], {}, ["depthwise"]),
        ([(1, 8, 8, 4), (4, 3, 3, 1)], {"groups": 4}, ["depthwise", "(kh,kw,4)"]),
        ([(1, 8, 8, 4), (8, 3, 3, 4), (4,)], {}, ["bias has 4 channels, the output 8"]),
        ([(1, 8, 8, 4), (8, 3, 3, 4), None, (1, 8, 8, 8)], {}, ["residual", "(1,8,8,8)", "(1,6,6,8)"]),
        ([(1, 8, 8, 4), (3, 3, 4), None, (1, 6, 6, 4)], {"groups": 4}, ["no residual"]),
        ([(1, 8, 8, 4), (8, 3, 3, 4)], {"act": "swish"}, ["act"]),
        ([(64, 4096, 1, 4), (8, 1, 1, 4)], {"pad": (0, 0, 0, 1 << 20)}, ["output", "at most"]),
    ],
)
def test_conv2d_refuses(refuse: Refuse, shapes: Any, attributes: Attributes, words: list[str]) -> None:
    refuse("conv2d", shapes, attributes, *words)


# ---- linear and matmul ----


@pytest.mark.parametrize("act", sorted(ACTIVATIONS))
def test_linear_applies_every_activation(check: Check, act: str) -> None:
    x, weight, bias = 3 * normal(5, 24), normal(17, 24, seed=1), normal(17, seed=2)
    y = ACTIVATIONS[act](F.linear(tensor(x).double(), tensor(weight).double(), tensor(bias).double())).float()
    check("linear", [x, weight, bias], {"act": act}, y)


@pytest.mark.parametrize("rows", [1, 2, 4, 9, 64, 300, 1024])
@pytest.mark.parametrize(("k", "n"), [(1, 1), (16, 40), (31, 33), (96, 288), (312, 130), (700, 20)])
def test_linear_is_pytorchs(check: Check, rows: int, k: int, n: int) -> None:
    x, weight, bias, residual = normal(rows, k), normal(n, k, seed=1), normal(n, seed=2), normal(rows, n, seed=3)
    y = F.linear(tensor(x).double(), tensor(weight).double(), tensor(bias).double()) + tensor(residual)
    check("linear", [x, weight, bias, residual], {}, y.float())


def test_linear_takes_any_rank(check: Check) -> None:
    weight = normal(7, 5)
    for shape in [(5,), (3, 5), (2, 1, 3, 5)]:
        x = normal(*shape)
        check("linear", [x, weight], {}, F.linear(tensor(x).double(), tensor(weight).double()).float())


def test_linear_refuses(refuse: Refuse) -> None:
    refuse("linear", [(2, 4), (3, 5)], {}, "weight takes 5 features", "(2,4)")
    refuse("linear", [(2, 4), (3, 4), (4,)], {}, "bias has 4 channels, the output 3")
    refuse("linear", [(2, 4), (3, 4), None, (2, 4)], {}, "residual", "(2,4)", "(2,3)")
    refuse("linear", [(2, 0), (3, 0)], {}, "at least one element")
    refuse("linear", [(2, 4), (4,)], {}, "weight of rank 2")
    refuse("linear", [(2, 4), (3, 4)], {}, "x of dtype f32, got i32", dtypes=[np.int32, np.float32])


@pytest.mark.parametrize(("transpose_a", "transpose_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize(
    ("lead_a", "lead_b", "m", "k", "n"),
    [
        ((), (), 1, 1, 1),
        ((), (), 300, 20, 9),
        ((3,), (3,), 4, 256, 700),
        ((2, 3), (3,), 33, 17, 40),
        ((2, 1), (1, 5), 8, 130, 12),
        ((4,), (), 64, 40, 64),
    ],
)
def test_matmul_is_pytorchs(
    check: Check, lead_a: Any, lead_b: Any, m: int, k: int, n: int, transpose_a: int, transpose_b: int
) -> None:
    a = normal(*lead_a, *((k, m) if transpose_a else (m, k)))
    b = normal(*lead_b, *((n, k) if transpose_b else (k, n)), seed=1)
    left = tensor(a).double().mT if transpose_a else tensor(a).double()
    right = tensor(b).double().mT if transpose_b else tensor(b).double()
    attributes = {"transpose_a": transpose_a, "transpose_b": transpose_b, "alpha": 0.375}
    check("matmul", [a, b], attributes, (0.375 * (left @ right)).float())


def test_matmul_refuses(refuse: Refuse) -> None:
    refuse("matmul", [(2, 4), (3, 5)], {}, "a contracts 4 elements, b 3")
    refuse("matmul", [(2, 4), (5, 3)], {"transpose_b": 1}, "a contracts 4 elements, b 3")
    refuse("matmul", [(4,), (4, 5)], {}, "rank 2 or more", "(4)")
    refuse("matmul", [(2, 2, 4), (3, 4, 5)], {}, "(2)", "(3)", "broadcast")
    refuse("matmul", [(2, 4), (4, 5)], {"transpose_a": 2}, "transpose_a", "got 2")


# ---- attention ----


def attend(
    q: Array, k: Array, v: Array, heads: int, scale: float, mask: Array | None = None, causal: bool = False
) -> Any:
    """PyTorch's attention in double precision over (B, L, heads * D); a causal mask's corner is the last key's."""

    def split(x: Array) -> Any:
        return tensor(x).double().unflatten(2, (heads, -1)).transpose(1, 2)

    queries, keys = q.shape[1], k.shape[1]
    bias = torch.zeros(1, 1, queries, keys, dtype=torch.float64)
    if mask is not None:
        bias = bias + (torch.where(tensor(mask), 0.0, -torch.inf) if mask.dtype == np.bool_ else tensor(mask))
    if causal:
        bias = bias.masked_fill(~torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries), -torch.inf)
    y = F.scaled_dot_product_attention(split(q), split(k), split(v), bias, scale=scale)
    return y.transpose(1, 2).flatten(2).nan_to_num(0.0).float()  # a row masked throughout is 0


@pytest.mark.parametrize(
    ("batch", "heads", "queries", "keys", "head_dim"),
    [
        (1, 1, 1, 1, 1),
        (2, 4, 256, 256, 12),
        (3, 4, 16, 16, 18),
        (1, 12, 64, 64, 26),
        (2, 8, 9, 9, 32),
        (1, 2, 70, 130, 5),
        (1, 8, 4, 256, 32),
    ],
)
def test_attention_is_pytorchs(check: Check, batch: int, heads: int, queries: int, keys: int, head_dim: int) -> None:
    width = heads * head_dim
    q, k, v = normal(batch, queries, width), normal(batch, keys, width, seed=1), normal(batch, keys, width, seed=2)
    attributes = {"heads": heads, "head_dim": head_dim, "scale": head_dim**-0.5}
    check("attention", [q, k, v], attributes, attend(q, k, v, heads, head_dim**-0.5))


@pytest.mark.parametrize("kind", ["bool", "f32"])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize(
    "mask_shape", [(2, 3, 70, 90), (2, 1, 1, 90), (3, 70, 90), (70, 90), (90,), (2, 1, 70, 1), (1,), ()]
)
def test_attention_masks_broadcast(check: Check, mask_shape: tuple[int, ...], kind: str, causal: int) -> None:
    q, k, v = normal(2, 70, 24), normal(2, 90, 24, seed=1), normal(2, 90, 24, seed=2)
    numbers = np.asarray(normal(*mask_shape, seed=3))
    mask = np.asarray(numbers > -0.5) if kind == "bool" else numbers
    attributes = {"heads": 3, "head_dim": 8, "scale": 0.3, "causal": causal}
    check("attention", [q, k, v, mask], attributes, attend(q, k, v, 3, 0.3, mask, bool(causal)))


@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (3, 7), (7, 3), (200, 200)])
def test_causal_attention_ends_at_the_last_key(check: Check, queries: int, keys: int) -> None:
    q, k, v = normal(2, queries, 8), normal(2, keys, 8, seed=1), normal(2, keys, 8, seed=2)
    attributes = {"heads": 2, "head_dim": 4, "scale": 0.5, "causal": 1}
    check("attention", [q, k, v], attributes, attend(q, k, v, 2, 0.5, causal=True))


def test_attention_reads_heads_out_of_one_joint_value(check: Check, tmp_path: Path) -> None:
    heads, head_dim = 3, 6
    qkv = normal(2, 20, heads * 3 * head_dim)
    q, k, v = (qkv.reshape(2, 20, heads, 3, head_dim)[..., i, :].reshape(2, 20, -1) for i in range(3))
    program = ProgramBuilder()
    joint = program.input("x", text_of(qkv.shape))
    text = (
        f"heads={heads} head_dim={head_dim} scale=0x1p-1 q_offset=0 k_offset={head_dim} v_offset={2 * head_dim} "
        f"q_head_stride={3 * head_dim} k_head_stride={3 * head_dim} v_head_stride={3 * head_dim}"
    )
    y = program.op("attention", [joint] * 3, "y", "2,20,18", text)
    program.port("outputs", "y", y, "2,20,18")
    model = keypilot.Model.load(write_model(tmp_path / "model.gguf", {"p": program}))
    np.testing.assert_allclose(model.run("p", x=qkv)["y"], attend(q, k, v, heads, 0.5), atol=2e-6)


@pytest.mark.parametrize(
    ("shapes", "attributes", "words"),
    [
        ([(1, 4, 8), (1, 4, 8), (1, 5, 8)], {}, ["v has shape (1,5,8), k has (1,4,8)"]),
        ([(1, 4, 8), (2, 4, 8), (2, 4, 8)], {}, ["k has shape (2,4,8), q has (1,4,8)"]),
        ([(1, 4, 8), (1, 4, 7), (1, 4, 8)], {}, ["do not lie in the 7 channels of k"]),
        ([(1, 4, 8), (1, 4, 8), (1, 4, 8)], {"q_offset": 1}, ["do not lie in the 8 channels of q"]),
        ([(1, 4, 8), (1, 4, 8), (1, 4, 8)], {"v_head_stride": 5}, ["do not lie in the 8 channels of v"]),
        ([(1, 4, 8), (1, 4, 8), (1, 4, 8)], {"heads": 0}, ["heads", "got 0"]),
        ([(1, 4, 8), (1, 4, 8), (1, 4, 8), (1, 2, 4, 3)], {}, ["mask", "(1,2,4,3)", "(1,2,4,4)"]),
        ([(4, 8), (1, 4, 8), (1, 4, 8)], {}, ["q of rank 3"]),
        ([(1, 4, 8), (1, 0, 8), (1, 0, 8)], {}, ["at least one element"]),
    ],
)
def test_attention_refuses(refuse: Refuse, shapes: Any, attributes: Attributes, words: list[str]) -> None:
    refuse("attention", shapes, {"heads": 2, "head_dim": 4, "scale": 1.0, **attributes}, *words)


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


def test_reduce_refuses(refuse: Refuse) -> None:
    refuse("reduce", [(2, 3)], {"fn": "mean", "axes": (1, 0)}, "ascending axes, got 0 after 1")
    refuse("reduce", [(2, 3)], {"fn": "mean", "axes": (0, 0)}, "ascending axes, got 0 after 0")
    refuse("reduce", [(2, 3)], {"fn": "mean", "axes": (2,)}, "axes", "got 2")
    refuse("reduce", [(2, 0)], {"fn": "mean", "axes": (1,)}, "at least one element")


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
