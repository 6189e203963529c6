"""On-screen keyboards: English letters, Chinese (pinyin, nine keys), symbols, emoji and numbers, in many looks."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from keypilot.training.screens.paint import Box, Painter
from keypilot.training.screens.theme import BLACK, WHITE, Color, hsv, ink_on, luminance, mix
from keypilot.training.screens.words import EMOJI

#: Layouts, as labels of a screen.
LAYOUTS = ("EN", "ZH", "SYM", "EMOJI", "NUM", "none")

_LETTERS = {
    "qwerty": ("qwertyuiop", "asdfghjkl", "zxcvbnm"),
    "qwertz": ("qwertzuiop", "asdfghjkl", "yxcvbnm"),
    "azerty": ("azertyuiop", "qsdfghjklm", "wxcvbn"),
}
_SYMBOLS = (
    ("1234567890", "@#$_&-+()/", "*\"':;!?"),
    ("~`|•√π÷×¶∆", "£¢€¥^°={}\\", "%©®™✓[]"),
    ("!@#¥%…&*()", "—+={}|[];:", "、。《》？～"),
)
_NINE = ("分词", "ABC", "DEF", "GHI", "JKL", "MNO", "PQRS", "TUV", "WXYZ")
_NUMPADS = (("123", "456", "789", ",0."), ("123", "456", "789", "*0#"), ("789", "456", "123", "0.="))


@dataclasses.dataclass(frozen=True)
class Look:
    """A keyboard's colours and shapes; sizes in dp."""

    back: Color
    key: Color
    special: Color
    action: Color
    ink: Color
    faint: Color
    bordered: bool
    radius: float
    gap: float
    row: float
    hints: bool
    capitals: bool
    strip: float
    photo: bool


def random_look(rng: random.Random, dark: bool, accent: Color) -> Look:
    hue = rng.random()
    if rng.random() < 0.25:  # a theme of its own
        back = hsv(hue, rng.uniform(0.05, 0.7), rng.uniform(0.2, 1.0))
    elif dark:
        back = mix(hsv(hue, 0.25, rng.uniform(0.05, 0.25)), accent, rng.choice((0.0, 0.0, 0.1)))
    else:
        back = mix(hsv(hue, 0.04, rng.uniform(0.82, 0.97)), accent, rng.choice((0.0, 0.05, 0.15)))
    light = luminance(back) > 0.5
    bordered = rng.random() < 0.65
    lifted = mix(back, WHITE, rng.uniform(0.5, 1.0)) if light else mix(back, WHITE, rng.uniform(0.1, 0.25))
    special = mix(back, BLACK if light else WHITE, rng.uniform(0.05, 0.15))
    return Look(
        back=back,
        key=lifted if bordered else back,
        special=special if bordered else back,
        action=accent if rng.random() < 0.7 else special,
        ink=mix(BLACK if light else WHITE, back, rng.uniform(0, 0.2)),
        faint=mix(BLACK if light else WHITE, back, 0.45),
        bordered=bordered,
        radius=rng.choice((2, 4, 6, 8, 20)),
        gap=rng.uniform(2, 6),
        row=rng.uniform(44, 56),
        hints=rng.random() < 0.4,
        capitals=rng.random() < 0.25,
        strip=rng.choice((0, 36, 40, 44, 44)),
        photo=rng.random() < 0.06,
    )


def height(look: Look, layout: str, number_row: bool, landscape: bool) -> float:
    """The keyboard's height in dp."""
    rows = {"EMOJI": 5.0}.get(layout, 4.0) + (1.0 if number_row and layout in ("EN", "ZH") else 0.0)
    row = look.row * (0.72 if landscape else 1.0)
    strip = look.strip if layout != "ZH" else max(look.strip, 40)
    return rows * row + strip * (0.8 if landscape else 1.0) + 8


def draw(p: Painter, box: Box, look: Look, layout: str, number_row: bool, shape: str) -> None:
    """Fills `box` with a keyboard.

    Parameters
    ----------
    layout : one of `LAYOUTS` but ``"none"``.
    shape : ``"full"``, ``"left"`` or ``"right"`` (one-handed), or ``"split"``.
    """
    p.rect(box, look.back)
    if look.photo:
        p.photo(box)
    keys = box
    if shape in ("left", "right"):
        spare = box.width * p.rng.uniform(0.12, 0.22)
        keys = (
            Box(box.x0, box.y0, box.x1 - spare, box.y1)
            if shape == "left"
            else Box(box.x0 + spare, box.y0, box.x1, box.y1)
        )
        side = (keys.x1 + box.x1) / 2 if shape == "left" else (keys.x0 + box.x0) / 2
        for share in (0.25, 0.5, 0.75):
            p.icon(side, box.y0 + share * box.height, look.faint, 20)
    strip = look.strip if layout != "ZH" else max(look.strip, 40)
    if box.height < 4 * look.row:
        strip *= 0.8
    if strip:
        _strip(p, Box(keys.x0, keys.y0, keys.x1, keys.y0 + strip), look, layout)
    rows = Box(keys.x0 + 3, keys.y0 + strip + 2, keys.x1 - 3, keys.y1 - 4)
    if layout == "EMOJI":
        _emoji(p, rows, look)
    elif layout == "NUM":
        _numbers(p, rows, look)
    elif layout == "ZH" and p.rng.random() < 0.5:
        _nine(p, rows, look)
    else:
        _letters(p, rows, look, layout, number_row, 0.3 if shape == "split" else 0.0)


