"""Masks to boxes and back: csrc/encoder/regions.c equals the NumPy reference, and both mean what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keypilot import _core
from keypilot.errors import ArgumentError
from keypilot.reference.config import EncoderConfig
from keypilot.reference.image import letterbox_fit
from keypilot.reference.regions import covers_picture, fill, find_regions, grid_box, largest_component, mask_box

Array = np.ndarray[Any, Any]

SIZES = st.integers(1, 3000) | st.integers(1, 40) | st.integers(1, 16384)
GRID = EncoderConfig().grid


@st.composite
def masks(draw: st.DrawFn, side: int) -> Array:
    """Noise of any density, blurred into blobs or not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = rng.random((side, side))
    for _ in range(draw(st.integers(0, 3))):
        noise = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1)) / 3
    return noise > np.quantile(noise, draw(st.floats(0, 1)))


@given(mask=st.sampled_from([4, 16, 64]).flatmap(masks), scale=st.integers(1, 8), width=SIZES, height=SIZES)
@settings(max_examples=200, deadline=None)
def test_regions_equal_the_reference(mask: Array, scale: int, width: int, height: int) -> None:
    side = len(mask)
    found, boxes, valid = _core.regions(mask[np.newaxis], scale * side, width, height)
    expected = find_regions(
        mask[np.newaxis], GRID[:1], image_side=scale * side, mask_side=side, width=width, height=height
    )
    assert valid[0] == expected[2][0]
    if valid[0]:
        np.testing.assert_array_equal(found, expected[0])
        np.testing.assert_array_equal(boxes, expected[1])
    else:
        assert not found.any() and not boxes.any()


@given(
    edges=st.tuples(*[st.lists(st.integers(0, 1000), min_size=2, max_size=2, unique=True).map(sorted)] * 2),
    side=st.sampled_from([4, 16, 64]),
    scale=st.integers(1, 8),
    width=SIZES,
    height=SIZES,
)
@settings(max_examples=200)
def test_grid_regions_equal_the_reference(
    edges: tuple[list[int], list[int]], side: int, scale: int, width: int, height: int
) -> None:
    (x0, x1), (y0, y1) = edges
    cell = (x0, y0, x1, y1)
    mask, box = _core.grid_region(cell, side, scale * side, width, height)
    assert box == grid_box(cell, width, height)
    fit = letterbox_fit(width, height, scale * side)
    np.testing.assert_array_equal(mask, fill(side, scale, fit, width, height, box))


@given(
    corners=st.tuples(*[st.floats(0, 1)] * 4), side=st.sampled_from([4, 64]), scale=st.integers(1, 8), w=SIZES, h=SIZES
)
def test_a_filled_box_comes_back_rounded_outwards(
    corners: tuple[float, ...], side: int, scale: int, w: int, h: int
) -> None:
    fit = letterbox_fit(w, h, side * scale)
    x0, x1 = sorted(int(edge * (w - 1)) for edge in corners[:2])
    y0, y1 = sorted(int(edge * (h - 1)) for edge in corners[2:])
    box = (x0, y0, x1 + 1, y1 + 1)
    mask = fill(side, scale, fit, w, h, box)
    assert mask.any() and not (mask & ~covers_picture(side, scale, fit)).any()
    back = mask_box(mask, scale, fit, w, h)
    slack = scale * max(w, h) / (side * scale) + max(w / fit.width, h / fit.height) * scale + 1
    for inner, outer, sign in zip(box, back, (1, 1, -1, -1), strict=True):
        assert 0 <= sign * (inner - outer) <= slack


def test_of_equal_components_the_first_in_raster_order_stays() -> None:
    mask = np.zeros((4, 4), bool)
    mask[0, 3] = mask[1, 3] = mask[2, 0] = mask[2, 1] = True
    expected = np.zeros((4, 4), bool)
    expected[0, 3] = expected[1, 3] = True
    np.testing.assert_array_equal(largest_component(mask), expected)
    np.testing.assert_array_equal(_core.regions(mask[np.newaxis], 4, 9, 9)[0][0], expected)


def test_diagonal_neighbours_are_not_connected() -> None:
    found, boxes, _ = _core.regions(np.eye(8, dtype=bool)[np.newaxis], 8, 80, 80)
    assert found.sum() == 1 and boxes.tolist() == [[0, 0, 10, 10]]


def test_the_margins_of_the_letterbox_hold_no_region() -> None:
    full = np.ones((1, 64, 64), np.uint8)
    found, boxes, _ = _core.regions(full, 256, 1080, 2400)  # 115 of 256 columns, from 70 on
    assert boxes.tolist() == [[0, 0, 1080, 2400]]
    assert found[0].any(0).nonzero()[0].tolist() == list(range(70 // 4, -(-185 // 4)))
    margin = full.copy()
    margin[:, :, 17:47] = 0
    assert not _core.regions(margin, 256, 1080, 2400)[2].any()


def test_a_snake_is_one_component() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[::2] = 1
    mask[1::4, -1] = mask[3::4, 0] = 1
    found, _, _ = _core.regions(mask[np.newaxis], 64, 64, 64)
    np.testing.assert_array_equal(found[0], mask)


@given(width=SIZES, height=SIZES)
def test_the_grid_covers_what_it_says(width: int, height: int) -> None:
    for cell in GRID:
        x0, y0, x1, y1 = grid_box(cell, width, height)
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        assert x0 <= cell[0] * width / 1000 and y0 <= cell[1] * height / 1000


def test_regions_without_masks_are_valid_grid_cells() -> None:
    found, boxes, valid = find_regions(None, GRID, image_side=256, mask_side=64, width=1000, height=1000)
    assert boxes.tolist() == [list(cell) for cell in GRID]
    assert valid.all() and found.any((1, 2)).all()


def test_an_empty_mask_falls_back_to_the_grid() -> None:
    empty = np.zeros((4, 64, 64), np.bool_)
    fallback = find_regions(empty, GRID, image_side=256, mask_side=64, width=500, height=900)
    grid = find_regions(None, GRID, image_side=256, mask_side=64, width=500, height=900)
    np.testing.assert_array_equal(fallback[0], grid[0])
    np.testing.assert_array_equal(fallback[1], grid[1])
    assert not fallback[2].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((1, 4, 5), np.uint8), 20, 9, 9), "side"),
        ((np.ones((1, 4, 4), np.uint8), 6, 9, 9), "multiple"),
        ((np.ones((1, 4, 4), np.uint8), 8, 0, 9), "width"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        _core.regions(*arguments)
