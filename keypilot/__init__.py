"""The KeyPilot vision-language encoder: a phone screenshot and the text being typed become one context vector.

>>> import keypilot
>>> encoder = keypilot.Encoder.load()
>>> out = encoder.encode("screenshot.png", text="see you at")
>>> out.context.shape
(256,)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keypilot._openblas import load as _load_openblas

_load_openblas()  # before keypilot._core, which needs it

from keypilot._core import version as _version  # noqa: E402
from keypilot.encoder import Encoder, EncoderOutput  # noqa: E402
from keypilot.errors import (  # noqa: E402
    ArgumentError,
    KeyPilotError,
    MissingDependencyError,
    ModelFileError,
    ShapeError,
    UnsupportedError,
    UnsupportedOpError,
    VersionError,
)
from keypilot.model import Model  # noqa: E402
from keypilot.settings import cpu_info  # noqa: E402

if TYPE_CHECKING:
    from keypilot.compare import parity
    from keypilot.convert import compile

__version__ = _version()

__all__ = [
    "ArgumentError",
    "Encoder",
    "EncoderOutput",
    "KeyPilotError",
    "MissingDependencyError",
    "Model",
    "ModelFileError",
    "ShapeError",
    "UnsupportedError",
    "UnsupportedOpError",
    "VersionError",
    "compile",
    "cpu_info",
    "parity",
]


def __getattr__(name: str) -> Any:
    """`compile` and `parity` need PyTorch, which is imported when they are first asked for."""
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
