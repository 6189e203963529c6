"""keypilot.Encoder: pictures and texts in, vectors and regions out."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import keypilot
from keypilot import cache
from keypilot.overlay import draw_regions

Array = np.ndarray[Any, Any]

FIELDS = ("context", "image", "rois", "text", "masks", "boxes", "roi_valid", "tokens")


def assert_same(a: keypilot.EncoderOutput, b: keypilot.EncoderOutput) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.fixture(scope="module")
def encoder(encoder_file: Path) -> keypilot.Encoder:
    return keypilot.Encoder.load(encoder_file, threads=2)


def picture(height: int = 320, width: int = 180, channels: int = 3, seed: int = 0) -> Array:
    """Blocks of colour, so that crops and masks are not all alike."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (-(-height // 20), -(-width // 20), channels), np.uint8)
    return np.kron(blocks, np.ones((20, 20, 1), np.uint8))[:height, :width]


def test_the_fields_have_the_documented_shapes_and_dtypes(encoder: keypilot.Encoder) -> None:
    out = encoder.encode(picture(), text="see you at")
    side = encoder.image_side // 4  # of the masks
    expected = {
        "context": ((256,), np.float32),
        "image": ((256,), np.float32),
        "rois": ((4, 256), np.float32),
        "text": ((256,), np.float32),
        "masks": ((4, side, side), np.bool_),
        "boxes": ((4, 4), np.int32),
        "roi_valid": ((4,), np.bool_),
        "tokens": ((), np.int64),
    }
    for name, (shape, dtype) in expected.items():
        array = getattr(out, name)
        assert (array.shape, array.dtype) == (shape, dtype), name
    assert list(out.timings) == ["image", "screen", "global", "regions", "roi", "text", "fusion"]
    assert all(0 <= seconds < 60 for seconds in out.timings.values())
    assert out.tokens == len(encoder.model.tokenize("see you at"))
    assert np.isfinite(out.context).all()


def test_boxes_lie_in_the_picture(encoder: keypilot.Encoder) -> None:
    x0, y0, x1, y1 = encoder.encode(picture(333, 517)).boxes.T
    assert ((x0 >= 0) & (x0 < x1) & (x1 <= 517)).all()
    assert ((y0 >= 0) & (y0 < y1) & (y1 <= 333)).all()


def test_every_input_reaches_the_context(encoder: keypilot.Encoder) -> None:
    base = encoder.encode(picture(), text="a", user=0).context
    for changed in (
        encoder.encode(picture(seed=1), text="a", user=0),
        encoder.encode(picture(), text="b", user=0),
        encoder.encode(picture(), text="a", user=1),
    ):
        assert not np.array_equal(base, changed.context)


def test_a_path_a_pil_image_and_an_array_are_the_same_picture(encoder: keypilot.Encoder, tmp_path: Path) -> None:
    pixels = picture()
    path = tmp_path / "p.png"
    Image.fromarray(pixels).save(path)
    expected = encoder.encode(pixels)
    for same in (path, str(path), Image.fromarray(pixels)):
        assert_same(encoder.encode(same), expected)


def test_views_and_channels_of_the_same_pixels_are_the_same_picture(encoder: keypilot.Encoder) -> None:
    pixels = picture()
    expected = encoder.encode(pixels)
    alpha = np.concatenate([pixels, np.full((320, 180, 1), 7, np.uint8)], axis=2)
    padded = np.zeros((330, 200, 3), np.uint8)
    padded[5:325, 10:190] = pixels
    for same in (
        alpha,
        padded[5:325, 10:190],
        np.asfortranarray(pixels),
        pixels[::-1].copy()[::-1],
        pixels.astype(np.uint16) << 8 | 0x5A,
        (pixels.astype(np.uint16) << 8).astype(">u2"),
    ):
        assert_same(encoder.encode(same), expected)


def test_grey_is_rgb_of_equal_channels(encoder: keypilot.Encoder) -> None:
    grey = picture(channels=1)
    expected = encoder.encode(np.repeat(grey, 3, axis=2))
    assert_same(encoder.encode(grey), expected)
    assert_same(encoder.encode(grey[..., 0]), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3000, 2), (112, 112), (256, 256)])
def test_any_size_is_encoded(encoder: keypilot.Encoder, size: tuple[int, int]) -> None:
    assert np.isfinite(encoder.encode(picture(*size)).context).all()


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 16385, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused_and_what_is_accepted_said(encoder: keypilot.Encoder, bad: Array) -> None:
    with pytest.raises(keypilot.ArgumentError, match=r"image: expected uint8 or uint16, .*16384 pixels, got"):
        encoder.encode(bad)


# ---- Batches ----


