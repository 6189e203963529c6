"""kp_encode on small encoders: the C pipeline equals its steps done one by one, and a damaged encoder is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import ProgramBuilder, write_model
from tokenizers.pre_tokenizers import ByteLevel

import keypilot
from keypilot.errors import ArgumentError, ModelFileError, UnsupportedError
from keypilot.reference.detections import Detections, Limits, detection_masks
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

#: The pictures of the regions' and of the image's own programs: side, mean, deviation, colour of the margins.
REGIONS_SIDE, IMAGE_SIDE = 40, 24
REGIONS_PICTURE = (REGIONS_SIDE, [0.0, 0.0, 0.5], [1.0, 1.0, 0.5], [0, 0, 0])
IMAGE_PICTURE = (IMAGE_SIDE, [0.5, 0.5, 0.5], [0.5, 0.25, 0.5], [255, 254, 253])
ANCHORS = MASK * MASK
LIMITS = Limits(min_score=0.25, max_overlap=0.75, max_count=20)


def weights(*shape: int) -> Array:
    return np.random.default_rng(len(shape) + sum(shape)).standard_normal(shape, np.float32)


def in_order(program: ProgramBuilder, value: int, name: str, channels: int, order: tuple[int, ...]) -> int:
    """A feature map (N, MASK, MASK, channels), laid out in another memory order."""
    if order == NHWC:
        return value
    shape = f"N,{channels},{MASK},{MASK}"
    view = f"dims={shape} strides={channels * MASK * MASK},1,{channels * MASK},{channels} shape={shape}"
    return program.op("rearrange", [value], name, shape, view)


def screen_program(
    logits: tuple[int, ...] | None, features: tuple[int, ...] | None, *, embedding: bool = True
) -> ProgramBuilder:
    program = ProgramBuilder()
    image = program.input("image", f"N,3,{SIDE},{SIDE}", order=NHWC)
    stem = program.weight("stem.weight", weights(CHANNELS, 4, 4, 3))
    maps = program.op("conv2d", [image, stem], "stem", f"N,{MASK},{MASK},{CHANNELS}", "stride=4,4")
    if features:
        value = in_order(program, maps, "features", CHANNELS, features)
        program.port("outputs", "features", value, f"N,{CHANNELS},{MASK},{MASK}", features)
    if logits:
        add_logits(program, maps, "head", logits)
    if embedding:
        add_embedding(program, maps, "image")
    return program


def add_logits(program: ProgramBuilder, maps: int, name: str, order: tuple[int, ...]) -> None:
    head = program.weight(f"{name}.weight", weights(4, 1, 1, CHANNELS))
    masks = program.op("conv2d", [maps, head], name, f"N,{MASK},{MASK},4")
    masks = in_order(program, masks, "logits", 4, order)
    program.port("outputs", "mask_logits", masks, f"N,4,{MASK},{MASK}", order)


def add_embedding(program: ProgramBuilder, maps: int, name: str) -> None:
    pooled = program.op("reduce", [maps], "pooled", f"N,{CHANNELS}", "fn=mean axes=1,2")
    weight = program.weight(f"{name}.weight", weights(256, CHANNELS))
    program.port("outputs", "image_embedding", program.op("linear", [pooled, weight], "image_out", "N,256"), "N,256")


def image_program() -> ProgramBuilder:
    program = ProgramBuilder()
    image = program.input("image", f"N,3,{IMAGE_SIDE},{IMAGE_SIDE}", order=NHWC)
    stem = program.weight("own.stem.weight", weights(CHANNELS, 3, 3, 3))
    maps = program.op("conv2d", [image, stem], "stem", f"N,{MASK},{MASK},{CHANNELS}", "stride=3,3")
    add_embedding(program, maps, "own")
    return program


def regions_program(order: tuple[int, ...], *, detects: bool) -> ProgramBuilder:
    """Mask logits, or boxes of one to several cells around each cell, and their scores and masks."""
    program = ProgramBuilder()
    image = program.input("image", f"N,3,{REGIONS_SIDE},{REGIONS_SIDE}", order=NHWC)
    stem = program.weight("regions.stem.weight", weights(CHANNELS, 5, 5, 3) / 5)
    maps = program.op("conv2d", [image, stem], "stem", f"N,{MASK},{MASK},{CHANNELS}", "stride=5,5")
    if not detects:
        add_logits(program, maps, "regions.head", order)
        return program

    def head(name: str, channels: int) -> int:
        weight = program.weight(f"{name}.weight", weights(channels, 1, 1, CHANNELS))
        return program.op("conv2d", [maps, weight], name, f"N,{MASK},{MASK},{channels}")

    prototypes = in_order(program, head("prototype", 32), "prototypes.ordered", 32, order)
    program.port("outputs", "prototypes", prototypes, f"N,32,{MASK},{MASK}", order)
    shape = f"N,{ANCHORS},32"
    weighted = program.op("alias", [head("coefficient", 32)], "coefficients", shape, f"shape={shape}")
    program.port("outputs", "coefficients", weighted, shape)
    score = program.op("unary", [head("score", 1)], "sigmoid", f"N,{MASK},{MASK},1", "fn=sigmoid")
    score = program.op("alias", [score], "scores", f"N,{ANCHORS}", f"shape=N,{ANCHORS}")
    program.port("outputs", "scores", score, f"N,{ANCHORS}")
    places = np.stack(np.meshgrid(*[np.arange(MASK) * 5.0] * 2), axis=-1).reshape(ANCHORS, 2)
    corners = np.concatenate([places - 9, places + 16], axis=1).astype(np.float32)
    shift = program.op("alias", [head("corner", 4)], "shift", f"N,{ANCHORS},4", f"shape=N,{ANCHORS},4")
    boxes = program.op("binary", [shift, program.weight("corners", corners)], "boxes", f"N,{ANCHORS},4", "fn=add")
    if order == NCHW:  # coordinates in planes
        view = f"dims=N,4,{ANCHORS} strides={4 * ANCHORS},1,4 shape=N,4,{ANCHORS}"
        boxes = program.op("rearrange", [boxes], "boxes.planes", f"N,4,{ANCHORS}", view)
    program.port("outputs", "boxes", boxes, f"N,{ANCHORS},4", (0, 2, 1) if order == NCHW else None)
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


def text_program(inputs: Sequence[str] = ("attention_mask", "position_ids", "input_ids")) -> ProgramBuilder:
    program = ProgramBuilder()
    values = {name: program.input(name, "N,T", "i32") for name in inputs}
    table = program.weight("words", weights(300, 256))
    rows = program.op("embedding", [table, values["input_ids"]], "word", "N,T,256")
    if "position_ids" in values:
        places = program.weight("places", weights(TOKENS + OFFSET, 256))
        place = program.op("embedding", [places, values["position_ids"]], "place", "N,T,256")
        rows = program.op("binary", [rows, place], "rows", "N,T,256", "fn=add")
    if "attention_mask" in values:
        seen = program.op("cast", [values["attention_mask"]], "seen", "N,T", "to=f32")
        seen = program.op("alias", [seen], "seen_column", "N,T,1", "shape=N,T,1")
        rows = program.op("binary", [rows, seen], "masked", "N,T,256", "fn=mul")
    program.port("outputs", "text_embedding", program.op("reduce", [rows], "t", "N,256", "fn=sum axes=1"), "N,256")
    return program


def user_program() -> ProgramBuilder:
    program = ProgramBuilder()
    user = program.input("user", "N", "i32")
    rows = program.op("embedding", [program.weight("users", weights(USERS + 1, 64)), user], "row", "N,64")
    program.port("outputs", "user_vector", rows, "N,64")
    return program


def fusion_program(*, user: bool = True) -> ProgramBuilder:
    program = ProgramBuilder()
    parts = []
    if user:
        vector = program.input("user_vector", "N,64")
        parts.append(program.op("linear", [vector, program.weight("person", weights(256, 64))], "person_out", "N,256"))
    rois = program.input("rois", "N,4,256")
    regions = program.weight("regions", weights(4, 256))
    weighted = program.op("binary", [rois, regions], "weighted", "N,4,256", "fn=mul")
    parts.append(program.op("reduce", [weighted], "rois_sum", "N,256", "fn=sum axes=1"))
    parts += [program.input("text", "N,256"), program.input("image", "N,256")]
    total = parts[0]
    for i, part in enumerate(parts[1:]):
        total = program.op("binary", [total, part], f"total{i}", "N,256", "fn=add")
    program.port("outputs", "context", program.op("unary", [total], "bounded", "N,256", "fn=tanh"), "N,256")
    return program


def picture_keys(prefix: str, side: int, mean: list[float], std: list[float], pad: list[int]) -> Metadata:
    keys = {"image_side": side, "image_mean": mean, "image_std": std, "image_pad": pad}
    return {f"{prefix}.{key}": value for key, value in keys.items()}


def encoder_parts(
    *,
    regions: str = "masks",
    own_regions: bool = False,
    own_image: bool = False,
    user: bool = True,
    roi_features: str = "reencode",
    order: tuple[int, ...] = NHWC,
) -> tuple[Programs, Metadata]:
    pools = roi_features == "mask_pool"
    logits = order if regions == "masks" and not own_regions else None
    programs = {
        "screen": screen_program(logits, order if pools else None, embedding=not own_image),
        "image": image_program(),
        "regions": regions_program(order, detects=regions == "detections"),
        "roi": mask_pool_program() if pools else reencode_program(),
        "text": text_program(),
        "user": user_program(),
        "fusion": fusion_program(user=user),
    }
    metadata = {
        "keypilot.trained": False,
        **picture_keys("keypilot.encoder", SIDE, MEAN, STD, PAD),
        "keypilot.encoder.mask_side": MASK,
        "keypilot.encoder.regions": regions,
        "keypilot.encoder.grid": [edge for cell in GRID for edge in cell],
        "keypilot.encoder.roi_features": roi_features,
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
    if own_image:
        metadata |= picture_keys("keypilot.encoder.global", *IMAGE_PICTURE)
    if own_regions:
        metadata |= picture_keys("keypilot.encoder.regions_picture", *REGIONS_PICTURE)
    if regions == "detections":
        metadata |= {f"keypilot.encoder.detections.{key}": value for key, value in LIMITS._asdict().items()}
    if user:
        metadata["keypilot.encoder.user_count"] = USERS
    if not pools:
        metadata["keypilot.encoder.crop_side"] = CROP
    unused = {
        "screen": own_image and logits is None and not pools,
        "image": not own_image,
        "regions": not own_regions,
        "user": not user,
    }
    return {name: program for name, program in programs.items() if not unused.get(name)}, metadata


def load(path: Path, programs: Programs, metadata: Metadata, threads: int = 1) -> keypilot.Encoder:
    file = write_model(path / "encoder.gguf", programs, metadata=metadata)
    return keypilot.Encoder(keypilot.Model.load(file, threads=threads))


def step_by_step(encoder: keypilot.Encoder, picture: Array, text: str, user: int | None) -> dict[str, Array]:
    """The pipeline with Pillow and NumPy between runs of the model's programs."""
    model, rgb = encoder.model, as_rgb(picture)
    height, width = rgb.shape[:2]
    whole = [[0, 0, width, height]]

    def squares(boxes: list[list[int]], side: int, mean: Any = MEAN, std: Any = STD, pad: Any = PAD) -> Array:
        return normalize(np.stack([letterbox(rgb, box, side, pad) for box in boxes]), mean, std).transpose(0, 3, 1, 2)

    screen = model.run("screen", image=squares(whole, SIDE)) if "screen" in model.programs else {}
    seen, regions_side = screen, SIDE
    if "regions" in model.programs:
        seen, regions_side = model.run("regions", image=squares(whole, *REGIONS_PICTURE)), REGIONS_SIDE
    found = seen["mask_logits"][0] > 0 if "mask_logits" in seen else None
    if "prototypes" in seen:
        detections = Detections(**{name: array[0] for name, array in seen.items()})
        found = detection_masks(detections, LIMITS, GRID, image_side=regions_side, width=width, height=height)
    masks, boxes, valid = find_regions(found, GRID, image_side=regions_side, mask_side=MASK, width=width, height=height)
    if "image" in model.programs:
        image = model.run("image", image=squares(whole, *IMAGE_PICTURE))["image_embedding"]
    else:
        image = screen["image_embedding"]
    if "features" in screen:
        rois = model.run("roi", features=screen["features"], masks=masks[np.newaxis])["roi_embedding"]
    else:
        rois = model.run("roi", crops=squares(boxes.tolist(), CROP))["roi_embedding"][np.newaxis]
    ids = model.tokenize(text)[np.newaxis]
    text_inputs = {
        "input_ids": ids,
        "position_ids": OFFSET + np.arange(ids.size)[np.newaxis],
        "attention_mask": np.ones_like(ids),
    }
    asked = {port.name for port in model.programs["text"].inputs}
    embedding = model.run("text", **{name: text_inputs[name] for name in asked})["text_embedding"]
    fused = {"image": image, "rois": rois, "text": embedding}
    if "user" in model.programs:
        fused["user_vector"] = model.run("user", user=[USERS if user is None else user])["user_vector"]
    return {
        "context": model.run("fusion", **fused)["context"][0],
        "image": image[0],
        "rois": rois[0],
        "text": embedding[0],
        "masks": masks,
        "boxes": boxes,
        "roi_valid": valid,
        "tokens": np.asarray(ids.size),
    }


