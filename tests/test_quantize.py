"""Quantisation: ranges, rounding, four bits, what becomes int8, and that the file means what the module computes."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from conversion import reference  # noqa: E402
from quantized_oracle import QuantizedOracle  # noqa: E402
from torch import nn  # noqa: E402

import keypilot  # noqa: E402
from keypilot.cli import main  # noqa: E402
from keypilot.convert import ProgramSource, compile_programs  # noqa: E402
from keypilot.convert.calibrate import FOLDS, Bounds, ChannelStatistics, Samples, calibrate  # noqa: E402
from keypilot.convert.compile import build_program  # noqa: E402
from keypilot.convert.derived import views_of  # noqa: E402
from keypilot.convert.gguf import write_model  # noqa: E402
from keypilot.convert.int4 import GROUP, round_int4  # noqa: E402
from keypilot.convert.placement import place  # noqa: E402
from keypilot.convert.ranges import Range, choose_range, fake_quantize, squared_error  # noqa: E402
from keypilot.convert.rounding import output_error, round_compensated, round_nearest  # noqa: E402
from keypilot.convert.stream import centre, row_inputs  # noqa: E402
from keypilot.errors import ArgumentError, ShapeError  # noqa: E402


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def decibels(actual, expected):
    error = float(np.square(np.asarray(actual, np.float64) - expected).sum())
    return 10 * np.log10(float(np.square(np.asarray(expected, np.float64)).sum()) / max(error, 1e-30))


# ---- Ranges -----------------------------------------------------------------------------------------------------

_BOUNDS = st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e4)), min_size=1, max_size=8)


@given(_BOUNDS, st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_zero_is_exact_and_the_ends_are_within_a_step(bounds, evenness):
    low, high = (np.array([sign * pair[i] for pair in bounds], np.float32) for i, sign in ((0, -1), (1, 1)))
    scale, zero_point = Range(low, high, "").quantization(evenness)
    assert scale.dtype == np.float32 and zero_point.dtype == np.int8
    assert (scale > 0).all() and np.isfinite(scale).all()
    rows = np.stack([low, high, np.zeros_like(low)])
    back = fake_quantize(rows, scale, zero_point)
    assert (back[2] == 0).all()
    assert (np.abs(back - rows) <= 1.001 * scale).all()


def test_channels_keep_their_own_steps_or_share_the_largest():
    chosen = Range(np.array([0, -1], np.float32), np.array([1, 9], np.float32), "")
    np.testing.assert_allclose(chosen.steps(0.0), [1 / 255, 10 / 255], rtol=1e-6)
    np.testing.assert_allclose(chosen.steps(1.0), [10 / 255, 10 / 255], rtol=1e-6)
    assert (chosen.steps(0.5) >= chosen.steps(0.0) * 0.999999).all()


def test_bytes_of_a_picture_are_exact():
    pixels = np.arange(256, dtype=np.float32)[:, np.newaxis] / np.float32(255)
    scale, zero_point = Range(np.zeros(1, np.float32), np.ones(1, np.float32), "").quantization()
    np.testing.assert_allclose(fake_quantize(pixels, scale, zero_point), pixels, atol=1e-7)


def statistics(*batches):
    samples = Samples()
    bounds = [np.full((FOLDS, batches[0].shape[1]), end, np.float32) for end in (np.inf, -np.inf) * 2]
    for index, rows in enumerate(batches):
        samples.add(rows, index)
        for bound, end in zip(bounds, (rows.min(0), rows.max(0)) * 2, strict=True):
            bound[index] = end
    return ChannelStatistics(Bounds(*bounds), samples)


def test_a_range_has_headroom_where_batches_differ():
    rng = np.random.default_rng(0)
    batches = [rng.uniform(-bound, bound, (1000, 6)).astype(np.float32) for bound in (1, 1.2, 1, 1.9)]
    found = statistics(*batches)
    chosen, _evenness = choose_range(found, np.ones(6))
    whole = found.whole()
    assert (chosen.low <= whole.low * 1.2).all() and (chosen.high >= whole.high * 1.2).all()


def test_a_range_has_little_headroom_where_batches_are_alike():
    rng = np.random.default_rng(0)
    found = statistics(*(rng.uniform(-1, 1, (1000, 6)).astype(np.float32) for _ in range(5)))
    chosen, _evenness = choose_range(found, np.ones(6))
    assert (chosen.high - chosen.low < 2.1).all()


def test_a_range_without_error_is_kept_as_it_is():
    pixels = [np.random.default_rng(half).integers(0, 256, (2000, 3)).astype(np.float32) / 255 for half in (0, 1)]
    chosen, evenness = choose_range(statistics(*pixels), np.ones(3))
    assert chosen.method == "min-max"
    assert squared_error(pixels[0], *chosen.quantization(evenness)).max() < 1e-12


def test_batches_are_held_out_whole():
    batches = [np.full((50, 2), 1 + index, np.float32) for index in range(7)]
    splits = list(statistics(*batches[:5]).splits())
    assert len(splits) == FOLDS
    for bounds, fit, judge in splits:
        assert not np.intersect1d(fit, judge).size
        assert bounds.high.max() == fit.max()


def test_a_single_batch_is_held_out_item_by_item():
    module = nn.Conv2d(3, 4, 1).eval()
    x = torch.rand(4, 3, 8, 8)
    program = build_program("main", ProgramSource(module, {"input": x}))
    found = calibrate([program], {"main": place(program, set())}, {"main": [{"input": x.numpy()}]})
    value = program.inputs[0].value
    assert found.values[value].samples.filled() == [0, 1, 2, 3]


def test_pictures_are_seen_in_further_views_that_count_for_bounds_alone():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    dark = torch.rand(3, 1, 3, 8, 8) * 0.2
    dark[0, 0, :, 0, 0] = 1  # a single white pixel
    program = build_program("main", ProgramSource(module, {"input": dark[0]}))
    found = calibrate([program], {"main": place(program, set())}, {"main": [{"input": x.numpy()} for x in dark]})
    hidden = next(of for value, of in found.values.items() if value is not program.inputs[0].value)
    low, high, wide_low, wide_high = hidden.whole()
    assert (wide_low <= low).all() and (wide_high >= high).all() and (wide_high > high).any()
    assert (hidden.samples.all() <= high).all()


def test_views_are_of_the_same_values_in_other_places():
    x = np.random.default_rng(0).random((2, 3, 6, 8), np.float32)
    program = build_program("main", ProgramSource(nn.Conv2d(3, 4, 1).eval(), {"input": torch.from_numpy(x)}))
    views = [view["input"] for view in views_of(program, [{"input": x}])({"input": x})]
    assert all(view.shape == x.shape and view.dtype == x.dtype for view in views)
    assert all(view.min() >= x.min() - 1e-6 and view.max() <= x.max() + 1e-6 for view in views)
    assert len({view.tobytes() for view in views} | {x.tobytes()}) == len(views) + 1
    other = build_program("main", ProgramSource(nn.Conv2d(4, 4, 1).eval(), {"input": torch.rand(1, 4, 6, 8)}))
    batch = {"input": np.zeros((1, 4, 6, 8), np.float32)}
    assert list(views_of(other, [batch])(batch)) == []


# ---- Rounding ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_carrying_errors_over_helps_where_inputs_are_correlated(seed):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((24, 24)) * np.linspace(0.1, 3, 24)
    inputs = rng.standard_normal((500, 24)) @ mixing
    moments = inputs.T @ inputs / len(inputs)
    weight = rng.standard_normal((8, 24))
    nearest = round_nearest(weight, np.diag(moments))
    compensated = round_compensated(weight, moments, nearest.scale)
    for rounded in (nearest, compensated):
        assert np.abs(rounded.integers).max() <= 127 and (rounded.scale > 0).all()
        np.testing.assert_array_equal(rounded.integers, np.rint(rounded.integers))
    assert output_error(weight, compensated.weight, moments).sum() < output_error(weight, nearest.weight, moments).sum()


def test_rows_of_zeros_have_a_scale():
    rounded = round_nearest(np.zeros((2, 5)), np.ones(5))
    assert (rounded.scale == 1).all() and (rounded.integers == 0).all()
    small, int4 = round_int4(np.zeros((2, 5)))
    assert (small.scale > 0).all() and (int4.multipliers == 1).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 70), st.integers(0, 2**32 - 1), st.booleans())
def test_four_bits_unpack_to_int8(rows, columns, seed, carried):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((rows, columns)) * np.exp(rng.normal(0, 2, (rows, columns)))
    inputs = rng.standard_normal((40, columns))
    rounded, int4 = round_int4(weight, inputs.T @ inputs / 40 if carried else None)
    assert int4.nibbles.min() >= -8 and int4.nibbles.max() <= 7
    assert int4.multipliers.shape == (rows, -(-columns // GROUP))
    assert int4.multipliers.min() >= 1 and int4.multipliers.max() <= 18
    integers = int4.nibbles.astype(int) * np.repeat(int4.multipliers, GROUP, 1)[:, :columns]
    np.testing.assert_array_equal(integers, rounded.integers)
    assert np.abs(integers).max() <= 127


def test_multipliers_fit_groups_of_different_size():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((16, 8, GROUP)) * rng.uniform(0.1, 1, (16, 8, 1))
    weight = weight.reshape(16, -1)
    plain = np.abs(weight).max(1, keepdims=True) / 7
    rounded, _int4 = round_int4(weight)
    assert decibels(rounded.weight, weight) > 2 + decibels(np.rint(weight / plain) * plain, weight)


# ---- Networks ---------------------------------------------------------------------------------------------------


class Picture(nn.Module):
    """Convolutions of every kind, a residual, a pyramid, and a transformer between two 1x1 convolutions."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.SiLU())
        self.wide = nn.Sequential(nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16), nn.SiLU())
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU())
        self.narrow = nn.Conv2d(16, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.enter = nn.Conv2d(8, 12, 1, bias=False)
        self.norm = nn.LayerNorm(12)
        self.up, self.down = nn.Linear(12, 24), nn.Linear(24, 12)
        self.leave = nn.Conv2d(12, 8, 1)
        self.fusion = nn.Conv2d(16, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.narrow(self.depthwise(self.wide(x)))
        small = nn.functional.max_pool2d(self.grouped(x), 2)
        x = x + nn.functional.interpolate(small, scale_factor=2, mode="nearest")
        tokens = self.enter(x).flatten(2).transpose(1, 2)
        tokens = tokens + self.down(nn.functional.gelu(self.up(self.norm(tokens))))
        y = self.leave(tokens.transpose(1, 2).unflatten(2, x.shape[2:]))
        y = self.fusion(torch.cat([x, y], 1))
        return {"map": y, "class": self.head(y.mean((2, 3)))}


class Words(nn.Module):
    """A table and attention over its rows."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(40, 48)
        self.query, self.key, self.value, self.out = (nn.Linear(48, 48) for _ in range(4))

    def forward(self, ids):
        x = self.table(ids)
        q, k, v = (f(x).unflatten(2, (4, 12)).transpose(1, 2) for f in (self.query, self.key, self.value))
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2))


class Feedforward(nn.Module):
    """A transformer's: its input, whose channels have means of their own, is also its residual."""

    def __init__(self):
        super().__init__()
        self.table, self.norm = nn.Embedding(40, 48), nn.LayerNorm(48)
        self.up, self.down = nn.Linear(48, 96), nn.Linear(96, 48)
        nn.init.normal_(self.norm.bias, std=4)

    def forward(self, ids):
        x = self.norm(self.table(ids))
        return self.down(nn.functional.gelu(self.up(x))) + x


def pictures(count, batch=1):
    return [{"x": torch.rand(batch, 3, 16, 16)} for _ in range(count)]


def words(count):
    return [{"ids": torch.randint(0, 40, (2, 9))} for _ in range(count)]


@pytest.fixture(scope="module")
def picture_model(tmp_path_factory):
    """(module, path of its int8 file, path of its float32 file)."""
    torch.manual_seed(0)
    module, folder = Picture().eval(), tmp_path_factory.mktemp("int8")
    keypilot.compile(module, pictures(1)[0], out=folder / "f.gguf")
    keypilot.compile(module, pictures(1)[0], out=folder / "q.gguf", precision="int8", calibration=pictures(8, 2))
    return module, folder / "q.gguf", folder / "f.gguf"


def test_convolutions_are_int8_and_transformers_float32(picture_model):
    _module, path, _float = picture_model
    keys = QuantizedOracle(path).keys
    assert keys["keypilot.precision"] == "int8"
    dtype = dict(zip(keys["keypilot.main.values.name"], keys["keypilot.main.values.dtype"], strict=True))
    assert dtype["x"] == "f32" and dtype["x.quantized"] == "i8"
    for int8 in ("stem.1", "wide.2", "depthwise.1", "concat"):
        assert dtype[int8] == "i8", int8
    for float32 in ("enter", "norm", "down", "head"):
        assert {dtype.get(float32, "f32")} == {"f32"}
    assert all(dtype[f"{layer}.weight"] == "i8" for layer in ("stem.0", "enter", "up", "down", "leave", "head"))
    assert keys["keypilot.main.ops.type"].count("quantize") <= 1 + keys["keypilot.main.ops.type"].count("layer_norm")


def test_int8_is_close_to_the_module(picture_model):
    module, path, _float = picture_model
    model = keypilot.Model.load(path)
    for batch in (1, 3):
        inputs = {"x": torch.rand(batch, 3, 16, 16)}
        expected = reference(module, inputs)
        outputs = model.run("main", x=inputs["x"].numpy())
        for name in ("map", "class"):
            assert decibels(outputs[name], expected[name]) > 30, name


def test_the_core_computes_what_the_file_says(picture_model):
    _module, path, _float = picture_model
    x = np.random.default_rng(0).random((2, 3, 16, 16), np.float32)
    expected, expected_taps = QuantizedOracle(path).run("main", {"x": x})
    model = keypilot.Model.load(path)
    with model.tap("*") as taps:
        outputs = model.run("main", x=x)
    # The core's SiLU is a polynomial, so that a value may fall on the other side of a rounding boundary.
    keys = QuantizedOracle(path).keys
    values = dict(zip(keys["keypilot.main.values.name"], keys["keypilot.main.values.quantization"], strict=True))
    steps = QuantizedOracle(path).weights[f"{values['stem.1']}.scale"].reshape(-1, 1, 1)
    assert (np.abs(taps["stem.1"] - expected_taps["stem.1"]) <= 1.001 * steps).all()
    for name, array in {**expected_taps, **expected}.items():
        actual = outputs[name] if name in outputs else taps[name]
        assert decibels(actual, array) > 38, name


def test_a_layer_norm_and_attention_are_centred_without_a_change():
    module = Words().eval()
    source = ProgramSource(module, words(1)[0])
    program = build_program("main", source)
    placements = {"main": place(program, set())}
    runs = [{"ids": batch["ids"].numpy()} for batch in words(6)]
    found = calibrate([program], placements, {"main": runs})
    layers = [[layer.node] for layer in placements["main"].layers]
    inputs = row_inputs(placements, layers)
    with torch.no_grad():
        module.value.bias += 3  # in the program already as it was
    centred = centre([program], inputs, layers, found)
    assert len(centred) == 1
    out = next(layer.node for layer in placements["main"].layers if layer.node.module == "out")
    assert np.abs(found.windows[out].all().mean((0, 1))).max() < 1e-5


def test_centring_leaves_the_results_and_what_is_tapped(tmp_path):
    module = Words().eval()
    program = build_program("main", ProgramSource(module, words(1)[0]))
    other = copy.deepcopy(program)
    placements = {"main": place(other, set())}
    runs = [{"ids": batch["ids"].numpy()} for batch in words(6)]
    layers = [[layer.node] for layer in placements["main"].layers]
    found = calibrate([other], placements, {"main": runs})
    assert centre([other], row_inputs(placements, layers), layers, found)
    outputs, tapped = [], []
    for name, version in (("a", program), ("b", other)):
        write_model(tmp_path / name, [version], {}, "fp32")
        model = keypilot.Model.load(tmp_path / name)
        with model.tap("*") as taps:
            outputs.append(model(**runs[0]))
        tapped.append(dict(taps))
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5)
    assert "value" in tapped[0] and "value" not in tapped[1]
    assert tapped[1]
    for name, array in tapped[1].items():
        np.testing.assert_allclose(array, tapped[0][name], atol=1e-5)


def test_a_layer_that_adds_what_was_centred_makes_up_for_it(tmp_path):
    torch.manual_seed(0)
    module = Feedforward().eval()
    program = build_program("main", ProgramSource(module, words(1)[0]))
    other = copy.deepcopy(program)
    placements = {"main": place(other, set())}
    runs = [{"ids": batch["ids"].numpy()} for batch in words(6)]
    layers = [[layer.node] for layer in placements["main"].layers]
    found = calibrate([other], placements, {"main": runs})
    assert len(centre([other], row_inputs(placements, layers), layers, found)) == 1
    up, down = (
        next(layer.node for layer in placements["main"].layers if layer.node.module == m) for m in ("up", "down")
    )
    assert down.inputs[3] is up.input(0)
    assert np.abs(found.windows[up].all().mean((0, 1))).max() < 1e-5
    outputs = []
    for name, version in (("a", program), ("b", other)):
        write_model(tmp_path / name, [version], {}, "fp32")
        outputs.append(keypilot.Model.load(tmp_path / name)(**runs[0]))
    np.testing.assert_allclose(outputs[0], outputs[1], atol=2e-5)


def test_tables_have_twelve_bits_where_no_size_is_asked_for(tmp_path):
    table = nn.Embedding(50, 64)
    ids = torch.arange(50)[np.newaxis]
    compiled = {}
    for name, limit in (("fine", None), ("eight", 50_000)):
        model = keypilot.compile(table, ids, out=tmp_path / name, precision="int8", calibration=[ids], max_bytes=limit)
        compiled[name] = decibels(model(ids.numpy()), table(ids).detach().numpy())
    assert compiled["eight"] > 38 and compiled["fine"] > compiled["eight"] + 18


def test_a_size_is_kept_with_four_bits(tmp_path, picture_model):
    module, examples, runs = Words().eval(), words(1)[0], words(6)
    whole = keypilot.compile(module, examples, precision="int8", calibration=runs, max_bytes=1_000_000)
    limit = whole.file_bytes - 4000
    small = keypilot.compile(
        module, examples, out=tmp_path / "s.gguf", precision="int8", calibration=runs, max_bytes=limit
    )
    assert small.file_bytes <= limit
    assert any(name.endswith(".q4") for name in small.weights)
    ids = words(1)[0]["ids"]
    expected = module(ids).detach().numpy()
    assert decibels(small(ids.numpy()), expected) > 12
    np.testing.assert_allclose(
        QuantizedOracle(tmp_path / "s.gguf").run("main", {"ids": ids.numpy()})[0]["output"],
        small(ids.numpy()),
        atol=np.abs(expected).max() / 50,
    )


def test_a_size_that_cannot_be_kept_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"as it was")
    with pytest.raises(ArgumentError, match="max_bytes: the smallest file"):
        keypilot.compile(Words(), words(1)[0], out=path, precision="int8", calibration=words(2), max_bytes=100)
    assert path.read_bytes() == b"as it was" and list(tmp_path.iterdir()) == [path]


