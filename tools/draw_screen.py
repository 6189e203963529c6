"""Draws examples/screen.png: a messenger with a keyboard, the picture that the README encodes.

python tools/draw_screen.py [OUT.png]
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 1080, 2340
INK, PAPER, GREY, ACCENT = (28, 34, 44), (244, 246, 250), (214, 219, 228), (33, 110, 90)

MESSAGES = (  # text, sent by us
    ("Are you still coming tonight?", False),
    ("Yes! Leaving work now", True),
    ("Great. We meet at the station,", False),
    ("platform 3, at half past seven", False),
    ("Perfect, I will bring the tickets", True),
)
KEY_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def draw_screen() -> Image.Image:
    picture = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(picture)

    def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        return ImageFont.load_default(size)

    draw.rectangle((0, 0, WIDTH, 250), fill=ACCENT)
    draw.text((48, 28), "12:04", font=font(36), fill="white")
    draw.ellipse((48, 110, 158, 220), fill=(232, 190, 90))
    draw.text((196, 122), "Mira", font=font(56), fill="white")
    draw.text((196, 186), "online", font=font(34), fill=(205, 232, 222))

    top = 310
    for text, ours in MESSAGES:
        width = int(draw.textlength(text, font=font(44))) + 72
        left = WIDTH - width - 40 if ours else 40
        draw.rounded_rectangle((left, top, left + width, top + 112), 36, fill=ACCENT if ours else GREY)
        draw.text((left + 36, top + 28), text, font=font(44), fill="white" if ours else INK)
        top += 150

    draw.rounded_rectangle((32, 1330, 900, 1450), 60, fill="white", outline=GREY, width=4)
    draw.text((80, 1362), "see you at", font=font(46), fill=INK)
    draw.ellipse((930, 1330, 1050, 1450), fill=ACCENT)
    draw.polygon(((970, 1365), (970, 1415), (1016, 1390)), fill="white")

    draw.rectangle((0, 1490, WIDTH, HEIGHT), fill=(226, 230, 238))
    for row, keys in enumerate(KEY_ROWS):
        left = (WIDTH - 106 * len(keys)) // 2
        for column, key in enumerate(keys):
            x, y = left + 106 * column, 1530 + 180 * row
            draw.rounded_rectangle((x + 6, y, x + 100, y + 150), 18, fill="white")
            draw.text((x + 38, y + 42), key, font=font(56), fill=INK)
    draw.rounded_rectangle((250, 2070, 830, 2210), 18, fill="white")
    draw.rounded_rectangle((850, 2070, 1060, 2210), 18, fill=ACCENT)
    draw.rounded_rectangle((20, 2070, 230, 2210), 18, fill=GREY)
    draw.text((78, 2110), "?123", font=font(50), fill=INK)
    return picture


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "examples" / "screen.png"
    draw_screen().quantize(64).convert("RGB").save(target, optimize=True)
