"""The exceptions of KeyPilot: one tree, `KeyPilotError` at its root.

A failed allocation is a `MemoryError` and an unreadable file an `OSError`, as everywhere in Python.
"""

from __future__ import annotations


class KeyPilotError(Exception):
    """Anything that KeyPilot refuses or cannot do; the message says what was expected, what came and where."""


class ArgumentError(KeyPilotError, ValueError):
    """An argument is outside its documented domain."""


class ShapeError(KeyPilotError, ValueError):
    """A tensor's shape or dtype is not what the program takes."""


class ModelFileError(KeyPilotError):
    """The model file is damaged, or is not a KeyPilot model."""


class VersionError(ModelFileError):
    """The model file has a format version that this release does not read."""


class UnsupportedError(KeyPilotError):
    """Valid, but this build or this model cannot do it."""


class UnsupportedOpError(UnsupportedError):
    """A PyTorch operator that the compiler does not know."""


class MissingDependencyError(KeyPilotError, ImportError):
    """An optional dependency is needed and is not installed; the message says what to install."""
