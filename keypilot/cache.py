"""Model files of presets, each made once and kept in the user's cache."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from keypilot import _core
from keypilot.errors import ArgumentError
from keypilot.extras import torch_extra

#: What `Encoder.load()` gives.
DEFAULT_PRESET = "keypilot-base"

#: What a model file can be in.
PRECISIONS = ("int8", "fp32")

_PACKAGE = Path(__file__).parent


def cache_dir() -> Path:
    """``$XDG_CACHE_HOME/keypilot``, else ``~/.cache/keypilot``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base) / "keypilot" if base else Path.home() / ".cache" / "keypilot"


def preset_path(preset: str, precision: str = "fp32") -> Path:
    """Where the model file of `preset` is, or will be; its name changes with the code that makes it."""
    return cache_dir() / f"{preset}-{precision}-{_core.version()}-{_recipe_hash()}.gguf"


def preset_model(preset: str = DEFAULT_PRESET, precision: str = "fp32") -> Path:
    """The model file of a preset with seeded weights, in ``"fp32"`` or ``"int8"``.

    Makes it where the cache has none, which takes PyTorch and some seconds, for int8 up to some minutes.

    Raises
    ------
    ArgumentError : no preset has that name, or there is no such precision.
    MissingDependencyError : the file has to be made, and PyTorch is not installed.
    OSError : the cache cannot be written.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", preset):
        raise ArgumentError(f"model: expected the path of a file or the name of a preset, got {preset!r}")
    path = preset_path(preset, precision)
    if not path.exists():
        _make(preset, precision, path)
    return path


def _make(preset: str, precision: str, path: Path) -> None:
    """Writes beside `path` and renames, so that another process sees the whole file or none."""
    import tempfile  # as hashlib below: loading a file by its path needs neither

    with torch_extra(f"making the model '{preset}', which is done once and then cached,"):
        from keypilot.convert.encoder import compile_encoder
        from keypilot.reference.config import PRESETS
        from keypilot.reference.presets import build
    if preset not in PRESETS:
        raise ArgumentError(f"model: no file and no preset is named {preset!r}; presets are {', '.join(PRESETS)}")

    from tqdm import tqdm

    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=path.stem, suffix=".tmp", dir=path.parent)
    os.close(handle)
    try:
        with tqdm(total=2, desc=f"{preset}: building, once", file=sys.stderr, leave=False) as progress:
            encoder = build(preset)
            progress.update()
            progress.set_description(f"{preset}: compiling, once")
            compile_encoder(encoder, temporary, precision=precision)
            progress.update()
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _recipe_hash() -> str:
    """Of everything that decides a preset's file: its configuration, the modules, the compiler and the tokenizer."""
    import hashlib

    digest = hashlib.sha256()
    for folder, pattern in (("reference", "*.py"), ("convert", "*.py"), (".", "module_names.py"), ("data", "*.json")):
        for source in sorted((_PACKAGE / folder).rglob(pattern)):
            digest.update(source.relative_to(_PACKAGE).as_posix().encode() + b"\0")
            digest.update(source.read_bytes())
    return digest.hexdigest()[:12]
