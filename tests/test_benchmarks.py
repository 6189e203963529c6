"""benchmarks/: a small run, and what its report says."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def report_module(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import report

    return report


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from timing import Timing

    return Timing


def make_report(report_module, results):
    titles = {"half": "one half", "rest": "the other", "whole": "both"}
    report = report_module.Report("a CPU", {}, "wall", "no pictures", titles, parts=("half", "rest"), whole="whole")
    report.results += results
    return report


def test_the_ratio_is_against_the_fastest_peer_of_the_same_precision(report_module, timing):
    def result(peer, variant, minimum):
        row = report_module.Result("half", peer, peer, variant)
        row.timings[1] = timing(minimum, 2 * minimum)
        return row

    report = make_report(
        report_module,
        [
            result("keypilot", "int8", 2.0),
            result("slow", "int8", 9.0),
            result("quick", "int8-dynamic", 5.0),
            result("other", "fp32", 1.0),
        ],
    )
    assert report.best_peer("half", "int8", 1).peer == "quick"
    assert report.best_peer("half", "int8", 2) is None
    assert "| half | int8 | 2 (4) | 5 (10) | quick int8-dynamic | 2.50 | 2.50 |" in report.to_markdown()


def test_the_whole_encoder_is_compared_with_the_sum_of_the_best_parts(report_module, timing):
    def result(network, peer, minimum):
        row = report_module.Result(network, peer, peer, "int8")
        row.timings[1] = timing(minimum, minimum)
        return row

    parts = [result("half", "a", 3.0), result("half", "b", 4.0), result("rest", "a", 9.0), result("rest", "b", 5.0)]
    report = make_report(report_module, [*parts, result("whole", "keypilot", 2.0)])
    assert "| whole | int8 | 2 (2) | 8 (8) | sum of the best for each part | 4.00 | 4.00 |" in report.to_markdown()


def test_what_failed_is_a_row_with_its_reason(report_module):
    report = make_report(report_module, [report_module.Result("half", "a", "a", "int8", error="no such operator")])
    assert "| a int8 | half | no such operator |" in report.to_markdown()
    assert json.loads(report.to_json())["results"][0]["error"] == "no such operator"


def test_json_has_null_for_an_exact_result(report_module):
    row = report_module.Result("half", "a", "a", "fp32", sqnr_db=[math.inf, 3.0])
    assert json.loads(make_report(report_module, [row]).to_json())["results"][0]["sqnr_db"] == [None, 3.0]


@pytest.mark.slow
def test_a_run_measures_what_is_installed_and_names_what_is_not(tmp_path):
    out = tmp_path / "results.json"
    options = ["--networks", "fusion", "--peers", "keypilot", "pytorch", "ncnn", "--skip", "pytorch:fp32-compiled"]
    options += ["keypilot:int8", "--threads", "1", "--rounds", "2", "--budget", "1", "--starts", "1"]
    command = [sys.executable, str(BENCHMARKS / "run.py"), *options, "--json", str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    rows = {row["peer"]: row for row in json.loads(out.read_text())["results"]}
    assert rows["keypilot"]["sqnr_db"][0] > 100
    assert rows["keypilot"]["start"]["peak_kib"] < rows["pytorch"]["start"]["peak_kib"]
    for row in rows.values():
        assert row["error"] or 0 < row["timings"]["1"]["minimum"] <= row["timings"]["1"]["median"]


def test_tokenizers_are_timed_beside_the_peer_after_their_ids_were_compared(tmp_path):
    command = [sys.executable, BENCHMARKS / "text.py", "--rounds", "1", "--clock", "cpu", "--json", tmp_path / "f.json"]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert len(rows) == len(table.splitlines()) - 1
    assert {row["tokenizer"] for row in rows} == {"tokenizer", "wordpiece", "clip_bpe"}
    assert all(row["keypilot_us"] > 0 and row["tokenizers_us"] > 0 for row in rows)
