"""Calibration data of imported networks: texts and pictures from files, or built-in ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keypilot.convert.encoder_calibration import TEXTS
from keypilot.errors import ArgumentError
from keypilot.picture import load_rgb, pictures_in
from keypilot.text_encoder import text_inputs
from keypilot.tokenizer import Tokenizer

Batches = list[dict[str, npt.NDArray[Any]]]

#: Texts, and pictures, at most: evenly spaced ones where there are more.
_MOST_TEXTS, _MOST_PICTURES = 256, 64

_DRAWN = 16


def text_batches(path: Path | None, tokenizer: Mapping[str, Any], names: Sequence[str]) -> tuple[Batches, str]:
    """(a batch of one text each, what they are).

    Parameters
    ----------
    path : a text file, or a folder with ``.txt`` files, of one text a line; None: built-in texts.
    tokenizer : the model file's keys of the tokenizer.
    names : the program's inputs.

    Raises
    ------
    ArgumentError : there is no text at `path`.
    OSError : a file cannot be read.
    """
    texts, source = (list(TEXTS), f"{len(TEXTS)} built-in texts") if path is None else _texts(path)
    encoder = Tokenizer(dict(tokenizer), tokenizer["keypilot.tokenizer.max_tokens"])
    offset = tokenizer["keypilot.tokenizer.position_offset"]
    ids = [ids for ids in encoder.encode_batch(texts) if len(ids)]
    return [text_inputs(np.array([row]), names, offset) for row in ids], source


def _texts(path: Path) -> tuple[list[str], str]:
    if not path.exists():
        raise ArgumentError(f"--calibrate: there is no {str(path)!r}")
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    lines = []
    for file in files:
        try:
            lines += file.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ArgumentError(f"--calibrate: {file}: expected UTF-8 text, one text a line: {error}") from error
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        where = "no .txt file with a line of text" if path.is_dir() else "no line of text"
        raise ArgumentError(f"--calibrate: {str(path)!r} has {where}")
    texts = _spaced(texts, _MOST_TEXTS)
    return texts, f"{len(texts)} texts"


def image_batches(
    path: Path | None, height: int, width: int, mean: Sequence[float], std: Sequence[float]
) -> tuple[Batches, str]:
    """(a batch of one picture each, what they are); pictures are cropped and scaled to `height` x `width`.

    Parameters
    ----------
    path : a folder of pictures; None: drawn screens.

    Raises
    ------
    ArgumentError : there is no picture at `path`.
    OSError : a file cannot be read.
    """
    from PIL import Image, ImageOps

    from keypilot.reference.image import normalize
    from keypilot.reference.presets import drawn_screens

    pictures: Iterable[npt.NDArray[np.uint8]]
    if path is None:
        pictures = drawn_screens(_DRAWN, max(height, width), seed=1)
        source = f"{_DRAWN} drawn screens"
    else:
        files = _spaced(pictures_in(path), _MOST_PICTURES)
        pictures = map(load_rgb, files)  # one at a time: a photograph takes tens of megabytes
        source = f"{len(files)} pictures"
    batches = []
    for picture in pictures:
        fitted = np.asarray(ImageOps.fit(Image.fromarray(picture), (width, height), Image.Resampling.BICUBIC))
        batches.append({"image": normalize(fitted, mean, std).transpose(2, 0, 1)[np.newaxis]})
    return batches, source


def _spaced(items: Sequence[Any], most: int) -> list[Any]:
    if len(items) <= most:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, most).astype(int)]