# ---- Float32 where it is asked for ------------------------------------------------------------------------------


def test_what_is_kept_in_float32_is_not_quantised(tmp_path):
    module = Picture().eval()
    path = tmp_path / "m.gguf"
    keypilot.compile(
        module, pictures(1)[0], out=path, precision="int8", calibration=pictures(4), keep_float=("wide", "up.weight")
    )
    weights = QuantizedOracle(path).weights
    assert weights["wide.0.weight"].dtype == weights["up.weight"].dtype == np.float32
    assert weights["narrow.weight"].dtype == weights["down.weight"].dtype == np.int8


def test_everything_kept_in_float32_is_the_float32_model(picture_model):
    module, _path, float_path = picture_model
    kept = keypilot.compile(module, pictures(1)[0], precision="int8", calibration=pictures(2), keep_float=("*",))
    x = torch.rand(2, 3, 16, 16).numpy()
    expected = keypilot.Model.load(float_path).run("main", x=x)
    for name, array in kept.run("main", x=x).items():
        np.testing.assert_allclose(array, expected[name], atol=1e-5)


# ---- Several programs -------------------------------------------------------------------------------------------


def test_programs_that_share_weights_share_the_quantisation_of_their_inputs(tmp_path):
    class Part(nn.Module):
        def __init__(self, body, head):
            super().__init__()
            self.body, self.head = body, head

        def forward(self, x):
            return {"y": self.head(self.body(x).mean((2, 3)))}

    body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 3, padding=1))
    head = nn.Linear(8, 4)
    programs = {
        name: ProgramSource(Part(body, head), {"x": torch.rand(2, 3, side, side)})
        for name, side in (("large", 16), ("small", 8))
    }
    batches = {
        "large": [{"x": torch.rand(1, 3, 16, 16)} for _ in range(3)],
        "small": [{"x": 3 * torch.rand(1, 3, 8, 8)} for _ in range(3)],
    }
    path = tmp_path / "m.gguf"
    compile_programs(programs, metadata={}, out=path, precision="int8", calibration=batches)
    oracle = QuantizedOracle(path)
    assert sum(name.startswith("body.0.weight") for name in oracle.weights) == 2  # and its scale
    names = [
        dict(
            zip(
                oracle.keys[f"keypilot.{program}.values.name"],
                oracle.keys[f"keypilot.{program}.values.quantization"],
                strict=True,
            )
        )["body.1"]
        for program in programs
    ]
    assert names[0] == names[1] != ""
    high = (127 - oracle.weights["x.quantized.zero_point"].astype(int)) * oracle.weights["x.quantized.scale"]
    assert (high > 2.9).all()  # of both programs' pictures


