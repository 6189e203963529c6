"""Rendered phone screens with exact region masks: what the default model is trained on.

    screen = render(seed=7)
    screen.pixels, screen.masks, screen.layout, screen.caption

Fonts come from Debian packages, `FONT_PACKAGES`; nothing else is needed beyond KeyPilot's own dependencies.
"""

from keypilot.reference.config import REGIONS
from keypilot.training.screens.fonts import PACKAGES as FONT_PACKAGES
from keypilot.training.screens.fonts import FontsMissingError
from keypilot.training.screens.keyboards import LAYOUTS
from keypilot.training.screens.render import Screen, render

__all__ = ["FONT_PACKAGES", "LAYOUTS", "REGIONS", "FontsMissingError", "Screen", "render"]
