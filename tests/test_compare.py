"""Metrics and reports: what they say of known differences."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keypilot.compare.metrics import difference
from keypilot.compare.report import Report, TensorReport, worst_slice

floats = hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=6), elements=st.floats(-100, 100, width=32))


def tensor_report(name, reference, actual, bound=1e-4, *, float32=None, output=False):
    found = difference(reference, actual)
    worst = worst_slice(reference, actual, float32)
    return TensorReport(
        name=name,
        program="main",
        shape=reference.shape,
        difference=found,
        ok=found.max_rel <= bound,
        worst=worst,
        low=float(reference.min()),
        high=float(reference.max()),
        float32=None if float32 is None else difference(reference, float32),
        output=output,
    )


def report(*tensors, precision="fp32"):
    return Report(tensors, ["main/fused"], 1e-4, 1, "title <with markup>", precision)


@given(floats)
def test_a_tensor_equals_itself(x):
    d = difference(x, x)
    assert (d.max_abs, d.max_rel, d.sqnr_db) == (0, 0, math.inf)
    assert d.cosine == pytest.approx(1) or not x.any()


@given(floats, st.floats(0.0625, 1.0, width=32))
def test_max_abs_and_max_rel_find_a_single_planted_error(x, error):
    y = x.astype(np.float64)
    y.flat[y.size // 2] += error
    d = difference(x, y)
    assert d.max_abs == pytest.approx(error)
    spread = float(x.max()) - float(x.min()) or abs(float(x.flat[0])) or 1.0
    assert d.max_rel == pytest.approx(error / spread)


def test_sqnr_of_noise_at_a_thousandth_of_the_signal_is_60_decibels():
    signal = np.ones(1000)
    assert difference(signal, signal + 1e-3).sqnr_db == pytest.approx(60)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_infinitely_far(bad):
    reference = np.ones((2, 2), np.float32)
    actual = reference.copy()
    actual[1, 1] = bad
    assert difference(reference, actual).max_rel == math.inf
    assert not tensor_report("x", reference, actual).ok


def test_equal_infinities_are_equal():
    x = np.array([1.0, -np.inf])
    assert difference(x, x).max_abs == 0


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"reference \(2, 3\), actual \(3, 2\)"):
        difference(np.ones((2, 3)), np.ones((3, 2)))


def test_the_worst_slice_holds_the_largest_difference():
    reference = np.zeros((2, 3, 4, 5), np.float32)
    actual = reference.copy()
    actual[1, 2, 3, 4] = 1
    found = worst_slice(reference, actual)
    assert found.index == (1, 2)
    assert found.actual[3, 4] == 1


def test_a_report_names_the_first_tensor_that_diverges_and_sorts_the_worst_first():
    x = np.linspace(-1, 1, 12).reshape(3, 4)
    rows = report(tensor_report("a", x, x), tensor_report("b", x, x + 0.01), tensor_report("c", x, x + 0.1))
    assert not rows.ok
    assert rows.first_divergence.name == "b"
    assert [row.name for row in rows.worst_first()] == ["c", "b", "a"]
    assert "first main/b" in rows.summary()


def test_the_json_has_the_documented_fields_and_is_strict(tmp_path):
    x = np.linspace(-1, 1, 12)
    report(tensor_report("a", x, x), tensor_report("b", x, x + 1e-6)).save(tmp_path / "p.json")

    def refuse(constant):
        raise AssertionError(constant)

    data = json.loads((tmp_path / "p.json").read_text(), parse_constant=refuse)
    assert data["ok"] is True
    figures = {"max_abs", "max_rel", "cosine", "sqnr_db"}
    fields = {"name", "program", "shape", "low", "high", *figures, "float32", "output", "ok"}
    assert all(set(row) == fields for row in data["tensors"])
    assert [row["float32"] for row in data["tensors"]] == [None, None]


@pytest.fixture
def int8_report():
    """Three tensors: int8 errs by a thousandth, a hundredth and a tenth, float32 by a millionth, and has no second."""
    x = np.random.default_rng(0).normal(size=(1, 3, 40, 300))
    return report(
        tensor_report("a", x, x + 1e-3, math.inf, float32=x + 1e-6),
        tensor_report("b", x, x + 1e-1, math.inf),
        tensor_report("c", x, x + 1e-2, math.inf, float32=x + 1e-6, output=True),
        precision="int8",
    )


def test_an_int8_report_has_three_columns_side_by_side(int8_report):
    lines = int8_report.table().splitlines()
    assert [column.strip() for column in lines[0].split("|")] == ["PyTorch float32", "C float32", "C int8"]
    a, b, c = (line.split("|") for line in lines[2:5])
    assert float(a[1].split()[1]) == pytest.approx(120, abs=0.2)
    assert float(a[2].split()[2]) == pytest.approx(60, abs=0.2)
    assert b[1].split() == ["-", "-"]
    assert float(c[2].split()[2]) == pytest.approx(40, abs=0.2)
    assert [row.name for row in int8_report.worst_first()] == ["b", "c", "a"]
    assert "lowest SQNR 20.0 dB at main/b" in int8_report.summary()
    assert int8_report.summary().splitlines()[-1] == "main: c 40.0 dB"


def test_the_page_and_the_json_of_an_int8_report_have_both_models(int8_report, tmp_path):
    int8_report.save(tmp_path / "p.html")
    text = (tmp_path / "p.html").read_text()
    assert text.count("data:image/png;base64,") == 4 + 3 + 4
    assert text.count("<circle") == 2 + 1 + 2
    assert "C int8" in text
    int8_report.save(tmp_path / "p.json")
    rows = json.loads((tmp_path / "p.json").read_text())["tensors"]
    assert [row["float32"] is None for row in rows] == [False, True, False]
    assert rows[0]["float32"]["max_abs"] == pytest.approx(1e-6)
    assert [row["output"] for row in rows] == [False, False, True]


def test_the_page_is_self_contained_and_escapes_names(tmp_path):
    x = np.random.default_rng(0).normal(size=(1, 3, 40, 300))
    report(tensor_report("stage.<0>", x, x + 1e-3), tensor_report("scalar", x.sum(), x.sum())).save(tmp_path / "p.html")
    text = (tmp_path / "p.html").read_text()
    assert "<script" not in text
    assert "http" not in text
    assert "stage.&lt;0&gt;" in text
    assert text.count("data:image/png;base64,") == 6
    assert text.count("<circle") == 2


def test_a_report_is_saved_by_its_names_ending(tmp_path):
    with pytest.raises(ValueError, match=r"\.json or \.html"):
        report().save(tmp_path / "p.txt")
