"""A compiled model beside eager PyTorch: outputs, and every tap that both have, by module path."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

import keypilot
from keypilot.module_names import key_text, name_module_outputs

#: The largest difference that counts as equal, as a share of the tensor's range.
BOUND = 1e-5

#: Inputs for a batch of n and t tokens, in forward's order or by its parameters' names.
Inputs = Callable[[int, int], Sequence[torch.Tensor] | Mapping[str, torch.Tensor]]


class Function(nn.Module):
    """A function of one tensor as a module."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


class Function2(nn.Module):
    """A function of two tensors as a module."""

    def __init__(self, function: Callable[[torch.Tensor, torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        return self.function(x, y)


def normal(*shapes: Sequence[int]) -> Inputs:
    """Normally distributed inputs; the batch is put before each shape."""

    def make(n: int, _t: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(n)
        return [torch.randn(n, *shape, generator=generator) for shape in shapes]

    return make


def eager(module: nn.Module, inputs: Mapping[str, torch.Tensor]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Outputs and submodules' outputs in eval mode, by name."""
    taps: dict[str, np.ndarray] = {}

    def keep(name: str, tensor: torch.Tensor) -> torch.Tensor:
        taps[name] = tensor.detach().numpy().copy()
        return tensor

    with torch.no_grad(), name_module_outputs(module, keep):
        result = module.eval()(**{name: tensor.clone() for name, tensor in inputs.items()})
    outputs = {}
    for path, tensor in pytree.tree_leaves_with_path(result):
        name = ".".join(map(key_text, path)) or "output"
        outputs[f"output.{name}" if name[0].isdigit() else name] = tensor.detach().numpy()
    return outputs, taps


def assert_equal(actual: np.ndarray, expected: np.ndarray, what: str) -> None:
    assert actual.shape == expected.shape, f"{what}: {actual.shape}, PyTorch gives {expected.shape}"
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected, err_msg=what)
    elif expected.size:
        bound = BOUND * max(float(np.ptp(expected)), float(np.abs(expected).max()), 1e-6)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=bound, err_msg=what)


def assert_runs_alike(
    model: keypilot.Model,
    module: nn.Module,
    inputs: Sequence[torch.Tensor] | Mapping[str, torch.Tensor],
    program: str = "main",
) -> None:
    """One run of both."""
    if not isinstance(inputs, Mapping):
        inputs = dict(zip(inspect.signature(module.forward).parameters, inputs, strict=False))
    expected, expected_taps = eager(module, inputs)
    with model.tap() as taps:
        outputs = model.run(program, **{name: tensor.numpy() for name, tensor in inputs.items()})
    assert outputs.keys() == expected.keys()
    for name, array in expected.items():
        assert_equal(outputs[name], array, f"output {name!r}")
    for name, array in taps.items():
        assert_equal(array, expected_taps[name], f"tap {name!r}")


def assert_compiles(
    module: nn.Module,
    inputs: Inputs,
    *,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    example: tuple[int, int] = (2, 4),
    runs: Sequence[tuple[int, int]] = ((1, 4), (2, 4), (5, 4)),
    out: Any = None,
) -> keypilot.Model:
    """Compiles the module at one (batch, tokens) and compares it with eager PyTorch at others."""
    model = keypilot.compile(module, inputs(*example), dynamic=dynamic, out=out)
    for n, t in runs:
        assert_runs_alike(model, module, inputs(n, t))
    return model
