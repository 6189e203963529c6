"""Weights that people have: files, timm's networks, the encoder's checkpoints and its components."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_cli import failure
from torch import nn

import keypilot
from keypilot.cli import main
from keypilot.errors import ArgumentError, UnsupportedError
from keypilot.importers.components import (
    checkpoint_config,
    load_component,
    load_encoder_weights,
    set_tokenizer,
)
from keypilot.importers.timm_models import load_timm
from keypilot.importers.weights import load_state, read_checkpoint
from keypilot.reference.config import EncoderConfig, resolve_config
from keypilot.reference.encoder import KeyPilotEncoder
from keypilot.reference.timm_shim import import_timm
from keypilot.reference.tokenizer import TOKENIZERS

State = dict[str, torch.Tensor]


def randomized(module: nn.Module, seed: int = 1) -> State:
    """A state dict of the module's shapes."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.rand(value.shape, generator=generator) + 0.5 if value.is_floating_point() else value.clone()
        for key, value in module.state_dict().items()
    }


def saved(state: Any, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def assert_loaded(module: nn.Module, state: State) -> None:
    own = module.state_dict()
    assert own.keys() >= state.keys()
    for key, value in state.items():
        torch.testing.assert_close(own[key], value, rtol=0, atol=0, msg=key)


# ---- Files ----


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.bin", "w.ckpt"])
def test_a_state_dict_of_any_file_is_read(tmp_path: Path, name: str) -> None:
    state = randomized(nn.Linear(3, 2))
    read = read_checkpoint(saved(state, tmp_path / name)).state
    assert read.keys() == state.keys()
    assert all(torch.equal(read[key], state[key]) for key in state)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict", "state_dict_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_and_prefixes_of_training_are_taken_off(tmp_path: Path, wrapper: str, prefix: str) -> None:
    state = randomized(nn.Linear(3, 2))
    wrapped = {"epoch": 3, wrapper: {prefix + key: value for key, value in state.items()}}
    assert read_checkpoint(saved(wrapped, tmp_path / "w.pt")).state.keys() == state.keys()


def test_averaged_weights_come_first(tmp_path: Path) -> None:
    plain, averaged = ({"weight": torch.full((1,), value)} for value in (1.0, 2.0))
    path = saved({"state_dict": plain, "state_dict_ema": averaged}, tmp_path / "w.pt")
    assert read_checkpoint(path).state["weight"] == 2


def test_a_file_with_code_is_refused_without_running_it(tmp_path: Path) -> None:
    path = saved({"model": nn.Linear(2, 2)}, tmp_path / "w.pt")
    with pytest.raises(ArgumentError, match=r"w\.pt.*tensors alone.*could run code"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"not weights, whatever the name says")
    with pytest.raises(ArgumentError, match=re.escape(name)):
        read_checkpoint(path)


def test_other_endings_and_files_without_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"\.safetensors"):
        read_checkpoint(tmp_path / "w.onnx")
    with pytest.raises(ArgumentError, match="got epoch"):
        read_checkpoint(saved({"epoch": 3}, tmp_path / "w.pt"))


def test_what_does_not_fit_is_listed() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    state = randomized(module)
    del state["1.bias"]
    state["0.weight"] = torch.zeros(5, 3)
    state["head.weight"] = torch.zeros(1)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(ArgumentError) as raised:
        load_state(module, state, source="w.pt", network="the two layers")
    message = str(raised.value)
    assert "w.pt: not the weights of the two layers, which has 4 tensors" in message
    assert "1 missing: 1.bias" in message
    assert "1 unexpected: head.weight" in message
    assert "1 of another shape: 0.weight (expected 2x3, got 5x3)" in message
    assert_loaded(module, before)


def test_half_precision_becomes_float32() -> None:
    module = nn.Linear(3, 2)
    state = {key: value.half() for key, value in randomized(module).items()}
    load_state(module, state, source="w", network="a layer")
    assert_loaded(module, {key: value.float() for key, value in state.items()})


# ---- timm ----


def timm_net(name: str, **options: Any) -> nn.Module:
    net: nn.Module = import_timm().create_model(name, **options)
    return net.eval()


