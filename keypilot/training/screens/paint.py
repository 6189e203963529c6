"""Drawing in density-independent pixels on one screen, and marking where its regions are."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from keypilot.training.screens import fonts
from keypilot.training.screens.theme import WHITE, Color, Theme, hsv, mix
from keypilot.training.screens.words import Words

#: Pixels a dp at which text is measured.
_MEASURED = 4


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle, in dp."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        return self.y1 - self.y0

    @property
    def center(self) -> tuple[float, float]:
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def inset(self, x: float, y: float | None = None) -> Box:
        y = x if y is None else y
        return Box(self.x0 + x, self.y0 + y, self.x1 - x, self.y1 - y)


@dataclasses.dataclass
class Painter:
    """One screen's canvas.

    image : RGB, `scale` pixels a dp.
    regions : name -> (box, corner radius) in dp, of the regions that the screen has.
    texts : what stands in each region, and under ``"screen"`` everything else that is worth reading.
    """

    image: Image.Image
    scale: float
    theme: Theme
    face: str
    rng: random.Random
    words: Words
    regions: dict[str, tuple[Box, float]] = dataclasses.field(default_factory=dict)
    texts: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self._draw = ImageDraw.Draw(self.image)

    @property
    def width(self) -> float:
        return self.image.width / self.scale

    @property
    def height(self) -> float:
        return self.image.height / self.scale

    def mark(self, region: str, box: Box, radius: float = 0.0, text: str = "") -> None:
        """Says that `box` is a region of the screen, and what stands in it."""
        self.regions[region] = (box, radius)
        self.texts[region] = text

    def rect(
        self, box: Box, fill: Color | None, radius: float = 0.0, outline: Color | None = None, line: float = 1.0
    ) -> None:
        x0, y0, x1, y1 = (round(v * self.scale) for v in (box.x0, box.y0, box.x1, box.y1))
        if x1 <= x0 or y1 <= y0:
            return
        stroke = max(1, round(line * self.scale)) if outline else 0
        corner = min(radius * self.scale, (x1 - x0) / 2, (y1 - y0) / 2)
        if corner < 1:
            self._draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill, outline, stroke)
        else:
            self._draw.rounded_rectangle((x0, y0, x1 - 1, y1 - 1), corner, fill, outline, stroke)

    def circle(self, x: float, y: float, radius: float, fill: Color | None, outline: Color | None = None) -> None:
        x, y, r = x * self.scale, y * self.scale, radius * self.scale
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill, outline, max(1, round(self.scale)))

    def line(self, points: Sequence[tuple[float, float]], fill: Color, width: float = 1.0) -> None:
        scaled = [(x * self.scale, y * self.scale) for x, y in points]
        self._draw.line(scaled, fill, max(1, round(width * self.scale)))

    def polygon(self, points: Sequence[tuple[float, float]], fill: Color) -> None:
        self._draw.polygon([(x * self.scale, y * self.scale) for x, y in points], fill)

    # ---- Text

    def text_width(self, text: str, size: float, bold: bool = False) -> float:
        """In dp; the same at every resolution, so that the layout is."""
        return fonts.width(text, self.face, round(size * _MEASURED), bold) / _MEASURED

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        fill: Color,
        *,
        bold: bool = False,
        anchor: str = "l",
        most: float = math.inf,
    ) -> float:
        """A line whose middle is at height `y`; `anchor`: whether x is its left end, middle or right (l, m, r). What is
        wider than `most` ends in an ellipsis. Gives the width."""
        width = self.text_width(text, size, bold)
        if width > most:
            keep = int(len(text) * max(0.0, most - size) / width)
            text = text[:keep].rstrip() + "…" if keep > 0 else ""
            width = self.text_width(text, size, bold)
        x -= {"l": 0.0, "m": width / 2, "r": width}[anchor]
        fonts.draw(self.image, (x * self.scale, y * self.scale), text, self.face, self._pixels(size), bold, fill)
        return width

    def wrap(self, text: str, size: float, most: float) -> list[str]:
        """Lines no wider than about `most`."""
        lines, line = [], ""
        for word in self._pieces(text):
            if line and self.text_width(line + word, size) > most:
                lines.append(line.rstrip())
                line = word.lstrip()
            else:
                line += word
        return [*lines, line.rstrip()] if line.strip() else lines

    @staticmethod
    def _pieces(text: str) -> list[str]:
        if " " in text:
            return [word + " " for word in text.split(" ")]
        return [text[i : i + 4] for i in range(0, len(text), 4)] if len(text) > 8 else [text]

    def _pixels(self, size: float) -> int:
        return max(4, round(size * self.scale))

    # ---- Pictures

    def photo(self, box: Box, radius: float = 0.0) -> None:
        """A picture: sky over hills, a sunset, a still life of shapes, or stripes of colour."""
        rng = self.rng
        x0, y0, x1, y1 = (round(v * self.scale) for v in (box.x0, box.y0, box.x1, box.y1))
        if min(box.width, box.height) < 8:
            return
        hue = rng.random()
        top, bottom = (
            hsv(hue, rng.uniform(0.1, 0.8), rng.uniform(0.4, 1)),
            hsv(hue + rng.uniform(-0.2, 0.2), rng.uniform(0.2, 0.9), rng.uniform(0.1, 0.9)),
        )
        ramp = np.linspace(0, 1, 16)[:, None]
        column = np.rint(np.array(top) * (1 - ramp) + np.array(bottom) * ramp).astype(np.uint8)
        picture = Image.fromarray(column[:, None, :]).resize(
            (max(1, x1 - x0), max(1, y1 - y0)), Image.Resampling.BILINEAR
        )
        canvas = ImageDraw.Draw(picture)
        w, h = picture.size
        for _ in range(rng.randint(1, 7)):
            color = hsv(hue + rng.uniform(-0.3, 0.3), rng.uniform(0.1, 0.9), rng.uniform(0.05, 1))
            x, y, r = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.05, 0.4) * max(w, h)
            if rng.random() < 0.4:
                canvas.ellipse((x - r, y - r, x + r, y + r), color)
            elif rng.random() < 0.6:
                level = rng.uniform(0.3, 0.9) * h
                canvas.polygon(
                    [(0, h), *((w * i / 5, level + rng.uniform(-0.15, 0.15) * h) for i in range(6)), (w, h)], color
                )
            else:
                canvas.rectangle((x, y, x + r, y + r), color)
        if radius:
            corners = Image.new("L", picture.size, 0)
            ImageDraw.Draw(corners).rounded_rectangle((0, 0, w - 1, h - 1), min(radius * self.scale, w / 2, h / 2), 255)
            self.image.paste(picture, (x0, y0), corners)
        else:
            self.image.paste(picture, (x0, y0))

    def avatar(self, x: float, y: float, radius: float) -> None:
        """A contact's round picture: a photo or an initial."""
        if self.rng.random() < 0.5:
            self.photo(Box(x - radius, y - radius, x + radius, y + radius), radius)
            return
        fill = hsv(self.rng.random(), self.rng.uniform(0.3, 0.7), self.rng.uniform(0.5, 0.9))
        self.circle(x, y, radius, fill)
        self.text(x, y, self.rng.choice("ABCDEFGHJKLMNPRSTVWZ"), radius, WHITE, anchor="m")

    def icon(self, x: float, y: float, color: Color, size: float = 22.0, kind: str | None = None) -> None:
        """A line icon in a square of `size`; `kind` is one of `ICONS`, else any."""
        _ICONS[kind or self.rng.choice(ICONS)](self, x, y, size / 2, color)

    def toggle(self, x: float, y: float, on: bool) -> None:
        """A switch of 40 by 22 whose middle is at (x, y)."""
        track = self.theme.accent if on else mix(self.theme.paper, self.theme.ink, 0.25)
        self.rect(Box(x - 20, y - 11, x + 20, y + 11), track, 11)
        self.circle(x + (9 if on else -9), y, 8, WHITE)


