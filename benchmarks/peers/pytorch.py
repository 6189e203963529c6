"""PyTorch, eager and compiled by TorchInductor with weights frozen into the code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

if TYPE_CHECKING:
    from networks import Network

Array = npt.NDArray[Any]

TITLE = "PyTorch"

_EAGER, _COMPILED, _ENCODER = "eager.pt", "compiled.pt", "encoder.pt"


def variants(kind: str) -> tuple[str, ...]:
    return ("fp32",) if kind == "pipeline" else ("fp32", "fp32-compiled")


def version() -> str:
    import torch

    return torch.__version__


def prepare(network: Network, variant: str, folder: Path) -> None:
    import torch

    if network.kind == "pipeline":
        torch.save(network.module, folder / _ENCODER)
    else:
        torch.save(network.flat, folder / (_EAGER if variant == "fp32" else _COMPILED))


class _ModuleRunner:
    def __init__(self, module: Any) -> None:
        self._module = module

    def bind(self, inputs: Mapping[str, Array]) -> None:
        self._inputs = list(inputs.values())

    def run(self) -> None:
        import torch

        with torch.inference_mode():
            results = self._module(*(torch.from_numpy(array) for array in self._inputs))
            self._results = [tensor.numpy() for tensor in results]

    def outputs(self) -> list[Array]:
        return list(self._results)


class _EncoderRunner:
    def __init__(self, encoder: Any) -> None:
        from keypilot.reference.pipeline import Pipeline

        self._pipeline = Pipeline(encoder)

    def bind(self, inputs: Mapping[str, Array]) -> None:
        self._picture, self._text = inputs["picture"], inputs["text"].item()

    def run(self) -> None:
        self._results = self._pipeline.encode(self._picture, self._text, 0)

    def outputs(self) -> list[Array]:
        return [self._results.context]


def load(folder: Path, threads: int) -> _ModuleRunner | _EncoderRunner:
    import torch

    from keypilot.reference.timm_shim import import_timm

    import_timm()  # before the classes of its modules are looked up
    torch.set_num_threads(threads)
    (path,) = folder.iterdir()
    module = torch.load(path, weights_only=False)
    if path.name == _ENCODER:
        return _EncoderRunner(module)
    if path.name == _COMPILED:
        import torch._inductor.config

        torch._inductor.config.freezing = True
        module = torch.compile(module)
    return _ModuleRunner(module)
