"""OpenVINO's CPU plugin, quantised by NNCF.

`int8-transformer` is NNCF's `model_type=TRANSFORMER`, which suits networks with attention. `int8-dynamic` has int8
weights, and the plugin quantises the inputs of matrix products in groups of 32 when it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from networks import Network

Array = npt.NDArray[Any]

TITLE = "OpenVINO"

_FILE = "model.xml"


def variants(kind: str) -> tuple[str, ...]:
    return {
        "picture": ("fp32", "int8", "int8-transformer"),
        "tokens": ("fp32", "int8-transformer", "int8-dynamic"),
    }.get(kind, ())


def version() -> str:
    import importlib.metadata

    import openvino  # noqa: F401  (says whether it works)

    return importlib.metadata.version("openvino")


def prepare(network: Network, variant: str, folder: Path) -> None:
    import openvino

    from peers.onnx_export import exported

    model = openvino.convert_model(exported(network))
    if variant == "int8-dynamic":
        import nncf

        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    elif variant != "fp32":
        import nncf

        taken = {port.any_name for port in model.inputs}
        batches = [{name: array for name, array in b.items() if name in taken} for b in network.calibration]
        model_type = nncf.ModelType.TRANSFORMER if variant == "int8-transformer" else None
        model = nncf.quantize(model, nncf.Dataset(batches), subset_size=len(batches), model_type=model_type)
    openvino.save_model(model, folder / _FILE, compress_to_fp16=False)


class _Runner:
    def __init__(self, request: Any, model: Any) -> None:
        self._request = request
        self._taken = {name for port in model.inputs for name in port.names}
        self._outputs = len(model.outputs)

    def bind(self, inputs: Mapping[str, Array]) -> None:
        self._inputs = {name: array for name, array in inputs.items() if name in self._taken}

    def run(self) -> None:
        self._results = self._request.infer(self._inputs, share_inputs=True)

    def outputs(self) -> list[Array]:
        return [np.asarray(self._results[i]) for i in range(self._outputs)]


def load(folder: Path, threads: int) -> _Runner:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",  # bf16 would be no float32
    }
    model = openvino.Core().compile_model(folder / _FILE, "CPU", settings)
    return _Runner(model.create_infer_request(), model)
