"""One seed, one phone screen with exact masks of its regions."""

from __future__ import annotations

import colorsys
import dataclasses
import random
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from keypilot.reference.config import REGIONS
from keypilot.training.screens import fonts, keyboards
from keypilot.training.screens.apps import APPS
from keypilot.training.screens.paint import Box, Painter
from keypilot.training.screens.theme import BLACK, WHITE, Color, hsv, ink_on, mix, random_theme
from keypilot.training.screens.words import Words

#: Pixels that are drawn for one of the result, in each direction.
_OVERSAMPLING = 2

#: Colour of the letterbox's margins.
_PAD = (127, 127, 127)

#: Of a region's pixels in the result, fewer than these do not count as there.
_LEAST_PIXELS = 40


@dataclasses.dataclass(frozen=True)
class Screen:
    """A rendered screen, letterboxed to a square as the encoder sees it.

    pixels : uint8 (side, side, 3), RGB.
    masks : bool (4, side / 4, side / 4), a cell where at least half of it belongs to the region.
    present : bool (4,), whether the screen shows the region.
    boxes : float32 (4, 4), x0, y0, x1, y1 in pixels of `pixels`; zeros where the region is absent.
    content : x0, y0, x1, y1 of the picture inside of the letterbox's margins.
    layout : one of `keypilot.training.screens.LAYOUTS`.
    app : which kind of screen it is.
    caption : a sentence on what the screen shows.
    texts : what is written in each region that is present, and in the rest under ``"screen"``.
    """

    pixels: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.bool_]
    present: npt.NDArray[np.bool_]
    boxes: npt.NDArray[np.float32]
    content: tuple[int, int, int, int]
    layout: str
    app: str
    caption: str
    texts: dict[str, str]

    @property
    def text(self) -> str:
        """All that is written on the screen, title first."""
        order = ("title_bar", "screen", "chat_bubble", "input_field")
        return " ".join(filter(None, (self.texts.get(name, "") for name in order)))


def render(seed: int, side: int = 256) -> Screen:
    """A phone screen, the same for the same seed, fonts and Pillow.

    Parameters
    ----------
    side : pixels of the square result, a multiple of 4; what is on the screen does not depend on it.

    Raises
    ------
    FontsMissingError : a font is not installed; the message names the Debian packages.
    ValueError : `side` is not a positive multiple of 4.
    """
    if side < 4 or side % 4:
        raise ValueError(f"side: expected a positive multiple of 4, got {side}")
    rng = random.Random(seed)
    landscape = rng.random() < 0.07
    frame = "none" if landscape else rng.choices(("none", "device", "banner"), (70, 22, 8))[0]
    short, ratio = rng.uniform(350, 420), rng.uniform(16 / 9, 20 / 9)
    if rng.random() < 0.05:
        short, ratio = rng.uniform(560, 760), 4 / 3  # a tablet
    size = (short * ratio, short) if landscape else (short, short * ratio)
    placement = _place(rng, frame, size)
    scale = _OVERSAMPLING * side / max(placement.picture)
    painter, layout, app, caption = _screen(rng, size, scale, frame == "banner")
    picture = _compose(rng, painter, placement, scale, frame)
    return _result(painter, placement, picture, side, layout, app, caption)


@dataclasses.dataclass(frozen=True)
class _Placement:
    """Where the phone's screen lies in the picture, both in dp of the screen."""

    picture: tuple[float, float]
    x: float
    y: float


def _place(rng: random.Random, frame: str, size: tuple[float, float]) -> _Placement:
    width, height = size
    if frame == "none":
        return _Placement(size, 0, 0)
    if frame == "banner":  # the screen's upper part over the caption of a store's picture
        return _Placement((width, height * rng.uniform(1.15, 1.35)), 0, 0)
    margin = width * rng.uniform(0.05, 0.35)
    top, bottom = height * rng.uniform(0.06, 0.25), height * rng.uniform(-0.25, 0.25)
    if rng.random() < 0.4:
        top, bottom = abs(bottom), top
    shift = rng.uniform(-0.3, 0.3) * margin
    return _Placement((width + 2 * margin, height + top + bottom), margin + shift, top)


