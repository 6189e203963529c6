"""The C core beside PyTorch: every tensor of the encoder, in each of its ROI modes, on real screenshots."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `torch`")

import keypilot  # noqa: E402
from keypilot.cache import preset_model  # noqa: E402
from keypilot.cli import main  # noqa: E402
from keypilot.cli.parity import DEFAULT_TEXTS  # noqa: E402
from keypilot.compare import encoder_parity  # noqa: E402
from keypilot.reference.config import PRESETS  # noqa: E402
from keypilot.reference.presets import build, drawn_screens  # noqa: E402

SCREENS = sorted((Path(__file__).parents[2] / "shared" / "screens").glob("*.png"))


@pytest.fixture(scope="module", params=[name for name in PRESETS if name.startswith("keypilot-base")])
def compiled(request):
    """A preset's PyTorch encoder and its model file, which was made from the same seed."""
    return build(request.param), preset_model(request.param)


def texts_of_every_length(count):
    """`count` texts with 0 to more than 64 tokens of content."""
    return [("word " * (i * 70 // max(1, count - 1))).strip() for i in range(count)]


def assert_parity(report):
    assert report.ok, report.table(worst_first=True, limit=10)
    context = next(row for row in report.tensors if (row.program, row.name) == ("pipeline", "context"))
    assert context.difference.cosine >= 0.999999


@pytest.fixture(scope="module")
def drawn_report(compiled):
    """A preset's report on drawn screens, programs singly and in pairs."""
    encoder, path = compiled
    samples = list(zip(drawn_screens(2, 300, seed=7), ("see you at", "今晚七点见 👍🏽"), strict=True))
    return encoder_parity(keypilot.Model.load(path, threads=2), encoder, samples, batch_sizes=(1, 2), progress=False)


def test_every_tensor_is_within_a_ten_thousandth_of_its_range_on_drawn_screens(drawn_report):
    assert_parity(drawn_report)
    programs = {row.program for row in drawn_report.tensors}
    assert programs == {"screen", "roi", "text", "user", "fusion", "pipeline"}


@pytest.mark.slow
@pytest.mark.skipif(not SCREENS, reason="the real screenshots (../shared/screens) are not there")
@pytest.mark.parametrize(("threads", "batch_sizes"), [(1, (1, 5)), (2, (1,))])
def test_every_tensor_is_within_a_ten_thousandth_of_its_range_on_real_screenshots(compiled, threads, batch_sizes):
    encoder, path = compiled
    samples = list(zip(SCREENS, texts_of_every_length(len(SCREENS)), strict=True))
    report = encoder_parity(
        keypilot.Model.load(path, threads=threads), encoder, samples, batch_sizes=batch_sizes, progress=False
    )
    assert_parity(report)


def test_most_modules_of_the_encoder_are_compared(compiled, drawn_report):
    """Fusing hides a convolution behind its activation, never a whole block."""
    encoder, _ = compiled
    compared = {f"{row.program}/{row.name}" for row in drawn_report.tensors}
    blocks = {
        f"screen/backbone.stages.{stage}.{block}"
        for stage, blocks in enumerate(encoder.backbone.stages)
        for block in range(len(blocks))
    }
    blocks |= {"screen/neck", "screen/image", "text/text.roberta.encoder.layer.0", "fusion/fusion.transformer"}
    assert blocks <= compared
    assert len(drawn_report.tensors) > 150


def test_a_changed_weight_is_found_at_the_module_that_has_it(base_file):
    encoder = build("keypilot-base")
    program = encoder.programs()["text"]
    with torch.no_grad():
        encoder.text.roberta.encoder.layer[1].attention.output.dense.weight[3] += 1.0
    report = keypilot.parity(keypilot.Model.load(base_file), program.module, [program.example_inputs], program="text")
    assert not report.ok
    assert report.first_divergence.name.partition(".attention")[0] == "text.roberta.encoder.layer.1"


def test_parity_of_any_module(tmp_path):
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.SiLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 5)
    ).eval()
    model = keypilot.compile(module, (torch.randn(2, 3, 6, 6),))
    (name,) = [port.name for port in next(iter(model.programs.values())).inputs]
    report = keypilot.parity(model, module, [{name: torch.randn(n, 3, 6, 6)} for n in (1, 3)])
    assert report.ok
    assert {"1", "3"} <= {row.name for row in report.tensors}
    assert report.batches == 2


@pytest.fixture(scope="module")
def int8_pair():
    """A module, its int8 model, its float32 model, and batches that calibration did not see."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3, padding=1, stride=2),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 9, 5),
    ).eval()
    batches = [(torch.randn(64, 3, 6, 6),) for _ in range(4)]
    int8 = keypilot.compile(module, batches[0], precision="int8", calibration=batches)
    return module, int8, keypilot.compile(module, batches[0]), [{"input": torch.randn(n, 3, 6, 6)} for n in (1, 8)]


def test_an_int8_model_stands_beside_pytorch_and_its_float32_model(int8_pair):
    module, int8, float32, batches = int8_pair
    report = keypilot.parity(int8, module, batches, against=float32)
    assert report.ok
    assert report.precision == "int8"
    output = next(row for row in report.tensors if row.output)
    assert output.float32.max_rel < 1e-5
    assert 20 < output.difference.sqnr_db < 60
    assert output.low < 0 < output.high
    compared = {row.name for row in report.tensors if row.float32 is not None}
    assert {"2", "output"} <= compared


def test_taps_of_int8_values_are_compared_as_real_numbers(int8_pair):
    module, int8, _, batches = int8_pair
    assert any(port.dtype == np.int8 for port in int8.programs["main"].taps)
    report = keypilot.parity(int8, module, batches)
    assert min(row.difference.cosine for row in report.tensors) > 0.99


def test_an_int8_model_fails_where_an_output_has_too_little_sqnr_or_float32_is_off(int8_pair):
    module, int8, float32, batches = int8_pair
    low = keypilot.parity(int8, module, batches, against=float32, min_sqnr_db=99)
    assert [row.name for row in low.tensors if not row.ok] == ["output"]
    off = keypilot.parity(int8, module, batches, against=float32, bound=1e-12)
    assert not off.ok
    assert off.first_divergence.float32.max_rel > 1e-12


def test_sensitivity_names_the_modules(int8_pair):
    from keypilot.compare import sensitivity

    _, int8, float32, batches = int8_pair
    arrays = [{name: tensor.numpy() for name, tensor in batch.items()} for batch in batches]
    found = sensitivity(int8, float32, {"main": arrays}, progress=False)
    assert {row.layer for row in found.layers} == {"0", "2", "4"}
    assert found.unmatched == []
    assert min(row.sqnr_db for row in found.layers) >= found.whole["main"] - 1


@pytest.mark.slow
def test_the_command_compares_an_int8_file_and_says_what_its_layers_cost(tmp_path, capsys):
    path = preset_model("keypilot-base", "int8")
    assert main(["parity", str(path), "--text", "hello", "--json", "--html", str(tmp_path / "p.html")]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["precision"] == "int8"
    outputs = [row for row in data["tensors"] if row["output"]]
    assert {row["name"] for row in outputs} >= {"image_embedding", "roi_embedding", "text_embedding", "context"}
    assert all(row["float32"]["max_rel"] <= 1e-4 for row in data["tensors"] if row["float32"])
    assert (tmp_path / "p.html").stat().st_size > 10_000
    assert main(["parity", str(path), "--min-sqnr", "200", "--text", "hello", "--json"]) == 1
    capsys.readouterr()
    assert main(["parity", str(path), "--sensitivity", "--text", "hello", "--json"]) == 0
    costs = json.loads(capsys.readouterr().out)
    assert set(costs["whole"]) == {"screen", "roi", "text", "user", "fusion"}
    assert costs["unmatched"] == []
    worst = [float("inf") if row["sqnr_db"] is None else row["sqnr_db"] for row in costs["layers"]]
    assert worst == sorted(worst)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["keypilot-base", "--against", "f.gguf"], "expected a model file beside them"),
        (["keypilot-base", "--sensitivity"], "expected an int8 model, or --precision int8"),
        (["{file}", "--sensitivity"], "expected an int8 model, got a float32 one"),
        (["missing.gguf"], "expected a model file, a JSON file or one of"),
        (["missing.gguf", "--precision", "int8"], "expected a configuration beside it"),
        (["{file}", "--reference", "keypilot-huge"], "expected a preset, one of"),
        (["{file}"], "expected a preset, one of"),
        (["{file}", "--reference", "keypilot-base", "--against", "{file}"], "expected an int8 model beside it"),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_was_expected(encoder_file, capsys, arguments, message):
    assert main(["parity", *(argument.format(file=encoder_file) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_command_exits_with_1_beyond_the_bound_and_0_within(capsys, tmp_path):
    common = ["parity", "keypilot-base-grid", "--text", "hello", "--json"]
    assert main([*common, "--html", str(tmp_path / "p.html")]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["ok"]
    assert {row["program"] for row in data["tensors"]} == {"screen", "roi", "text", "user", "fusion", "pipeline"}
    assert (tmp_path / "p.html").stat().st_size > 10_000
    assert main([*common, "--bound", "1e-12"]) == 1
    assert not json.loads(capsys.readouterr().out)["ok"]


def test_the_default_texts_cover_empty_and_truncated(base_file):
    model = keypilot.Model.load(base_file)
    lengths = [len(model.tokenize(text)) for text in DEFAULT_TEXTS]
    assert min(lengths) == 2
    assert max(lengths) == 64


def test_two_threads_with_one_encoder_get_what_they_get_alone(base_file):
    from concurrent.futures import ThreadPoolExecutor

    encoder = keypilot.Encoder.load(base_file, threads=1)
    pictures = list(drawn_screens(4, 320, seed=11))
    texts = ["one", "two words", "", "a longer text, with a comma"]
    alone = [encoder.encode(p, text=t) for p, t in zip(pictures, texts, strict=True)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            together = list(pool.map(lambda picture, text: encoder.encode(picture, text=text), pictures, texts))
            for a, b in zip(alone, together, strict=True):
                for field in dataclasses.fields(a):
                    if field.name not in ("timings", "trained"):
                        np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))
