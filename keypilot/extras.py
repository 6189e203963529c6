"""The optional dependencies, and the message where one is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from keypilot.errors import MissingDependencyError

_TORCH_EXTRA = frozenset({"torch", "timm", "transformers", "tokenizers", "gguf", "safetensors"})


@contextlib.contextmanager
def torch_extra(purpose: str) -> Iterator[None]:
    """Turns a failed import of a package of the extra ``torch`` into an error that says what to install.

    Parameters
    ----------
    purpose : what needs it, as the subject of a sentence.

    Raises
    ------
    MissingDependencyError : one of the packages is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _TORCH_EXTRA:
            raise
        raise MissingDependencyError(f"{purpose} needs {package}: pip install 'keypilot[torch]'") from error
