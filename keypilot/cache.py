"""Model files of presets and other configurations, each made once and kept in the user's cache."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from keypilot import _core
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


def preset_path(config: str, precision: str = "fp32") -> Path:
    """Where the model file of `config` is, or will be; its name changes with the code that makes it.

    Raises
    ------
    ArgumentError, OSError : as `keypilot.reference.config.resolve_config`.
    """
    from keypilot.reference.config import PRESETS, resolve_config

    resolved = resolve_config(config)
    label = config if config in PRESETS else _label(Path(config).name, resolved.to_json())
    return cache_dir() / f"{label}-{precision}-{_core.version()}-{_recipe_hash()}.gguf"


def preset_model(config: str = DEFAULT_PRESET, precision: str = "fp32") -> Path:
    """The model file of a configuration with seeded weights, in ``"fp32"`` or ``"int8"``.

    Makes it where the cache has none, which takes PyTorch and some seconds, for int8 up to some minutes.

    Parameters
    ----------
    config : a preset's name, or what else `keypilot.reference.config.resolve_config` takes.

    Raises
    ------
    ArgumentError : no preset has that name, or a change of it is not one; or there is no such precision.
    MissingDependencyError : the file has to be made, and PyTorch is not installed.
    OSError : the file of a configuration cannot be read, or the cache not written.
    """
    path = preset_path(config, precision)
    if not path.exists():
        _make(config, precision, path)
    return path


def _label(text: str, content: str) -> str:
    """A file name for `content`, with what can be read of `text`."""
    import hashlib

    return f"{re.sub(r'[^a-z0-9_]+', '-', text.lower())[:80]}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def _make(config: str, precision: str, path: Path) -> None:
    """Writes beside `path` and renames, so that another process sees the whole file or none."""
    import tempfile  # as hashlib below: loading a file by its path needs neither

    with torch_extra(f"making the model '{config}', which is done once and then cached,"):
        from keypilot.convert.encoder import compile_encoder
        from keypilot.reference.presets import build

    from tqdm import tqdm

    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=path.stem, suffix=".tmp", dir=path.parent)
    os.close(handle)
    try:
        with tqdm(total=2, desc=f"{config}: building, once", file=sys.stderr, leave=False) as progress:
            encoder = build(config)
            progress.update()
            progress.set_description(f"{config}: compiling, once")
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
