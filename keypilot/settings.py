"""Threads and instruction sets: arguments first, then the environment, then the machine."""

from __future__ import annotations

import os
from typing import Any

from keypilot import _core
from keypilot.errors import ArgumentError

#: Threads that a session may have: KP_MAX_THREADS.
MAX_THREADS = 64

#: More threads than this are used only when asked for: the encoder's matrices are small.
_DEFAULT_THREADS = 4

_LEVELS = ("scalar", "avx2", "avx512", "avx512vnni", "neon", "dotprod", "i8mm")


def resolve_threads(threads: int | None) -> int:
    """Threads of a session: `threads`, else ``KEYPILOT_THREADS``, else the processors at hand, at most 4.

    Raises
    ------
    ArgumentError : not an integer from 1 to `MAX_THREADS`.
    """
    if threads is None:
        text = os.environ.get("KEYPILOT_THREADS", "").strip()
        if not text:
            return min(_available_processors(), _DEFAULT_THREADS)
        return _checked_threads("KEYPILOT_THREADS", int(text) if text.isascii() and text.isdigit() else text)
    return _checked_threads("threads", threads)


def resolve_isa(isa: str | None) -> str | None:
    """The highest instruction-set level to use: `isa`, else ``KEYPILOT_ISA``, else None: the processor's highest.

    Raises
    ------
    ArgumentError : not the name of a level.
    """
    source = "isa"
    if isa is None:
        source, isa = "KEYPILOT_ISA", os.environ.get("KEYPILOT_ISA", "").strip() or None
    if isa is not None and isa not in _LEVELS:
        raise ArgumentError(f"{source}: expected one of {', '.join(_LEVELS)}, got {isa!r}")
    return isa


def cpu_info() -> dict[str, Any]:
    """What runs are made with.

    Returns
    -------
    dict : ``detected``, the levels of this processor, lowest first; ``isa``, the highest of them that is used under
        ``KEYPILOT_ISA``; ``threads``, the default number under ``KEYPILOT_THREADS``.
    """
    detected = _core.cpu_isa()
    return {"detected": detected, "isa": _core.capped_isa(resolve_isa(None)), "threads": resolve_threads(None)}


def _checked_threads(source: str, threads: Any) -> int:
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MAX_THREADS:
        raise ArgumentError(f"{source}: expected an integer from 1 to {MAX_THREADS}, got {threads!r}")
    return threads


def _available_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