def _screen(rng: random.Random, size: tuple[float, float], scale: float, bare: bool) -> tuple[Painter, str, str, str]:
    """The phone's screen alone: (painter, layout, app, caption). `bare`: without status bar and navigation."""
    width, height = size
    landscape = width > height
    dark = rng.random() < 0.45
    theme = random_theme(rng, dark)
    layout = rng.choices(keyboards.LAYOUTS, (30, 13, 8, 7, 9, 33))[0]
    typing = layout != "none"
    if bare and not typing:
        layout, typing = "EN", True
    chinese = 0.8 if layout == "ZH" else rng.choice((0.0, 0.0, 0.1, 0.7))
    face = rng.choices(fonts.FACES, (8, 3, 3, 1, 1))[0]
    image = Image.new("RGB", (max(1, round(width * scale)), max(1, round(height * scale))), theme.paper)
    painter = Painter(image, scale, theme, face, rng, Words(rng, chinese))

    status = 0.0 if bare or (landscape and rng.random() < 0.5) else rng.uniform(22, 36)
    navigation = 0.0 if bare or landscape else rng.choice((0.0, 16.0, 24.0, 44.0, 48.0))
    floating = typing and not landscape and rng.random() < 0.04
    number_row = rng.random() < 0.25
    board_dark = dark if rng.random() < 0.8 else not dark
    look = keyboards.random_look(rng, board_dark, theme.accent)
    extends = navigation < 30 and rng.random() < 0.7  # the keyboard's colour goes on under the gesture bar
    board_height = (
        min(keyboards.height(look, layout, number_row, landscape), height * (0.6 if landscape else 0.48))
        if typing
        else 0
    )
    bottom = height - navigation - (0 if floating else board_height)

    app = rng.choices(
        list(APPS), [with_keyboard if typing else without for _, without, with_keyboard in APPS.values()]
    )[0]
    caption = APPS[app][0](painter, Box(0, status, width, bottom), typing)
    if not typing and rng.random() < 0.05:
        _dialog(painter, rng.random() < 0.3)
    if typing:
        shape = rng.choices(("full", "left", "right", "split"), (90, 3, 3, 4))[0]
        if layout in ("EMOJI", "NUM") and shape == "split":
            shape = "full"
        _keyboard(
            painter, look, layout, number_row, shape, bottom, board_height, navigation if extends else 0.0, floating
        )
    _status_bar(painter, status)
    _navigation(painter, navigation, look.back if typing and extends and not floating else None)
    words = {
        "EN": "an English",
        "ZH": "a Chinese",
        "SYM": "a symbol",
        "EMOJI": "an emoji",
        "NUM": "a number",
        "none": "no",
    }
    hue = _color_name(theme.accent)
    return painter, layout, app, f"{caption}, {'dark' if dark else 'light'} with {hue}, and {words[layout]} keyboard"


def _keyboard(
    p: Painter,
    look: keyboards.Look,
    layout: str,
    number_row: bool,
    shape: str,
    top: float,
    height: float,
    under: float,
    floating: bool,
) -> None:
    if floating:
        width = p.width * p.rng.uniform(0.6, 0.85)
        height *= 0.8
        x, y = p.rng.uniform(0, p.width - width), p.rng.uniform(p.height * 0.4, p.height * 0.95 - height)
        box = Box(x, y, x + width, y + height)
        p.rect(box.inset(-4), mix(look.back, BLACK, 0.2), 12)
        p.regions = {name: (found, radius) for name, (found, radius) in p.regions.items() if not _covers(box, found)}
        keyboards.draw(p, box, look, layout, number_row, "full")
    else:
        box = Box(0, top, p.width, top + height)
        keyboards.draw(p, box, look, layout, number_row, shape)
        if under:
            p.rect(Box(0, box.y1, p.width, box.y1 + under), look.back)
            box = Box(0, top, p.width, box.y1 + under)
    p.mark("keyboard", box)


def _covers(front: Box, back: Box) -> bool:
    """Whether more than a tenth of `back` is behind `front`."""
    wide = min(front.x1, back.x1) - max(front.x0, back.x0)
    high = min(front.y1, back.y1) - max(front.y0, back.y0)
    return wide > 0 and high > 0 and wide * high > 0.1 * back.width * back.height