# ---- The record -------------------------------------------------------------------------------------------------


def test_every_choice_is_recorded_and_shown(picture_model, capsys):
    _module, path, float_path = picture_model
    oracle = QuantizedOracle(path)
    record = json.loads(oracle.keys["keypilot.quantization"])
    stored = {name for name, array in oracle.weights.items() if array.dtype == np.int8 and name.endswith("weight")}
    assert stored == record["weights"].keys()
    quantizations = set(oracle.keys["keypilot.main.values.quantization"]) - {""}
    assert record["values"].keys() <= quantizations
    assert record["batches"] == {"main": 8}
    assert main(["inspect", str(path), "--quantization"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in (*record["weights"], *record["values"], "compensated"))
    assert main(["inspect", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["quantization"]["weights"]["stem.0.weight"]["bits"] == 8
    assert facts["components"]["head"]["parameters"] == 8 * 5 + 5
    assert main(["inspect", str(float_path), "--quantization"]) == 2


# ---- Errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"precision": "int4"}, ArgumentError, "precision: expected one of int8, fp32, got 'int4'"),
        ({"precision": "int8"}, ArgumentError, "calibration: expected batches"),
        ({"precision": "int8", "calibration": []}, ArgumentError, "'main' has no batches"),
        (
            {"precision": "int8", "calibration": [{"y": torch.rand(1, 4)}]},
            ArgumentError,
            "expected the inputs input, got y",
        ),
        ({"precision": "int8", "calibration": [torch.rand(1, 5)]}, ShapeError, "input"),
        ({"calibration": [torch.rand(1, 4)]}, ArgumentError, "calibration: is for precision 'int8'"),
        ({"max_bytes": 5}, ArgumentError, "max_bytes: is for precision 'int8'"),
        (
            {"precision": "int8", "calibration": [torch.rand(1, 4)], "keep_float": ("absent.*",)},
            ArgumentError,
            "keep_float: no module or tensor of the model matches 'absent",
        ),
        (
            {"precision": "int8", "calibration": [torch.rand(1, 4)], "keep_float": "0"},
            ArgumentError,
            "keep_float: expected a sequence of patterns",
        ),
    ],
)
def test_an_error_says_what_was_expected(options, error, message):
    with pytest.raises(error, match=message.replace("(", r"\(")):
        keypilot.compile(nn.Linear(4, 3), torch.rand(1, 4), **options)


def test_a_folder_without_pictures_is_one_line(tmp_path, capsys):
    arguments = ["compile", "keypilot-base", "--precision", "int8", "--out", str(tmp_path / "m.gguf"), "--calibrate"]
    for folder in (tmp_path, tmp_path / "absent"):
        assert main([*arguments, str(folder)]) == 2
        assert "--calibrate" in capsys.readouterr().err
    assert main(["compile", "keypilot-base", "--out", str(tmp_path / "m.gguf"), "--keep-float", "neck.*"]) == 2
    assert "--precision int8" in capsys.readouterr().err


# ---- The encoder ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_default_encoder_fits_its_size_and_stays_close_to_float32(base_file):
    from keypilot.cache import preset_model
    from keypilot.reference.config import PRESETS
    from keypilot.reference.presets import drawn_screens

    int8, float32 = (keypilot.Encoder.load(path) for path in (preset_model("keypilot-base", "int8"), base_file))
    assert int8.model.file_bytes <= PRESETS["keypilot-base"].int8_bytes
    assert int8.model.metadata["keypilot.precision"] == "int8"
    for screen in drawn_screens(2, 256, seed=99):  # which calibration has not seen
        outputs = [encoder.encode(screen, "where shall we meet tomorrow?", user=3) for encoder in (int8, float32)]
        for field, least in (("image", 18), ("text", 20), ("context", 25)):
            assert decibels(*(getattr(output, field) for output in outputs)) > least, field
