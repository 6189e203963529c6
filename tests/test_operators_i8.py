"""The operators on int8 against docs/operators.md's definition, in NumPy's double precision: within one step, and
nearly always the same byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from model_files import ProgramBuilder, write_model
from quantized_oracle import quantize_rows

import keypilot
from keypilot.errors import KeyPilotError

Array = npt.NDArray[Any]

ACTS = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-np.maximum(x, -700))),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}


class Quantized:
    """Real numbers as int8 by channel, the last axis."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...], low: float = -3, high: float = 3) -> None:
        channels = shape[-1]
        self.scale = rng.uniform(0.5, 1.5, channels).astype(np.float32) * np.float32((high - low) / 255)
        self.zero_point = np.round(-128 - low / self.scale).clip(-128, 127).astype(np.int8)
        self.q = rng.integers(-128, 128, shape).astype(np.int8)

    @property
    def real(self) -> Array:
        return (self.q.astype(np.float64) - self.zero_point) * self.scale

    def steps(self, real: Array) -> Array:
        """The quantised form of real numbers, not yet rounded."""
        return np.clip(real / self.scale + self.zero_point, -128, 127)


class Case:
    """A model of one operator, whose quantised inputs come from `quantize` operators."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.program = ProgramBuilder()
        self.feeds: dict[str, Array] = {}

    def f32(self, array: Array) -> int:
        name = f"x{len(self.feeds)}"
        self.feeds[name] = array.astype(np.float32)
        return self.program.input(name, ",".join(map(str, array.shape)))

    def i8(self, x: Quantized) -> int:
        source = self.f32(x.real)
        shape = ",".join(map(str, x.q.shape))
        name = self.program.quantization(f"x{source}", x.scale, x.zero_point)
        return self.program.op("quantize", [source], f"q{source}", shape, quantization=name)

    def run(self, path: Path, threads: int = 1) -> Array:
        return keypilot.Model.load(write_model(path, {"p": self.program}, precision="int8"), threads=threads).run(
            "p", **self.feeds
        )["y"]

    def finish(
        self, kind: str, inputs: list[int], shape: tuple[int, ...], attributes: str, out: Quantized | None
    ) -> None:
        text = ",".join(map(str, shape))
        name = self.program.quantization("y", out.scale, out.zero_point) if out else ""
        value = self.program.op(kind, inputs, "y", text, attributes, quantization=name)
        self.program.port("outputs", "y", value, text)


def check(case: Case, tmp_path: Path, expected: Array, out: Quantized | None, *, tolerance: float = 1e-3) -> None:
    """Compares the output, with one thread and with three, to real numbers."""
    first = case.run(tmp_path / "m.gguf")
    np.testing.assert_array_equal(first, case.run(tmp_path / "m.gguf", threads=3))
    if out is None:
        np.testing.assert_allclose(first, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
        return
    got = np.round(first / out.scale + out.zero_point)
    error = np.abs(got - out.steps(expected))
    assert error.max() <= 0.5 + 0.05
    assert (error <= 0.5 + 1e-3).mean() > 0.99


def weight(case: Case, shape: tuple[int, ...], channels: int) -> tuple[int, Array, Array]:
    q = case.rng.integers(-127, 128, shape).astype(np.int8)
    scale = case.rng.uniform(0.5, 2, channels).astype(np.float32) * np.float32(0.02)
    return case.program.int8_weight("w", q, scale), q.astype(np.float64), scale


def convolve(x: Array, w: Array, stride: tuple[int, int], pad: tuple[int, int, int, int], groups: int) -> Array:
    """NHWC; w (O, kh, kw, C / groups)."""
    top, left, bottom, right = pad
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    kh, kw = w.shape[1:3]
    windows = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), (1, 2))[:, :: stride[0], :: stride[1]]
    n, h, wide, c = windows.shape[:4]
    windows = windows.reshape(n, h, wide, groups, c // groups, kh, kw)
    split = w.reshape(groups, -1, kh, kw, c // groups)
    return np.einsum("nhwgcij,goijc->nhwgo", windows, split).reshape(n, h, wide, -1)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("residual", [None, "f32", "i8"])
@pytest.mark.parametrize("out_i8", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "channels", "outputs", "groups"),
    [
        ((1, 1), (1, 1), (0, 0, 0, 0), 19, 33, 1),
        ((3, 3), (1, 1), (1, 1, 1, 1), 24, 17, 1),
        ((3, 3), (2, 2), (1, 1, 1, 1), 3, 16, 1),
        ((3, 2), (2, 1), (0, 1, 2, 0), 20, 12, 4),
        ((3, 3), (2, 2), (1, 1, 1, 1), 70, 70, 70),
    ],
)
def test_convolutions(tmp_path, act, residual, out_i8, kernel, stride, pad, channels, outputs, groups):
    case = Case(channels)
    x = Quantized(case.rng, (2, 9, 8, channels))
    depthwise = groups == channels
    shape = (*kernel, channels) if depthwise else (outputs, *kernel, channels // groups)
    w, q, scale = weight(case, shape, outputs)
    dense = np.moveaxis(q, -1, 0)[..., None] if depthwise else q
    # The stored weight includes the input's scales.
    bias = case.rng.standard_normal(outputs).astype(np.float32)
    y = convolve(x.q.astype(np.float64) - x.zero_point, dense, stride, pad, groups)
    y = ACTS[act](y * scale / np.sqrt(dense[0].size) + bias)
    case.program.weights["w.scale"] = (scale / np.sqrt(dense[0].size)).astype(np.float32)
    inputs = [case.i8(x), w, case.program.weight("b", bias)]
    if residual is not None:
        added = Quantized(case.rng, y.shape)
        inputs.append(case.i8(added) if residual == "i8" else case.f32(added.real))
        y = y + added.real
    out = Quantized(case.rng, y.shape, y.min(), y.max()) if out_i8 else None
    attributes = (
        f"stride={stride[0]},{stride[1]} pad={','.join(map(str, pad))} groups={groups} act={act} "
        f"out={'i8' if out_i8 else 'f32'}"
    )
    case.finish("conv2d", inputs, y.shape, attributes, out)
    check(case, tmp_path, y, out)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "dilation", "pad", "channels", "outputs", "groups"),
    [
        # Depthwise: windows that share columns and that do not, rows in one piece and in several, one channel to many.
        ((9, 14), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 88, 88, 88),
        ((7, 7), (5, 5), (1, 1), (1, 1), (2, 2, 2, 2), 40, 40, 40),
        ((5, 600), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 5, 5, 5),
        ((9, 300), (3, 3), (1, 2), (1, 1), (0, 1, 1, 0), 17, 17, 17),
        ((11, 12), (3, 3), (1, 1), (2, 3), (2, 3, 2, 3), 24, 24, 24),
        ((9, 11), (2, 3), (3, 5), (1, 1), (0, 4, 0, 1), 33, 33, 33),
        # Few channels: lines inside the picture, over its edges, at its very end, and in pieces.
        ((11, 12), (3, 3), (2, 2), (1, 1), (1, 1, 1, 1), 1, 9, 1),
        ((8, 9), (4, 4), (4, 4), (1, 1), (0, 0, 0, 0), 3, 20, 1),
        ((10, 13), (7, 7), (2, 2), (1, 1), (3, 3, 3, 3), 3, 16, 1),
        ((12, 11), (3, 3), (1, 1), (1, 2), (0, 2, 0, 2), 3, 33, 1),
        ((9, 8), (3, 2), (1, 1), (3, 1), (9, 9, 9, 9), 15, 8, 1),
        ((1, 40), (1, 1), (1, 3), (1, 1), (0, 0, 0, 0), 2, 4, 1),
    ],
)
def test_windows(tmp_path, side, kernel, stride, dilation, pad, channels, outputs, groups):
    case = Case(channels)
    x = Quantized(case.rng, (2, *side, channels))
    depthwise = groups == channels > 1
    w, q, scale = weight(case, (*kernel, channels) if depthwise else (outputs, *kernel, channels), outputs)
    dense = np.moveaxis(q, -1, 0)[..., None] if depthwise else q
    spread = np.zeros((outputs, *((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)), dense.shape[3]))
    spread[:, :: dilation[0], :: dilation[1]] = dense
    y = convolve(x.q.astype(np.float64) - x.zero_point, spread, stride, pad, groups) * scale / np.sqrt(dense[0].size)
    case.program.weights["w.scale"] = (scale / np.sqrt(dense[0].size)).astype(np.float32)
    out = Quantized(case.rng, y.shape, y.min(), y.max())
    text = f"stride={stride[0]},{stride[1]} dilation={dilation[0]},{dilation[1]} pad={','.join(map(str, pad))}"
    case.finish("conv2d", [case.i8(x), w], y.shape, f"{text} groups={groups} out=i8", out)
    check(case, tmp_path, y, out)


@pytest.mark.parametrize("rows", [1, 9, 70])
@pytest.mark.parametrize(("k", "n"), [(5, 3), (64, 130), (312, 40)])
def test_linear_layers_quantise_their_rows(tmp_path, rows, k, n):
    case = Case(rows * k)
    x = case.rng.standard_normal((rows, k)).astype(np.float32) * np.exp(case.rng.standard_normal((rows, 1)))
    w, q, scale = weight(case, (n, k), n)
    steps, step = quantize_rows(x)
    y = (steps * step) @ q.T * scale
    case.finish("linear", [case.f32(x), w], y.shape, "", None)
    check(case, tmp_path, y, None)


@pytest.mark.parametrize("shape", ["after GELU", "far from 0", "all equal"])
def test_a_row_of_one_sign_uses_all_steps(tmp_path, shape):
    """Its steps are a 255th of its range, not of twice its largest magnitude."""
    case = Case(2)
    x = np.abs(case.rng.standard_normal((4, 64)).astype(np.float32))
    x = {"after GELU": x - 0.17, "far from 0": -100 - x, "all equal": np.full_like(x, 0.3)}[shape].astype(np.float32)
    w = case.program.int8_weight("w", np.eye(64, dtype=np.int8), np.ones(64, np.float32))
    case.finish("linear", [case.f32(x), w], x.shape, "", None)
    y = case.run(tmp_path / "m.gguf")
    step = (np.maximum(x.max(1), 0) - np.minimum(x.min(1), 0))[:, np.newaxis] / 254.99
    assert (np.abs(y - x) <= 0.501 * step + 1e-6).all()


def test_a_row_whose_range_overflows_is_quantised(tmp_path):
    case = Case(2)
    x = np.array([[3e38, -3e38, 1e38, 0]], np.float32)
    w = case.program.int8_weight("w", np.eye(4, dtype=np.int8), np.full(4, 0.5, np.float32))
    case.finish("linear", [case.f32(x), w], x.shape, "", None)
    np.testing.assert_allclose(2 * case.run(tmp_path / "m.gguf").astype(np.float64), x, atol=6.01e38 / 255 / 2)


def test_a_row_of_zeros_stays_zero(tmp_path):
    case = Case(0)
    w, _, _ = weight(case, (4, 8), 4)
    case.finish("linear", [case.f32(np.zeros((2, 8))), w], (2, 4), "", None)
    np.testing.assert_array_equal(case.run(tmp_path / "m.gguf"), np.zeros((2, 4), np.float32))


@pytest.mark.parametrize("residual", [False, True])
def test_linear_layers_of_quantised_rows(tmp_path, residual):
    case = Case(3)
    x = Quantized(case.rng, (7, 33))
    w, q, scale = weight(case, (20, 33), 20)
    y = (x.q.astype(np.float64) - x.zero_point) @ q.T * scale
    inputs = [case.i8(x), w]
    if residual:
        added = Quantized(case.rng, y.shape)
        inputs += [-1, case.i8(added)]
        y = y + added.real
    out = Quantized(case.rng, y.shape, y.min(), y.max())
    case.finish("linear", inputs, y.shape, "out=i8", out)
    check(case, tmp_path, y, out)


def test_pointwise_convolutions_quantise_float_rows(tmp_path):
    case = Case(4)
    x = case.rng.standard_normal((1, 5, 6, 48)).astype(np.float32)
    w, q, scale = weight(case, (40, 1, 1, 48), 40)
    steps, step = quantize_rows(x)
    y = ACTS["silu"]((steps * step) @ q.reshape(40, 48).T * scale)
    out = Quantized(case.rng, y.shape, y.min(), y.max())
    case.finish("conv2d", [case.f32(x), w], y.shape, "act=silu out=i8", out)
    check(case, tmp_path, y, out)


@pytest.mark.parametrize("fn", ["add", "mul", "sub"])
@pytest.mark.parametrize("out_i8", [False, True])
@pytest.mark.parametrize(
    ("a_shape", "b_shape", "a_i8", "b_i8"),
    [
        ((2, 5, 4, 9), (2, 5, 4, 9), True, True),
        ((2, 5, 4, 9), (2, 1, 1, 9), True, False),
        ((2, 5, 4, 9), (1, 5, 1, 9), True, True),
        ((2, 1, 4, 9), (2, 5, 4, 1), False, True),
        ((9,), (3, 700, 9), True, False),
    ],
)
def test_binary(tmp_path, fn, out_i8, a_shape, b_shape, a_i8, b_i8):
    case = Case(len(a_shape))
    a, b = Quantized(case.rng, a_shape), Quantized(case.rng, b_shape)
    y = {"add": np.add, "mul": np.multiply, "sub": np.subtract}[fn](a.real, b.real)
    inputs = [case.i8(x) if i8 else case.f32(x.real) for x, i8 in ((a, a_i8), (b, b_i8))]
    out = Quantized(case.rng, y.shape, y.min(), y.max()) if out_i8 else None
    case.finish("binary", inputs, y.shape, f"fn={fn} out={'i8' if out_i8 else 'f32'}", out)
    check(case, tmp_path, y, out)


@pytest.mark.parametrize("out_i8", [False, True])
def test_average_pooling(tmp_path, out_i8):
    case = Case(5)
    x = Quantized(case.rng, (2, 6, 8, 21))
    y = x.real.reshape(2, 3, 2, 4, 2, 21).mean(axis=(2, 4))
    out = Quantized(case.rng, y.shape, y.min(), y.max()) if out_i8 else None
    case.finish(
        "pool2d", [case.i8(x)], y.shape, f"fn=average kernel=2,2 stride=2,2 out={'i8' if out_i8 else 'f32'}", out
    )
    check(case, tmp_path, y, out)


def test_what_moves_bytes_moves_them_unchanged(tmp_path):
    rng = np.random.default_rng(6)
    x = Quantized(rng, (1, 4, 6, 10))
    moves = {
        "fn=max kernel=2,2 stride=2,2": ("pool2d", x.real.reshape(1, 2, 2, 3, 2, 10).max(axis=(2, 4))),
        "fn=nearest size=8,12": ("resize2d", x.real.repeat(2, axis=1).repeat(2, axis=2)),
        "shape=1,24,10": ("alias", x.real.reshape(1, 24, 10)),
        "dims=1,6,4,10 strides=240,10,60,1 shape=1,6,4,10": ("rearrange", x.real.transpose(0, 2, 1, 3)),
        "before=0,1,0,0 after=0,0,3,0": ("pad", np.pad(x.real, ((0, 0), (1, 0), (0, 3), (0, 0)))),
    }
    for attributes, (kind, expected) in moves.items():
        case = Case(6)
        case.finish(kind, [case.i8(x)], expected.shape, attributes, x)
        np.testing.assert_allclose(case.run(tmp_path / "m.gguf"), expected, rtol=1e-6)


def test_rows_of_int8_are_gathered(tmp_path):
    case = Case(6)
    x, index = Quantized(case.rng, (2, 5, 10)), np.array([[4, -5, 0], [1, 1, 2]], np.int32)
    case.feeds["index"] = index
    taken = np.stack([rows[i] for rows, i in zip(x.real, index, strict=True)])
    case.finish("gather", [case.i8(x), case.program.input("index", "2,3", "i32")], taken.shape, "axis=1 batch=1", x)
    np.testing.assert_allclose(case.run(tmp_path / "m.gguf"), taken, rtol=1e-6)


def _tiled(x, count):
    """x with its last dimension's quantisation `count` times over."""
    wide = Quantized(np.random.default_rng(9), (*x.q.shape[:-1], count * x.q.shape[-1]))
    wide.scale, wide.zero_point = np.tile(x.scale, count), np.tile(x.zero_point, count)
    return wide


