"""The table from ATen overloads to lowerings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

#: By overload, as "aten.view.default". A lowering takes the builder, then the operator's arguments in its schema's
#: order: tensors as `Value`, symbolic sizes as `Dim`.
LOWERINGS: dict[str, Callable[..., Any]] = {}

_Lowering = TypeVar("_Lowering", bound=Callable[..., Any])


def lowers(*overloads: str) -> Callable[[_Lowering], _Lowering]:
    """Registers a lowering for these overloads, as "view.default"."""

    def register(lowering: _Lowering) -> _Lowering:
        for overload in overloads:
            LOWERINGS[f"aten.{overload}"] = lowering
        return lowering

    return register
