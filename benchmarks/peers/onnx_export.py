"""Networks as ONNX files, for the engines that read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from networks import Network


def exported(network: Network) -> Path:
    """The network as one file, with its shapes fixed; it belongs to the network's folder."""
    path = network.folder / "exported.onnx"
    if not path.exists():
        torch.onnx.export(
            network.flat,
            network.example,
            str(path),
            input_names=list(network.timed),
            output_names=[f"output_{i}" for i in range(network.outputs)],
            dynamo=True,
            external_data=False,
            optimize=True,
            verbose=False,
        )
    return path
