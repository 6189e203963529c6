"""kp_encode on small encoders: the C pipeline equals its steps done one by one, and a damaged encoder is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import ProgramBuilder, write_model
from tokenizers.pre_tokenizers import ByteLevel

import keypilot
from keypilot.errors import ArgumentError, ModelFileError, UnsupportedError
from keypilot.reference.image import as_rgb, letterbox, normalize
from keypilot.reference.regions import find_regions

Array = np.ndarray[Any, Any]
Programs = dict[str, ProgramBuilder]
Metadata = dict[str, Any]

SIDE, MASK, CROP, CHANNELS, TOKENS, USERS = 32, 8, 12, 5, 16, 3
NCHW, NHWC = (0, 1, 2, 3), (0, 2, 3, 1)
GRID = [[0, 540, 1000, 620], [0, 120, 1000, 540], [0, 620, 1000, 1000], [0, 40, 1000, 120]]
MEAN, STD, PAD = [0.25, 0.5, 0.125], [0.5, 0.25, 2.0], [10, 20, 30]
OFFSET = 2


def weights(*shape: int) -> Array:
    return np.random.default_rng(len(shape) + sum(shape)).standard_normal(shape, np.float32)


def in_order(program: ProgramBuilder, value: int, name: str, channels: int, order: tuple[int, ...]) -> int:
    """A feature map (N, MASK, MASK, channels), laid out in another memory order."""
    if order == NHWC:
        return value
    shape = f"N,{channels},{MASK},{MASK}"
    view = f"dims={shape} strides={channels * MASK * MASK},1,{channels * MASK},{channels} shape={shape}"
    return program.op("rearrange", [value], name, shape, view)


def screen_program(logits: tuple[int, ...] | None, features: tuple[int, ...] | None) -> ProgramBuilder:
    program = ProgramBuilder()
    image = program.input("image", f"N,3,{SIDE},{SIDE}", order=NHWC)
    stem = program.weight("stem.weight", weights(CHANNELS, 4, 4, 3))
    maps = program.op("conv2d", [image, stem], "stem", f"N,{MASK},{MASK},{CHANNELS}", "stride=4,4")
    if features:
        value = in_order(program, maps, "features", CHANNELS, features)
        program.port("outputs", "features", value, f"N,{CHANNELS},{MASK},{MASK}", features)
    if logits:
        head = program.weight("head.weight", weights(4, 1, 1, CHANNELS))
        masks = program.op("conv2d", [maps, head], "head", f"N,{MASK},{MASK},4")
        masks = in_order(program, masks, "logits", 4, logits)
        program.port("outputs", "mask_logits", masks, f"N,4,{MASK},{MASK}", logits)
    pooled = program.op("reduce", [maps], "pooled", f"N,{CHANNELS}", "fn=mean axes=1,2")
    weight = program.weight("image.weight", weights(256, CHANNELS))
    program.port("outputs", "image_embedding", program.op("linear", [pooled, weight], "image_out", "N,256"), "N,256")
    return program


def reencode_program() -> ProgramBuilder:
    program = ProgramBuilder()
    crops = program.input("crops", f"N,3,{CROP},{CROP}", order=NHWC)
    flat = program.op("alias", [crops], "flat", f"N,{CROP * CROP * 3}", f"shape=N,{CROP * CROP * 3}")
    weight = program.weight("roi.weight", weights(256, CROP * CROP * 3))
    program.port("outputs", "roi_embedding", program.op("linear", [flat, weight], "roi_out", "N,256"), "N,256")
    return program


def mask_pool_program() -> ProgramBuilder:
    """Its masks come first and in NHWC, its features in NCHW."""
    program = ProgramBuilder()
    masks = program.input("masks", f"N,4,{MASK},{MASK}", order=NHWC)
    features = program.input("features", f"N,{CHANNELS},{MASK},{MASK}", order=NCHW)
    masks = program.op("alias", [masks], "masks_flat", f"N,{MASK * MASK},4", f"shape=N,{MASK * MASK},4")
    features = program.op(
        "alias", [features], "features_flat", f"N,{CHANNELS},{MASK * MASK}", f"shape=N,{CHANNELS},{MASK * MASK}"
    )
    pooled = program.op("matmul", [masks, features], "pooled", f"N,4,{CHANNELS}", "transpose_a=1 transpose_b=1")
    weight = program.weight("roi.weight", weights(256, CHANNELS))
    program.port("outputs", "roi_embedding", program.op("linear", [pooled, weight], "roi_out", "N,4,256"), "N,4,256")
    return program


def text_program() -> ProgramBuilder:
    program = ProgramBuilder()
    attention = program.input("attention_mask", "N,T", "i32")
    positions = program.input("position_ids", "N,T", "i32")
    ids = program.input("input_ids", "N,T", "i32")
    words = program.op("embedding", [program.weight("words", weights(300, 256)), ids], "word", "N,T,256")
    places = program.weight("places", weights(TOKENS + OFFSET, 256))
    rows = program.op("embedding", [places, positions], "place", "N,T,256")
    rows = program.op("binary", [words, rows], "rows", "N,T,256", "fn=add")
    seen = program.op("cast", [attention], "seen", "N,T", "to=f32")
    seen = program.op("alias", [seen], "seen_column", "N,T,1", "shape=N,T,1")
    rows = program.op("binary", [rows, seen], "masked", "N,T,256", "fn=mul")
    program.port("outputs", "text_embedding", program.op("reduce", [rows], "t", "N,256", "fn=sum axes=1"), "N,256")
    return program


def fusion_program() -> ProgramBuilder:
    program = ProgramBuilder()
    user = program.input("user", "N", "i32")
    total = program.op("embedding", [program.weight("users", weights(USERS, 256)), user], "user_row", "N,256")
    rois = program.input("rois", "N,4,256")
    regions = program.weight("regions", weights(4, 256))
    weighted = program.op("binary", [rois, regions], "weighted", "N,4,256", "fn=mul")
    parts = [program.op("reduce", [weighted], "rois_sum", "N,256", "fn=sum axes=1")]
    parts += [program.input("text", "N,256"), program.input("image", "N,256")]
    for i, part in enumerate(parts):
        total = program.op("binary", [total, part], f"total{i}", "N,256", "fn=add")
    program.port("outputs", "context", program.op("unary", [total], "bounded", "N,256", "fn=tanh"), "N,256")
    return program


def encoder_parts(
    *,
    regions: str = "masks",
    roi_features: str = "reencode",
    logits: tuple[int, ...] = NHWC,
    features: tuple[int, ...] = NHWC,
) -> tuple[Programs, Metadata]:
    pools = roi_features == "mask_pool"
    programs = {
        "screen": screen_program(logits if regions == "masks" else None, features if pools else None),
        "roi": mask_pool_program() if pools else reencode_program(),
        "text": text_program(),
        "fusion": fusion_program(),
    }
    metadata = {
        "keypilot.trained": False,
        "keypilot.encoder.image_side": SIDE,
        "keypilot.encoder.image_mean": MEAN,
        "keypilot.encoder.image_std": STD,
        "keypilot.encoder.image_pad": PAD,
        "keypilot.encoder.mask_side": MASK,
        "keypilot.encoder.regions": regions,
        "keypilot.encoder.grid": [edge for cell in GRID for edge in cell],
        "keypilot.encoder.roi_features": roi_features,
        "keypilot.encoder.user_count": USERS,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet()), "ab"],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.add_space_prefix": False,
        "keypilot.tokenizer.added_tokens": [0, 1, 2, 3, 4],
        "keypilot.tokenizer.added_tokens.flags": ["", "", "", "", "lstrip"],
        "keypilot.tokenizer.prefix": [0],
        "keypilot.tokenizer.suffix": [2],
        "keypilot.tokenizer.max_tokens": TOKENS,
        "keypilot.tokenizer.normalizer": "nfc",
        "keypilot.tokenizer.position_offset": OFFSET,
    }
    if not pools:
        metadata["keypilot.encoder.crop_side"] = CROP
    return programs, metadata


def load(path: Path, programs: Programs, metadata: Metadata, threads: int = 1) -> keypilot.Encoder:
    file = write_model(path / "encoder.gguf", programs, metadata=metadata)
    return keypilot.Encoder(keypilot.Model.load(file, threads=threads))


def step_by_step(encoder: keypilot.Encoder, picture: Array, text: str, user: int) -> dict[str, Array]:
    """The pipeline with Pillow and NumPy between runs of the model's programs."""
    model, rgb = encoder.model, as_rgb(picture)
    height, width = rgb.shape[:2]

    def squares(boxes: list[list[int]], side: int) -> Array:
        return normalize(np.stack([letterbox(rgb, box, side, PAD) for box in boxes]), MEAN, STD).transpose(0, 3, 1, 2)

    screen = model.run("screen", image=squares([[0, 0, width, height]], SIDE))
    logits = screen.get("mask_logits")
    masks, boxes, valid = find_regions(
        None if logits is None else logits[0] > 0, GRID, image_side=SIDE, mask_side=MASK, width=width, height=height
    )
    if "features" in screen:
        rois = model.run("roi", features=screen["features"], masks=masks[np.newaxis])["roi_embedding"]
    else:
        rois = model.run("roi", crops=squares(boxes.tolist(), CROP))["roi_embedding"][np.newaxis]
    ids = model.tokenize(text)[np.newaxis]
    text_inputs = {"input_ids": ids, "position_ids": OFFSET + np.arange(ids.size)[np.newaxis]}
    embedding = model.run("text", attention_mask=np.ones_like(ids), **text_inputs)["text_embedding"]
    fused = model.run("fusion", image=screen["image_embedding"], rois=rois, text=embedding, user=[user])
    return {
        "context": fused["context"][0],
        "image": screen["image_embedding"][0],
        "rois": rois[0],
        "text": embedding[0],
        "masks": masks,
        "boxes": boxes,
        "roi_valid": valid,
        "tokens": np.asarray(ids.size),
    }


