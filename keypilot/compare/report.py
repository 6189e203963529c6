"""What a parity run found: a table, JSON, and the tensor where it begins to differ."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keypilot.compare.metrics import Array, Difference

#: The default bound on `max_rel` for float32.
FLOAT32_BOUND = 1e-4


def write_report(path: Path, as_dict: Callable[[], dict[str, Any]], page: Callable[[], str]) -> None:
    """Writes JSON or a page, whichever the name ends in.

    Raises
    ------
    ValueError : the name ends in neither .json nor .html.
    """
    if path.suffix == ".json":
        path.write_text(json.dumps(as_dict(), indent=1) + "\n")
    elif path.suffix == ".html":
        path.write_text(page(), encoding="utf-8")
    else:
        raise ValueError(f"expected a name that ends in .json or .html, got {path.name!r}")


@dataclasses.dataclass(frozen=True)
class Slice:
    """The two-dimensional slice of a tensor that holds its largest difference.

    float32 : of the float32 model beside an int8 one; None where there is none.
    """

    index: tuple[int, ...]  # of the leading axes
    reference: Array
    actual: Array
    float32: Array | None = None


@dataclasses.dataclass(frozen=True)
class TensorReport:
    """One tensor, the worst over all batches.

    name : the PyTorch module path. program : the program that computes it. shape : in the first batch, PyTorch's order.
    difference : the model's. ok : within the bounds (see `Report`). worst : where the largest difference lies.
    low, high : PyTorch's smallest and largest value. float32 : the difference of the float32 model that stands beside
    an int8 one; None where there is none, or it does not keep the tensor. output : it is an output of its program, or
    of the pipeline.
    """

    name: str
    program: str
    shape: tuple[int, ...]
    difference: Difference
    ok: bool
    worst: Slice
    low: float
    high: float
    float32: Difference | None = None
    output: bool = False

    @property
    def path(self) -> str:
        """``"program/name"``."""
        return f"{self.program}/{self.name}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "program": self.program,
            "shape": list(self.shape),
            "low": self.low,
            "high": self.high,
            **_difference_dict(self.difference),
            "float32": None if self.float32 is None else _difference_dict(self.float32),
            "output": self.output,
            "ok": self.ok,
        }


def _difference_dict(d: Difference) -> dict[str, float | None]:
    """An infinite SQNR (equal tensors, or not finite ones) is None."""
    return {
        "max_abs": d.max_abs,
        "max_rel": d.max_rel,
        "cosine": d.cosine,
        "sqnr_db": d.sqnr_db if math.isfinite(d.sqnr_db) else None,
    }


@dataclasses.dataclass(frozen=True)
class Report:
    """Every tensor that PyTorch and the C core both have, in execution order.

    A float32 model is `ok` where `max_rel` of every tensor is at most `bound`. An int8 model is where that holds of the
    float32 model beside it, its own values are finite, and the SQNR of every output is at least `min_sqnr_db`.

    only_reference : tensors that PyTorch has and the model file does not keep, since a kernel fuses them, as
        "program/name".
    precision : the model's, "fp32" or "int8".
    """

    tensors: Sequence[TensorReport]
    only_reference: Sequence[str]
    bound: float
    batches: int
    title: str = "parity"
    precision: str = "fp32"
    min_sqnr_db: float | None = None

    @property
    def ok(self) -> bool:
        return all(tensor.ok for tensor in self.tensors)

    @property
    def first_divergence(self) -> TensorReport | None:
        """The first tensor, in execution order, that is not `ok`."""
        return next((tensor for tensor in self.tensors if not tensor.ok), None)

    def worst_first(self) -> list[TensorReport]:
        """The tensors of a float32 model by `max_rel`, largest first; of an int8 model by SQNR, lowest first."""
        if self.precision == "int8":
            return sorted(self.tensors, key=lambda tensor: tensor.difference.sqnr_db)
        return sorted(self.tensors, key=lambda tensor: -tensor.difference.max_rel)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data; an infinite SQNR (equal tensors) is None."""
        first = self.first_divergence
        return {
            "title": self.title,
            "precision": self.precision,
            "ok": self.ok,
            "bound": self.bound,
            "min_sqnr_db": self.min_sqnr_db,
            "batches": self.batches,
            "first_divergence": first.path if first else None,
            "tensors": [tensor.as_dict() for tensor in self.tensors],
            "only_reference": list(self.only_reference),
        }

    def table(self, *, worst_first: bool = False, limit: int | None = None) -> str:
        """The report as text, one line a tensor."""
        rows = self.worst_first() if worst_first else list(self.tensors)
        shown = rows if limit is None else rows[:limit]
        width = max([len(t.path) for t in shown], default=6)
        line = _int8_line if self.precision == "int8" else _float32_line
        header = _INT8_HEADER if self.precision == "int8" else _FLOAT32_HEADER
        lines = [f"{first:<{width}}  {rest}" for first, rest in header]
        lines += [f"{t.path:<{width}}  {line(t)}{'' if t.ok else '  FAILED'}" for t in shown]
        if len(shown) < len(rows):
            lines.append(f"... and {len(rows) - len(shown)} more")
        return "\n".join([*(text.rstrip() for text in lines), "", self.summary()])

    def summary(self) -> str:
        """The verdict, and what it rests on: two lines, and for an int8 model one for each program."""
        first = self.first_divergence
        failed = sum(not tensor.ok for tensor in self.tensors)
        what = "bounds" if self.precision == "int8" else f"{self.bound:g} of their range"
        verdict = (
            f"FAILED: {failed} of {len(self.tensors)} tensors beyond {what}, first {first.path}"
            if first
            else f"OK: {len(self.tensors)} tensors within {what}"
        )
        worst = self.worst_first()[0] if self.tensors else None
        if worst is not None and self.precision == "int8":
            verdict += f"; lowest SQNR {worst.difference.sqnr_db:.1f} dB at {worst.path}"
        elif worst is not None:
            verdict += f"; worst {worst.difference.max_rel:.2e} at {worst.path}"
        fused = f"{len(self.only_reference)} tensors of PyTorch lie inside fused kernels and were not compared."
        return "\n".join([verdict, f"{self.batches} batches. {fused}", *self._int8_outputs()])

    def _int8_outputs(self) -> list[str]:
        """What int8 makes of each program's outputs."""
        programs: dict[str, list[str]] = {}
        for tensor in self.tensors if self.precision == "int8" else ():
            if tensor.output:
                programs.setdefault(tensor.program, []).append(f"{tensor.name} {tensor.difference.sqnr_db:.1f} dB")
        return [f"{program}: {', '.join(outputs)}" for program, outputs in programs.items()]

    def save(self, path: str | Path) -> None:
        """Writes the report: as JSON where the name ends in .json, as one self-contained page where it ends in .html.

        Raises
        ------
        ValueError : the name ends in neither.
        """
        from keypilot.compare.html import page

        write_report(Path(path), self.as_dict, lambda: page(self))


