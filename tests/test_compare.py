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


def tensor_report(name, reference, actual, bound=1e-4):
    found = difference(reference, actual)
    return TensorReport(name, "main", reference.shape, found, found.max_rel <= bound, worst_slice(reference, actual))


def report(*tensors):
    return Report(tensors, ["main/fused"], 1e-4, 1, "title <with markup>")


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
    fields = {"name", "program", "shape", "max_abs", "max_rel", "cosine", "sqnr_db", "ok"}
    assert all(set(row) == fields for row in data["tensors"])


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