def test_a_timm_checkpoint_gives_pytorchs_logits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    net = timm_net("test_byobnet", num_classes=7)
    weights = saved({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, tmp_path / "w.pth")
    out = tmp_path / "m.gguf"
    assert main(["compile", "timm:test_byobnet", "--weights", str(weights), "--out", str(out)]) == 0
    assert "test_byobnet" in capsys.readouterr().out
    model = keypilot.Model.load(out)
    height, width = (model.metadata[f"keypilot.image.{side}"] for side in ("height", "width"))
    assert (3, height, width) == net.pretrained_cfg["input_size"]  # type: ignore[index]
    image = torch.rand(3, 3, height, width)
    with torch.no_grad():
        wanted = net(image).numpy()
    got = model.run("image", image=image.numpy())["logits"]
    assert got.shape == (3, 7)
    assert np.abs(got - wanted).max() <= 1e-4 * np.ptp(wanted)


def test_features_leave_the_classifier_out(tmp_path: Path) -> None:
    net: Any = timm_net("test_byobnet")
    imported = load_timm("test_byobnet", saved(net.state_dict(), tmp_path / "w.safetensors"), features=True)
    image = torch.rand(2, 3, 160, 160)
    with torch.no_grad():
        got = imported.programs["image"].module(image)["features"]
        torch.testing.assert_close(got, net.forward_head(net.forward_features(image), pre_logits=True))


def test_another_networks_state_dict_is_refused(tmp_path: Path) -> None:
    path = saved(timm_net("test_vit").state_dict(), tmp_path / "vit.pth")
    with pytest.raises(ArgumentError, match=r"vit\.pth: not the weights of timm's test_byobnet.*missing.*unexpected"):
        load_timm("test_byobnet", path)


def test_an_unknown_timm_name_gives_names_like_it(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"'mobilenetv3_tiny'; names like it: mobilenet"):
        load_timm("mobilenetv3_tiny", tmp_path / "w.pth")


# ---- The encoder's own checkpoints ----


@pytest.fixture(scope="module")
def config() -> EncoderConfig:
    return resolve_config("keypilot-base:text=bert_tiny")


def test_an_encoders_state_dict_is_loaded_whole(tmp_path: Path, config: EncoderConfig) -> None:
    encoder = KeyPilotEncoder(config)
    state = randomized(encoder)
    path = saved({"config": config.to_json(), "state_dict": state}, tmp_path / "w.pt")
    load_encoder_weights(encoder, path)
    assert_loaded(encoder, state)
    assert checkpoint_config(path) == config


def test_safetensors_carry_the_configuration_in_their_metadata(tmp_path: Path, config: EncoderConfig) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors", {"config": config.to_json()})
    assert checkpoint_config(tmp_path / "w.safetensors") == config
    bare = saved({"x": torch.zeros(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(ArgumentError, match=r"bare\.safetensors.*keypilot compile CONFIG --weights"):
        checkpoint_config(bare)


def test_the_checkpoint_of_another_configuration_is_refused(tmp_path: Path, config: EncoderConfig) -> None:
    path = saved(randomized(KeyPilotEncoder(resolve_config("keypilot-base"))), tmp_path / "base.pt")
    with pytest.raises(ArgumentError, match=r"base\.pt: not the weights of a KeyPilotEncoder.*missing: text\.bert"):
        load_encoder_weights(KeyPilotEncoder(config), path)


@pytest.mark.slow
def test_a_checkpoint_compiles_to_the_encoder_that_was_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from keypilot.reference.pipeline import Pipeline
    from keypilot.reference.presets import build_config, drawn_screens

    config = resolve_config("keypilot-base-grid")
    encoder = build_config(config, seed=3)
    checkpoint = {"config": config.to_json(), "state_dict": encoder.state_dict()}
    path, out = saved(checkpoint, tmp_path / "trained.pt"), tmp_path / "m.gguf"
    assert main(["compile", str(path), "--out", str(out)]) == 0
    assert "its own weights" in capsys.readouterr().out
    loaded = keypilot.Encoder.load(out)
    assert loaded.trained
    screen = drawn_screens(1, 400, seed=5)[0]
    wanted = Pipeline(encoder).encode(screen, "see you at", 1).context
    np.testing.assert_allclose(loaded.encode(screen, "see you at", 1).context, wanted, rtol=0, atol=1e-3)


# ---- Published weights of components ----


def encoder_with(**fields: Any) -> KeyPilotEncoder:
    return KeyPilotEncoder(EncoderConfig(**fields)).eval()


def test_a_component_takes_its_part_of_an_encoders_state_dict(tmp_path: Path) -> None:
    encoder = encoder_with(text="bert_tiny")
    state = randomized(encoder)
    before = encoder.neck.state_dict()
    assert load_component(encoder, "backbone", saved(state, tmp_path / "w.pt")) == []
    assert_loaded(encoder.backbone, {k.removeprefix("backbone."): v for k, v in state.items() if k[:9] == "backbone."})
    assert_loaded(encoder.neck, before)


def test_a_component_takes_its_own_state_dict_whole(tmp_path: Path) -> None:
    encoder = encoder_with(text="bert_tiny")
    state = randomized(encoder.text)  # the projection too
    assert load_component(encoder, "text", saved(state, tmp_path / "t.pt")) == []
    assert_loaded(encoder.text, state)


def test_layers_beyond_the_components_are_left_out(tmp_path: Path) -> None:
    encoder: Any = encoder_with(text="distilbert_tiny", vocab_size=30)
    published = {f"distilbert.{key}": value for key, value in randomized(encoder.text.distilbert).items()}
    deeper = {k.replace("layer.1.", "layer.2."): v for k, v in published.items() if ".layer.1." in k}
    load_component(encoder, "text", saved({**published, **deeper}, tmp_path / "d.pt"))
    assert_loaded(encoder.text.distilbert, {key.removeprefix("distilbert."): v for key, v in published.items()})


@pytest.mark.parametrize("name", ["mobilevit_xxs", "mobilevit_xs", "mobilenetv3_small"])
def test_backbones_take_timms_classifiers(tmp_path: Path, name: str) -> None:
    state = randomized(timm_net("mobilenetv3_small_100" if name == "mobilenetv3_small" else name))
    encoder = encoder_with(backbone=name)
    notes = load_component(encoder, "backbone", saved(state, tmp_path / "w.pth"))
    assert len(notes) == 1 and "are not used" in notes[0]
    prefix = "net." if name == "mobilenetv3_small" else ""
    for key, value in encoder.backbone.state_dict().items():
        assert torch.equal(value, state[key.removeprefix(prefix)]), key


#: timm's names in Apple's, the longest first. Stage by stage, network.N are blocks, or a step to the next.
_APPLE = {
    "conv_kxk": "rbr_conv",
    "conv_scale": "rbr_scale",
    "identity": "rbr_skip",
    "final_conv": "conv_exp",
    "large_conv": "lkb_origin",
    ".mlp.": ".convffn.",
    "se.fc1": "se.reduce",
    "se.fc2": "se.expand",
    "layer_scale.gamma": "layer_scale",
    "layer_scale_1.gamma": "layer_scale_1",
    "layer_scale_2.gamma": "layer_scale_2",
}


def apples_names(tower: nn.Module) -> Iterator[tuple[str, str]]:
    """(timm's name, Apple's) of each tensor of MobileCLIP's image tower but the projection."""
    places: dict[tuple[int, str], int] = {}
    stages: Any = tower.stages
    count = itertools.count()
    for stage, module in enumerate(stages):
        for part in ("downsample", "pos_emb", "blocks"):
            child = getattr(module, part)
            if not isinstance(child, nn.Identity):
                places[stage, part] = next(count)
    for key in tower.state_dict():
        name = key
        if match := re.match(r"stages\.(\d+)\.(downsample|pos_emb|blocks)\.(.*)", key):
            place = places[int(match[1]), match[2]]
            inner = {"downsample": "proj.", "pos_emb": "", "blocks": ""}[match[2]]
            name = f"network.{place}.{inner}{match[3].removeprefix('proj.').replace('pos_enc', 'pe')}"
        elif key.startswith("stem."):
            name = key.replace("stem.", "patch_embed.", 1)
        for ours, theirs in _APPLE.items():
            name = name.replace(ours, theirs)
        yield key, f"image_encoder.model.{name}"


def test_apples_mobileclip_is_both_towers(tmp_path: Path) -> None:
    encoder: Any = encoder_with(global_image="mobileclip_s0", text="mobileclip")
    names = {ours: theirs for ours, theirs in apples_names(encoder.image.tower) if not ours.startswith("head.fc")}
    state = randomized(encoder.image.tower)
    published = {names[key]: value for key, value in state.items() if key in names}
    published["image_encoder.model.head.proj"] = projection = torch.rand(1024, 512)
    text = randomized(encoder.text.text_encoder)
    published |= {f"text_encoder.{key}": value for key, value in text.items()}
    published["logit_scale"] = torch.tensor(4.6)
    path = saved(published, tmp_path / "mobileclip_s0.pt")

    assert "image_encoder.model.patch_embed.0.rbr_conv.0.conv.weight" in published
    assert "image_encoder.model.network.1.proj.0.lkb_origin.conv.weight" in published
    notes = load_component(encoder, "global_image", path) + load_component(encoder, "text", path)
    assert_loaded(encoder.image.tower, {key: value for key, value in state.items() if key in names})
    torch.testing.assert_close(encoder.image.tower.head.fc.weight, projection.T)
    assert_loaded(encoder.text.text_encoder, text)
    assert all("projection" in note for note in notes if "keep their seeds" in note)

    published["image_encoder.model.patch_embed.0.rbr_conv.0.conv.weight"] = torch.zeros(80, 3, 3, 3)
    with pytest.raises(ArgumentError, match=r"s1\.pt: not the weights of global_image 'mobileclip_s0'.*got 80x3x3x3"):
        load_component(encoder, "global_image", saved(published, tmp_path / "s1.pt"))


def mobile_sam_names() -> Iterator[str]:
    """The names in MobileSAM's published checkpoint."""

    def norm(path: str) -> Iterator[str]:
        yield from (f"{path}.c.weight", *(f"{path}.bn.{name}" for name in _NORM))

    def both(path: str) -> Iterator[str]:
        yield from (f"{path}.weight", f"{path}.bias")

    image = "image_encoder"
    for index in (0, 2):
        yield from norm(f"{image}.patch_embed.seq.{index}")
    for layer, depth in enumerate((2, 2, 6, 2)):
        for block in range(depth):
            path = f"{image}.layers.{layer}.blocks.{block}"
            if layer == 0:
                for conv in (1, 2, 3):
                    yield from norm(f"{path}.conv{conv}")
                continue
            yield f"{path}.attn.attention_biases"
            yield from norm(f"{path}.local_conv")
            for part in ("attn.norm", "attn.qkv", "attn.proj", "mlp.norm", "mlp.fc1", "mlp.fc2"):
                yield from both(f"{path}.{part}")
        if layer < 3:
            for conv in (1, 2, 3):
                yield from norm(f"{image}.layers.{layer}.downsample.conv{conv}")
    yield from both(f"{image}.norm_head")
    yield from both(f"{image}.head")
    yield from (f"{image}.neck.0.weight", f"{image}.neck.2.weight")
    for index in (1, 3):
        yield from both(f"{image}.neck.{index}")

    prompt = "prompt_encoder"
    yield f"{prompt}.pe_layer.positional_encoding_gaussian_matrix"
    yield from (f"{prompt}.point_embeddings.{index}.weight" for index in range(4))
    yield from (f"{prompt}.not_a_point_embed.weight", f"{prompt}.no_mask_embed.weight")
    for index in (0, 1, 3, 4, 6):
        yield from both(f"{prompt}.mask_downscaling.{index}")

    decoder = "mask_decoder"
    attentions = [f"layers.{index}.{name}" for index in range(2) for name in _ATTENTIONS]
    for attention in (*attentions, "final_attn_token_to_image"):
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from both(f"{decoder}.transformer.{attention}.{projection}")
    for index in range(2):
        for part in ("norm1", "norm2", "norm3", "norm4", "mlp.lin1", "mlp.lin2"):
            yield from both(f"{decoder}.transformer.layers.{index}.{part}")
    yield from both(f"{decoder}.transformer.norm_final_attn")
    yield from (f"{decoder}.iou_token.weight", f"{decoder}.mask_tokens.weight")
    for index in (0, 1, 3):
        yield from both(f"{decoder}.output_upscaling.{index}")
    mlps = [*(f"output_hypernetworks_mlps.{index}" for index in range(4)), "iou_prediction_head"]
    for mlp, layer in itertools.product(mlps, range(3)):
        yield from both(f"{decoder}.{mlp}.layers.{layer}")


_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_ATTENTIONS = ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token")


def published_state(names: Iterator[str], shapes: State) -> State:
    """Random tensors under published names; those that the network has no use for are small."""
    return {
        name: torch.rand(shapes[name].shape) + 0.5 if name in shapes and shapes[name].ndim else torch.zeros(2)
        for name in names
        if name not in shapes or shapes[name].is_floating_point()
    }


def test_the_published_mobile_sam_is_read(tmp_path: Path) -> None:
    encoder: Any = encoder_with(regions="mobile_sam", regions_side=256)
    state = published_state(mobile_sam_names(), encoder.regions.state_dict())
    (note,) = load_component(encoder, "regions", saved(state, tmp_path / "mobile_sam.pt"))
    assert "4 tensors of mobile_sam.pt are not used: image_encoder.head.bias" in note
    assert_loaded(encoder.regions, {key: value for key, value in state.items() if "head." not in key[:25]})


def yolo_names(few: int, many: int) -> Iterator[str]:
    """The names in a published YOLOv8-seg: `few` and `many` bottlenecks in its stages."""

    def conv(path: str) -> Iterator[str]:
        yield from (f"{path}.conv.weight", *(f"{path}.bn.{name}" for name in _NORM))

    for index in (0, 1, 3, 5, 7, 16, 19):
        yield from conv(f"model.{index}")
    depths = {2: few, 4: many, 6: many, 8: few, 12: few, 15: few, 18: few, 21: few}
    for index, depth in depths.items():
        inner = [f"m.{block}.cv{number}" for block in range(depth) for number in (1, 2)]
        for part in ("cv1", "cv2", *inner):
            yield from conv(f"model.{index}.{part}")
    for part in ("9.cv1", "9.cv2", "22.proto.cv1", "22.proto.cv2", "22.proto.cv3"):
        yield from conv(f"model.{part}")
    yield from ("model.22.proto.upsample.weight", "model.22.proto.upsample.bias", "model.22.dfl.conv.weight")
    for head, level in itertools.product(("cv2", "cv3", "cv4"), range(3)):
        path = f"model.22.{head}.{level}"
        for index in (0, 1):
            yield from conv(f"{path}.{index}")
        yield from (f"{path}.2.weight", f"{path}.2.bias")


@pytest.mark.parametrize("prefix", ["", "model."])
def test_the_published_yolo_is_read(tmp_path: Path, prefix: str) -> None:
    encoder: Any = encoder_with(regions="fast_sam_s", regions_side=256)
    state = published_state(yolo_names(1, 2), encoder.regions.state_dict())
    path = saved({prefix + key: value for key, value in state.items()}, tmp_path / "fast_sam.pt")
    assert load_component(encoder, "regions", path) == []
    assert_loaded(encoder.regions, state)


def test_a_yolo_of_many_classes_says_where_it_differs(tmp_path: Path) -> None:
    encoder: Any = encoder_with(regions="fast_sam_s", regions_side=256)
    state = published_state(yolo_names(1, 2), encoder.regions.state_dict())
    state["model.22.cv3.0.2.weight"] = torch.zeros(80, 128, 1, 1)
    with pytest.raises(ArgumentError, match=r"model\.22\.cv3\.0\.2\.weight \(expected 1x128x1x1, got 80x128x1x1\)"):
        load_component(encoder, "regions", saved(state, tmp_path / "coco.pt"))


def test_a_component_without_weights_or_of_no_name_is_refused(tmp_path: Path) -> None:
    encoder = encoder_with(regions="fixed_grid")
    with pytest.raises(ArgumentError, match="'fixed_grid', which has no weights"):
        load_component(encoder, "regions", tmp_path)
    with pytest.raises(ArgumentError, match="expected a component, one of backbone"):
        load_component(encoder, "eyes", tmp_path)


def test_a_tokenizer_of_more_tokens_than_the_table_is_refused() -> None:
    encoder = encoder_with(text="bert_tiny", vocab_size=100)
    with pytest.raises(ArgumentError, match=r"wordpiece\.json: expected at most 100 tokens"):
        set_tokenizer(encoder, TOKENIZERS["wordpiece"])


# ---- The command line ----


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["timm:test_vit"], "--weights: expected one file"),
        (["keypilot-base", "--weights", "eyes=w.pt"], "COMPONENT=FILE of backbone"),
        (["keypilot-base", "--weights", "a.pt", "--weights", "b.pt"], "one file for the whole encoder"),
        (["keypilot-base", "--features"], "--features: is not for 'keypilot-base'"),
        (["timm:test_vit", "--part", "text"], "--part: is not for"),
        (["./no-such-folder"], "no-such-folder"),
        (["keypilot-base", "--weights", "absent.pt"], "absent.pt"),
    ],
)
def test_wrong_usage_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in failure(capsys, "compile", *arguments, "--out", tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()


def test_a_folder_that_is_none_of_hugging_faces_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "config.json" in failure(capsys, "compile", tmp_path, "--out", tmp_path / "m.gguf")