def assert_step_by_step(encoder: keypilot.Encoder, picture: Array, text: str, user: int | None) -> None:
    out = encoder.encode(picture, text=text, user=user)
    for name, expected in step_by_step(encoder, picture, text, user).items():
        np.testing.assert_array_equal(getattr(out, name), expected, err_msg=name)


def blobs(height: int, width: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (-(-height // 40), -(-width // 40), 3), np.uint8)
    return np.kron(coarse, np.ones((40, 40, 1), np.uint8))[:height, :width]


SIZES = [(300, 130), (130, 300), (1, 1), (32, 32), (2, 90), (700, 700)]


@pytest.mark.parametrize("regions", ["masks", "grid"])
@pytest.mark.parametrize("roi_features", ["reencode", "mask_pool"])
@pytest.mark.parametrize("order", [NCHW, NHWC])
@pytest.mark.parametrize("threads", [1, 2])
def test_encode_equals_its_steps(
    regions: str, roi_features: str, order: tuple[int, ...], threads: int, tmp_path: Path
) -> None:
    parts = encoder_parts(regions=regions, roi_features=roi_features, order=order)
    encoder = load(tmp_path, *parts, threads=threads)
    for i, size in enumerate(SIZES):
        assert_step_by_step(encoder, blobs(*size, seed=i), "see you at " * i, user=i % USERS)


@pytest.mark.parametrize("regions", ["masks", "detections"])
@pytest.mark.parametrize("own_image", [False, True])
@pytest.mark.parametrize("order", [NCHW, NHWC])
def test_regions_and_image_of_programs_with_pictures_of_their_own(
    regions: str, own_image: bool, order: tuple[int, ...], tmp_path: Path
) -> None:
    parts = encoder_parts(regions=regions, own_regions=True, own_image=own_image, order=order)
    assert ("screen" in parts[0]) is not own_image
    encoder = load(tmp_path, *parts)
    assert (encoder.image_side, encoder.regions_side) == (SIDE, REGIONS_SIDE)
    valid = set()
    for i, size in enumerate(SIZES * 3):
        picture = blobs(*size, seed=i)
        assert_step_by_step(encoder, picture, "a", user=None)
        valid.update(encoder.encode(picture).roi_valid.tolist())
    assert valid == {True, False}


@pytest.mark.parametrize("roi_features", ["reencode", "mask_pool"])
def test_an_image_program_beside_the_screens(roi_features: str, tmp_path: Path) -> None:
    for regions in ("masks", "grid"):
        encoder = load(tmp_path, *encoder_parts(regions=regions, roi_features=roi_features, own_image=True))
        for i, size in enumerate(SIZES):
            assert_step_by_step(encoder, blobs(*size, seed=i), "", user=0)


@pytest.mark.parametrize("inputs", [["input_ids"], ["input_ids", "attention_mask"], ["position_ids", "input_ids"]])
def test_a_text_program_may_take_fewer_inputs(inputs: list[str], tmp_path: Path) -> None:
    programs, metadata = encoder_parts()
    encoder = load(tmp_path, {**programs, "text": text_program(inputs)}, metadata)
    assert_step_by_step(encoder, blobs(40, 40, 0), "see you at", 1)


def test_a_model_that_does_not_ask_who_types_takes_no_user(tmp_path: Path) -> None:
    encoder = load(tmp_path, *encoder_parts(user=False))
    assert encoder.user_count == 0
    assert_step_by_step(encoder, blobs(40, 40, 0), "see you at", None)
    for user in (0, 3, -1, np.zeros(64, np.float32)):
        with pytest.raises(ArgumentError, match="user: expected none, as the model does not ask who types, got a"):
            encoder.encode(blobs(9, 9, 0), user=user)


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


def _without_program(name: str) -> Callable[[Programs, Metadata], None]:
    return lambda programs, metadata: programs.__delitem__(name)


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
    (_with("keypilot.encoder.regions", "points"), ModelFileError, "'grid', 'masks' or 'detections', got 'points'"),
    (_with("keypilot.encoder.roi_features", "mask_pool"), ModelFileError, "output 'features'"),
    (_with("keypilot.encoder.grid", [0, 0, 1000, 1001] * 4), ModelFileError, "region 0.*1001"),
    (_with("keypilot.encoder.grid", [0, 0, 0, 10] * 4), ModelFileError, "x0 < x1"),
    (_with("keypilot.encoder.user_count", 0), ModelFileError, "user_count"),
    (_with_program("screen", screen_program(None, None)), ModelFileError, "screen.*output 'mask_logits'"),
    (_with_program("roi", mask_pool_program()), ModelFileError, "roi.*an input 'crops'"),
    (_with_program("roi", _picture_in_nchw()), ModelFileError, "crops.*memory order 0,2,3,1, got 0,1,2,3"),
    (
        _with_program("text", text_program(["input_ids", "attention_mask", "token_types"])),
        ModelFileError,
        "2 inputs.*3",
    ),
    (_with_program("user", text_program()), ModelFileError, "user.*input 'user'"),
    (_without_program("user"), ModelFileError, "fusion.*3 inputs.*got 4"),
    (_without_program("screen"), ModelFileError, "program 'screen'"),
    (_without_program("text"), ModelFileError, "program 'text'"),
]


@pytest.mark.parametrize(("damage", "error", "message"), DAMAGES, ids=[message for _, _, message in DAMAGES])
def test_a_damaged_encoder_is_refused(
    damage: Callable[[Programs, Metadata], None], error: type[Exception], message: str, tmp_path: Path
) -> None:
    programs, metadata = encoder_parts()
    damage(programs, metadata)
    with pytest.raises(error, match=message):
        load(tmp_path, programs, metadata)


OWN_DAMAGES: list[tuple[Callable[[Programs, Metadata], None], str]] = [
    (_without("keypilot.encoder.global.image_side"), "encoder.global.image_side"),
    (_without("keypilot.encoder.regions_picture.image_mean"), "encoder.regions_picture.image_mean"),
    (_with("keypilot.encoder.regions_picture.image_pad", [0, 0, 300]), "regions_picture.image_pad.*got 300"),
    (_with("keypilot.encoder.global.image_side", 25), "image.*expects f32 .N,3,25,25.*got f32 .N,3,24,24"),
    (_with("keypilot.encoder.regions_picture.image_side", 42), "divisor.*42, got 8"),
    (_without("keypilot.encoder.detections.max_count"), "detections.max_count"),
    (_with("keypilot.encoder.detections.max_count", 1001), "max_count.*1 to 1000, got 1001"),
    (_with("keypilot.encoder.detections.max_overlap", 1.5), "max_overlap.*0 to 1, got 1.5"),
    (_with("keypilot.encoder.detections.min_score", float("nan")), "min_score.*0 to 1, got nan"),
    (_with("keypilot.encoder.detections.min_score", 1), "min_score.*f32"),
    (_with("keypilot.encoder.roi_features", "mask_pool"), "roi_features.*'reencode' where a program 'regions'"),
    (_without_program("regions"), "program 'regions'"),
    (_with_program("regions", regions_program(NHWC, detects=False)), "regions.*output 'boxes'"),
]


@pytest.mark.parametrize(("damage", "message"), OWN_DAMAGES, ids=[message for _, message in OWN_DAMAGES])
def test_a_damaged_encoder_with_programs_for_regions_and_image_is_refused(
    damage: Callable[[Programs, Metadata], None], message: str, tmp_path: Path
) -> None:
    programs, metadata = encoder_parts(regions="detections", own_regions=True, own_image=True)
    damage(programs, metadata)
    with pytest.raises(ModelFileError, match=message):
        load(tmp_path, programs, metadata)
