"""Runs PyTorch and the C core on the same inputs and compares every tensor that both have."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from keypilot.compare.metrics import Array, difference
from keypilot.compare.report import FLOAT32_BOUND, Report, TensorReport, worst_slice
from keypilot.module_names import name_module_outputs

if TYPE_CHECKING:
    from keypilot.encoder import Picture
    from keypilot.model import Model
    from keypilot.reference.encoder import KeyPilotEncoder
    from keypilot.reference.pipeline import Encoding

Batch = Mapping[str, torch.Tensor | Array]

#: The name under which the end-to-end results appear in an encoder's report, beside the programs.
PIPELINE = "pipeline"


def parity(
    model: Model,
    module: nn.Module,
    batches: Iterable[Batch],
    *,
    program: str | None = None,
    against: Model | None = None,
    bound: float = FLOAT32_BOUND,
    min_sqnr_db: float | None = None,
    title: str | None = None,
) -> Report:
    """Compares a compiled model with the module it was compiled from.

    Parameters
    ----------
    model : what `keypilot.compile` or `Model.load` gave. Values of an int8 model are compared as the real numbers that
        they stand for.
    module : the PyTorch module, in eval mode.
    batches : inputs by parameter name, as tensors or arrays.
    program : the program to run, where the model has several.
    against : for an int8 model, the same module's float32 model, which is compared beside it.
    bound : the largest `max_rel` that passes (see `metrics.Difference`); for an int8 model, that of `against`.
    min_sqnr_db : for an int8 model, the lowest SQNR of an output that passes; None: any does.

    Returns
    -------
    Report : a row for every module output that the model file keeps, named by its PyTorch module path, and for every
        output of the program; each the worst over the batches.

    Raises
    ------
    ValueError : there are no batches, or the model has several programs and none was named.
    """
    collector = _Collector(_precision(model), bound, min_sqnr_db)
    name = program or _only_program(model)
    for batch in batches:
        _compare_program(collector, model, against, module, name, batch)
    return collector.report(title or f"parity of {name}")


def encoder_parity(
    model: Model,
    encoder: KeyPilotEncoder,
    samples: Sequence[tuple[Picture, str]],
    *,
    user: int = 0,
    batch_sizes: Sequence[int] = (1,),
    against: Model | None = None,
    bound: float = FLOAT32_BOUND,
    min_sqnr_db: float | None = None,
    threads: int | None = None,
    progress: bool = True,
) -> Report:
    """Compares an encoder's model file with its PyTorch modules on pictures and texts.

    Each program runs on the reference pipeline's own inputs, singly and in the given batch sizes, so that a
    difference in one does not reach the next; then the whole pipeline runs in both, and its results are compared as
    program "pipeline". In float32, masks and boxes must be equal, and vectors within the bound.

    Parameters
    ----------
    samples : pictures, as paths, PIL images or arrays, each with its text.
    against, bound, min_sqnr_db : as in `parity`.
    progress : show a progress bar on standard error.
    """
    from keypilot.encoder import Encoder
    from keypilot.reference.pipeline import Pipeline

    collector = _Collector(_precision(model), bound, min_sqnr_db)
    pipeline = Pipeline(encoder)
    shipped = Encoder(model, threads=threads)
    float32 = None if against is None else Encoder(against, threads=threads)
    encodings = []
    for picture, text in _progress(samples, "pictures", progress):
        reference = pipeline.encode(picture, text, user)
        encodings.append(reference)
        out = shipped.encode(picture, text=text, user=user)
        beside = None if float32 is None else float32.encode(picture, text=text, user=user)
        for field in ("image", "masks", "boxes", "roi_valid", "rois", "text", "context"):
            found = _Tensors(getattr(reference, field), getattr(out, field), getattr(beside, field, None))
            collector.add(PIPELINE, field, found, output=True)
        collector.batches += 1
    modules = {name: program.module.eval() for name, program in encoder.programs().items()}
    jobs = [(name, group) for name in modules for size in batch_sizes for group in _groups(encodings, size)]
    for name, group in _progress(jobs, "programs", progress):
        _compare_program(collector, model, against, modules[name], name, stack_inputs(name, group))
    return collector.report(f"parity of {encoder.config.name}")


def stack_inputs(program: str, encodings: Sequence[Encoding]) -> dict[str, Array]:
    """One program's inputs of several encodings as a batch; shorter texts are padded and masked."""
    parts = [encoding.inputs[program] for encoding in encodings]
    if program == "text":
        length = max(part["input_ids"].shape[1] for part in parts)
        parts = [
            {name: np.pad(array, ((0, 0), (0, length - array.shape[1]))) for name, array in part.items()}
            for part in parts
        ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _compare_program(
    collector: _Collector, model: Model, against: Model | None, module: nn.Module, program: str, batch: Batch
) -> None:
    inputs = {name: torch.as_tensor(value) for name, value in batch.items()}
    recorded: dict[str, Array] = {}

    def record(name: str, tensor: torch.Tensor) -> torch.Tensor:
        recorded[name] = tensor.detach().numpy().copy()
        return tensor

    with torch.no_grad(), name_module_outputs(module, record):
        outputs = module(**inputs)
    references = {**recorded, **{name: tensor.detach().numpy() for name, tensor in _named_outputs(outputs).items()}}
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    results, taps = _run_tapped(model, program, arrays)
    float32 = (
        {} if against is None else {k: v for found in _run_tapped(against, program, arrays) for k, v in found.items()}
    )
    actuals = {**taps, **results}
    for name, actual in actuals.items():
        if name in references:
            found = _Tensors(references[name], actual, float32.get(name))
            collector.add(program, name, found, output=name in results)
    collector.only_reference.update(dict.fromkeys(f"{program}/{name}" for name in recorded if name not in actuals))
    collector.batches += 1


def _named_outputs(outputs: Any) -> Mapping[str, torch.Tensor]:
    """What a module returned, by the names of the program's output ports (see `keypilot.compile`)."""
    if isinstance(outputs, Mapping):
        return outputs
    if isinstance(outputs, torch.Tensor):
        return {"output": outputs}
    return {f"output.{i}": tensor for i, tensor in enumerate(outputs)}


def _run_tapped(model: Model, program: str, arrays: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """A program's outputs, and every tensor that the file keeps the name of."""
    with model.tap("*") as taps:
        outputs = model.run(program, **arrays)
    return outputs, dict(taps)


@dataclasses.dataclass(frozen=True)
class _Tensors:
    """One tensor of one batch, computed by PyTorch, by the model, and by the float32 model beside it."""

    reference: Array
    actual: Array
    float32: Array | None


class _Collector:
    """The worst of every tensor over batches, in order of first appearance."""

    def __init__(self, precision: str, bound: float, min_sqnr_db: float | None) -> None:
        self.precision = precision
        self.bound = bound
        self.min_sqnr_db = min_sqnr_db
        self.batches = 0
        self.only_reference: dict[str, None] = {}
        self._rows: dict[tuple[str, str], TensorReport] = {}

    def add(self, program: str, name: str, tensors: _Tensors, *, output: bool) -> None:
        reference, actual, float32 = tensors.reference, tensors.actual, tensors.float32
        before = self._rows.get((program, name))
        found = difference(reference, actual)
        beside = None if float32 is None else difference(reference, float32)
        low, high = (float(reference.min()), float(reference.max())) if reference.size else (0.0, 0.0)
        if before is None:
            self._rows[program, name] = TensorReport(
                name=name,
                program=program,
                shape=reference.shape,
                difference=found,
                ok=True,
                worst=worst_slice(reference, actual, float32),
                low=low,
                high=high,
                float32=beside,
                output=output and reference.dtype.kind == "f",
            )
            return
        self._rows[program, name] = dataclasses.replace(
            before,
            difference=before.difference.worse(found),
            worst=worst_slice(reference, actual, float32)
            if found.max_rel > before.difference.max_rel
            else before.worst,
            low=min(before.low, low),
            high=max(before.high, high),
            float32=beside if before.float32 is None or beside is None else before.float32.worse(beside),
        )

    def report(self, title: str) -> Report:
        if not self._rows:
            raise ValueError("nothing was compared: expected at least one batch and one tensor that both sides have")
        tensors = [dataclasses.replace(row, ok=self._passes(row)) for row in self._rows.values()]
        # The pipeline's results come last, as they do in execution.
        tensors.sort(key=lambda tensor: tensor.program == PIPELINE)
        return Report(
            tensors, list(self.only_reference), self.bound, self.batches, title, self.precision, self.min_sqnr_db
        )

    def _passes(self, row: TensorReport) -> bool:
        found = row.difference
        if self.precision != "int8":
            return found.max_rel <= self.bound
        if row.float32 is not None and row.float32.max_rel > self.bound:
            return False
        low = -math.inf if self.min_sqnr_db is None or not row.output else self.min_sqnr_db
        return math.isfinite(found.max_abs) and found.sqnr_db >= low


def _groups(encodings: Sequence[Encoding], size: int) -> Iterator[Sequence[Encoding]]:
    """Consecutive runs of `size`, the last one filled up from the start."""
    for start in range(0, len(encodings), size):
        yield [encodings[(start + i) % len(encodings)] for i in range(size)]


def _precision(model: Model) -> str:
    return str(model.metadata.get("keypilot.precision", "fp32"))


def _only_program(model: Model) -> str:
    programs = list(model.programs)
    if len(programs) != 1:
        raise ValueError(f"program: expected one of {', '.join(programs)}, got none")
    return str(programs[0])


def _progress(items: Sequence[Any], label: str, shown: bool) -> Iterable[Any]:
    from tqdm import tqdm

    bar: Iterable[Any] = tqdm(items, desc=label, disable=not shown, leave=False)
    return bar
