"""Compiles a module and compares what its file gives with what PyTorch gives, tensor by tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model_oracle import ModelOracle
from torch import nn

import keypilot
from keypilot.convert import ProgramSource, compile_programs
from keypilot.module_names import name_module_outputs

#: The largest difference, as a share of the tensor's largest magnitude.
BOUND = 1e-5


class Functions(nn.Module):
    """Several functions of one input, as a dict of outputs: one export for all of them."""

    def __init__(self, functions: Mapping[str, Callable[[torch.Tensor], torch.Tensor]]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: function(x) for name, function in self.functions.items()}


class Converted:
    """A module and its model file, read by the oracle and by the C core."""

    def __init__(
        self, path: Path, module: nn.Module, examples: Mapping[str, torch.Tensor], dynamic: Any = None
    ) -> None:
        self.module, self.path = module.eval(), path
        compile_programs({"main": ProgramSource(module, examples, dynamic or {})}, metadata={}, out=path)
        self.oracle = ModelOracle(path)
        self.model = keypilot.Model.load(path)

    @property
    def ops(self) -> Counter[str]:
        return Counter(self.oracle.keys["keypilot.main.ops.type"])

    @property
    def taps(self) -> set[str]:
        return set(self.oracle.keys.get("keypilot.main.taps.name", []))

    def agrees(self, **inputs: torch.Tensor) -> None:
        """Asserts that every output and every tap equals PyTorch's, within `BOUND` of its range."""
        expected = reference(self.module, inputs)
        arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
        for reader, (outputs, taps) in {
            "oracle": self.oracle.run("main", arrays),
            "core": run_core(self.model, "main", arrays),
        }.items():
            assert set(taps) == self.taps, reader
            assert_close({**taps, **outputs}, expected, reader)


def reference(module: nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Every named tensor of a run in PyTorch, outputs included."""
    recorded: dict[str, np.ndarray] = {}

    def record(name: str, tensor: torch.Tensor) -> torch.Tensor:
        recorded[name] = tensor.numpy().copy()
        return tensor

    with torch.no_grad(), name_module_outputs(module, record):
        result = module(**inputs)
    if isinstance(result, torch.Tensor):
        result = {"output": result}
    elif not isinstance(result, Mapping):
        result = {f"output.{i}": tensor for i, tensor in enumerate(result)}
    return {**recorded, **{name: tensor.detach().numpy() for name, tensor in result.items()}}


def run_core(model: keypilot.Model, program: str, arrays: Mapping[str, np.ndarray]) -> tuple[Any, Any]:
    """(outputs, taps) of the C core."""
    with model.tap("*") as taps:
        outputs = model.run(program, **arrays)
    return outputs, dict(taps)


def assert_close(actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], where: str) -> None:
    for name, array in actual.items():
        wanted = expected[name]
        assert array.shape == wanted.shape, f"{where}: {name}"
        scale = max(float(np.abs(wanted).max()), 1e-6) if wanted.dtype.kind == "f" else 1.0
        worst = np.abs(array.astype(np.float64) - wanted).max() / scale
        assert worst <= BOUND, f"{where}: {name} differs by {worst:.2e} of its range"