def _strip(p: Painter, box: Box, look: Look, layout: str) -> None:
    rng = p.rng
    middle = box.center[1]
    kind = rng.random()
    if layout == "ZH":
        x = box.x0 + 12
        if rng.random() < 0.4:
            p.text(x, box.y0 + 8, rng.choice(("ni'hao", "zhong", "wo'men", "jin'tian", "shi")), 10, look.faint)
        for index, word in enumerate(p.words.several("candidates", 9)):
            if x > box.x1 - 40:
                break
            x += p.text(x, middle + 3, word, 17, p.theme.accent if index == 0 else look.ink) + 18
        p.icon(box.x1 - 16, middle, look.faint, 18)
    elif kind < 0.5:
        words = p.words.several("suggestions", 3)
        for index, word in enumerate(words):
            p.text(
                box.x0 + box.width * (index + 0.5) / 3,
                middle,
                word,
                16,
                look.ink,
                anchor="m",
                bold=index == 1 and rng.random() < 0.4,
            )
        if rng.random() < 0.6:
            for share in (1 / 3, 2 / 3):
                x = box.x0 + box.width * share
                p.line([(x, box.y0 + 10), (x, box.y1 - 10)], look.faint)
    else:
        count = rng.randint(4, 9)
        for index in range(count):
            p.icon(box.x0 + box.width * (index + 0.5) / count, middle, look.ink, 20)


def _key(
    p: Painter, box: Box, look: Look, label: str, *, fill: Color | None = None, size: float = 20, hint: str = ""
) -> None:
    color = look.key if fill is None else fill
    body = box.inset(look.gap / 2, look.gap / 2 + 0.5)
    if color != look.back or look.bordered:
        p.rect(body, color, look.radius)
    ink = look.ink if fill is None or fill in (look.key, look.special, look.back) else ink_on(color)
    if label:
        p.text(*box.center, label, size, ink, anchor="m")
    if hint:
        p.text(body.x1 - 3, body.y0 + 7, hint, 8, look.faint, anchor="r")


def _icon_key(p: Painter, box: Box, look: Look, kind: str, fill: Color) -> None:
    _key(p, box, look, "", fill=fill)
    p.icon(*box.center, look.ink if fill in (look.key, look.special, look.back) else ink_on(fill), 18, kind)


def _row(box: Box, weights: Sequence[float]) -> list[Box]:
    """Boxes side by side, as wide as their weights."""
    unit, x, boxes = box.width / sum(weights), box.x0, []
    for weight in weights:
        boxes.append(Box(x, box.y0, x + weight * unit, box.y1))
        x += weight * unit
    return boxes


def _letters(p: Painter, box: Box, look: Look, layout: str, number_row: bool, split: float) -> None:
    rng = p.rng
    rows: tuple[str, ...] = (
        rng.choice(_SYMBOLS) if layout == "SYM" else _LETTERS[rng.choices(tuple(_LETTERS), (8, 1, 1))[0]]
    )
    if layout == "ZH":
        rows = _LETTERS["qwerty"]
    if number_row and layout in ("EN", "ZH"):
        rows = ("1234567890", *rows)
    upper = look.capitals or (layout == "ZH" and rng.random() < 0.4)
    hints = look.hints and layout != "SYM"
    step = box.height / (len(rows) + 1)

    def place(key: Box) -> Box:
        """Moves the halves of a split keyboard to the sides."""
        if not split:
            return key
        side, share = box.x0 if key.center[0] < box.center[0] else box.x1, 1 - split
        return Box(side + (key.x0 - side) * share, key.y0, side + (key.x1 - side) * share, key.y1)

    for index, letters in enumerate(rows):
        line = Box(box.x0, box.y0 + index * step, box.x1, box.y0 + (index + 1) * step)
        ends = index == len(rows) - 1
        spare = (10 - len(letters)) / 2
        weights = [spare] * bool(spare) + [1.0] * len(letters) + [spare] * bool(spare)
        keys = _row(line, weights)
        if spare:
            left, *keys, right = keys
            if ends:
                _icon_key(p, place(left.inset(1, 0)), look, "square" if layout == "SYM" else "plus", look.special)
                _icon_key(p, place(right.inset(1, 0)), look, "close", look.special)
        for place_index, (key, letter) in enumerate(zip(keys, letters, strict=True)):
            hint = "1234567890@#$_&-+()*\"':;!?"[(index * 10 + place_index) % 26] if hints else ""
            _key(p, place(key), look, letter.upper() if upper else letter, size=min(22, step * 0.42), hint=hint)
    line = Box(box.x0, box.y1 - step, box.x1, box.y1)
    words = {"EN": "English", "ZH": rng.choice(("拼音", "中文", "空格"))}.get(layout, "")
    mode = "ABC" if layout == "SYM" else rng.choice(("?123", "123", "!#1"))
    keys = _row(line, (1.4, 1.0, 1.0, rng.uniform(3.6, 4.6), 1.0, 1.5))
    if split:
        keys = [place(key) for key in keys]
    _key(p, keys[0], look, mode, fill=look.special, size=14)
    _key(p, keys[1], look, "," if layout != "ZH" else "，", fill=look.special, size=16)
    _icon_key(p, keys[2], look, rng.choice(("face", "globe")), look.special)
    _key(
        p,
        keys[3].inset(0, 1),
        look,
        words if rng.random() < 0.6 else "",
        fill=look.key if look.bordered else look.special,
        size=12,
    )
    _key(p, keys[4], look, "." if layout != "ZH" else "。", fill=look.special, size=16)
    _icon_key(p, keys[5], look, rng.choice(("arrow", "send", "search")), look.action)