def test_channels_become_pixels(tmp_path):
    """The (2, 2) positions of a transposed convolution's outputs, side by side in its channels."""
    part = Quantized(np.random.default_rng(8), (1, 3, 5, 6))
    x = _tiled(part, 4)
    spread = x.real.reshape(1, 3, 5, 2, 2, 6).transpose(0, 1, 3, 2, 4, 5).reshape(1, 6, 10, 6)
    case = Case(6)
    case.finish("rearrange", [case.i8(x)], (1, 6, 10, 6), "dims=3,2,5,12 strides=120,12,24,1 shape=1,6,10,6", part)
    np.testing.assert_allclose(case.run(tmp_path / "m.gguf"), spread, rtol=1e-6)
    case = Case(6)
    case.finish("alias", [case.i8(x)], (1, 15, 4, 6), "shape=1,15,4,6", part)
    np.testing.assert_allclose(case.run(tmp_path / "m.gguf"), x.real.reshape(1, 15, 4, 6), rtol=1e-6)


def test_moves_of_int8_that_would_change_its_meaning_are_refused(tmp_path):
    path = tmp_path / "m.gguf"
    part = Quantized(np.random.default_rng(8), (1, 3, 5, 6))
    own, tiled = Quantized(np.random.default_rng(7), (1, 3, 5, 24)), _tiled(part, 4)
    moves = [
        ("alias", own, (1, 15, 4, 6), "shape=1,15,4,6", "scales and zero points"),
        ("alias", tiled, (1, 15, 3, 8), "shape=1,15,3,8", "scales and zero points"),
        ("alias", tiled, (1, 15, 2, 12), "shape=1,15,2,12", "scales and zero points"),
        ("alias", tiled, (1, 36, 2, 5), "shape=1,36,2,5", "last dimension"),
        ("rearrange", own, (60, 6), "dims=60,6 strides=6,1 shape=60,6", "scales and zero points"),
        ("rearrange", tiled, (59, 6), "dims=59,6 strides=6,1 offset=3 shape=59,6", "last dimension"),
        ("rearrange", tiled, (60, 6), "dims=60,6 strides=3,1 shape=60,6", "last dimension"),
        ("pad", part, (1, 4, 5, 6), "before=0,0,0,0 after=0,1,0,0 value=0x1p+0", "zeros"),
        ("pad", part, (1, 3, 5, 7), "before=0,0,0,0 after=0,0,0,1", "along the channels"),
        ("pad", part, (1, 4, 5, 6), "before=0,0,0,0 after=0,1,0,0", "scales and zero points"),
    ]
    for kind, x, shape, attributes, words in moves:
        case = Case(6)
        wanted = Quantized(np.random.default_rng(5), (shape[-1],))
        if kind != "pad" and shape[-1] == 6 and x is tiled:
            wanted = part
        case.finish(kind, [case.i8(x)], shape, attributes, wanted)
        refused(path, case, kind, words)