def _arrow(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    p.line([(x - r * 0.7, y), (x + r * 0.7, y)], c, 2)
    p.line([(x, y - r * 0.7), (x - r * 0.7, y), (x, y + r * 0.7)], c, 2)


def _dots(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    for offset in (-0.6, 0, 0.6):
        p.circle(x, y + offset * r, r * 0.16, c)


def _search(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    p.circle(x - r * 0.15, y - r * 0.15, r * 0.5, None, c)
    p.line([(x + r * 0.25, y + r * 0.25), (x + r * 0.75, y + r * 0.75)], c, 2)


def _plus(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    p.line([(x - r * 0.7, y), (x + r * 0.7, y)], c, 2)
    p.line([(x, y - r * 0.7), (x, y + r * 0.7)], c, 2)


def _gear(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    p.circle(x, y, r * 0.7, c)
    p.circle(x, y, r * 0.28, p.theme.paper)


def _menu(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    for offset in (-0.5, 0, 0.5):
        p.line([(x - r * 0.7, y + offset * r), (x + r * 0.7, y + offset * r)], c, 1.6)


def _phone(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    p.line([(x - r * 0.6, y - r * 0.5), (x - r * 0.2, y + r * 0.2), (x + r * 0.5, y + r * 0.6)], c, r * 0.35)


def _mail(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    p.rect(Box(x - r * 0.8, y - r * 0.6, x + r * 0.8, y + r * 0.6), None, 1, c, 1.6)
    p.line([(x - r * 0.7, y - r * 0.5), (x, y + r * 0.1), (x + r * 0.7, y - r * 0.5)], c, 1.6)


def _person(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    p.circle(x, y - r * 0.35, r * 0.35, c)
    p.rect(Box(x - r * 0.65, y + r * 0.15, x + r * 0.65, y + r * 0.75), c, r * 0.3)


def _camera(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    p.rect(Box(x - r * 0.8, y - r * 0.5, x + r * 0.8, y + r * 0.65), None, 2, c, 1.8)
    p.circle(x, y + r * 0.08, r * 0.3, None, c)


def _mic(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    p.rect(Box(x - r * 0.25, y - r * 0.8, x + r * 0.25, y + r * 0.2), c, r * 0.25)
    p.line([(x - r * 0.5, y), (x, y + r * 0.5), (x + r * 0.5, y)], c, 1.6)
    p.line([(x, y + r * 0.5), (x, y + r * 0.8)], c, 1.6)


def _send(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    p.polygon([(x - r * 0.7, y - r * 0.65), (x + r * 0.8, y), (x - r * 0.7, y + r * 0.65), (x - r * 0.45, y)], c)


def _face(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    p.circle(x, y, r * 0.75, None, c)
    p.circle(x - r * 0.28, y - r * 0.2, r * 0.1, c)
    p.circle(x + r * 0.28, y - r * 0.2, r * 0.1, c)
    p.line([(x - r * 0.3, y + r * 0.25), (x, y + r * 0.4), (x + r * 0.3, y + r * 0.25)], c, 1.4)


def _clip(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    p.line(
        [
            (x - r * 0.5, y + r * 0.5),
            (x + r * 0.4, y - r * 0.5),
            (x + r * 0.6, y - r * 0.2),
            (x - r * 0.2, y + r * 0.6),
        ],
        c,
        1.6,
    )


def _bin(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    p.rect(Box(x - r * 0.5, y - r * 0.4, x + r * 0.5, y + r * 0.75), c, 1)
    p.line([(x - r * 0.7, y - r * 0.6), (x + r * 0.7, y - r * 0.6)], c, 2)


def _globe(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    p.circle(x, y, r * 0.75, None, c)
    p.line([(x - r * 0.75, y), (x + r * 0.75, y)], c, 1.2)
    p.line([(x, y - r * 0.75), (x, y + r * 0.75)], c, 1.2)


def _heart(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    p.circle(x - r * 0.35, y - r * 0.2, r * 0.38, c)
    p.circle(x + r * 0.35, y - r * 0.2, r * 0.38, c)
    p.polygon([(x - r * 0.7, y - r * 0.05), (x + r * 0.7, y - r * 0.05), (x, y + r * 0.75)], c)


def _close(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    p.line([(x - r * 0.55, y - r * 0.55), (x + r * 0.55, y + r * 0.55)], c, 2)
    p.line([(x - r * 0.55, y + r * 0.55), (x + r * 0.55, y - r * 0.55)], c, 2)


def _square(p: Painter, x: float, y: float, r: float, c: Color) -> None:
    p.rect(Box(x - r * 0.6, y - r * 0.6, x + r * 0.6, y + r * 0.6), None, 2, c, 1.8)


_ICONS = {
    "arrow": _arrow,
    "dots": _dots,
    "search": _search,
    "plus": _plus,
    "gear": _gear,
    "menu": _menu,
    "phone": _phone,
    "mail": _mail,
    "person": _person,
    "camera": _camera,
    "mic": _mic,
    "send": _send,
    "face": _face,
    "clip": _clip,
    "bin": _bin,
    "globe": _globe,
    "heart": _heart,
    "close": _close,
    "square": _square,
}
ICONS = tuple(_ICONS)
