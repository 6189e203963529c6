"""The table from ATen overloads to lowerings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

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


#: What users of PyTorch call operators that have another name inside.
_PUBLIC = {
    "linalg_vector_norm": "linalg.vector_norm",
    "upsample_bilinear2d": "interpolate",
    "upsample_nearest1d": "interpolate",
    "upsample_nearest2d": "interpolate",
}

_INTERNAL = ("_", "native_", "feature_")


def public_names() -> list[str]:
    """The functions that have a lowering, as users of PyTorch know them, sorted."""

    def public(name: str) -> bool:
        spaces = (torch.Tensor, torch.nn.functional, torch)
        return not name.startswith(_INTERNAL) and any(hasattr(space, name) for space in spaces)

    names = {overload.split(".")[1] for overload in LOWERINGS}
    return sorted({_PUBLIC.get(name, name) for name in names if name in _PUBLIC or public(name)})
