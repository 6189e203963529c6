"""Pictures: every step that turns one into the encoder's input equals Pillow's, byte for byte."""

from __future__ import annotations

import concurrent.futures
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from keypilot import _core
from keypilot.errors import ArgumentError
from keypilot.picture import MODES, load_rgb
from keypilot.reference.image import as_rgb, letterbox, letterbox_fit, normalize

Array = np.ndarray[Any, Any]
Rect = tuple[int, int, int, int]

SCREENS = sorted((Path(__file__).parents[2] / "shared" / "screens").glob("*.png"))
PAD = (1, 127, 255)
SIZES = st.integers(1, 300)


def pixels(height: int, width: int, channels: int = 3, dtype: str = "uint8", seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, True)


def whole(image: Array) -> Rect:
    return (0, 0, image.shape[1], image.shape[0])


def assert_letterboxed(image: Array, side: int, rect: Rect | None = None, threads: int = 1) -> None:
    rect = rect or whole(image)
    actual = _core.letterbox(image, rect, side, PAD, threads)
    np.testing.assert_array_equal(actual, letterbox(as_rgb(image), rect, side, PAD))


@given(height=SIZES, width=SIZES, side=SIZES, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_letterbox_equals_pillow(height: int, width: int, side: int, seed: int) -> None:
    assert_letterboxed(pixels(height, width, seed=seed), side)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("shape", [(90, 60), (60, 90), (70, 70), (400, 60), (33, 32), (5, 7)])
def test_every_format_equals_pillow(shape: tuple[int, int], channels: int, dtype: str) -> None:
    for side in (5, 33, 64, 90):
        assert_letterboxed(pixels(*shape, channels, dtype), side)


@pytest.mark.parametrize("shape", [(1, 1), (1, 16384), (16384, 1), (7, 9000), (9000, 7), (2160, 3840), (2400, 1080)])
@pytest.mark.parametrize("threads", [1, 2])
def test_thin_and_large_pictures_equal_pillow(shape: tuple[int, int], threads: int) -> None:
    assert_letterboxed(pixels(*shape), 256, threads=threads)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(4320, 7680), (7680, 4320), (16384, 4096), (16384, 16384)])
@pytest.mark.parametrize(("channels", "dtype"), [(3, "uint8"), (1, "uint16")])
def test_the_largest_pictures_equal_pillow(shape: tuple[int, int], channels: int, dtype: str) -> None:
    assert_letterboxed(pixels(*shape, channels, dtype), 256, threads=2)


@pytest.mark.parametrize("threads", [2, 3, 64])
@pytest.mark.parametrize("shape", [(1000, 400), (400, 1000), (900, 700)])
@pytest.mark.parametrize("channels", [3, 4])
def test_the_number_of_threads_changes_nothing(shape: tuple[int, int], threads: int, channels: int) -> None:
    image = pixels(*shape, channels)
    one = _core.letterbox(image, whole(image), 256, PAD, 1)
    np.testing.assert_array_equal(_core.letterbox(image, whole(image), 256, PAD, threads), one)


@pytest.mark.parametrize("isa", _core.cpu_isa())
def test_the_instruction_set_changes_nothing(isa: str) -> None:
    for shape in ((301, 77), (77, 301), (200, 199)):
        for channels in (1, 3, 4):
            image = pixels(*shape, channels)
            actual = _core.letterbox(image, whole(image), 61, PAD, 1, isa)
            np.testing.assert_array_equal(actual, letterbox(as_rgb(image), whole(image), 61, PAD))


