"""MNN. `int8-weights` stores weights in 8 bits and computes in float32.

Its commands `mnnconvert` and `mnnquant` install a package for telemetry: the extension module behind them is called.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from networks import Network

Array = npt.NDArray[Any]

TITLE = "MNN"

_FILE, _PORTS = "model.mnn", "ports.json"


def variants(kind: str) -> tuple[str, ...]:
    return () if kind == "pipeline" else ("fp32", "int8-weights")


def version() -> str:
    import importlib.metadata

    import MNN  # noqa: F401  (says whether it works)

    return importlib.metadata.version("mnn")


def prepare(network: Network, variant: str, folder: Path) -> None:
    import _tools  # MNN's, at the top of site-packages

    from peers.onnx_export import exported

    options = {
        "-f": "ONNX",
        "--modelFile": str(exported(network)),
        "--MNNModel": str(folder / _FILE),
        "--bizCode": "benchmark",
    }
    if variant == "int8-weights":
        options["--weightQuantBits"] = "8"
    _tools.mnnconvert(["mnnconvert", *(word for pair in options.items() for word in pair)])
    if not (folder / _FILE).exists():
        raise RuntimeError("its converter wrote no file")
    ports = {"inputs": list(network.timed), "outputs": [f"output_{i}" for i in range(network.outputs)]}
    (folder / _PORTS).write_text(json.dumps(ports))


class _Runner:
    def __init__(self, module: Any, runtime: Any) -> None:
        self._module = module
        self._runtime = runtime  # the module runs in it

    def bind(self, inputs: Mapping[str, Array]) -> None:
        from MNN import expr

        self._inputs = []
        for array in inputs.values():
            is_float = array.dtype == np.float32
            values = array if is_float else array.astype(np.int32)
            kind = expr.float if is_float else expr.int
            self._inputs.append(expr.const(values.ravel().tolist(), list(values.shape), expr.NCHW, kind))

    def run(self) -> None:
        self._results = [variable.read() for variable in self._module.forward(self._inputs)]

    def outputs(self) -> list[Array]:
        return [np.array(array) for array in self._results]


def load(folder: Path, threads: int) -> _Runner:
    from MNN import nn

    ports = json.loads((folder / _PORTS).read_text())
    runtime = nn.create_runtime_manager(({"backend": "CPU", "precision": "high", "numThread": threads},))
    module = nn.load_module_from_file(str(folder / _FILE), ports["inputs"], ports["outputs"], runtime_manager=runtime)
    return _Runner(module, runtime)
