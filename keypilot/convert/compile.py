"""`keypilot.compile`: a PyTorch module becomes a model."""

from __future__ import annotations

import os
import re
import tempfile
import types
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from keypilot.convert.export import bind_inputs, export_module
from keypilot.convert.gguf import Metadata, write_model
from keypilot.convert.graph import Program
from keypilot.convert.importer import import_program
from keypilot.convert.passes import run_passes
from keypilot.errors import ArgumentError

if TYPE_CHECKING:
    from keypilot.model import Model

Dynamic = Mapping[str, Mapping[int, str]]

_PROGRAM_NAME = re.compile(r"[a-z][a-z0-9_]*")


class ProgramSource(NamedTuple):
    """One program's module, example inputs by forward's parameter names, and symbols of axes beside the batch."""

    module: nn.Module
    example_inputs: Mapping[str, torch.Tensor]
    dynamic: Dynamic = types.MappingProxyType({})


def compile(
    module: nn.Module,
    example_inputs: Any,
    *,
    out: str | os.PathLike[str] | None = None,
    precision: str = "fp32",
    dynamic: Dynamic | None = None,
    name: str | None = None,
) -> Model:
    """Compiles a PyTorch module to a model that the C core runs.

    Parameters
    ----------
    module : any `torch.nn.Module` with float32 weights on the CPU; it is compiled in eval mode, and left as it was.
    example_inputs : a tensor, a sequence of tensors in forward's order, or a mapping by parameter name. The first
        axis of each is the batch N, which may be 1 to 4096 when the model runs, whatever it is here. Other axes are
        fixed.
    out : where to write the model file. None: a temporary file that is gone when this returns.
    precision : ``"fp32"``.
    dynamic : further axes that may vary, by input, as ``{"input_ids": {1: "T"}}``.
    name : ``general.name`` of the file; the module's class where None.

    Returns
    -------
    Model : with one program, ``main``. Its inputs have forward's parameter names; its output is ``output``, or has
        the keys of the dict that forward returns, or is ``output.0`` and on for a tuple.

    Raises
    ------
    UnsupportedOpError : an operator has no counterpart; the message names it, its module path, and what to do.
    UnsupportedError : the module cannot be exported, or a shape depends on N or T in a way that files cannot express.
    ArgumentError : an argument is outside its domain.
    """
    from keypilot.model import Model

    source = ProgramSource(module, bind_inputs(module, example_inputs), dynamic or {})
    metadata = {"general.name": name or type(module).__name__}
    if out is not None:
        compile_programs({"main": source}, metadata=metadata, out=out, precision=precision)
        return Model.load(out)
    with tempfile.TemporaryDirectory(prefix="keypilot-") as folder:
        path = Path(folder) / "model.gguf"
        compile_programs({"main": source}, metadata=metadata, out=path, precision=precision)
        return Model.load(path)


def compile_programs(
    programs: Mapping[str, ProgramSource | tuple[Any, ...]],
    *,
    metadata: Metadata,
    out: str | os.PathLike[str],
    precision: str = "fp32",
) -> None:
    """Compiles several modules into one file, in which they share the weights whose paths are the same.

    Parameters
    ----------
    programs : by name, in the order in which data flows: an input named as an earlier program's output takes that
        output's memory order. Tuples are taken as `ProgramSource`.
    metadata : further keys of the file.

    Raises
    ------
    ArgumentError : two modules have different weights under one path. Otherwise as `compile`.
    """
    if precision != "fp32":
        raise ArgumentError(f"precision: expected 'fp32', got {precision!r}")
    sources = {name: ProgramSource(*source) for name, source in programs.items()}
    for name in sources:
        if not _PROGRAM_NAME.fullmatch(name):
            raise ArgumentError(f"program name: expected lower-case letters, digits and _, got {name!r}")
    _check_shared_weights(sources)
    orders: dict[str, tuple[int, ...]] = {}
    compiled = []
    for name, source in sources.items():
        program = build_program(name, source, orders)
        for port in program.outputs:
            orders[port.name] = port.order or port.value.order
        compiled.append(program)
    write_model(out, compiled, metadata, precision)


def build_program(name: str, source: ProgramSource, orders: Mapping[str, tuple[int, ...]] | None = None) -> Program:
    """A module's program after all passes. `orders` fixes the memory order of inputs by name."""
    dynamic = {key: {0: "N", **source.dynamic.get(key, {})} for key in {**source.example_inputs, **source.dynamic}}
    program = import_program(name, export_module(source.module, source.example_inputs, dynamic))
    for port in program.inputs:
        port.order = (orders or {}).get(port.name, ())
    run_passes(program)
    return program


def _check_shared_weights(sources: Mapping[str, ProgramSource]) -> None:
    seen: dict[str, tuple[str, torch.Tensor]] = {}
    for program, source in sources.items():
        for path, tensor in source.module.state_dict().items():
            other, first = seen.setdefault(path, (program, tensor))
            if first is not tensor and not torch.equal(first, tensor):
                raise ArgumentError(
                    f"{path}: programs {other!r} and {program!r} have different weights under this path; "
                    "share the module, or give it another attribute name"
                )
