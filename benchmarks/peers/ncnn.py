"""ncnn, through pnnx; its package has no quantiser.

It has no batches: a batch is run one by one. `fp32-unpacked` keeps channels apart in memory, which suits MobileViT.
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

TITLE = "ncnn"

_PARAM, _BIN, _ABOUT = "model.ncnn.param", "model.ncnn.bin", "about.json"


def variants(kind: str) -> tuple[str, ...]:
    return () if kind == "pipeline" else ("fp32", "fp32-unpacked", "int8")


def version() -> str:
    import importlib.metadata

    import ncnn  # noqa: F401  (says whether they work)
    import pnnx  # noqa: F401

    return importlib.metadata.version("ncnn")


def prepare(network: Network, variant: str, folder: Path) -> None:
    import shutil
    import tempfile

    import pnnx

    from peers import UnsupportedNetworkError
    from peers.attention import with_plain_attention

    if variant == "int8":
        raise UnsupportedNetworkError("the Python package has no quantiser")
    single = tuple(tensor[:1].clone() for tensor in network.example)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.pt"
        pnnx.export(with_plain_attention(network.flat), str(path), single, check_trace=False, fp16=False)
        for name in (_PARAM, _BIN):
            shutil.copy(path.with_name(name), folder / name)
    about = {"outputs": network.outputs, "packing": variant == "fp32"}
    (folder / _ABOUT).write_text(json.dumps(about))


class _Runner:
    def __init__(self, net: Any, outputs: int) -> None:
        self._net = net
        self._outputs = outputs

    def bind(self, inputs: Mapping[str, Array]) -> None:
        arrays = [array if array.dtype == np.float32 else array.astype(np.int32) for array in inputs.values()]
        self._inputs = [[np.ascontiguousarray(array[i]) for array in arrays] for i in range(arrays[0].shape[0])]

    def run(self) -> None:
        import ncnn

        self._results: list[list[Array]] = []
        for sample in self._inputs:
            extractor = self._net.create_extractor()
            for i, array in enumerate(sample):
                extractor.input(f"in{i}", ncnn.Mat(array))  # shares the array's memory
            self._results.append([np.array(extractor.extract(f"out{i}")[1]) for i in range(self._outputs)])

    def outputs(self) -> list[Array]:
        return [np.stack([sample[i] for sample in self._results]) for i in range(self._outputs)]


def load(folder: Path, threads: int) -> _Runner:
    import ncnn

    about = json.loads((folder / _ABOUT).read_text())
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_packing_layout = about["packing"]
    for name, load_file in ((_PARAM, net.load_param), (_BIN, net.load_model)):
        if load_file(str(folder / name)) != 0:
            raise RuntimeError(f"cannot load {name}")
    return _Runner(net, about["outputs"])