@pytest.mark.skipif(not SCREENS, reason="no real screenshots in ../shared/screens")
@pytest.mark.parametrize("path", SCREENS, ids=lambda path: path.stem)
def test_real_screens_and_crops_equal_pillow(path: Path) -> None:
    with Image.open(path) as file:
        image = np.asarray(file)
    height, width = image.shape[:2]
    assert_letterboxed(image, 256)
    for rect in ((0, height // 2, width, height), (width // 3, 50, width // 2, 700), (10, 20, 122, 132), (0, 0, 1, 1)):
        assert_letterboxed(image, 112, rect)


@given(
    height=SIZES,
    width=SIZES,
    corners=st.tuples(*[st.floats(0, 1)] * 4),
    side=st.integers(1, 130),
    channels=st.sampled_from([1, 3, 4]),
    dtype=st.sampled_from(["uint8", "uint16"]),
)
@settings(max_examples=100, deadline=None)
def test_a_rectangle_is_cropped_before_it_is_resized(
    height: int, width: int, corners: tuple[float, ...], side: int, channels: int, dtype: str
) -> None:
    x0, x1 = sorted(int(edge * (width - 1)) for edge in corners[:2])
    y0, y1 = sorted(int(edge * (height - 1)) for edge in corners[2:])
    assert_letterboxed(pixels(height, width, channels, dtype), side, (x0, y0, x1 + 1, y1 + 1))


def test_views_equal_their_copies() -> None:
    image = pixels(60, 90, 4)
    wide = image.astype(np.uint16) << 8
    for view in (image[..., :3], image[5:50, 7:80], image[::-1], image[::2, ::3], image[..., 0], image[..., 1:2]):
        assert_letterboxed(view, 48)
    for view in (wide[5:50, 7:80], np.asfortranarray(wide), wide.astype(wide.dtype.newbyteorder())):
        assert_letterboxed(np.asarray(view), 48)


@given(width=st.integers(1, 16384), height=st.integers(1, 16384), side=st.integers(1, 512))
def test_a_letterbox_is_tight_and_centred(width: int, height: int, side: int) -> None:
    fit = letterbox_fit(width, height, side)
    assert max(fit.width, fit.height) == side
    assert min(fit.width, fit.height) >= 1
    assert abs(fit.width * max(width, height) - width * side) <= max(width, height) / 2 or fit.width == 1
    assert abs(fit.height * max(width, height) - height * side) <= max(width, height) / 2 or fit.height == 1
    assert 0 <= side - fit.width - 2 * fit.x <= 1
    assert 0 <= side - fit.height - 2 * fit.y <= 1


@pytest.mark.parametrize(
    ("image", "rect", "message"),
    [
        (np.zeros((4, 4, 2), np.uint8), (0, 0, 1, 1), "1, 3 or 4"),
        (np.zeros((4, 4, 3), np.float32), (0, 0, 1, 1), "uint8 or uint16"),
        (np.zeros((1, 16385, 3), np.uint8), (0, 0, 1, 1), "16384"),
        (np.zeros((4, 6, 3), np.uint8), (0, 0, 7, 4), "inside a picture of width 6, height 4"),
        (np.zeros((4, 6, 3), np.uint8), (3, 0, 3, 4), "x0 < x1"),
        (np.zeros((4, 6, 3), np.uint8), (-1, 0, 3, 4), "-1"),
    ],
)
def test_what_is_no_picture_is_refused(image: Array, rect: Rect, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        _core.letterbox(image, rect, 8, PAD)


def test_threads_at_once_give_what_they_give_alone() -> None:
    images = [pixels(500, 300, seed=seed) for seed in range(8)]
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        results = list(executor.map(lambda image: _core.letterbox(image, whole(image), 128, PAD, 2), images))
    for image, result in zip(images, results, strict=True):
        np.testing.assert_array_equal(result, letterbox(image, whole(image), 128, PAD))


def test_normalisation_is_exact_where_it_can_be() -> None:
    values = np.arange(256, dtype=np.uint8).repeat(3).reshape(256, 3)
    np.testing.assert_array_equal(normalize(values, (0, 0, 0), (1, 1, 1)), (values / 255).astype(np.float32))
    halves = normalize(values, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert halves.min() == -1 and halves.max() == 1


# ---- Decoding ----


def pil_image(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(pixels(20, 30, 1, "uint16")[..., 0])
    rgba = Image.fromarray(pixels(20, 30, 4))
    return rgba.convert("RGB").quantize(16) if mode == "P" else rgba.convert(mode)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_decoded(mode: str, tmp_path: Path) -> None:
    image = pil_image(mode)
    assert image.mode == mode
    rgb = load_rgb(image)
    assert (rgb.shape, rgb.dtype) == ((20, 30, 3), np.uint8)
    if mode == "I;16":
        np.testing.assert_array_equal(rgb, (np.asarray(image) >> 8)[..., np.newaxis].repeat(3, 2))
    else:
        np.testing.assert_array_equal(rgb, np.asarray(image.convert("RGB")))
    image.save(tmp_path / "picture.png")
    np.testing.assert_array_equal(load_rgb(tmp_path / "picture.png"), rgb)


def test_alpha_is_dropped_and_not_blended() -> None:
    rgba = pixels(9, 9, 4)
    np.testing.assert_array_equal(load_rgb(Image.fromarray(rgba)), rgba[..., :3])


@pytest.mark.parametrize("mode", ["CMYK", "F", "I", "YCbCr", "HSV"])
def test_other_modes_are_refused_with_what_is_accepted(mode: str) -> None:
    with pytest.raises(ArgumentError, match=rf"1, L, LA, P, RGB, RGBA, I;16, got mode {mode}"):
        load_rgb(Image.new(mode, (4, 4)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "I;16"])
def test_exif_orientation_is_applied(orientation: int, mode: str, tmp_path: Path) -> None:
    image = pil_image(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "picture.png"
    image.save(path, exif=exif)
    image.getexif()[0x0112] = orientation
    expected = as_rgb(np.asarray(ImageOps.exif_transpose(image)))
    assert expected.shape[:2] == ((20, 30) if orientation < 5 else (30, 20))
    np.testing.assert_array_equal(load_rgb(path), expected)
    np.testing.assert_array_equal(load_rgb(image), expected)


def test_a_file_that_is_no_picture_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(OSError, match=r"text\.png"):
        load_rgb(tmp_path / "text.png")
    with pytest.raises(FileNotFoundError):
        load_rgb(tmp_path / "missing.png")


def test_a_file_cut_short_is_an_os_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    Image.fromarray(pixels(64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(OSError):
        load_rgb(path)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    Image.new("L", (100, 100)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ArgumentError, match=r"bomb\.png"):
        load_rgb(path)
