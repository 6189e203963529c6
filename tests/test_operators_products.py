"""Convolutions, linear layers, matrix products and attention against PyTorch, and what each refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings

torch = pytest.importorskip("torch")
F = torch.nn.functional

from model_files import ProgramBuilder, write_model  # noqa: E402
from one_operator import (  # noqa: E402
    ACTIVATIONS,
    Array,
    Attributes,
    Check,
    Refuse,
    normal,
    tensor,
    text_of,
)

import keypilot  # noqa: E402

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
