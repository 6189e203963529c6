"""``keypilot compare``: what configurations cost, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="needs the extra `torch`")

from keypilot.cli import main  # noqa: E402
from keypilot.cli.compare import as_text  # noqa: E402
from keypilot.compare.configs import Measured, swaps  # noqa: E402
from keypilot.convert.encoder import compile_encoder  # noqa: E402
from keypilot.errors import UnsupportedOpError  # noqa: E402
from keypilot.reference.config import COMPONENTS, PRESETS, resolve_config  # noqa: E402
from keypilot.reference.encoder import KeyPilotEncoder  # noqa: E402

SMALL = {
    "backbone": "mobilenetv3_small",
    "regions": "fixed_grid",
    "roi_features": "mask_pool",
    "global_image": "pool_linear",
    "text": "bert_tiny",
    "fusion": "cross_attention",
    "user": "none",
    "image_side": 64,
    "neck_channels": 32,
    "vocab_size": 6912,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small configurations, and a folder of pictures."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "small.json").write_text(json.dumps({**SMALL, "name": "small"}))
    (folder / "users.json").write_text(json.dumps({**SMALL, "name": "users", "user": "table"}))
    (folder / "pictures").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 120, 60, 3), np.uint8)
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / "pictures" / f"{i}.png")
    return folder


def compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    configs = [str(folder / name) for name in ("small.json", "users.json")]
    assert main(["compare", *configs, "--images", str(folder / "pictures"), "--threads", "1", "2", "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert [row["config"] for row in rows] == configs
    return rows


def test_configurations_are_measured_once_and_timed_each_time(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))

    def compile_float32(encoder: KeyPilotEncoder, path: str, precision: str) -> None:
        assert precision == "int8"  # which takes longer
        compile_encoder(encoder, path)

    monkeypatch.setattr("keypilot.convert.encoder.compile_encoder", compile_float32)
    small, users = compared(folder, capsys)
    for row in (small, users):
        assert row["cosine"] > 0.999999 and row["sqnr_db"] > 90
        assert row["milliseconds"]["1"] > 0 and row["milliseconds"]["2"] > 0
    extra = 1001 * 64 + 64 * 256 + 256 + 256  # the table, its projection, one more position
    assert users["parameters"] - small["parameters"] == extra
    assert 4 * extra <= users["file_bytes"] - small["file_bytes"] < 4 * extra + 10_000
    assert users["macs"] > small["macs"] > 1e6

    def fail(*_args: object, **_options: object) -> None:
        raise AssertionError("made again")

    for made in ("keypilot.cache._make", "keypilot.compare.configs._accuracy"):
        monkeypatch.setattr(made, fail)
    again = compared(folder, capsys)
    for first, second in zip((small, users), again, strict=True):
        for row in (first, second):
            del row["milliseconds"]
        assert first == second


@pytest.mark.slow
def test_int8_is_measured_against_pytorch(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "int8"))
    for row in compared(folder, capsys):
        assert row["cosine"] > 0.9 and 10 < row["sqnr_db"] < 90


def test_one_that_cannot_be_measured_leaves_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise UnsupportedOpError("no operator fold")

    monkeypatch.setattr("keypilot.cache.preset_model", fail)
    assert main(["compare", str(folder / "small.json")]) == 1
    assert f"{folder / 'small.json'}: no operator fold" in capsys.readouterr().out


def test_the_table_says_what_each_costs_beside_the_first() -> None:
    rows = [
        Measured("a", 1e6, 1e9, 2_000_000, 1_000_000, 20.0, 0.99, {1: 4.0}),
        Measured("b", 2e6, 2e9, 5_500_000, 1_000_000, 18.5, 0.98, {1: 5.5}),
    ]
    first, beside = as_text(rows, [1]).split("\n\n")
    assert first.splitlines()[1].split() == ["a", "1.00M", "1.00G", "2.00", "1.00", "4.00", "20.0", "0.99000"]
    assert beside.splitlines()[1].split() == ["b", "+1.50", "+3.50", "-1.5"]


def test_swaps_are_every_other_component_once() -> None:
    names = swaps()
    assert len(names) == 1 + sum(len(choices) - 1 for choices in COMPONENTS.values())
    base = PRESETS["keypilot-base"]
    for name in names[1:]:
        config = resolve_config(name)
        assert sum(getattr(config, field) != getattr(base, field) for field in COMPONENTS) == 1


@pytest.mark.parametrize(
    ("arguments", "message"), [([], "got none"), (["keypilot-huge"], "expected a preset"), (["--swap", "x=y"], "x=y")]
)
def test_what_is_no_configuration_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err.splitlines()[-1]