def test_a_batch_is_its_pictures_one_by_one(encoder: keypilot.Encoder) -> None:
    pictures = [picture(320, 180), picture(100, 300, seed=1), picture(64, 64, seed=2)]
    texts, users = ["", "see you at", "今晚七点"], [0, 5, 1]
    batch = encoder.encode(pictures, text=texts, user=users)
    singles = [encoder.encode(*one) for one in zip(pictures, texts, users, strict=True)]
    for name in FIELDS:
        np.testing.assert_array_equal(
            getattr(batch, name), np.stack([getattr(one, name) for one in singles]), err_msg=name
        )
    assert all(seconds.shape == (3,) for seconds in batch.timings.values())


def test_one_text_and_user_serve_a_whole_batch(encoder: keypilot.Encoder) -> None:
    pictures = np.stack([picture(), picture(seed=1)])
    assert_same(encoder.encode(pictures, text="a", user=2), encoder.encode(list(pictures), text=["a"] * 2, user=[2, 2]))


def test_a_batch_of_one_keeps_its_axis(encoder: keypilot.Encoder) -> None:
    assert encoder.encode([picture()]).context.shape == (1, 256)


def test_sequences_must_be_as_long_as_the_batch(encoder: keypilot.Encoder) -> None:
    with pytest.raises(keypilot.ArgumentError, match="text: expected one for each of 2 pictures, got 3"):
        encoder.encode([picture(), picture()], text=["a", "b", "c"])
    with pytest.raises(keypilot.ArgumentError, match="at least one picture"):
        encoder.encode([])


# ---- Text and user ----


def test_a_long_text_is_truncated(encoder: keypilot.Encoder) -> None:
    out = encoder.encode(picture(), text="word " * 1000)
    assert out.tokens == encoder.model.metadata["keypilot.tokenizer.max_tokens"]


def test_bytes_are_utf8_and_a_lone_surrogate_is_no_character(encoder: keypilot.Encoder) -> None:
    assert_same(encoder.encode(picture(), text="é"), encoder.encode(picture(), text="é".encode()))
    tokens = encoder.model.tokenize("\ud800")
    np.testing.assert_array_equal(tokens, encoder.model.tokenize("\ufffd\ufffd\ufffd"))


@pytest.mark.parametrize("user", [-1, 1000, 2**40])
def test_a_user_outside_the_table_is_refused(encoder: keypilot.Encoder, user: int) -> None:
    assert encoder.user_count == 1000
    with pytest.raises(keypilot.ArgumentError, match=f"user.*{user}"):
        encoder.encode(picture(), user=user)


def test_an_unknown_user_has_a_vector_of_its_own(encoder: keypilot.Encoder) -> None:
    table = encoder.model.weights["user.table"]
    unknown = encoder.encode(picture())
    assert_same(unknown, encoder.encode(picture(), user=None))
    assert_same(unknown, encoder.encode(picture(), user=table[encoder.user_count]))
    assert not np.array_equal(unknown.context, encoder.encode(picture(), user=0).context)


def test_a_users_vector_stands_for_the_user(encoder: keypilot.Encoder) -> None:
    table = encoder.model.weights["user.table"]
    for vector in (table[7], table[7].astype(np.float64), np.repeat(table[7], 2)[::2]):
        assert_same(encoder.encode(picture(), user=vector), encoder.encode(picture(), user=7))
    pictures = [picture(seed=seed) for seed in range(3)]
    mixed = encoder.encode(pictures, user=[None, 3, table[5]])
    assert_same(mixed, encoder.encode(pictures, user=[encoder.model.weights["user.table"][1000], 3, 5]))
    assert_same(encoder.encode(pictures, user=table[:3]), encoder.encode(pictures, user=[0, 1, 2]))
    assert_same(encoder.encode(pictures, user=table[2]), encoder.encode(pictures, user=2))


def test_a_users_vector_is_64_finite_numbers(encoder: keypilot.Encoder) -> None:
    with pytest.raises(keypilot.ShapeError, match="user: expected a vector of 64 numbers, got 63"):
        encoder.encode(picture(), user=np.zeros(63, np.float32))
    bad = np.zeros(64, np.float32)
    bad[5] = np.nan
    with pytest.raises(keypilot.ArgumentError, match="user: expected a vector of finite numbers, got nan as element 5"):
        encoder.encode(picture(), user=bad)


def test_text_and_user_have_their_types(encoder: keypilot.Encoder) -> None:
    with pytest.raises(keypilot.ArgumentError, match="text: expected str or bytes, got int"):
        encoder.encode(picture(), text=3)  # type: ignore[arg-type]
    with pytest.raises(keypilot.ArgumentError, match="user: expected an integer, a float array .64,. or None, got str"):
        encoder.encode(picture(), user="3")  # type: ignore[arg-type]
    for wrong in (True, 1.5):
        with pytest.raises(keypilot.ArgumentError, match="user: expected an integer, a float array .64,. or None"):
            encoder.encode([picture(), picture()], user=wrong)
    with pytest.raises(keypilot.ArgumentError, match="text: expected str or bytes, got int"):
        encoder.encode([picture(), picture()], text=3)  # type: ignore[arg-type]


