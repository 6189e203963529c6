"""The KeyPilot vision-language encoder: a phone screenshot and the text being typed become one context vector.

>>> import keypilot
>>> encoder = keypilot.Encoder.load()
>>> out = encoder.encode("screenshot.png", text="see you at")
>>> out.context.shape
(256,)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keypilot._core import version as _version
from keypilot.encoder import Encoder, EncoderOutput
from keypilot.errors import (
    ArgumentError,
    KeyPilotError,
    MissingDependencyError,
    ModelFileError,
    ShapeError,
    UnsupportedError,
    UnsupportedOpError,
    VersionError,
)
from keypilot.model import Model
from keypilot.settings import cpu_info
from keypilot.text_encoder import TextEncoder
from keypilot.tokenizer import Tokenizer

if TYPE_CHECKING:
    from keypilot.compare import parity
    from keypilot.convert import compile
    from keypilot.digests import Digest, digest

__version__ = _version()

__all__ = [
    "ArgumentError",
    "Digest",
    "Encoder",
    "EncoderOutput",
    "KeyPilotError",
    "MissingDependencyError",
    "Model",
    "ModelFileError",
    "ShapeError",
    "TextEncoder",
    "Tokenizer",
    "UnsupportedError",
    "UnsupportedOpError",
    "VersionError",
    "compile",
    "cpu_info",
    "digest",
    "parity",
]


def __getattr__(name: str) -> Any:
    """What few programs need is imported when it is first asked for; `compile` and `parity` take PyTorch."""
    if name in ("Digest", "digest"):
        from keypilot import digests

        return getattr(digests, name)
    from keypilot.extras import torch_extra

    if name == "compile":
        with torch_extra("keypilot.compile"):
            from keypilot.convert import compile
        return compile
    if name == "parity":
        with torch_extra("keypilot.parity"):
            from keypilot.compare import parity
        return parity
    raise AttributeError(f"module 'keypilot' has no attribute {name!r}")