def _status_bar(p: Painter, height: float) -> None:
    if not height:
        return
    rng = p.rng
    if rng.random() < 0.3:
        color = p.theme.bar
    else:
        x, y = min(3, p.image.width - 1), min(p.image.height - 1, round(height * p.scale) + 1)
        color = cast("Color", p.image.getpixel((x, y)))
    p.rect(Box(0, 0, p.width, height), color)
    ink = ink_on(color)
    middle = height / 2
    if rng.random() < 0.9:
        p.text(14, middle, p.words.clock(), 12, ink, bold=rng.random() < 0.4)
    for index in range(rng.randint(1, 4)):
        p.icon(p.width - 16 - 17 * index, middle, ink, 12, rng.choice(("square", "globe", "mail", "mic", "person")))
    if rng.random() < 0.3:
        p.circle(p.width * rng.choice((0.5, 0.5, 0.1)), middle, 7, BLACK)


def _navigation(p: Painter, height: float, back: Color | None) -> None:
    if not height:
        return
    rng = p.rng
    color = back or rng.choice((p.theme.paper, p.theme.paper, BLACK, p.theme.surface))
    box = Box(0, p.height - height, p.width, p.height)
    p.rect(box, color)
    ink, middle = mix(ink_on(color), color, 0.2), box.center[1]
    if height < 30:
        p.rect(Box(p.width / 2 - 50, middle - 2, p.width / 2 + 50, middle + 2), ink, 2)
        return
    left, center, right = (p.width * share for share in (0.25, 0.5, 0.75))
    p.polygon([(left - 8, middle), (left + 7, middle - 8), (left + 7, middle + 8)], ink)
    p.circle(center, middle, 8, None if rng.random() < 0.5 else ink, ink)
    p.rect(Box(right - 7, middle - 7, right + 7, middle + 7), None, 1, ink, 1.6)


def _dialog(p: Painter, asks: bool) -> None:
    """A dialog over the dimmed screen, whose regions no longer count; one that asks has an input field."""
    rng, theme = p.rng, p.theme
    p.image.paste(Image.blend(p.image, Image.new("RGB", p.image.size, BLACK), 0.5))
    p.regions.clear()
    width, height = p.width * rng.uniform(0.75, 0.88), rng.uniform(150, 240)
    x, y = (p.width - width) / 2, (p.height - height) * rng.uniform(0.35, 0.6)
    box = Box(x, y, x + width, y + height)
    p.rect(box, mix(theme.surface, theme.paper, 0.3), rng.choice((4, 16, 28)))
    p.text(box.x0 + 24, box.y0 + 32, p.words.one("titles"), 19, theme.ink, bold=True, most=width - 48)
    if asks:
        field = Box(box.x0 + 24, box.y0 + 60, box.x1 - 24, box.y0 + 104)
        p.rect(field, theme.paper, 4, theme.accent, 2)
        text = p.words.typed()[:18]
        p.text(field.x0 + 10, field.center[1], text, 16, theme.ink)
        p.mark("input_field", field, 4, text)
    else:
        for index, line in enumerate(p.wrap(p.words.paragraph(3), 14, width - 48)[:4]):
            p.text(box.x0 + 24, box.y0 + 66 + 20 * index, line, 14, theme.faint)
    p.text(
        box.x1 - 24, box.y1 - 28, rng.choice(("OK", "Allow", "Delete", "确定")), 15, theme.accent, bold=True, anchor="r"
    )
    p.text(box.x1 - 96, box.y1 - 28, rng.choice(("Cancel", "Deny", "取消")), 15, theme.accent, bold=True, anchor="r")


