"""Runs PyTorch and the C core on the same inputs and compares every tensor that both have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from keypilot.compare.metrics import Array, Difference, difference
from keypilot.compare.report import FLOAT32_BOUND, Report, Slice, TensorReport, worst_slice
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
    bound: float = FLOAT32_BOUND,
    title: str | None = None,
) -> Report:
    """Compares a compiled model with the module it was compiled from.

    Parameters
    ----------
    model : what `keypilot.compile` or `Model.load` gave.
    module : the PyTorch module, in eval mode.
    batches : inputs by parameter name, as tensors or arrays.
    program : the program to run, where the model has several.
    bound : the largest `max_rel` that passes (see `metrics.Difference`).

    Returns
    -------
    Report : a row for every module output that the model file keeps, named by its PyTorch module path, and for every
        output of the program; each the worst over the batches.

    Raises
    ------
    ValueError : there are no batches, or the model has several programs and none was named.
    """
    collector = _Collector(bound)
    name = program or _only_program(model)
    for batch in batches:
        _compare_program(collector, model, module, name, batch)
    return collector.report(title or f"parity of {name}")


def encoder_parity(
    model: Model,
    encoder: KeyPilotEncoder,
    samples: Sequence[tuple[Picture, str]],
    *,
    user: int = 0,
    batch_sizes: Sequence[int] = (1,),
    bound: float = FLOAT32_BOUND,
    threads: int | None = None,
    progress: bool = True,
) -> Report:
    """Compares an encoder's model file with its PyTorch modules on pictures and texts.

    Each program runs on the reference pipeline's own inputs, singly and in the given batch sizes, so that a
    difference in one does not reach the next; then the whole pipeline runs in both, and its results are compared as
    program "pipeline": masks and boxes must be equal, vectors within the bound.

    Parameters
    ----------
    samples : pictures, as paths, PIL images or arrays, each with its text.
    progress : show a progress bar on standard error.
    """
    from keypilot.encoder import Encoder
    from keypilot.reference.pipeline import Pipeline

    collector = _Collector(bound)
    pipeline = Pipeline(encoder)
    shipped = Encoder(model, threads=threads)
    encodings = []
    for picture, text in _progress(samples, "pictures", progress):
        reference = pipeline.encode(picture, text, user)
        encodings.append(reference)
        out = shipped.encode(picture, text=text, user=user)
        for field in ("image", "masks", "boxes", "roi_valid", "rois", "text", "context"):
            collector.add(PIPELINE, field, getattr(reference, field), getattr(out, field))
        collector.batches += 1
    modules = {name: program.module.eval() for name, program in encoder.programs().items()}
    jobs = [(name, group) for name in modules for size in batch_sizes for group in _groups(encodings, size)]
    for name, group in _progress(jobs, "programs", progress):
        _compare_program(collector, model, modules[name], name, stack_inputs(name, group))
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


def _compare_program(collector: _Collector, model: Model, module: nn.Module, program: str, batch: Batch) -> None:
    inputs = {name: torch.as_tensor(value) for name, value in batch.items()}
    recorded: dict[str, Array] = {}

    def record(name: str, tensor: torch.Tensor) -> torch.Tensor:
        recorded[name] = tensor.detach().numpy().copy()
        return tensor

    with torch.no_grad(), name_module_outputs(module, record):
        outputs = module(**inputs)
    references = dict(recorded)
    if isinstance(outputs, Mapping):
        references.update({name: tensor.numpy() for name, tensor in outputs.items()})
    with model.tap("*") as taps:
        results = model.run(program, **{name: tensor.numpy() for name, tensor in inputs.items()})
    actuals = {**dict(taps), **results}
    for name, actual in actuals.items():
        if name in references:
            collector.add(program, name, references[name], actual)
    collector.only_reference.update(dict.fromkeys(f"{program}/{name}" for name in recorded if name not in actuals))
    collector.batches += 1


class _Collector:
    """The worst of every tensor over batches, in order of first appearance."""

    def __init__(self, bound: float) -> None:
        self.bound = bound
        self.batches = 0
        self.only_reference: dict[str, None] = {}
        self._rows: dict[tuple[str, str], tuple[tuple[int, ...], Difference, Slice]] = {}

    def add(self, program: str, name: str, reference: Array, actual: Array) -> None:
        found = difference(reference, actual)
        key = (program, name)
        if key not in self._rows:
            self._rows[key] = (reference.shape, found, worst_slice(reference, actual))
            return
        shape, before, worst = self._rows[key]
        if found.max_rel > before.max_rel:
            worst = worst_slice(reference, actual)
        self._rows[key] = (shape, before.worse(found), worst)

    def report(self, title: str) -> Report:
        if not self._rows:
            raise ValueError("nothing was compared: expected at least one batch and one tensor that both sides have")
        tensors = [
            TensorReport(name, program, shape, worst, worst.max_rel <= self.bound, where)
            for (program, name), (shape, worst, where) in self._rows.items()
        ]
        # The pipeline's results come last, as they do in execution.
        tensors.sort(key=lambda tensor: tensor.program == PIPELINE)
        return Report(tensors, list(self.only_reference), self.bound, self.batches, title)


def _groups(encodings: Sequence[Encoding], size: int) -> Iterator[Sequence[Encoding]]:
    """Consecutive runs of `size`, the last one filled up from the start."""
    for start in range(0, len(encodings), size):
        yield [encodings[(start + i) % len(encodings)] for i in range(size)]


def _only_program(model: Model) -> str:
    programs = list(model.programs)
    if len(programs) != 1:
        raise ValueError(f"program: expected one of {', '.join(programs)}, got none")
    return str(programs[0])


def _progress(items: Sequence[Any], label: str, shown: bool) -> Iterable[Any]:
    from tqdm import tqdm

    bar: Iterable[Any] = tqdm(items, desc=label, disable=not shown, leave=False)
    return bar
