"""Pictures from files and from PIL, as the pixels that the encoder takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from keypilot.errors import ArgumentError

if TYPE_CHECKING:
    import PIL.Image

#: PIL's modes that are accepted: black and white, grey, palette and RGB, with and without alpha, and 16-bit grey.
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")

#: Endings of the files that are taken for pictures in a folder to calibrate on.
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder to calibrate on, by name.

    Raises
    ------
    ArgumentError : it is no folder, or has none.
    """
    if not folder.is_dir():
        raise ArgumentError(f"--calibrate: there is no folder {str(folder)!r}")
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    if not pictures:
        raise ArgumentError(f"--calibrate: {str(folder)!r} has no picture ({', '.join(ENDINGS)})")
    return pictures


def load_rgb(picture: str | os.PathLike[str] | PIL.Image.Image) -> npt.NDArray[np.uint8]:
    """A picture upright and in 8-bit RGB.

    EXIF's orientation is applied, alpha is dropped without blending, and of 16 bits the upper 8 are kept, as Pillow
    does when it reads a 16-bit RGB file.

    Parameters
    ----------
    picture : the path of a file in any format that Pillow reads, or a PIL image in one of `MODES`.

    Returns
    -------
    array : uint8 (H, W, 3).

    Raises
    ------
    OSError : the file is not a picture, or cannot be read.
    ArgumentError : the picture has another mode, as CMYK or 32-bit floats, or more pixels than Pillow lets a file have.
    """
    from PIL import Image

    if not isinstance(picture, Image.Image):
        path = Path(picture)
        try:
            with Image.open(path) as image:
                return _upright_rgb(image, str(path))
        except Image.DecompressionBombError as error:
            raise ArgumentError(f"{path}: {error}") from error
    return _upright_rgb(picture, "image")


def _upright_rgb(image: PIL.Image.Image, name: str) -> npt.NDArray[np.uint8]:
    from PIL import ImageOps

    if image.mode not in MODES:
        raise ArgumentError(f"{name}: expected a picture of mode {', '.join(MODES)}, got mode {image.mode}")
    upright = ImageOps.exif_transpose(image)
    if image.mode == "I;16":
        grey = (np.asarray(upright) >> 8).astype(np.uint8)
        return np.repeat(grey[..., np.newaxis], 3, axis=2)
    return np.asarray(upright.convert("RGB"))
