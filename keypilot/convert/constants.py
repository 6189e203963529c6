"""Evaluation of PyTorch operators whose tensors are all known at conversion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from keypilot.convert.graph import Array, Dim, Shape, Value
from keypilot.errors import ArgumentError

#: (N, T) at which an operator with symbolic sizes is evaluated.
_SAMPLES = ((2, 3), (3, 5))

_AS_RESHAPE: dict[Any, Any] = {
    torch.ops.aten.view.default: torch.ops.aten.reshape.default,
    torch.ops.aten._unsafe_view.default: torch.ops.aten.reshape.default,
}


def is_constant(args: Any) -> bool:
    """Every tensor in the (nested) arguments is a constant."""
    if isinstance(args, Value):
        return args.data is not None
    if isinstance(args, dict):
        return all(is_constant(arg) for arg in args.values())
    if isinstance(args, list | tuple):
        return all(is_constant(arg) for arg in args)
    return True


def evaluate(
    target: Callable[..., Any], args: Any, kwargs: Any, shapes: Sequence[Shape], where: str
) -> list[Array] | None:
    """The operator's results as constants' data, one per shape.

    A result with symbolic dimensions is a constant where it repeats along each of them, as zeros((N, T)) or an
    expanded parameter does: it is evaluated at two sizes, and its data has size 1 there. None where a result is
    not of that kind.
    """
    if all(dim.static for shape in shapes for dim in shape) and _is_static((args, kwargs)):
        return [result.numpy() for result in _run(target, args, kwargs, (1, 1), where)]
    found: list[Array] | None = None
    for sample in _SAMPLES:
        compact = []
        for result, shape in zip(_run(target, args, kwargs, sample, where), shapes, strict=True):
            data = _without_repeats(result.numpy(), shape)
            if data is None:
                return None
            compact.append(data)
        if found is not None and not all(map(_same, found, compact)):
            return None
        found = compact
    return found


def _run(target: Callable[..., Any], args: Any, kwargs: Any, sample: tuple[int, int], where: str) -> list[torch.Tensor]:
    # A view was possible with the strides that the export saw; here memory is dense, and a reshape does the same.
    target = torch.ops.aten.reshape.default if target is torch.ops.aten.view.default else target
    try:
        with torch.no_grad():
            # The export's strides allowed a view; a constant, stored in its own order, may need a copy.
            result = _AS_RESHAPE.get(target, target)(*_concrete(args, sample), **_concrete(kwargs, sample))
    except (IndexError, RuntimeError) as error:
        raise ArgumentError(f"{where}: {target} fails on the module's constants: {error}") from error
    results = list(result) if isinstance(result, list | tuple) else [result]
    return [tensor.contiguous() for tensor in results]


def _concrete(args: Any, sample: tuple[int, int]) -> Any:
    if isinstance(args, Value):
        assert args.data is not None
        shape = [dim.evaluate(*sample) for dim in args.shape]
        return torch.from_numpy(np.array(np.broadcast_to(args.data, shape)))
    if isinstance(args, Dim):
        return args.evaluate(*sample)
    if isinstance(args, dict):
        return {key: _concrete(arg, sample) for key, arg in args.items()}
    if isinstance(args, list | tuple):
        return type(args)(_concrete(arg, sample) for arg in args)
    return args


def _is_static(args: Any) -> bool:
    if isinstance(args, Value):
        return all(dim.static for dim in args.shape)
    if isinstance(args, Dim):
        return args.static
    if isinstance(args, dict):
        return all(_is_static(arg) for arg in args.values())
    if isinstance(args, list | tuple):
        return all(_is_static(arg) for arg in args)
    return True


def _without_repeats(data: Array, shape: Shape) -> Array | None:
    for axis, dim in enumerate(shape):
        if not dim.static:
            first = data.take([0], axis)
            if not np.array_equal(np.broadcast_to(first, data.shape), data):
                return None
            data = first
    return data


def _same(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
