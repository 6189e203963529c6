"""Every component that a configuration can name: its size, its float32 parity with PyTorch, its int8 results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `torch`")

import keypilot  # noqa: E402
from keypilot.compare import parity  # noqa: E402
from keypilot.convert import ProgramSource, compile_programs  # noqa: E402
from keypilot.reference.backbone import build_backbone  # noqa: E402
from keypilot.reference.config import (  # noqa: E402
    COMPONENTS,
    PRESETS,
    REGION_NETWORKS,
    EncoderConfig,
    resolve_config,
)
from keypilot.reference.encoder import KeyPilotEncoder  # noqa: E402
from keypilot.reference.fusion import Fusion, GatedCrossAttention  # noqa: E402
from keypilot.reference.global_image import build_global_image  # noqa: E402
from keypilot.reference.pipeline import Pipeline  # noqa: E402
from keypilot.reference.presets import build, drawn_screens  # noqa: E402
from keypilot.reference.text import build_text, text_inputs  # noqa: E402

SCREENS = sorted((Path(__file__).parents[2] / "shared" / "screens").glob("*.png"))

TEXTS = ("see you at", "Running about ten minutes late, sorry", "今晚七点见 👍🏽", "word " * 80)

#: Millions of parameters of the published module, or of the census of the design's, with a projection to 256.
SIZES = {
    "backbone": {
        "mobilevit_xxs_075": 0.567,
        "mobilevit_xxs": 0.926,
        "mobilevit_xs": 1.896,
        "mobilenetv3_small": 0.927,
    },
    "global_image": {
        "projection": 0.345,
        "pool_linear": 0.050,
        "mobileclip_s0": 11.407 + 0.131,
        "mobileclip_s1": 21.542 + 0.131,
        "clip_vit_tiny": 5.524 + 0.049,
        "siglip_small": 12.79 + 0.099,
    },
    "text": {
        "roberta_tiny": 4.52 + 0.080,
        "distilbert_tiny": 11.888 + 0.080,
        "bert_tiny": 4.370 + 0.033,
        "tinybert": 14.252 + 0.080,
        "minilm_2": 15.468 + 0.099,
        "minilm_6": 22.565 + 0.099,
        "mobileclip": 42.44 + 0.131,
    },
    "fusion": {"transformer": 0.924, "transformer_2": 1.846, "cross_attention": 0.465},
}


def millions(module: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def component(field: str, name: str) -> torch.nn.Module:
    config = EncoderConfig(**{field: name})
    match field:
        case "backbone":
            return build_backbone(name)
        case "global_image":
            return build_global_image(config)
        case "text":
            return build_text(config)
        case _:
            return Fusion(config)


@pytest.mark.parametrize(("field", "name"), [(field, name) for field in SIZES for name in COMPONENTS[field]])
def test_a_component_has_the_parameters_of_the_published_one(field: str, name: str) -> None:
    assert millions(component(field, name)) == pytest.approx(SIZES[field][name], rel=0.02)


# ---- Compiled ----


class Case:
    """Some programs of a configuration, and what they meet on a few pictures and texts."""

    def __init__(self, config: str, programs: tuple[str, ...]) -> None:
        self.encoder = build(config)
        pictures: list[Any] = list(SCREENS[:2]) or list(drawn_screens(2, 300, seed=7))
        samples = [(pictures[i % len(pictures)], text) for i, text in enumerate(TEXTS)]
        pipeline = Pipeline(self.encoder)
        encodings = [pipeline.encode(picture, text, i) for i, (picture, text) in enumerate(samples)]
        self.programs = {name: p for name, p in self.encoder.programs().items() if not programs or name in programs}
        self.inputs = {name: [encoding.inputs[name] for encoding in encodings] for name in self.programs}

    def compile(self, path: Path, precision: str) -> keypilot.Model:
        sources = {name: ProgramSource(*program) for name, program in self.programs.items()}
        calibration = self.inputs if precision == "int8" else None
        compile_programs(sources, metadata={}, out=path, precision=precision, calibration=calibration)
        return keypilot.Model.load(path, threads=2)

    def check(self, folder: Path, int8_sqnr_db: float | None) -> None:
        float32 = self.compile(folder / "fp32.gguf", "fp32")
        for name, program in self.programs.items():
            report = parity(float32, program.module.eval(), self.inputs[name], program=name)
            assert report.ok, report.table(worst_first=True, limit=10)
        if int8_sqnr_db is None:
            return
        int8 = self.compile(folder / "int8.gguf", "int8")
        assert int8.file_bytes < 0.5 * float32.file_bytes
        for name, program in self.programs.items():
            report = parity(
                int8, program.module.eval(), self.inputs[name], program=name, against=float32, min_sqnr_db=int8_sqnr_db
            )
            assert report.ok, report.table(worst_first=True, limit=10)


@pytest.mark.parametrize(
    ("changes", "programs", "int8_sqnr_db"),
    [
        ("text=bert_tiny,vocab_size=6912,fusion=cross_attention,user=none", ("text", "fusion"), 15.0),
        ("backbone=mobilenetv3_small,global_image=pool_linear,image_side=64,neck_channels=32", ("screen",), None),
    ],
)
def test_small_components(tmp_path: Path, changes: str, programs: tuple[str, ...], int8_sqnr_db: float | None) -> None:
    Case(f"keypilot-base-grid:{changes}", programs).check(tmp_path, int8_sqnr_db)


#: Of each kind those that are converted to int8 in seconds.
INT8 = ("mobilenetv3_small", "clip_vit_tiny", "distilbert_tiny", "minilm_2", *COMPONENTS["fusion"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "programs"),
    [
        *((f"backbone={name}", ("screen", "roi")) for name in COMPONENTS["backbone"]),
        *((f"global_image={name}", ("screen", "image")) for name in COMPONENTS["global_image"]),
        *((f"text={name}", ("text",)) for name in COMPONENTS["text"]),
        *((f"fusion={name}", ("user", "fusion")) for name in COMPONENTS["fusion"]),
        ("vocab_size=50265", ("text",)),
    ],
)
def test_every_component(tmp_path: Path, changes: str, programs: tuple[str, ...]) -> None:
    sqnr_db = 5.0 if changes.split("=")[1] in INT8 else None
    Case(f"keypilot-base-grid:image_side=128,crop_side=64,{changes}", programs).check(tmp_path, sqnr_db)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilevit_xxs_075", "mobilevit_xs"])
def test_a_backbone_takes_oblong_pictures(tmp_path: Path, name: str) -> None:
    class Maps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = build(f"keypilot-base-grid:backbone={name}").backbone

        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            return {f"stride_{4 << i}": features for i, features in enumerate(self.backbone(image))}

    module, image = Maps().eval(), torch.rand(1, 3, 512, 256)
    model = keypilot.compile(module, image)
    report = parity(model, module, [{"image": image}])
    assert report.ok, report.table(worst_first=True, limit=10)
    assert model.programs["main"].outputs[0].shape[2:] == (128, 64)


# ---- What the modules claim ----


def test_a_texts_embedding_follows_every_token_of_a_mean_and_no_padding() -> None:
    text = build_text(EncoderConfig(text="minilm_2", vocab_size=50)).eval()
    inputs = text_inputs(text, torch.tensor([[1, 2, 3]]))
    with torch.no_grad():
        alone = text(**inputs)
        padded = text(**{name: torch.nn.functional.pad(array, (0, 4)) for name, array in inputs.items()})
        other = text(**(inputs | {"input_ids": torch.tensor([[1, 2, 4]])}))
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(other, alone)


def test_parallel_branches_are_joined_for_conversion() -> None:
    torch.manual_seed(0)
    text = build_text(EncoderConfig(text="mobileclip", vocab_size=50))
    for module in text.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, 0, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    text.eval()
    joined = text.for_conversion()
    inputs = text_inputs(text, torch.tensor([[1, 2, 3, 49]]))
    with torch.no_grad():
        torch.testing.assert_close(joined(**inputs), text(**inputs), atol=1e-5, rtol=1e-5)
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in joined.modules()) == 2


def test_mobileclips_text_is_read_at_the_token_of_the_largest_id() -> None:
    text = build_text(EncoderConfig(text="mobileclip", vocab_size=50)).eval()
    tower = text.text_encoder
    tower.transformer = torch.nn.ModuleList()  # nothing mixes the tokens
    with torch.no_grad():
        inputs = text_inputs(text, torch.tensor([[1, 49, 0, 0]]))
        moved = text_inputs(text, torch.tensor([[1, 49, 3, 4]]))
        torch.testing.assert_close(text(**inputs), text(**moved))


def test_a_closed_gate_lets_no_attention_through() -> None:
    fusion = GatedCrossAttention().eval()
    torch.nn.init.constant_(fusion.gate.bias, -200.0)  # sigmoid(-200) is 0 in float32
    x, other = torch.randn(2, 1, 9, 256)
    other[:, 0] = x[:, 0]
    with torch.no_grad():
        assert torch.equal(fusion(x), fusion(other))


def test_the_unknown_user_is_the_mean_of_the_known_ones() -> None:
    user = KeyPilotEncoder(EncoderConfig(regions="fixed_grid", user_count=3)).user
    assert user is not None
    torch.testing.assert_close(user.table.weight[3], user.table.weight[:3].mean(0))


# ---- Configurations ----


@pytest.mark.parametrize(("field", "names"), COMPONENTS.items())
def test_a_name_that_there_is_not_is_refused(field: str, names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=f"{field}: expected one of {', '.join(names)}, got 'nonsense'"):
        EncoderConfig(**{field: "nonsense"})


@pytest.mark.parametrize("regions", REGION_NETWORKS)
def test_mask_pool_needs_masks_on_the_backbones_features(regions: str) -> None:
    with pytest.raises(ValueError, match="roi_features: expected reencode"):
        EncoderConfig(regions=regions, roi_features="mask_pool")


def test_programs_follow_the_configuration() -> None:
    def programs(**fields: Any) -> list[str]:
        return list(KeyPilotEncoder(EncoderConfig(**fields)).programs())

    assert programs() == ["screen", "roi", "text", "user", "fusion"]
    assert programs(regions="fixed_grid", global_image="clip_vit_tiny") == ["image", "roi", "text", "user", "fusion"]
    assert programs(user="none", global_image="clip_vit_tiny") == ["screen", "image", "roi", "text", "fusion"]


def test_a_text_names_a_preset_with_changes_or_a_file(tmp_path: Path) -> None:
    assert resolve_config("keypilot-lite") is PRESETS["keypilot-lite"]
    changed = resolve_config("keypilot-base:global_image=mobileclip_s0,max_tokens=32")
    assert (changed.global_image, changed.max_tokens, changed.int8_bytes) == ("mobileclip_s0", 32, 0)
    assert changed.name == "keypilot-base:global_image=mobileclip_s0,max_tokens=32"
    assert resolve_config("keypilot-base:backbone=mobilenetv3_small").image_side == 224
    assert resolve_config("keypilot-base:backbone=mobilenetv3_small,image_side=256").image_side == 256
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"name": "mine", "text": "tinybert"}))
    assert resolve_config(str(path)) == EncoderConfig(name="mine", text="tinybert")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keypilot-huge", "expected a preset, one of keypilot-base, .*'keypilot-huge'"),
        ("keypilot-base:", "expected changes FIELD=VALUE"),
        ("keypilot-base:colour=red", "expected changes FIELD=VALUE of backbone, .*'colour=red'"),
        ("keypilot-base:text=gpt", "text: expected one of roberta_tiny"),
        ("keypilot-base:text=bert_tiny,max_tokens=513", "max_tokens: expected at most 512, the positions of text"),
        ("keypilot-base:text=mobileclip,max_tokens=78", "max_tokens: expected at most 77, the positions of text"),
        ("keypilot-base:regions=fast_sam_s,regions_side=1008", "regions_side: expected a multiple of 32"),
        ("keypilot-base:max_tokens=-1", "max_tokens: expected a number, got '-1'"),
        ("keypilot-base:image_side=100", "image_side: expected a multiple of 16"),
    ],
)
def test_what_names_no_configuration_is_refused(text: str, message: str) -> None:
    with pytest.raises(keypilot.ArgumentError, match=message):
        resolve_config(text)


@pytest.mark.parametrize(("content", "message"), [("[]", "object"), ('{"colour": 1}', "'colour'"), ("{", "Expecting")])
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(keypilot.ArgumentError, match=message):
        resolve_config(str(path))


def test_a_file_may_be_changed_as_a_preset_may(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(resolve_config("keypilot-base").to_json())
    changed = resolve_config(f"{path}:max_tokens=32,int8_bytes=0")
    assert (changed.max_tokens, changed.int8_bytes, changed.text) == (32, 0, "roberta_tiny")


def test_metadata_describe_the_picture_of_an_image_program() -> None:
    keys = KeyPilotEncoder(EncoderConfig(regions="fixed_grid", global_image="siglip_small")).metadata()
    assert keys["keypilot.encoder.global.image_side"] == 224
    assert keys["keypilot.encoder.global.image_mean"] == [0.5, 0.5, 0.5]
    assert np.isclose(keys["keypilot.encoder.global.image_std"], 0.5).all()
