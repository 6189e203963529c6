"""The table from ATen overloads to lowerings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: A lowering takes the builder, then the operator's arguments in its schema's order: tensors as `Value`, symbolic sizes as `Dim`.
Lowering = Callable[..., Any]

LOWERINGS: dict[str, Lowering] = {}


def lowers(*overloads: str) -> Callable[[Lowering], Lowering]:
    """Registers a lowering for these overloads, as "view.default"."""

    def register(lowering: Lowering) -> Lowering:
        for overload in overloads:
            LOWERINGS[f"aten.{overload}"] = lowering
        return lowering

    return register
