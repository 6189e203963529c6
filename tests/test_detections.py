"""Detections to regions: csrc/encoder/detections.c equals the NumPy reference, and both mean what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keypilot import _core
from keypilot.errors import ShapeError
from keypilot.reference.config import EncoderConfig
from keypilot.reference.detections import Detections, Limits, detection_masks, keep

Array = np.ndarray[Any, Any]

GRID = EncoderConfig().grid
SIZES = st.integers(1, 3000) | st.integers(1, 40)


def found_in_c(found: Detections, limits: Limits, image_side: int, width: int, height: int) -> tuple[Array, Array]:
    return _core.detection_masks(tuple(found), tuple(limits), GRID, image_side, width, height)


def random_detections(seed: int, anchors: int, side: int, scale: int) -> Detections:
    """Boxes in clusters, so that many overlap; scores of few values, so that many are equal."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform(0, side * scale, (5, 2))[rng.integers(0, 5, anchors)] + rng.normal(0, scale, (anchors, 2))
    sizes = rng.uniform(0, side * scale, (3, 2))[rng.integers(0, 3, anchors)] + rng.normal(0, scale, (anchors, 2))
    boxes = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1)
    return Detections(
        boxes.astype(np.float32),
        (rng.integers(0, 20, anchors) / 20).astype(np.float32),
        rng.standard_normal((anchors, 32), np.float32),
        rng.standard_normal((32, side, side), np.float32),
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    anchors=st.integers(0, 80),
    side=st.sampled_from([1, 5, 16, 40]),
    scale=st.integers(1, 8),
    width=SIZES,
    height=SIZES,
    limits=st.builds(Limits, st.sampled_from([0.0, 0.25, 0.4, 1.0]), st.floats(0, 1, width=32), st.integers(1, 30)),
)
@settings(max_examples=200, deadline=None)
def test_regions_from_detections_equal_the_reference(
    seed: int, anchors: int, side: int, scale: int, width: int, height: int, limits: Limits
) -> None:
    found = random_detections(seed, anchors, side, scale)
    kept, masks = found_in_c(found, limits, side * scale, width, height)
    np.testing.assert_array_equal(kept, keep(found.boxes, found.scores, limits))
    expected = detection_masks(found, limits, GRID, image_side=side * scale, width=width, height=height)
    np.testing.assert_array_equal(masks, expected)


@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
@settings(deadline=None)
def test_numbers_that_are_not_finite_are_taken_as_they_come(seed: int, share: float) -> None:
    found = random_detections(seed, 30, 8, 4)
    rng = np.random.default_rng(seed)
    for array in found:
        special = rng.choice(np.array([np.nan, np.inf, -np.inf, 3e38, -3e38], np.float32), array.shape)
        np.copyto(array, special, where=rng.random(array.shape) < 0.1 * share)
    kept, masks = found_in_c(found, Limits(), 32, 90, 160)
    np.testing.assert_array_equal(kept, keep(found.boxes, found.scores))
    np.testing.assert_array_equal(masks, detection_masks(found, Limits(), GRID, image_side=32, width=90, height=160))


def one_prototype(boxes: list[list[float]], scores: list[float], mask: Array) -> Detections:
    """Every detection has the same mask, but for its box."""
    prototypes = np.zeros((32, *mask.shape), np.float32)
    prototypes[3] = np.where(mask, 1, -1)
    coefficients = np.zeros((len(boxes), 32), np.float32)
    coefficients[:, 3] = 2
    return Detections(np.array(boxes, np.float32), np.array(scores, np.float32), coefficients, prototypes)


def test_a_better_box_suppresses_those_that_overlap_it() -> None:
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9.5], [0, 0, 10, 5], [20, 20, 30, 30]]
    found = one_prototype(boxes, [0.5, 0.9, 0.6, 0.4], np.ones((8, 8), bool))
    assert keep(found.boxes, found.scores) == [1, 2, 3]  # 0 has 95 % in common with 1
    assert keep(found.boxes, found.scores, Limits(max_count=2)) == [1, 2]
    assert keep(found.boxes, found.scores, Limits(min_score=0.55)) == [1, 2]
    assert keep(found.boxes, found.scores, Limits(max_overlap=0.95)) == [1, 2, 0, 3]


def test_a_region_has_the_detection_that_fits_its_cell_best() -> None:
    loose = [[0, y0 - 40, 1000, y1 + 40] for _, y0, _, y1 in GRID]
    found = one_prototype([*loose, *map(list, GRID)], [0.9] * 4 + [0.5] * 4, np.ones((250, 250), bool))
    _, masks = found_in_c(found, Limits(max_overlap=1.0), 1000, 1000, 1000)
    for mask, (_, y0, _, y1) in zip(masks, GRID, strict=True):
        rows = np.flatnonzero(mask.all(axis=1)) * 4
        assert np.array_equal(rows, np.arange(y0, y1, 4))


def test_a_cell_that_no_mask_meets_has_none() -> None:
    found = one_prototype([[0, 0, 100, 30]], [0.9], np.ones((25, 25), bool))
    _, masks = found_in_c(found, Limits(), 100, 100, 100)
    assert [bool(mask.any()) for mask in masks] == [False, True, False, True]


def test_shapes_that_do_not_fit_are_refused() -> None:
    found = random_detections(0, 6, 8, 4)
    for name, array in (("boxes", found.boxes[1:]), ("coefficients", found.coefficients[:, 1:])):
        with pytest.raises(ShapeError, match=name):
            found_in_c(found._replace(**{name: array}), Limits(), 32, 9, 9)
    with pytest.raises(ShapeError, match="prototypes"):
        found_in_c(found._replace(prototypes=found.prototypes[1:]), Limits(), 32, 9, 9)