_FLOAT32_HEADER = (("tensor", f"{'shape':<18} {'max abs':>9} {'max rel':>9} {'cosine':>10} {'SQNR dB':>8}"),)

_INT8_HEADER = (
    ("", f"{'':<18} {'PyTorch float32':>19} | {'C float32':>18} | {'C int8':>29}"),
    (
        "tensor",
        f"{'shape':<18} {'low':>9} {'high':>9} | {'max rel':>9} {'SQNR dB':>8} | "
        f"{'max rel':>9} {'cosine':>10} {'SQNR dB':>8}",
    ),
)


def _float32_line(t: TensorReport) -> str:
    d = t.difference
    return f"{_shape(t):<18} {d.max_abs:9.2e} {d.max_rel:9.2e} {d.cosine:10.8f} {d.sqnr_db:8.1f}"


def _int8_line(t: TensorReport) -> str:
    d, f = t.difference, t.float32
    float32 = f"{'-':>9} {'-':>8}" if f is None else f"{f.max_rel:9.2e} {f.sqnr_db:8.1f}"
    return (
        f"{_shape(t):<18} {t.low:9.3g} {t.high:9.3g} | {float32} | {d.max_rel:9.2e} {d.cosine:10.7f} {d.sqnr_db:8.1f}"
    )


def _shape(tensor: TensorReport) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def worst_slice(reference: Array, actual: Array, float32: Array | None = None) -> Slice:
    """The last two axes of the tensors at the largest difference of `actual`; scalars and vectors become one row."""
    r = reference.reshape((1,) * max(0, 2 - reference.ndim) + reference.shape)
    a = actual.reshape(r.shape)
    with np.errstate(invalid="ignore"):
        error = np.abs(r.astype(np.float32) - a.astype(np.float32))
    if not np.isfinite(error.sum()):
        error = np.nan_to_num(error, nan=0.0)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(error)), r.shape))[:-2]
    beside = None if float32 is None else float32.reshape(r.shape)[index].astype(np.float32)
    return Slice(index, r[index].astype(np.float32), a[index].astype(np.float32), beside)
