"""`keypilot.compile`: a PyTorch module becomes a model."""

from __future__ import annotations

import json
import os
import re
import tempfile
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from keypilot.cache import PRECISIONS
from keypilot.convert.export import bind_inputs, export_module
from keypilot.convert.gguf import Metadata, write_model
from keypilot.convert.graph import Program
from keypilot.convert.importer import import_program
from keypilot.convert.passes import run_passes
from keypilot.convert.quantize import quantize_programs
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
    calibration: Iterable[Any] | None = None,
    keep_float: Sequence[str] = (),
    max_bytes: int | None = None,
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
    precision : ``"fp32"`` or ``"int8"``.
    calibration : for int8, batches of inputs like those the model will meet, each in a form of `example_inputs`. Some
        dozens are enough. What is chosen on some batches is judged on others, so what belongs together, as several
        views of one picture, goes into one batch. Inputs (N, 3, H, W) are taken for pictures: inverted, recoloured,
        upside down and enlarged, they widen the ranges.
    keep_float : for int8, shell-style patterns of what stays in float32: PyTorch module paths, and with one all that
        the module holds, or tensors by name, as ``"head.*"``.
    max_bytes : for int8, the largest that the file may be: tables of embeddings have eight bits instead of twelve, and
        weights are stored in four bits, those first whose outputs change least, until it is. None: no limit.
    dynamic : further axes that may vary, by input, as ``{"input_ids": {1: "T"}}``: T is 1 to 4096 when the model runs,
        or as many as the module has positions.
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
    ShapeError : a calibration batch does not have the shapes of the inputs.
    """
    from keypilot.model import Model

    source = ProgramSource(module, bind_inputs(module, example_inputs), dynamic or {})
    metadata = {"general.name": name or type(module).__name__}
    batches = None if calibration is None else {"main": [bind_inputs(module, batch) for batch in calibration]}

    def write(path: str | os.PathLike[str]) -> Model:
        compile_programs(
            {"main": source},
            metadata=metadata,
            out=path,
            precision=precision,
            calibration=batches,
            keep_float=keep_float,
            max_bytes=max_bytes,
        )
        return Model.load(path)

    if out is not None:
        return write(out)
    with tempfile.TemporaryDirectory(prefix="keypilot-") as folder:
        return write(Path(folder) / "model.gguf")


def compile_programs(
    programs: Mapping[str, ProgramSource | tuple[Any, ...]],
    *,
    metadata: Metadata,
    out: str | os.PathLike[str],
    precision: str = "fp32",
    calibration: Mapping[str, Iterable[Mapping[str, Any]]] | None = None,
    calibration_source: str = "",
    keep_float: Sequence[str] = (),
    max_bytes: int | None = None,
) -> None:
    """Compiles several modules into one file, in which they share the weights whose paths are the same.

    Parameters
    ----------
    programs : by name, in the order in which data flows: an input named as an earlier program's output takes that
        output's memory order. Tuples are taken as `ProgramSource`.
    metadata : further keys of the file.
    calibration : for int8, batches by program, each of inputs by name.
    calibration_source : what the calibration data are, for the file's record.
    precision, keep_float, max_bytes : as `compile`.

    Raises
    ------
    ArgumentError : two modules have different weights under one path. Otherwise as `compile`.
    """
    _check_precision(precision, calibration, keep_float, max_bytes)
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
    if calibration is None:
        write_model(out, compiled, metadata, precision)
        return
    batches = {
        name: [{key: _as_array(x) for key, x in batch.items()} for batch in runs] for name, runs in calibration.items()
    }
    _write_int8(compiled, metadata, Path(out), batches, calibration_source, keep_float, max_bytes)


def _check_precision(precision: str, calibration: Any, keep_float: Sequence[str], max_bytes: int | None) -> None:
    if precision not in PRECISIONS:
        raise ArgumentError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    if isinstance(keep_float, str):
        raise ArgumentError(f"keep_float: expected a sequence of patterns, got the string {keep_float!r}")
    if precision == "int8" and calibration is None:
        raise ArgumentError("calibration: expected batches of inputs, which int8 takes its ranges from, got None")
    if precision != "int8":
        for name, given in (
            ("calibration", calibration is not None),
            ("keep_float", keep_float),
            ("max_bytes", max_bytes),
        ):
            if given:
                raise ArgumentError(f"{name}: is for precision 'int8', got it with {precision!r}")


def _write_int8(
    programs: Sequence[Program],
    metadata: Metadata,
    out: Path,
    batches: Mapping[str, Sequence[Mapping[str, Any]]],
    source: str,
    keep_float: Sequence[str],
    max_bytes: int | None,
) -> None:
    """Quantises and writes the file, with ever more weights in four bits until it is small enough."""
    quantizer = quantize_programs(programs, batches, keep_float, fine_tables=max_bytes is None)
    quantizer.record["calibration"] = source or "the caller's batches"
    candidate = out.with_name(f"{out.name}.candidate")
    try:
        while True:
            record = json.dumps(quantizer.record, separators=(",", ":"))
            write_model(candidate, programs, {**metadata, "keypilot.quantization": record}, "int8")
            size = candidate.stat().st_size
            if max_bytes is None or size <= max_bytes:
                break
            if quantizer.shrink(size - max_bytes) == 0:
                raise ArgumentError(f"max_bytes: the smallest file that can be made has {size} bytes, got {max_bytes}")
        candidate.replace(out)
    finally:
        candidate.unlink(missing_ok=True)


def _as_array(x: Any) -> Any:
    return x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else x


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
