"""KeyPilot itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from networks import Network

    import keypilot

Array = npt.NDArray[Any]

TITLE = "KeyPilot"

_PROGRAM, _ENCODER = "program.gguf", "encoder.gguf"


def variants(kind: str) -> tuple[str, ...]:
    return ("fp32", "int8")


def version() -> str:
    import keypilot

    return keypilot.__version__


def prepare(network: Network, variant: str, folder: Path) -> None:
    import torch

    from keypilot.convert.compile import compile

    if network.kind == "pipeline":
        _prepare_encoder(network, variant, folder / _ENCODER)
        return
    options: dict[str, Any] = {}
    if variant == "int8":
        batches = [{name: torch.from_numpy(array) for name, array in b.items()} for b in network.groups]
        options = {"precision": "int8", "calibration": batches}
    compile(network.module, network.example, out=folder / _PROGRAM, **options)


def _prepare_encoder(network: Network, variant: str, path: Path) -> None:
    from keypilot.convert.encoder import compile_encoder
    from keypilot.reference.encoder import KeyPilotEncoder

    assert isinstance(network.module, KeyPilotEncoder)
    if variant == "fp32":
        compile_encoder(network.module, path)
        return
    from networks import VIEWS

    # It derives views of its own, and takes every picture for one that has nothing to do with the others.
    compile_encoder(
        network.module, path, precision="int8", pictures=[b["picture"] for b in network.calibration[::VIEWS]]
    )


class _ProgramRunner:
    def __init__(self, model: keypilot.Model) -> None:
        self._model = model

    def bind(self, inputs: Mapping[str, Array]) -> None:
        self._inputs = inputs

    def run(self) -> None:
        self._results = self._model.run("main", **self._inputs)

    def outputs(self) -> list[Array]:
        return list(self._results.values())


class _EncoderRunner:
    def __init__(self, encoder: keypilot.Encoder) -> None:
        self._encoder = encoder

    def bind(self, inputs: Mapping[str, Array]) -> None:
        self._picture, self._text = inputs["picture"], inputs["text"].item()

    def run(self) -> None:
        self._results = self._encoder.encode(self._picture, text=self._text)

    def outputs(self) -> list[Array]:
        return [np.asarray(self._results.context)]


def load(folder: Path, threads: int) -> _ProgramRunner | _EncoderRunner:
    import keypilot

    if (folder / _ENCODER).exists():
        return _EncoderRunner(keypilot.Encoder(keypilot.Model.load(folder / _ENCODER, threads=threads)))
    return _ProgramRunner(keypilot.Model.load(folder / _PROGRAM, threads=threads))
