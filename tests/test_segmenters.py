"""MobileSAM and FastSAM: their sizes, their equality with public implementations, and what the core makes of them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `torch`")

import keypilot  # noqa: E402
from keypilot.convert.compile import compile_programs  # noqa: E402
from keypilot.convert.encoder import compile_encoder  # noqa: E402
from keypilot.reference.config import EncoderConfig  # noqa: E402
from keypilot.reference.fast_sam import Expectation, FastSam  # noqa: E402
from keypilot.reference.mobile_sam import MobileSam  # noqa: E402
from keypilot.reference.pipeline import Pipeline  # noqa: E402
from keypilot.reference.presets import build_config, drawn_screens  # noqa: E402
from keypilot.reference.timm_shim import import_timm  # noqa: E402
from keypilot.reference.tiny_vit import TinyVit  # noqa: E402

GRID = EncoderConfig().grid


def millions(module):
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def settled(module, side, seed=0):
    """The module in eval mode, with BatchNorm's statistics of drawn screens and seeded weights."""
    norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
    with torch.no_grad():
        module.train()(pictures(side, 2, seed))
    return module.eval().requires_grad_(False)


def pictures(side, count, seed=0):
    return torch.from_numpy(drawn_screens(count, side, seed=seed)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def sam():
    torch.manual_seed(0)
    return settled(MobileSam(256, GRID), 256)


@pytest.fixture(scope="module")
def fast_sam():
    torch.manual_seed(0)
    return settled(FastSam("s", 160), 160)


def assert_parity(found, expected, tolerance=1e-4):
    for name, tensor in expected.items():
        wanted = tensor.numpy()
        assert found[name].shape == wanted.shape, name
        span = float(wanted.max() - wanted.min())
        assert np.abs(found[name] - wanted).max() <= tolerance * span, name


def sqnr(found, expected):
    return 10 * np.log10(np.square(expected).sum() / np.square(found - expected).sum())


# ---- Sizes and names ----


def test_networks_have_the_published_numbers_of_parameters(sam, fast_sam):
    assert millions(sam.image_encoder) == pytest.approx(5.744, abs=5e-4)
    assert millions(sam.mask_decoder) == pytest.approx(4.058, abs=5e-4)
    assert millions(sam.prompt_encoder) == pytest.approx(0.006, abs=5e-4)
    assert millions(fast_sam) == pytest.approx(11.79, abs=5e-3)
    with torch.device("meta"):
        assert millions(FastSam("x", 64)) == pytest.approx(71.75, abs=5e-3)


@pytest.mark.parametrize(
    "name",
    [
        "image_encoder.patch_embed.seq.2.c.weight",
        "image_encoder.layers.0.blocks.1.conv2.bn.running_var",
        "image_encoder.layers.2.downsample.conv3.c.weight",
        "image_encoder.layers.3.blocks.1.attn.attention_biases",
        "image_encoder.layers.1.blocks.0.local_conv.bn.weight",
        "image_encoder.layers.1.blocks.0.mlp.fc1.bias",
        "image_encoder.neck.3.bias",
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "prompt_encoder.point_embeddings.3.weight",
        "prompt_encoder.mask_downscaling.6.bias",
        "mask_decoder.transformer.layers.1.cross_attn_image_to_token.out_proj.weight",
        "mask_decoder.transformer.norm_final_attn.weight",
        "mask_decoder.output_upscaling.3.weight",
        "mask_decoder.output_hypernetworks_mlps.3.layers.2.bias",
        "mask_decoder.iou_prediction_head.layers.0.weight",
    ],
)
def test_mobile_sams_weights_have_the_names_of_the_public_checkpoint(sam, name):
    assert name in sam.state_dict()


@pytest.mark.parametrize(
    "name",
    [
        "model.0.conv.weight",
        "model.4.m.1.cv2.bn.running_mean",
        "model.9.cv2.conv.weight",
        "model.22.cv2.0.0.conv.weight",
        "model.22.cv3.2.2.bias",
        "model.22.cv4.1.1.bn.weight",
        "model.22.dfl.conv.weight",
        "model.22.proto.upsample.weight",
    ],
)
def test_fast_sams_weights_have_the_names_of_the_public_checkpoint(fast_sam, name):
    assert name in fast_sam.state_dict()


# ---- Equality with public implementations ----


def test_tiny_vit_is_timms_with_its_last_stage_not_reduced(sam):
    timm = import_timm()
    theirs = timm.create_model("tiny_vit_5m_224", num_classes=0, global_pool="")
    ours = sam.image_encoder
    renamed = {}
    for name, tensor in ours.state_dict().items():
        parts = name.replace("layers.", "stages.").replace(".c.", ".conv.").split(".")
        if parts[0] == "neck":
            continue
        if parts[0] == "patch_embed":
            parts[1:3] = ["conv1" if parts[2] == "0" else "conv2"]
        elif parts[2] == "downsample":  # timm steps down before a stage, the checkpoint after it
            parts[1] = str(int(parts[1]) + 1)
        renamed[".".join(parts)] = tensor
    missing, unexpected = theirs.load_state_dict(renamed, strict=False)
    assert not unexpected
    assert all(name.startswith("head.") or "attention_bias_idxs" in name for name in missing)
    theirs.stages[3].downsample.conv2.conv.stride = (1, 1)
    theirs.eval()
    picture = pictures(256, 1, seed=3)
    with torch.no_grad():
        expected = theirs.stages(theirs.patch_embed(picture))
        found = ours.patch_embed(picture)
        for layer in ours.layers:
            found = layer(found)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


MATRIX = "positional_encoding_gaussian_matrix"

#: Parts of the names of SAM's checkpoint, and those of `transformers`.
PLACES = {
    "mask_decoder.output_upscaling.0": "mask_decoder.upscale_conv1",
    "mask_decoder.output_upscaling.1": "mask_decoder.upscale_layer_norm",
    "mask_decoder.output_upscaling.3": "mask_decoder.upscale_conv2",
    "mask_downscaling.0": "mask_embed.conv1",
    "mask_downscaling.1": "mask_embed.layer_norm1",
    "mask_downscaling.3": "mask_embed.conv2",
    "mask_downscaling.4": "mask_embed.layer_norm2",
    "mask_downscaling.6": "mask_embed.conv3",
    "point_embeddings": "point_embed",
    "norm_final_attn": "layer_norm_final_attn",
    f"pe_layer.{MATRIX}": "shared_embedding.positional_embedding",
    **{f".norm{i}.": f".layer_norm{i}." for i in range(1, 5)},
}

#: The layers of the hypernetworks and of the head.
MLP_LAYERS = {".layers.0.": ".proj_in.", ".layers.1.": ".layers.0.", ".layers.2.": ".proj_out."}


def theirs_of(name):
    for ours, theirs in PLACES.items():
        name = name.replace(ours, theirs)
    if "hypernetworks" in name or "iou_prediction" in name:
        (layer,) = (layer for layer in MLP_LAYERS if layer in name)
        name = name.replace(layer, MLP_LAYERS[layer])
    return name


@pytest.fixture(scope="module")
def transformers_sam(sam):
    """`transformers`' SAM with our prompt encoder's and mask decoder's weights, and a small image encoder."""
    import_timm()
    from transformers import SamConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

    vision = SamVisionConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=256, global_attn_indexes=[0], mlp_dim=64
    )
    theirs = SamModel(SamConfig(vision_config=vision, prompt_encoder_config=SamPromptEncoderConfig(image_size=256)))
    weights = {theirs_of(name): tensor for name, tensor in sam.state_dict().items() if "image_encoder" not in name}
    weights["shared_image_embedding.positional_embedding"] = sam.prompt_encoder.pe_layer.state_dict()[MATRIX]
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.startswith("vision_encoder.") for name in missing)
    return theirs.eval().requires_grad_(False)