def _compose(rng: random.Random, p: Painter, placement: _Placement, scale: float, frame: str) -> Image.Image:
    """The picture: the screen alone, in a device, or over a caption."""
    if frame == "none":
        return p.image
    width, height = (max(1, round(edge * scale)) for edge in placement.picture)
    back = hsv(rng.random(), rng.choice((0.0, 0.1, 0.4, 0.8)), rng.choice((0.0, 0.2, 0.6, 0.9, 1.0)))
    theme = dataclasses.replace(p.theme, paper=back, ink=ink_on(back))
    page = Painter(Image.new("RGB", (width, height), back), scale, theme, p.face, rng, p.words)
    at = round(placement.x * scale), round(placement.y * scale)
    captions = (
        "Stylish look!",
        "Fast and private",
        "Highly configurable keyboard",
        "Chat with friends",
        "All your notes",
        "Many themes",
        "Multi-device",
        "Type in any language",
        "Encrypted messages",
        "Dedicated numpad",
        "漂亮的主题",
    )
    text = rng.choice(captions)
    if frame == "banner":
        page.image.paste(p.image, at)
        if rng.random() < 0.6:
            page.circle(page.width / 2, p.height + page.width * 0.9, page.width * 0.85, mix(back, page.theme.ink, 0.15))
        page.text(
            page.width / 2,
            (p.height + page.height) / 2,
            text,
            34,
            page.theme.ink,
            bold=True,
            anchor="m",
            most=page.width - 20,
        )
        return page.image
    rim, corner = rng.uniform(6, 18), rng.choice((4.0, 18.0, 34.0))
    chin = rim if rng.random() < 0.6 else rng.uniform(30, 70)
    x, y = placement.x, placement.y
    shell = rng.choice((BLACK, mix(BLACK, WHITE, 0.2), WHITE, mix(WHITE, BLACK, 0.2)))
    body = Box(x - rim, y - chin, x + p.width + rim, y + p.height + chin)
    page.rect(body.inset(-2), mix(shell, WHITE if shell == BLACK else BLACK, 0.3), corner + 4)
    page.rect(body, shell, corner + 2)
    if corner > 10 and chin == rim:
        mask = Image.new("L", p.image.size, 0)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, p.image.width - 1, p.image.height - 1), corner * scale, 255)
        page.image.paste(p.image, at, mask)
    else:
        page.image.paste(p.image, at)
    above = body.y0 > page.height - body.y1
    room = body.y0 if above else page.height - body.y1
    if room > 40:
        size = min(34.0, room * 0.3)
        page.text(
            page.width / 2,
            room / 2 if above else page.height - room / 2,
            text,
            size,
            page.theme.ink,
            bold=True,
            anchor="m",
            most=page.width - 20,
        )
    return page.image


def _result(
    p: Painter, placement: _Placement, picture: Image.Image, side: int, layout: str, app: str, caption: str
) -> Screen:
    scale = min(side / picture.width, side / picture.height)
    inner = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    left, top = (side - inner[0]) // 2, (side - inner[1]) // 2
    square = Image.new("RGB", (side, side), _PAD)
    square.paste(picture.resize(inner, Image.Resampling.BILINEAR), (left, top))
    per_dp = inner[0] / placement.picture[0], inner[1] / placement.picture[1]

    masks = np.zeros((len(REGIONS), side // 4, side // 4), np.bool_)
    boxes = np.zeros((len(REGIONS), 4), np.float32)
    present = np.zeros(len(REGIONS), np.bool_)
    for index, name in enumerate(REGIONS):
        if name not in p.regions:
            continue
        box, radius = p.regions[name]
        edges = [
            left + (placement.x + box.x0) * per_dp[0],
            top + (placement.y + box.y0) * per_dp[1],
            left + (placement.x + box.x1) * per_dp[0],
            top + (placement.y + box.y1) * per_dp[1],
        ]
        low, high = np.array([left, top] * 2), np.array([left + inner[0], top + inner[1]] * 2)
        x0, y0, x1, y1 = np.clip(edges, low, high)
        if (x1 - x0) * (y1 - y0) < _LEAST_PIXELS * (side / 256) ** 2:
            continue
        present[index], boxes[index] = True, (x0, y0, x1, y1)
        cells: Any = Image.new("L", (side, side), 0)
        corner = min(radius * per_dp[0], (x1 - x0) / 2, (y1 - y0) / 2)
        ImageDraw.Draw(cells).rounded_rectangle((round(x0), round(y0), round(x1) - 1, round(y1) - 1), corner, 255)
        cells = cells.resize((side // 4, side // 4), Image.Resampling.BOX)
        masks[index] = np.asarray(cells) >= 128
    texts = {
        name: text for name, text in p.texts.items() if text and (name == "screen" or present[REGIONS.index(name)])
    }
    content = left, top, left + inner[0], top + inner[1]
    return Screen(np.asarray(square), masks, present, boxes, content, layout, app, caption, texts)


def _color_name(color: Color) -> str:
    hue, saturation, _ = colorsys.rgb_to_hsv(*(value / 255 for value in color))
    if saturation < 0.2:
        return "grey"
    names = ("red", "orange", "yellow", "green", "green", "teal", "cyan", "blue", "blue", "violet", "magenta", "pink")
    return names[int(hue * len(names)) % len(names)]
