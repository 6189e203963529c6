"""OpenBLAS, from the package scipy-openblas32, for the C core to find. Only fp32 models need it."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from pathlib import Path


@functools.cache
def load() -> None:
    """Loads the shared library, once, so that `keypilot._core` finds its functions.

    The package is located and not imported: its own import reads distribution metadata, which costs more than
    loading the library.

    Raises
    ------
    ImportError : the package, or the library in it, is missing or cannot be loaded.
    """
    spec = importlib.util.find_spec("scipy_openblas32")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    libraries = [path for folder in folders for path in sorted(Path(folder, "lib").glob("libscipy_openblas.*"))]
    if not libraries:
        raise ImportError("keypilot needs OpenBLAS from the package scipy-openblas32: pip install scipy-openblas32")
    try:
        ctypes.CDLL(str(libraries[0]), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise ImportError(
            f"keypilot could not load OpenBLAS ({error}): pip install --force-reinstall scipy-openblas32"
        ) from error
