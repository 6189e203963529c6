"""ONNX Runtime's CPU provider.

`int8` has QuantizeLinear and DequantizeLinear around every operator, u8 activations and s8 weights per channel;
s8 activations are several times slower on CPUs with VNNI. `int8-dynamic` quantises the inputs of matrix products when
it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

if TYPE_CHECKING:
    from networks import Network

Array = npt.NDArray[Any]

TITLE = "ONNX Runtime"

_FILE = "model.onnx"


def variants(kind: str) -> tuple[str, ...]:
    return {"picture": ("fp32", "int8"), "tokens": ("fp32", "int8", "int8-dynamic")}.get(kind, ())


def version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def prepare(network: Network, variant: str, folder: Path) -> None:
    import shutil
    import tempfile

    from onnxruntime import quantization

    from peers.onnx_export import exported

    if variant == "fp32":
        shutil.copy(exported(network), folder / _FILE)
        return
    with tempfile.TemporaryDirectory() as temporary:
        optimized = Path(temporary) / "optimized.onnx"
        quantization.shape_inference.quant_pre_process(str(exported(network)), str(optimized), skip_symbolic_shape=True)
        if variant == "int8-dynamic":
            quantization.quantize_dynamic(
                optimized, folder / _FILE, per_channel=True, weight_type=quantization.QuantType.QInt8
            )
            return

        class Batches(quantization.CalibrationDataReader):  # type: ignore[misc]  # untyped
            def __init__(self) -> None:
                self._batches: Iterator[dict[str, Array]] = iter(network.calibration)

            def get_next(self) -> dict[str, Array] | None:
                return next(self._batches, None)

        quantization.quantize_static(
            optimized,
            folder / _FILE,
            Batches(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )


class _Runner:
    def __init__(self, session: Any) -> None:
        self._session = session
        self._taken = {port.name for port in session.get_inputs()}

    def bind(self, inputs: Mapping[str, Array]) -> None:
        self._inputs = {name: array for name, array in inputs.items() if name in self._taken}

    def run(self) -> None:
        self._results = self._session.run(None, self._inputs)

    def outputs(self) -> list[Array]:
        return list(self._results)


def load(folder: Path, threads: int) -> _Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    path = str(folder / _FILE)
    return _Runner(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))
