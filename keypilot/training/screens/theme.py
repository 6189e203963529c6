"""Colours of an app, as design systems derive them from one accent."""

from __future__ import annotations

import colorsys
import dataclasses
import random

Color = tuple[int, int, int]

BLACK: Color = (0, 0, 0)
WHITE: Color = (255, 255, 255)


def hsv(hue: float, saturation: float, value: float) -> Color:
    """An RGB colour from hue, saturation and value, each 0 to 1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def mix(a: Color, b: Color, share: float) -> Color:
    """`share` of the way from `a` to `b`."""
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def luminance(color: Color) -> float:
    """0 (black) to 1 (white)."""
    return (0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]) / 255


def ink_on(color: Color) -> Color:
    """Black or white, whichever is readable on `color`."""
    return BLACK if luminance(color) > 0.55 else WHITE


@dataclasses.dataclass(frozen=True)
class Theme:
    """An app's colours: `paper` behind all, `surface` of cards and fields, `ink` of text, `faint` of secondary text."""

    dark: bool
    paper: Color
    surface: Color
    ink: Color
    faint: Color
    accent: Color
    line: Color
    bar: Color
    bar_ink: Color


def random_theme(rng: random.Random, dark: bool) -> Theme:
    """White or tinted paper, or dark grey to black, under an app bar that is plain, tinted or full of colour."""
    hue = rng.random()
    accent = hsv(hue, rng.uniform(0.45, 0.95), rng.uniform(0.45, 0.9))
    tint = rng.choice((0.0, 0.0, 0.03, 0.08))
    if dark:
        paper = mix(hsv(hue, rng.choice((0.0, 0.1, 0.35)), rng.choice((0.0, 0.07, 0.12, 0.18))), accent, tint / 2)
        ink = mix(WHITE, paper, rng.uniform(0.0, 0.15))
        surface = mix(paper, WHITE, rng.uniform(0.06, 0.16))
    else:
        paper = mix(mix(WHITE, BLACK, rng.choice((0.0, 0.0, 0.02, 0.06))), accent, tint)
        ink = mix(BLACK, paper, rng.uniform(0.0, 0.2))
        surface = mix(paper, BLACK, rng.uniform(0.04, 0.1)) if rng.random() < 0.6 else mix(paper, accent, 0.15)
    bar = {"plain": paper, "tinted": mix(paper, accent, 0.18), "full": accent, "surface": surface}[
        rng.choices(("plain", "tinted", "full", "surface"), (5, 2, 4, 2))[0]
    ]
    return Theme(
        dark=dark,
        paper=paper,
        surface=surface,
        ink=ink,
        faint=mix(ink, paper, rng.uniform(0.35, 0.55)),
        accent=accent,
        line=mix(paper, ink, rng.uniform(0.08, 0.2)),
        bar=bar,
        bar_ink=ink if bar in (paper, surface) else ink_on(bar),
    )
