"""What each layer's quantisation costs, of a network small enough to compute by hand in NumPy."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from model_files import ProgramBuilder, write_model

pytest.importorskip("torch", reason="keypilot.compare needs the extra `torch`")

import keypilot
from keypilot.compare import sensitivity
from keypilot.errors import ArgumentError

rng = np.random.default_rng(3)
X = rng.standard_normal((64, 8), np.float32)
FIRST, SECOND = rng.standard_normal((16, 8), np.float32), rng.standard_normal((4, 16), np.float32)
BIAS = rng.standard_normal(16).astype(np.float32)

#: Steps of the two layers' inputs: the second's are so coarse that they make nearly all of the noise.
X_STEP, HIDDEN_STEP = np.full(8, 0.03, np.float32), np.linspace(0.2, 0.4, 16, dtype=np.float32)


def hidden(x, weight):
    return np.maximum(x @ weight.T + BIAS, 0)


def quantized(x, step):
    """As real numbers."""
    return np.clip(np.rint(x / step), -128, 127) * step


def layer_weight(weight, step):
    """Integers and scales of a weight that includes its input's steps, and the real weight that they stand for."""
    scaled = weight * step
    scale = np.abs(scaled).max(1) / 127
    integers = np.rint(scaled / scale[:, np.newaxis])
    return integers, scale, integers * scale[:, np.newaxis] / step


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The float32 model and the int8 model."""
    folder = tmp_path_factory.mktemp("pair")
    p = ProgramBuilder()
    x = p.input("x", "N,8")
    h = p.op("linear", [x, p.weight("first.weight", FIRST), p.weight("first.bias", BIAS)], "h", "N,16", "act=relu")
    y = p.op("linear", [h, p.weight("second.weight", SECOND)], "y", "N,4")
    p.port("outputs", "y", y, "N,4")
    z = p.op("unary", [x], "z", "N,8", "fn=tanh")
    p.port("outputs", "z", z, "N,8")
    float32 = write_model(folder / "fp32.gguf", {"main": p})

    p = ProgramBuilder()
    x = p.input("x", "N,8")
    q = p.op("quantize", [x], "x.quantized", "N,8", quantization=p.quantization("x", X_STEP, np.zeros(8)))
    first = p.int8_weight("first.weight", *layer_weight(FIRST, X_STEP)[:2])
    steps = p.quantization("h", HIDDEN_STEP, np.zeros(16))
    h = p.op("linear", [q, first, p.weight("first.bias", BIAS)], "h", "N,16", "act=relu out=i8", quantization=steps)
    y = p.op("linear", [h, p.int8_weight("second.weight", *layer_weight(SECOND, HIDDEN_STEP)[:2])], "y", "N,4")
    p.port("outputs", "y", y, "N,4")
    z = p.op("unary", [x], "z", "N,8", "fn=tanh")
    p.port("outputs", "z", z, "N,8")
    int8 = write_model(folder / "int8.gguf", {"main": p}, precision="int8")
    return keypilot.Model.load(float32), keypilot.Model.load(int8)


def sqnr(reference, actual):
    return 10 * math.log10(np.square(reference).sum() / np.square(reference - actual).sum())


def test_each_layer_costs_what_numpy_says(models):
    float32, int8 = models
    found = sensitivity(int8, float32, {"main": [{"x": X[:40]}, {"x": X[40:]}]}, progress=False)
    y = hidden(X, FIRST) @ SECOND.T
    first = hidden(quantized(X, X_STEP), layer_weight(FIRST, X_STEP)[2])
    second = layer_weight(SECOND, HIDDEN_STEP)[2]
    expected = {
        "second": sqnr(y, quantized(hidden(X, FIRST), HIDDEN_STEP) @ second.T),
        "first": sqnr(y, first @ SECOND.T),
    }
    assert [row.layer for row in found.layers] == sorted(expected, key=expected.get)
    for row in found.layers:
        assert row.sqnr_db == pytest.approx(expected[row.layer], abs=0.05)
        assert (row.program, row.operator, row.output) == ("main", "linear", "y")
    assert sum(row.share for row in found.layers) == pytest.approx(1)
    assert found.whole["main"] == pytest.approx(sqnr(y, quantized(first, HIDDEN_STEP) @ second.T), abs=0.05)
    assert found.unmatched == []


def test_an_operator_without_a_counterpart_is_named(models, tmp_path):
    _, int8 = models
    p = ProgramBuilder()
    x = p.input("x", "N,8")
    p.port("outputs", "y", p.op("linear", [x, p.weight("w", SECOND[:, :8].copy())], "other", "N,4"), "N,4")
    p.port("outputs", "z", p.op("unary", [x], "z", "N,8", "fn=tanh"), "N,8")
    other = keypilot.Model.load(write_model(tmp_path / "other.gguf", {"main": p}))
    found = sensitivity(int8, other, {"main": [{"x": X}]}, progress=False)
    assert found.layers == []
    assert found.unmatched == ["main/h", "main/y"]
    assert "Not measured: main/h, main/y" in found.table()


def test_models_of_the_wrong_precision_are_refused(models):
    float32, int8 = models
    for pair in ((float32, int8), (int8, int8), (float32, float32)):
        with pytest.raises(ArgumentError, match="expected an int8 model and its float32 model"):
            sensitivity(*pair, {"main": [{"x": X}]}, progress=False)
    with pytest.raises(ArgumentError, match="got 'other'"):
        sensitivity(int8, float32, {"other": [{"x": X}]}, progress=False)


def test_the_table_the_json_and_the_page(models, tmp_path):
    float32, int8 = models
    found = sensitivity(int8, float32, {"main": [{"x": X}]}, progress=False)
    lines = found.table(limit=1).splitlines()
    assert lines[1].startswith("main/second  linear")
    assert lines[2] == "... and 1 more"
    found.save(tmp_path / "s.json")
    data = json.loads((tmp_path / "s.json").read_text())
    assert [row["layer"] for row in data["layers"]] == ["second", "first"]
    found.save(tmp_path / "s.html")
    assert (tmp_path / "s.html").read_text().count("<meter") == 2
    with pytest.raises(ValueError, match=r"\.json or \.html"):
        found.save(tmp_path / "s.txt")
