"""Rendered screens: the same for a seed, with masks where the regions are drawn, and varied."""

import collections
import subprocess
import sys

import numpy as np
import pytest

from keypilot.training import screens
from keypilot.training.screens import render

pytestmark = pytest.mark.usefixtures("fonts")


@pytest.fixture(scope="module")
def many():
    return [render(seed, 128) for seed in range(300)]


def test_a_seed_gives_the_same_screen_in_another_process():
    code = "from keypilot.training.screens import render; print(render(11, 64).pixels.sum())"
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    here = render(11, 64)
    assert int(there) == here.pixels.sum()
    assert np.array_equal(here.pixels, render(11, 64).pixels)
    assert not np.array_equal(here.pixels, render(12, 64).pixels)


def test_what_a_screen_shows_does_not_depend_on_its_resolution():
    for seed in range(40):
        small, large = render(seed, 128), render(seed, 512)
        assert (small.app, small.layout, small.caption) == (large.app, large.layout, large.caption)
        both = small.present & large.present
        np.testing.assert_allclose(small.boxes[both] * 4, large.boxes[both], atol=6)


def test_masks_fill_their_boxes_and_are_empty_where_a_region_is_absent(many):
    for screen in many:
        assert screen.pixels.shape == (128, 128, 3)
        assert screen.masks.shape == (4, 32, 32)
        for mask, box, present in zip(screen.masks, screen.boxes, screen.present, strict=True):
            if not present:
                assert not mask.any() and not box.any()
                continue
            area = (box[2] - box[0]) * (box[3] - box[1]) / 16
            rows, columns = np.nonzero(mask)
            assert mask.sum() <= (np.ceil(box[2] / 4) - box[0] // 4) * (np.ceil(box[3] / 4) - box[1] // 4)
            if area > 60:
                assert mask.sum() > 0.7 * area
                inside = [columns.min() * 4 + 2, rows.min() * 4 + 2, columns.max() * 4 + 2, rows.max() * 4 + 2]
                assert (np.array(inside) > box[[0, 1, 0, 1]] - 1).all()
                assert (np.array(inside) < box[[2, 3, 2, 3]] + 1).all()


def test_a_keyboard_is_there_exactly_where_the_layout_names_one(many):
    keyboard = screens.REGIONS.index("keyboard")
    for screen in many:
        # The bottom of a device, keyboard and all, may lie outside of the picture.
        assert screen.layout != "none" or not screen.present[keyboard]
    shown = [screen.present[keyboard] for screen in many if screen.layout != "none"]
    assert np.mean(shown) > 0.95


def test_the_pixels_of_a_keyboard_differ_from_those_of_the_screen_without_it(many):
    """The mask covers something that is drawn: within it, rows of keys make edges."""
    keyboard = screens.REGIONS.index("keyboard")
    edges = []
    for screen in many:
        if not screen.present[keyboard]:
            continue
        x0, y0, x1, y1 = screen.boxes[keyboard].round().astype(int)
        inside = screen.pixels[y0:y1, x0:x1].astype(int)
        edges.append(np.abs(np.diff(inside, axis=1)).mean())
    assert np.median(edges) > 3


def test_screens_are_varied(many):
    layouts = collections.Counter(screen.layout for screen in many)
    apps = collections.Counter(screen.app for screen in many)
    assert set(layouts) == set(screens.LAYOUTS) and min(layouts.values()) >= 8
    assert len(apps) >= 12 and max(apps.values()) < 100
    assert len({screen.caption for screen in many}) > 250
    assert 0.3 < np.mean(["dark" in screen.caption for screen in many]) < 0.6
    present = np.mean([screen.present for screen in many], axis=0)
    assert (present > 0.15).all() and (present < 0.9).all()


def test_texts_are_those_of_regions_that_are_shown(many):
    for screen in many:
        for name in screen.texts:
            assert name == "screen" or screen.present[screens.REGIONS.index(name)]


@pytest.mark.parametrize("side", [0, -4, 254])
def test_a_side_that_masks_do_not_divide_is_refused(side):
    with pytest.raises(ValueError, match="positive multiple of 4"):
        render(0, side)


def test_a_missing_font_names_the_packages(monkeypatch):
    from keypilot.training.screens import fonts

    monkeypatch.setattr(fonts, "_files", dict)
    fonts._font.cache_clear()
    with pytest.raises(screens.FontsMissingError, match="apt-get install .*fonts-noto-cjk"):
        render(0, 64)
    fonts._font.cache_clear()
