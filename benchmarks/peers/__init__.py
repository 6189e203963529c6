"""The engines: one module each, with the interface `Peer`.

A module is imported in two kinds of process. `prepare` runs in one that has PyTorch and the network; `load` in one that
has NumPy and the engine alone, so that its memory and its start are the engine's own. What `prepare` leaves in the
folder is all that `load` gets.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy.typing as npt

if TYPE_CHECKING:
    from networks import Network

Array = npt.NDArray[Any]

#: In the order of the tables. The names are those of the modules in this folder.
PEERS = ("keypilot", "pytorch", "onnxruntime", "openvino", "litert", "ncnn", "mnn", "executorch")


class UnsupportedNetworkError(Exception):
    """The engine cannot run this network in this variant; the message says why."""


class Runner(Protocol):
    """A network in an engine, ready to run."""

    def bind(self, inputs: Mapping[str, Array]) -> None:
        """Sets the inputs of the runs that follow, in the module's order, with the dtypes that the engine takes."""

    def run(self) -> None:
        """Runs the network once, from NumPy arrays to NumPy arrays, by the engine's leanest call. What is timed."""

    def outputs(self) -> list[Array]:
        """The results of the last run, in the module's order."""


class Peer(Protocol):
    """What a module of this package has."""

    TITLE: str

    def variants(self, kind: str) -> tuple[str, ...]:
        """What it can make of a network of this kind; a name begins with ``fp32`` or ``int8``."""

    def version(self) -> str:
        """The engine's version; an `ImportError` where it is not installed."""

    def prepare(self, network: Network, variant: str, folder: Path) -> None:
        """Writes the files of the network to an empty folder, and nothing else: their size is reported."""

    def load(self, folder: Path, threads: int) -> Runner:
        """The network from those files."""


def peer(name: str) -> Peer:
    """The module of that engine."""
    if name not in PEERS:
        raise ValueError(f"peer: expected one of {', '.join(PEERS)}, got {name!r}")
    return cast(Peer, importlib.import_module(f"peers.{name}"))