def assert_step_by_step(encoder: keypilot.Encoder, picture: Array, text: str, user: int) -> None:
    out = encoder.encode(picture, text=text, user=user)
    for name, expected in step_by_step(encoder, picture, text, user).items():
        np.testing.assert_array_equal(getattr(out, name), expected, err_msg=name)


def blobs(height: int, width: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (-(-height // 40), -(-width // 40), 3), np.uint8)
    return np.kron(coarse, np.ones((40, 40, 1), np.uint8))[:height, :width]


@pytest.mark.parametrize("regions", ["masks", "grid"])
@pytest.mark.parametrize("roi_features", ["reencode", "mask_pool"])
@pytest.mark.parametrize("order", [NCHW, NHWC])
@pytest.mark.parametrize("threads", [1, 2])
def test_encode_equals_its_steps(
    regions: str, roi_features: str, order: tuple[int, ...], threads: int, tmp_path: Path
) -> None:
    parts = encoder_parts(regions=regions, roi_features=roi_features, logits=order, features=order)
    encoder = load(tmp_path, *parts, threads=threads)
    for i, size in enumerate([(300, 130), (130, 300), (1, 1), (32, 32), (2, 90), (700, 700)]):
        assert_step_by_step(encoder, blobs(*size, seed=i), "see you at " * i, user=i % USERS)


def test_an_empty_mask_is_reported_and_replaced(tmp_path: Path) -> None:
    encoder = load(tmp_path, *encoder_parts())
    valid = set()
    for seed in range(12):
        picture = blobs(64, 64, seed) // 16 * (seed % 3)
        assert_step_by_step(encoder, picture, "a", 0)
        valid.update(encoder.encode(picture).roi_valid.tolist())
    assert valid == {True, False}


def test_the_user_is_checked(tmp_path: Path) -> None:
    encoder = load(tmp_path, *encoder_parts())
    for user in (-1, USERS, 2**40):
        with pytest.raises(ArgumentError, match=rf"user: expected 0 to {USERS - 1}, got {user}"):
            encoder.encode(blobs(9, 9, 0), user=user)


def _without(key: str) -> Callable[[Programs, Metadata], None]:
    return lambda programs, metadata: metadata.__delitem__(key)


def _with(key: str, value: Any) -> Callable[[Programs, Metadata], None]:
    return lambda programs, metadata: metadata.update({key: value})


def _with_program(name: str, program: ProgramBuilder) -> Callable[[Programs, Metadata], None]:
    return lambda programs, metadata: programs.update({name: program})


def _picture_in_nchw() -> ProgramBuilder:
    program = reencode_program()
    port = program.ports["inputs"][0]
    program.ports["inputs"][0] = (*port[:3], "0,1,2,3")
    program.values[port[1]] = ("crops", "f32", port[2], "")
    return program


DAMAGES: list[tuple[Callable[[Programs, Metadata], None], type[Exception], str]] = [
    (_without("keypilot.encoder.image_side"), UnsupportedError, "not an encoder"),
    (_without("keypilot.encoder.grid"), ModelFileError, "encoder.grid"),
    (_without("keypilot.encoder.crop_side"), ModelFileError, "crop_side"),
    (_without("tokenizer.ggml.model"), ModelFileError, "tokenizer"),
    (_with("keypilot.encoder.image_side", 0), ModelFileError, "image_side.*expected 1 to"),
    (_with("keypilot.encoder.image_side", SIDE + 8), ModelFileError, f"'image'.*expects f32 .N,3,{SIDE + 8}"),
    (_with("keypilot.encoder.mask_side", 7), ModelFileError, "divisor"),
    (_with("keypilot.encoder.mask_side", 4), ModelFileError, "mask_logits.*N,4,4,4.*got f32 .N,4,8,8"),
    (_with("keypilot.encoder.image_std", [1.0, 0.0, 1.0]), ModelFileError, "element 1.*positive"),
    (_with("keypilot.encoder.image_mean", [float("nan"), 0.0, 0.0]), ModelFileError, "finite"),
    (_with("keypilot.encoder.image_pad", [0, 256, 0]), ModelFileError, "0 to 255, got 256"),
    (_with("keypilot.encoder.regions", "points"), ModelFileError, "'masks' or 'grid', got 'points'"),
    (_with("keypilot.encoder.roi_features", "mask_pool"), ModelFileError, "output 'features'"),
    (_with("keypilot.encoder.grid", [0, 0, 1000, 1001] * 4), ModelFileError, "region 0.*1001"),
    (_with("keypilot.encoder.grid", [0, 0, 0, 10] * 4), ModelFileError, "x0 < x1"),
    (_with("keypilot.encoder.user_count", 0), ModelFileError, "user_count"),
    (_with_program("screen", screen_program(None, None)), ModelFileError, "screen.*output 'mask_logits'"),
    (_with_program("roi", mask_pool_program()), ModelFileError, "roi.*1 inputs.*got 2"),
    (_with_program("roi", _picture_in_nchw()), ModelFileError, "crops.*memory order 0,2,3,1, got 0,1,2,3"),
    (lambda programs, metadata: programs.__delitem__("text"), ModelFileError, "program 'text'"),
]


@pytest.mark.parametrize(("damage", "error", "message"), DAMAGES, ids=[message for _, _, message in DAMAGES])
def test_a_damaged_encoder_is_refused(
    damage: Callable[[Programs, Metadata], None], error: type[Exception], message: str, tmp_path: Path
) -> None:
    programs, metadata = encoder_parts()
    damage(programs, metadata)
    with pytest.raises(error, match=message):
        load(tmp_path, programs, metadata)
