"""Fonts of Debian packages, and strings drawn with them: Latin, CJK and emoji, mixed."""

from __future__ import annotations

import functools
import itertools
import os
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from keypilot.errors import KeyPilotError

#: Text faces: (regular, bold).
_FACES = {
    "roboto": ("Roboto-Regular.ttf", "Roboto-Bold.ttf"),
    "open-sans": ("OpenSans-Regular.ttf", "OpenSans-Semibold.ttf"),
    "lato": ("Lato-Regular.ttf", "Lato-Bold.ttf"),
    "dejavu": ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
    "liberation": ("LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf"),
}
FACES = tuple(_FACES)

_CJK = ("NotoSansCJK-Regular.ttc", "NotoSansCJK-Bold.ttc")
_EMOJI = "NotoColorEmoji.ttf"

#: The only size, in pixels, that the colour emoji font holds.
_EMOJI_SIZE = 109

PACKAGES = (
    "fonts-roboto-unhinted fonts-open-sans fonts-lato fonts-dejavu-core fonts-liberation2 fonts-noto-cjk "
    "fonts-noto-color-emoji"
)

_LATIN, _WIDE, _PICTURE = range(3)


class FontsMissingError(KeyPilotError):
    """A font that screens are drawn with is not installed; the message names the Debian packages."""


@functools.cache
def _files() -> dict[str, Path]:
    """Font files of this machine by name."""
    data = [
        Path.home() / ".local/share",
        *map(Path, os.environ.get("XDG_DATA_DIRS", "/usr/local/share:/usr/share").split(":")),
    ]
    found: dict[str, Path] = {}
    for folder in data:
        for path in (folder / "fonts").rglob("*.tt[fc]"):
            found.setdefault(path.name, path)
    return found


@functools.lru_cache(maxsize=512)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    path = _files().get(name)
    if path is None:
        raise FontsMissingError(
            f"font {name!r}: expected among the installed fonts, not found; on Debian: apt-get install {PACKAGES}"
        )
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


@functools.lru_cache(maxsize=2048)
def _emoji(character: str, size: int) -> Image.Image:
    """One emoji, RGBA, `size` pixels wide."""
    font = _font(_EMOJI, _EMOJI_SIZE)
    glyph = Image.new("RGBA", (136, 128), (0, 0, 0, 0))
    ImageDraw.Draw(glyph).text((0, 0), character, font=font, embedded_color=True)
    return glyph.resize((size, max(1, size * 128 // 136)), Image.Resampling.BOX)


def _kind(character: str) -> int:
    code = ord(character)
    if code >= 0x1F000 or 0x2600 <= code <= 0x27BF:
        return _PICTURE
    return _WIDE if code >= 0x2E80 else _LATIN


@functools.lru_cache(maxsize=4096)
def _runs(text: str) -> tuple[tuple[int, str], ...]:
    return tuple((kind, "".join(group)) for kind, group in itertools.groupby(text, _kind))


def width(text: str, face: str, size: int, bold: bool) -> float:
    """Pixels that `text` takes on a line."""
    total = 0.0
    for kind, run in _runs(text):
        if kind == _PICTURE:
            total += len(run) * size * 1.2
        else:
            total += _font(_CJK[bold] if kind == _WIDE else _FACES[face][bold], size).getlength(run)
    return total


def draw(
    image: Image.Image, at: tuple[float, float], text: str, face: str, size: int, bold: bool, fill: tuple[int, int, int]
) -> None:
    """Draws `text` with the left end of its line's middle at `at`, in pixels."""
    x, y = at
    canvas = ImageDraw.Draw(image)
    for kind, run in _runs(text):
        if kind == _PICTURE:
            for character in run:
                glyph = _emoji(character, max(1, round(size * 1.15)))
                image.paste(glyph, (round(x), round(y - glyph.height / 2)), glyph)
                x += size * 1.2
            continue
        font = _font(_CJK[bold] if kind == _WIDE else _FACES[face][bold], size)
        canvas.text((x, y), run, fill=fill, font=font, anchor="lm")
        x += font.getlength(run)
