"""LiteRT (TensorFlow Lite): XNNPACK under its interpreter.

The converter, `litert-torch` with `ai-edge-quantizer`, goes into an environment of its own; the interpreter,
`ai-edge-litert`, runs beside the others.
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

TITLE = "LiteRT"

_FILE = "model.tflite"


def variants(kind: str) -> tuple[str, ...]:
    return {"picture": ("fp32", "int8"), "tokens": ("fp32", "int8", "int8-dynamic")}.get(kind, ())


def version() -> str:
    import importlib.metadata

    import ai_edge_quantizer  # noqa: F401  (says whether the converter works)
    import litert_torch  # noqa: F401

    return importlib.metadata.version("ai-edge-litert")


def prepare(network: Network, variant: str, folder: Path) -> None:
    import shutil

    import litert_torch

    exported = network.folder / "exported.tflite"
    if not exported.exists():
        litert_torch.convert(network.flat, network.example).export(str(exported))
    if variant == "fp32":
        shutil.copy(exported, folder / _FILE)
        return
    from ai_edge_quantizer import quantizer, recipe

    recipes = {"int8": recipe.static_wi8_ai8, "int8-dynamic": recipe.dynamic_wi8_afp32}
    quantized = quantizer.Quantizer(str(exported), recipes[variant]())
    ranges = {}
    if quantized.need_calibration:
        batches = [{f"args_{i}": _as_taken(a) for i, a in enumerate(b.values())} for b in network.calibration]
        ranges = quantized.calibrate({"serving_default": batches}, num_threads=1)
    quantized.quantize(ranges).export_model(str(folder / _FILE))


def _as_taken(array: Array) -> Array:
    """The converter makes int32 of int64."""
    return array.astype(np.int32) if array.dtype == np.int64 else array


class _Runner:
    """The inputs and outputs of ``int8`` are int8 as well: `bind` and `outputs` convert them, and are not timed."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        interpreter.allocate_tensors()
        signature = interpreter.get_signature_runner("serving_default")
        self._inputs = signature.get_input_details()
        ports = signature.get_output_details()
        self._outputs = [ports[name] for name in sorted(ports, key=lambda name: int(name.split("_")[-1]))]

    def bind(self, inputs: Mapping[str, Array]) -> None:
        named = {f"args_{i}": _as_taken(array) for i, array in enumerate(inputs.values())}
        self._bound = [(port["index"], _quantized(named[name], port)) for name, port in self._inputs.items()]

    def run(self) -> None:
        for index, array in self._bound:
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()
        self._results = [self._interpreter.get_tensor(port["index"]) for port in self._outputs]

    def outputs(self) -> list[Array]:
        return [_dequantized(array, port) for array, port in zip(self._results, self._outputs, strict=True)]


def _quantized(array: Array, port: Any) -> Array:
    scale, zero_point = port["quantization"]
    if port["dtype"] != np.int8:
        return array
    quantized: Array = np.clip(np.rint(array / scale) + zero_point, -128, 127).astype(np.int8)
    return quantized


def _dequantized(array: Array, port: Any) -> Array:
    scale, zero_point = port["quantization"]
    return array if array.dtype != np.int8 else (array.astype(np.float32) - zero_point) * np.float32(scale)


def load(folder: Path, threads: int) -> _Runner:
    from ai_edge_litert.interpreter import Interpreter

    return _Runner(Interpreter(str(folder / _FILE), num_threads=threads))