# ---- Runs ----


def test_threads_that_share_an_encoder_get_what_they_get_alone(encoder: keypilot.Encoder) -> None:
    inputs = [(picture(seed=seed), f"text {seed}") for seed in range(4)]
    alone = [encoder.encode(*one) for one in inputs]
    results: list[keypilot.EncoderOutput | None] = [None] * len(inputs)
    start = threading.Barrier(len(inputs))

    def work(i: int) -> None:
        start.wait()
        for _ in range(3):
            results[i] = encoder.encode(*inputs[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, expected in zip(results, alone, strict=True):
        assert result is not None
        assert_same(result, expected)


def test_taps_see_every_program(encoder: keypilot.Encoder) -> None:
    with encoder.tap() as taps:
        encoder.encode(picture(), text="see you at")
    programs = {key.partition("/")[0] for key in taps if "/" in key}
    assert {"screen", "roi"} <= programs  # both run the backbone
    assert "text.pool" in taps and "fusion.rois" in taps
    assert taps["roi/backbone.pool"].shape == (4, 3, 8, 8)


def test_an_output_outlives_the_next_call(encoder: keypilot.Encoder) -> None:
    out = encoder.encode(picture())
    kept = {name: getattr(out, name).copy() for name in FIELDS}
    encoder.encode(picture(seed=3), text="other")
    for name, array in kept.items():
        np.testing.assert_array_equal(getattr(out, name), array)


# ---- Loading ----


def test_a_file_has_its_own_precision(encoder_file: Path) -> None:
    keypilot.Encoder.load(encoder_file, precision="fp32")
    with pytest.raises(keypilot.ArgumentError, match="precision: expected 'fp32', which .* is in, got 'int8'"):
        keypilot.Encoder.load(encoder_file, precision="int8")
    with pytest.raises(keypilot.ArgumentError, match="precision: expected one of int8, fp32, got 'fp16'"):
        keypilot.Encoder.load(encoder_file, precision="fp16")


def test_seeded_weights_are_reported_as_untrained(encoder: keypilot.Encoder) -> None:
    assert not encoder.trained
    assert not encoder.encode(picture()).trained


def test_a_preset_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoder_file: Path) -> None:
    made = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("keypilot.reference.presets.build", lambda name: name)
    monkeypatch.setattr(
        "keypilot.convert.encoder.compile_encoder",
        lambda encoder, path, precision: (
            made.append((encoder, precision)),
            Path(path).write_bytes(encoder_file.read_bytes()),
        ),
    )
    first, again = keypilot.Encoder.load(), keypilot.Encoder.load("keypilot-base")
    assert made == [("keypilot-base", "int8")]
    assert_same(first.encode(picture()), again.encode(picture()))
    assert [path.name for path in (tmp_path / "keypilot").iterdir()] == [
        cache.preset_path("keypilot-base", "int8").name
    ]


def test_a_failed_conversion_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(_encoder: Any, path: str, precision: str) -> None:
        Path(path).write_bytes(b"half")
        raise keypilot.UnsupportedOpError("no such operator")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("keypilot.reference.presets.build", lambda name: name)
    monkeypatch.setattr("keypilot.convert.encoder.compile_encoder", fail)
    with pytest.raises(keypilot.UnsupportedOpError):
        keypilot.Encoder.load()
    assert list((tmp_path / "keypilot").iterdir()) == []


def test_a_name_that_is_neither_file_nor_preset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(keypilot.ArgumentError, match="keypilot-base"):
        keypilot.Encoder.load("keypilot-huge")
    with pytest.raises(FileNotFoundError):
        keypilot.Encoder.load(tmp_path / "absent.gguf")


# ---- The overlay ----


@pytest.mark.parametrize("size", [(1, 1), (40, 30), (320, 180), (2000, 900), (1, 700)])
def test_the_overlay_is_the_picture_enlarged_by_a_whole_factor(
    encoder: keypilot.Encoder, size: tuple[int, int]
) -> None:
    pixels = picture(*size)
    overlay = draw_regions(pixels, encoder.encode(pixels), encoder.regions_side)
    assert overlay.width % size[1] == 0 and overlay.height % size[0] == 0
    assert overlay.width // size[1] == overlay.height // size[0]
    assert max(overlay.size) >= 480


def test_the_overlay_tints_where_the_mask_is(encoder: keypilot.Encoder) -> None:
    pixels = picture(512, 512)
    out = encoder.encode(pixels)
    drawn = np.asarray(draw_regions(pixels, out, encoder.regions_side))
    scale = 512 // out.masks.shape[1]
    inside = np.kron(out.masks.any(axis=0), np.ones((scale, scale), bool))
    frames_and_labels = 0.25  # of the picture, at most
    changed = (drawn != pixels).any(axis=2)
    assert changed[inside].mean() > 0.99
    assert changed[~inside].mean() < frames_and_labels