PROMPTS = {
    "points": {"points": [[[40.0, 60.0], [200.0, 10.0]], [[1.0, 2.0], [255.0, 0.0]]], "labels": [[1, 0], [1, -1]]},
    "boxes": {"boxes": [[10.0, 20.0, 200.0, 220.0], [0.0, 0.0, 64.0, 32.0]]},
}
PROMPTS["points_and_boxes"] = PROMPTS["points"] | PROMPTS["boxes"]


def prompt_tensors(kind):
    return {name: torch.tensor(values) for name, values in PROMPTS[kind].items()}


@pytest.mark.parametrize("kind", PROMPTS)
def test_prompts_give_the_masks_of_transformers_sam(sam, transformers_sam, kind):
    embedding = sam.image_encoder(pictures(256, 2, seed=5))
    prompts = prompt_tensors(kind)
    expected = transformers_sam(
        image_embeddings=embedding,
        input_points=prompts["points"].unsqueeze(1) if "points" in prompts else None,
        input_labels=prompts["labels"].unsqueeze(1) if "labels" in prompts else None,
        input_boxes=prompts["boxes"].unsqueeze(1) if "boxes" in prompts else None,
        multimask_output=True,
    )
    found = sam.programs(points=2)[kind].module(embedding, **prompts)
    torch.testing.assert_close(found["mask_logits"][:, 1:], expected.pred_masks[:, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found["iou"][:, 1:], expected.iou_scores[:, 0], atol=1e-4, rtol=1e-4)


def test_a_mask_prompt_is_that_of_transformers_sam(sam, transformers_sam):
    mask = torch.randn(1, 1, 64, 64)
    expected = transformers_sam.prompt_encoder.mask_embed(mask)
    torch.testing.assert_close(sam.prompt_encoder.masks(mask), expected, atol=1e-5, rtol=1e-5)


def test_the_regions_masks_are_those_of_box_prompts(sam):
    picture = pictures(256, 2, seed=6)
    found = sam(picture)["mask_logits"]
    embedding = sam.image_encoder(picture)
    boxes = sam.programs()["boxes"].module
    for region, cell in enumerate(GRID):
        box = torch.tensor(cell).expand(2, -1) * 0.256
        expected = boxes(embedding, box)["mask_logits"][:, 0]
        torch.testing.assert_close(found[:, region], expected, atol=1e-4, rtol=1e-4)


def test_an_edges_expectation_is_the_mean_over_its_bins():
    logits = torch.full((1, 2, 16), -100.0)
    logits[0, 0, 3] = logits[0, 1, 15] = logits[0, 1, 5] = 100.0
    torch.testing.assert_close(Expectation()(logits), torch.tensor([[3.0, 10.0]]))


def test_boxes_lie_around_their_cells(fast_sam):
    boxes = fast_sam(pictures(160, 1))["boxes"][0]
    first, second = boxes[:400], boxes[400:500]  # of 20 x 20 cells of 8 pixels, and of 10 x 10 of 16
    for cells, count, stride in ((first, 20, 8), (second, 10, 16)):
        places = (torch.arange(count) + 0.5) * stride
        x, y = places.repeat(count), places.repeat_interleave(count)
        assert torch.all((cells[:, 0] <= x) & (x <= cells[:, 2]) & (cells[:, 1] <= y) & (y <= cells[:, 3]))
        assert torch.all(x - cells[:, 0] <= 15 * stride)


# ---- In the core ----


@pytest.mark.slow
def test_mobile_sam_in_float32(sam):
    picture = pictures(256, 1, seed=50)
    model = keypilot.compile(sam, pictures(256, 2))
    assert_parity(model.run("main", image=picture.numpy()), sam(picture))


def test_fast_sam_in_float32(fast_sam):
    picture = pictures(160, 1, seed=50)
    model = keypilot.compile(fast_sam, pictures(160, 2))
    assert_parity(model.run("main", image=picture.numpy()), fast_sam(picture))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sam", "fast_sam"])
def test_they_work_in_int8(name, request):
    module = request.getfixturevalue(name)
    side = {"sam": 256, "fast_sam": 160}[name]
    batches = [{"image": pictures(side, 1, seed=seed)} for seed in range(10, 14)]
    picture = pictures(side, 1, seed=50)
    model = keypilot.compile(module, pictures(side, 2), precision="int8", calibration=batches)
    found = model.run("main", image=picture.numpy())
    for output, expected in module(picture).items():
        assert sqnr(found[output], expected.numpy()) > 3, output


@pytest.mark.slow
def test_prompts_in_the_core(sam, tmp_path):
    programs = sam.programs(points=2)
    programs.pop("encoder")
    compile_programs(programs, metadata={"general.name": "prompts"}, out=tmp_path / "prompts.gguf")
    model = keypilot.Model.load(tmp_path / "prompts.gguf")
    embedding = torch.randn(2, 256, 16, 16)
    for kind, program in programs.items():
        prompts = prompt_tensors(kind)
        expected = program.module(embedding, **prompts)
        inputs = {name: tensor.numpy() for name, tensor in prompts.items()}
        assert_parity(model.run(kind, image_embedding=embedding.numpy(), **inputs), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("regions", "side"), [("mobile_sam", 64), ("fast_sam_s", 96)])
def test_an_encoder_finds_its_regions_with_them(regions, side, tmp_path):
    config = EncoderConfig(regions=regions, regions_side=side, image_side=64, crop_side=64, text="bert_tiny")
    encoder = build_config(config)
    compile_encoder(encoder, tmp_path / "encoder.gguf")
    shipped, pipeline = keypilot.Encoder.load(tmp_path / "encoder.gguf"), Pipeline(encoder)
    assert shipped.regions_side == side
    for picture in drawn_screens(3, 200, seed=70):
        found, expected = shipped.encode(picture[:, 40:150], text="hi"), pipeline.encode(picture[:, 40:150], "hi", None)
        assert found.masks.shape == (4, side // 4, side // 4)
        assert (found.masks == expected.masks).mean() > 0.99  # a logit of about 0 may have either sign
        np.testing.assert_array_equal(found.roi_valid, expected.roi_valid)
        if np.array_equal(found.boxes, expected.boxes):
            np.testing.assert_allclose(found.context, expected.context, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("side", [512, 1024])
def test_mobile_sams_encoder_at_the_sides_it_is_used_with(sam, side):
    torch.manual_seed(1)
    encoder = TinyVit()
    encoder.load_state_dict(sam.image_encoder.state_dict())
    encoder.eval()
    picture = pictures(side, 1, seed=60)
    model = keypilot.compile(encoder, pictures(side, 2))
    with torch.no_grad():
        expected = encoder(picture)
    assert_parity({"output": model(picture.numpy())}, {"output": expected})
    assert model.cost("main").arena_bytes < 1e9