def _nine(p: Painter, box: Box, look: Look) -> None:
    """Nine keys of letter groups between two columns."""
    columns = _row(box, (0.8, 1.2, 1.2, 1.2, 0.9))
    step = box.height / 4
    p.rect(Box(columns[0].x0, box.y0, columns[0].x1, box.y0 + 3 * step).inset(look.gap / 2), look.special, look.radius)
    for index, mark in enumerate("，。？！"):
        p.text(columns[0].center[0], box.y0 + (index + 0.5) * step * 0.75, mark, 15, look.ink, anchor="m")
    for index, label in enumerate(_NINE):
        column = columns[1 + index % 3]
        top = box.y0 + index // 3 * step
        _key(
            p,
            Box(column.x0, top, column.x1, top + step),
            look,
            label,
            size=15,
            hint=str(index + 1) if look.hints else "",
        )
    for index, kind in enumerate(("close", "plus", "face")):
        top = box.y0 + index * step
        _icon_key(p, Box(columns[4].x0, top, columns[4].x1, top + step), look, kind, look.special)
    last = Box(box.x0, box.y1 - step, box.x1, box.y1)
    keys = _row(last, (0.8, 0.8, 2.0, 0.8, 0.9))
    _key(p, keys[0], look, "符", fill=look.special, size=14)
    _key(p, keys[1], look, "123", fill=look.special, size=13)
    _key(p, keys[2], look, p.rng.choice(("空格", "", "拼音")), size=12)
    _key(p, keys[3], look, "中/英", fill=look.special, size=11)
    _key(p, keys[4], look, p.rng.choice(("发送", "换行", "搜索")), fill=look.action, size=13)


def _numbers(p: Painter, box: Box, look: Look) -> None:
    """A numeric pad: three columns, with a column of signs on the left, or on the right, or on both sides."""
    rng = p.rng
    pad = rng.choice(_NUMPADS)
    left = rng.random() < 0.5
    weights = [0.7] * left + [1.0, 1.0, 1.0] + [0.8]
    columns = _row(box, weights)
    step = box.height / 4
    size = rng.choice((18, 24, 30))
    for row, digits in enumerate(pad):
        top = box.y0 + row * step
        for column, digit in enumerate(digits):
            key = columns[column + left]
            _key(p, Box(key.x0, top, key.x1, top + step), look, digit, size=size)
        if left:
            _key(
                p,
                Box(columns[0].x0, top, columns[0].x1, top + step),
                look,
                ("+", "-", "*", "ABC")[row],
                fill=look.special,
                size=14,
            )
        right = Box(columns[-1].x0, top, columns[-1].x1, top + step)
        if row == 3:
            _icon_key(p, right, look, "arrow", look.action)
        elif row == rng.randint(0, 2):
            _icon_key(p, right, look, "close", look.special)
        else:
            _key(p, right, look, rng.choice("%-_./ "), fill=look.special, size=15)


def _emoji(p: Painter, box: Box, look: Look) -> None:
    """Tabs of categories, a grid, and a row to go back to letters."""
    rng = p.rng
    columns = rng.randint(7, 9)
    step = box.height / 5
    tabs = rng.randint(6, 9)
    for index in range(tabs):
        p.icon(
            box.x0 + box.width * (index + 0.5) / tabs,
            box.y0 + step * 0.4,
            p.theme.accent if index == 0 else look.faint,
            17,
        )
    size = min(26, step * 0.55)
    for row in range(3):
        for column in range(columns):
            x = box.x0 + box.width * (column + 0.5) / columns
            p.text(x, box.y0 + step * (row + 1.35), rng.choice(EMOJI), size, look.ink, anchor="m")
    y = box.y1 - step * 0.5
    p.text(box.x0 + 28, y, "ABC", 14, look.ink, anchor="m")
    p.icon(box.x1 - 28, y, look.ink, 18, "close")
    if rng.random() < 0.5:
        for share in (0.3, 0.5, 0.7):
            p.icon(box.x0 + box.width * share, y, look.faint, 17)
