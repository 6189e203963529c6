"""ExecuTorch with its XNNPACK delegate; its Python runtime imports PyTorch.

Attention is written out, or it would leave the delegate. `int8-dynamic` quantises the rows of matrix products when it
runs.
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

TITLE = "ExecuTorch"

_FILE = "model.pte"


def variants(kind: str) -> tuple[str, ...]:
    return {"picture": ("fp32", "int8"), "tokens": ("fp32", "int8", "int8-dynamic")}.get(kind, ())


def version() -> str:
    import importlib.metadata

    import executorch.runtime  # noqa: F401  (says whether it works)

    return importlib.metadata.version("executorch")


def prepare(network: Network, variant: str, folder: Path) -> None:
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    from peers.attention import with_plain_attention

    module = with_plain_attention(network.flat)
    if variant != "fp32":
        module = _quantized(module, network, dynamic=variant == "int8-dynamic")
    with torch.no_grad():
        exported = torch.export.export(module, network.example)
        program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    with (folder / _FILE).open("wb") as file:
        program.write_to_file(file)


def _quantized(module: Any, network: Network, *, dynamic: bool) -> Any:
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer()
    quantizer.set_global(get_symmetric_quantization_config(is_per_channel=True, is_dynamic=dynamic))
    with torch.no_grad():
        observed = prepare_pt2e(torch.export.export(module, network.example).module(), quantizer)
        for batch in network.calibration:
            observed(*(torch.from_numpy(array) for array in batch.values()))
        return convert_pt2e(observed)


class _Runner:
    def __init__(self, program: Any) -> None:
        self._program = program  # the method points into it
        self._method = program.load_method("forward")

    def bind(self, inputs: Mapping[str, Array]) -> None:
        self._inputs = list(inputs.values())

    def run(self) -> None:
        import torch

        results = self._method.execute(tuple(torch.from_numpy(array) for array in self._inputs))
        self._results = [tensor.numpy() for tensor in results]

    def outputs(self) -> list[Array]:
        return [np.array(array) for array in self._results]


def load(folder: Path, threads: int) -> _Runner:
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    torch.set_num_threads(threads)
    portable_lib._unsafe_reset_threadpool(threads)  # the only way that it has
    return _Runner(Runtime.get().load_program(folder / _FILE))
