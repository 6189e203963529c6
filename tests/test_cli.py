"""The command line: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from model_files import write_model
from PIL import Image
from test_model import linear_program, text_program

import keypilot
from keypilot.cli import COMMANDS, main
from keypilot.reference.config import REGIONS


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "screen.png"
    pixels = np.random.default_rng(0).integers(0, 256, (320, 180, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def small_model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m.gguf", {"linear": linear_program(), "text": text_program()})


def failure(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a command which cannot be done prints."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as error:  # argparse
        code = int(error.code or 0)
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("keypilot")
    return captured.err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"    {command} " in text for command in COMMANDS)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"keypilot {keypilot.__version__}\n"


def test_python_m_keypilot_is_the_command() -> None:
    result = subprocess.run([sys.executable, "-m", "keypilot", "encode"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "keypilot encode: error: the following arguments are required: IMAGE\n"


# ---- Errors ----


def test_a_missing_picture_is_one_line(capsys: pytest.CaptureFixture[str], encoder_file: Path) -> None:
    assert "absent.png" in failure(capsys, "encode", "absent.png", "--model", encoder_file)


def test_a_file_that_is_no_picture_is_one_line(capsys: pytest.CaptureFixture[str], encoder_file: Path) -> None:
    assert "test_cli.py" in failure(capsys, "encode", __file__, "--model", encoder_file)


def test_a_file_that_is_no_model_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "test_cli.py" in failure(capsys, "inspect", __file__)


def test_a_model_that_is_no_encoder_is_one_line(
    capsys: pytest.CaptureFixture[str], picture: Path, small_model: Path
) -> None:
    assert "encoder" in failure(capsys, "encode", picture, "--model", small_model)


def test_an_unknown_preset_lists_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert "keypilot-base" in failure(capsys, "inspect", "keypilot-huge")


def test_a_user_outside_the_table_is_one_line(
    capsys: pytest.CaptureFixture[str], picture: Path, encoder_file: Path
) -> None:
    assert "user" in failure(capsys, "encode", picture, "--user", -1, "--model", encoder_file)


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["encode"], ["encode", "a", "b"], ["encode", "a", "--threads", "two"]]
)
def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    failure(capsys, *arguments)


# ---- inspect ----


def test_inspect_counts_by_component_and_in_all(capsys: pytest.CaptureFixture[str], small_model: Path) -> None:
    assert main(["inspect", str(small_model), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["file_bytes"] == small_model.stat().st_size
    assert facts["components"]["head"] == {"parameters": 4 * 6 + 4, "bytes": 4 * (4 * 6 + 4), "macs": 4 * 6}
    assert facts["components"]["embedding"]["parameters"] == 30
    assert facts["parameters"] == 58
    assert facts["macs"] == 24
    assert facts["programs"]["linear"]["ops"] == 3
    assert facts["arena_bytes"] == max(program["arena_bytes"] for program in facts["programs"].values())


def test_inspect_prints_what_its_json_says(capsys: pytest.CaptureFixture[str], small_model: Path) -> None:
    assert main(["inspect", str(small_model)]) == 0
    text = capsys.readouterr().out
    assert "a small model" in text
    assert "a float32 (N, 6), b float32 (N, 4) -> y float32 (N, 4)" in text
    assert "original design" not in text


def test_inspect_counts_an_encoders_four_regions_and_longest_text(
    capsys: pytest.CaptureFixture[str], encoder_file: Path
) -> None:
    assert main(["inspect", str(encoder_file), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert list(facts["programs"]) == ["screen", "roi", "text", "user", "fusion"]
    assert facts["programs"]["roi"]["batch"] == len(REGIONS)
    assert facts["components"]["roi"] == {"parameters": 3 * 256, "bytes": 4 * 3 * 256, "macs": 4 * 3 * 256}
    assert sum(entry["macs"] for entry in facts["components"].values()) == facts["macs"]
    assert facts["encoder"]["crop_side"] == 32
    assert facts["tokenizer"] == {"model": "gpt2", "vocabulary": 262, "max_tokens": 64, "normalizer": "nfc"}


def test_inspect_puts_the_default_encoder_beside_the_original_design(
    capsys: pytest.CaptureFixture[str], base_file: Path
) -> None:
    assert main(["inspect", str(base_file)]) == 0
    text = capsys.readouterr().out
    assert "original design" in text and "4.5M" in text and "untrained" in text
    assert main(["inspect", str(base_file), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"backbone", "regions", "image", "text", "fusion", "user"} <= facts["components"].keys()
    assert facts["parameters"] == sum(entry["parameters"] for entry in facts["components"].values())
    assert sum(entry["macs"] for entry in facts["components"].values()) == facts["macs"]


# ---- encode ----


def test_encode_prints_regions_norms_and_stages(
    capsys: pytest.CaptureFixture[str], picture: Path, encoder_file: Path
) -> None:
    assert main(["encode", str(picture), "--text", "see you at", "--model", str(encoder_file)]) == 0
    text = capsys.readouterr().out
    for word in (*REGIONS, "context", "screen", "fusion", "total", "untrained"):
        assert word in text


def test_encode_writes_what_the_encoder_gives(
    capsys: pytest.CaptureFixture[str], picture: Path, encoder_file: Path, tmp_path: Path
) -> None:
    arguments = ["encode", str(picture), "--text", "hi", "--user", "3", "--model", str(encoder_file)]
    assert main([*arguments, "--json", "--out", str(tmp_path / "o.npz"), "--overlay", str(tmp_path / "o.png")]) == 0
    printed = json.loads(capsys.readouterr().out)
    out = keypilot.Encoder.load(encoder_file).encode(picture, text="hi", user=3)
    np.testing.assert_array_equal(np.array(printed["context"], np.float32), out.context)
    assert [region["name"] for region in printed["regions"]] == list(REGIONS)
    assert [region["box"] for region in printed["regions"]] == out.boxes.tolist()
    with np.load(tmp_path / "o.npz") as written:
        for name in ("context", "image", "rois", "text", "masks", "boxes", "roi_valid", "tokens"):
            np.testing.assert_array_equal(written[name], getattr(out, name))
    with Image.open(tmp_path / "o.png") as overlay:
        assert overlay.size[0] % 180 == 0 and overlay.size[0] / 180 == overlay.size[1] / 320