def test_concat_along_channels_joins_the_quantisations(tmp_path):
    case = Case(7)
    a, b = Quantized(case.rng, (2, 3, 4)), Quantized(case.rng, (2, 3, 9))
    joined = Quantized(case.rng, (2, 3, 13))
    joined.scale = np.concatenate([a.scale, b.scale])
    joined.zero_point = np.concatenate([a.zero_point, b.zero_point])
    case.finish("concat", [case.i8(a), case.i8(b)], (2, 3, 13), "axis=2", joined)
    np.testing.assert_allclose(case.run(tmp_path / "m.gguf"), np.concatenate([a.real, b.real], axis=2), rtol=1e-6)


def test_the_mean_over_a_picture(tmp_path):
    case = Case(8)
    x = Quantized(case.rng, (3, 13, 11, 18))
    case.finish("reduce", [case.i8(x)], (3, 18), "fn=mean axes=1,2", None)
    check(case, tmp_path, x.real.mean(axis=(1, 2)), None, tolerance=1e-5)


def test_dequantize_undoes_quantize(tmp_path):
    case = Case(9)
    x = Quantized(case.rng, (5, 7))
    case.finish("dequantize", [case.i8(x)], (5, 7), "", None)
    np.testing.assert_allclose(case.run(tmp_path / "m.gguf"), x.real, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_int8_is_near_attention(tmp_path, masked):
    case = Case(10)
    q, k, v = (case.rng.standard_normal((2, 33, 24)) for _ in range(3))
    inputs = [case.f32(q), case.f32(k), case.f32(v)]
    scores = np.einsum("blhd,bmhd->bhlm", q.reshape(2, 33, 2, 12), k.reshape(2, 33, 2, 12)) * 0.29
    if masked:
        mask = np.where(case.rng.random((2, 1, 1, 33)) < 0.3, -np.inf, 0.0)
        mask[..., 0] = 0
        inputs.append(case.f32(np.maximum(mask, np.finfo(np.float32).min)))
        scores = scores + mask
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    y = np.einsum("bhlm,bmhd->blhd", p / p.sum(axis=-1, keepdims=True), v.reshape(2, 33, 2, 12)).reshape(2, 33, 24)
    case.finish("attention", inputs, y.shape, f"heads=2 head_dim=12 scale={(0.29).hex()} precision=i8", None)
    got = case.run(tmp_path / "m.gguf")
    assert np.sqrt(np.mean((got - y) ** 2) / np.mean(y**2)) < 0.03


def test_weights_in_four_bits_are_their_product(tmp_path):
    rng = np.random.default_rng(11)
    nibbles = rng.integers(-7, 8, (6, 77)).astype(np.int8)
    multipliers = rng.integers(1, 19, (6, 3)).astype(np.int8)
    unpacked = nibbles * multipliers.repeat(32, axis=1)[:, :77].astype(np.int64)
    scale = rng.uniform(0.01, 0.02, 6).astype(np.float32)
    x = rng.standard_normal((3, 77)).astype(np.float32)
    results = []
    for four in (False, True):
        case = Case(11)
        if four:
            w = case.program.int4_weight("w", nibbles, multipliers, scale)
        else:
            w = case.program.int8_weight("w", unpacked.astype(np.int8), scale)
        case.finish("linear", [case.f32(x), w], (3, 6), "", None)
        results.append(case.run(tmp_path / "m.gguf"))
    np.testing.assert_array_equal(*results)


def test_a_table_in_int8(tmp_path):
    rng = np.random.default_rng(12)
    q = rng.integers(-127, 128, (9, 5)).astype(np.int8)
    scale = rng.uniform(0.1, 1, 9).astype(np.float32)
    program = ProgramBuilder()
    ids = program.input("ids", "N", "i32")
    program.port("outputs", "y", program.op("embedding", [program.int8_weight("t", q, scale), ids], "y", "N,5"), "N,5")
    model = keypilot.Model.load(write_model(tmp_path / "m.gguf", {"p": program}, precision="int8"))
    wanted = (q * scale[:, None])[[3, 0, 8]]
    np.testing.assert_array_equal(model.run("p", ids=np.array([3, 0, 8], np.int32))["y"], wanted)


def test_a_table_in_four_bits_is_its_product(tmp_path):
    rng = np.random.default_rng(17)
    nibbles = rng.integers(-7, 8, (9, 45)).astype(np.int8)
    multipliers = rng.integers(1, 19, (9, 2)).astype(np.int8)
    scale = rng.uniform(0.1, 1, 9).astype(np.float32)
    program = ProgramBuilder()
    ids = program.input("ids", "N", "i32")
    table = program.int4_weight("t", nibbles, multipliers, scale)
    program.port("outputs", "y", program.op("embedding", [table, ids], "y", "N,45"), "N,45")
    model = keypilot.Model.load(write_model(tmp_path / "m.gguf", {"p": program}, precision="int8"))
    wanted = (nibbles * multipliers.repeat(32, axis=1)[:, :45].astype(np.int64)).astype(np.float32) * scale[:, None]
    np.testing.assert_array_equal(model.run("p", ids=np.array([8, 0, 3], np.int32))["y"], wanted[[8, 0, 3]])


def refused(path: Path, case: Case, *words: str) -> None:
    with pytest.raises(KeyPilotError) as caught:
        keypilot.Model.load(write_model(path, {"p": case.program}, precision="int8"))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_files_whose_quantisations_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "m.gguf"

    def linear() -> Case:
        case = Case(13)
        w, _, _ = weight(case, (4, 8), 4)
        case.finish("linear", [case.i8(Quantized(case.rng, (2, 8))), w], (2, 4), "", None)
        return case

    case = linear()
    del case.program.weights["w.scale"]
    refused(path, case, "no tensor 'w.scale'")
    case = linear()
    case.program.weights["w.scale"][1] = 0
    refused(path, case, "w.scale", "finite scales above 0")
    case = linear()
    case.program.weights["w"][2, 3] = -128
    refused(path, case, "'w'", "-128 at 19")
    case = linear()
    case.program.weights["x1.scale"] = np.ones(7, np.float32)
    refused(path, case, "x1.scale", "(8,)", "(7,)")
    case = linear()
    case.program.values = [(name, dtype, shape, "") for name, dtype, shape, _ in case.program.values]
    refused(path, case, "expected a quantisation")
    for nibble, multiplier, words in ((7, 19, "from 1 to 18, got 19"), (7, 0, "got 0"), (-8, 16, "got -8 * 16")):
        case = Case(14)
        case.program.int4_weight("w", np.full((4, 8), nibble), np.full((4, 1), multiplier), np.ones(4))
        case.finish("linear", [case.f32(np.zeros((2, 8))), case.program.weight_values[0]], (2, 4), "", None)
        refused(path, case, "'w'", words)
    case = Case(15)
    x = Quantized(case.rng, (2, 3, 4))
    case.finish("alias", [case.i8(x)], (2, 12), "shape=2,12", Quantized(case.rng, (2, 12)))
    refused(path, case, "alias", "last dimension")
    case = Case(16)
    case.finish(
        "resize2d",
        [case.i8(Quantized(case.rng, (1, 2, 2, 3)))],
        (1, 4, 4, 3),
        "fn=nearest size=4,4",
        Quantized(case.rng, (1, 4, 4, 3)),
    )
    refused(path, case, "resize2d", "scales and zero points")


# ---- What a file may hold that a converter does not write ----


def test_one_weight_is_packed_for_each_grouping(tmp_path):
    case = Case(20)
    w, q, scale = weight(case, (8, 3, 3, 4), 8)
    outputs = {}
    for groups in (1, 2):
        x = Quantized(case.rng, (1, 5, 6, 4 * groups))
        y = convolve(x.q.astype(np.float64) - x.zero_point, q, (1, 1), (1, 1, 1, 1), groups) * scale
        text = ",".join(map(str, y.shape))
        value = case.program.op("conv2d", [case.i8(x), w], f"y{groups}", text, f"pad=1,1,1,1 groups={groups}")
        case.program.port("outputs", f"y{groups}", value, text)
        outputs[f"y{groups}"] = y
    model = keypilot.Model.load(write_model(tmp_path / "m.gguf", {"p": case.program}, precision="int8"))
    for name, array in model.run("p", **case.feeds).items():
        np.testing.assert_allclose(array, outputs[name], rtol=1e-4, atol=1e-3)


def test_one_weight_in_four_bits_is_packed_for_each_shape(tmp_path):
    rng = np.random.default_rng(21)
    nibbles = rng.integers(-7, 8, (6, 162)).astype(np.int8)
    multipliers, scale = rng.integers(1, 19, (6, 6)).astype(np.int8), rng.uniform(0.01, 0.02, 6).astype(np.float32)
    unpacked = (nibbles * multipliers.repeat(32, axis=1)[:, :162].astype(np.int64)) * scale[:, None].astype(np.float64)
    programs, feeds, wanted = {}, {}, {}
    for name, kernel, channels in (("a", 1, 162), ("b", 3, 18)):
        case = Case(22)
        x = Quantized(case.rng, (1, 4, 4, channels))
        w = case.program.int4_weight("w", nibbles, multipliers, scale)
        case.program.values[w] = ("w", "i8", f"6,{kernel},{kernel},{channels}", "")
        y = convolve(
            x.q.astype(np.float64) - x.zero_point, unpacked.reshape(6, kernel, kernel, channels), (1, 1), (0,) * 4, 1
        )
        case.finish("conv2d", [case.i8(x), w], y.shape, "", None)
        for key in ("x1.scale", "x1.zero_point"):
            case.program.weights[f"{name}.{key}"] = case.program.weights.pop(key)
        case.program.values = [(*value[:3], f"{name}.{value[3]}" if value[3] else "") for value in case.program.values]
        programs[name], feeds[name], wanted[name] = case.program, case.feeds, y
    model = keypilot.Model.load(write_model(tmp_path / "m.gguf", programs, precision="int8"))
    for name in programs:
        np.testing.assert_allclose(model.run(name, **feeds[name])["y"], wanted[name], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("kind", "groups"), [("linear", 1), ("conv2d", 1), ("conv2d", 2)])
def test_float_weights_that_are_computed_are_multiplied_too(tmp_path, kind, groups):
    case = Case(23)
    if kind == "linear":
        x, w = case.rng.standard_normal((5, 7)), case.rng.standard_normal((9, 7))
        y, attributes = x @ w.T, ""
    else:
        x, w = case.rng.standard_normal((1, 5, 5, 4)), case.rng.standard_normal((6, 3, 3, 4 // groups))
        y, attributes = convolve(x, w, (1, 1), (0, 0, 0, 0), groups), f"groups={groups}"
    case.finish(kind, [case.f32(x), case.f32(w)], y.shape, attributes, None)
    check(case, tmp_path, y, None, tolerance=1e-5)


def test_int8_operands_that_cannot_be_prepared_are_refused(tmp_path):
    path = tmp_path / "m.gguf"
    rng = np.random.default_rng(24)
    ones, bytes_ = np.ones(4, np.float32), rng.integers(-127, 128, (4, 4)).astype(np.int8)

    case = Case(24)
    bias = case.f32(np.ones(4))
    w = case.program.int8_weight("w", bytes_, ones)
    case.finish("linear", [case.f32(np.zeros((2, 4))), w, bias], (2, 4), "", None)
    refused(path, case, "linear", "bias", "from the file")

    case = Case(25)
    w, x = (case.program.int8_weight(name, bytes_, ones) for name in "wx")
    case.finish("linear", [x, w], (4, 4), "", None)
    refused(path, case, "linear", "x", "quantised")

    case = Case(26)
    w, residual = (case.program.int8_weight(name, bytes_, ones) for name in "wr")
    case.finish("linear", [case.f32(np.zeros((4, 4))), w, -1, residual], (4, 4), "", None)
    refused(path, case, "linear", "residual", "quantised")

    case = Case(29)
    w = case.program.int4_weight("w", np.zeros((4, 8)), np.ones((4, 1)), np.ones(4))
    case.program.values[w] = ("w", "i8", "4N,8", "")
    case.finish("linear", [case.f32(np.zeros((2, 8))), w], (2, "4N"), "", None)
    refused(path, case, "'w'", "dense i8 weight for four bits")

    case = Case(27)
    x = Quantized(case.rng, (2, 4))
    condition = case.program.op(
        "compare", [case.f32(np.zeros((2, 4))), case.f32(np.zeros((2, 4)))], "c", "2,4", "fn=eq", "bool"
    )
    case.finish("select", [condition, case.i8(x), case.i8(x)], (2, 4), "", x)
    refused(path, case, "select", "i8")

    case = Case(28)
    x = case.program.input("x", "N,4096,4096,1")
    q = case.program.op(
        "quantize", [x], "q", "N,4096,4096,1", quantization=case.program.quantization("q", np.ones(1), np.zeros(1))
    )
    case.finish("pool2d", [q], ("N", 1, 1, 1), "fn=average kernel=4096,4096 stride=1,1", None)
    refused(path, case, "pool2d", "16777216")
