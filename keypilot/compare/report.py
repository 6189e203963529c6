"""What a parity run found: a table, JSON, and the tensor where it begins to differ."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keypilot.compare.metrics import Array, Difference

#: The default bound on `max_rel` for float32.
FLOAT32_BOUND = 1e-4


@dataclasses.dataclass(frozen=True)
class Slice:
    """The two-dimensional slice of a tensor that holds its largest difference."""

    index: tuple[int, ...]  # of the leading axes
    reference: Array
    actual: Array


@dataclasses.dataclass(frozen=True)
class TensorReport:
    """One tensor, the worst over all batches.

    name : the PyTorch module path. program : the program that computes it. shape : in the first batch, PyTorch's order.
    ok : `max_rel` is within the bound, and the shapes agree. worst : where the largest difference lies.
    """

    name: str
    program: str
    shape: tuple[int, ...]
    difference: Difference
    ok: bool
    worst: Slice

    def as_dict(self) -> dict[str, Any]:
        d = self.difference
        return {
            "name": self.name,
            "program": self.program,
            "shape": list(self.shape),
            "max_abs": d.max_abs,
            "max_rel": d.max_rel,
            "cosine": d.cosine,
            "sqnr_db": d.sqnr_db if math.isfinite(d.sqnr_db) else None,
            "ok": self.ok,
        }


@dataclasses.dataclass(frozen=True)
class Report:
    """Every tensor that PyTorch and the C core both have, in execution order.

    only_reference : tensors that PyTorch has and the model file does not keep, since a kernel fuses them, as
        "program/name".
    """

    tensors: Sequence[TensorReport]
    only_reference: Sequence[str]
    bound: float
    batches: int
    title: str = "parity"

    @property
    def ok(self) -> bool:
        return all(tensor.ok for tensor in self.tensors)

    @property
    def first_divergence(self) -> TensorReport | None:
        """The first tensor, in execution order, that is not within the bound."""
        return next((tensor for tensor in self.tensors if not tensor.ok), None)

    def worst_first(self) -> list[TensorReport]:
        """The tensors by `max_rel`, largest first."""
        return sorted(self.tensors, key=lambda tensor: -tensor.difference.max_rel)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data; an infinite SQNR (equal tensors) is None."""
        first = self.first_divergence
        return {
            "title": self.title,
            "ok": self.ok,
            "bound": self.bound,
            "batches": self.batches,
            "first_divergence": f"{first.program}/{first.name}" if first else None,
            "tensors": [tensor.as_dict() for tensor in self.tensors],
            "only_reference": list(self.only_reference),
        }

    def table(self, *, worst_first: bool = False, limit: int | None = None) -> str:
        """The report as text, one line a tensor."""
        rows = self.worst_first() if worst_first else list(self.tensors)
        shown = rows if limit is None else rows[:limit]
        width = max([len(f"{t.program}/{t.name}") for t in shown], default=6)
        lines = [f"{'tensor':<{width}}  {'shape':<18} {'max abs':>9} {'max rel':>9} {'cosine':>10} {'SQNR dB':>8}"]
        for t in shown:
            d = t.difference
            shape = "x".join(map(str, t.shape)) or "scalar"
            verdict = "" if t.ok else "  FAILED"
            lines.append(
                f"{t.program + '/' + t.name:<{width}}  {shape:<18} {d.max_abs:9.2e} {d.max_rel:9.2e} "
                f"{d.cosine:10.8f} {d.sqnr_db:8.1f}{verdict}"
            )
        if len(shown) < len(rows):
            lines.append(f"... and {len(rows) - len(shown)} more")
        return "\n".join([*lines, "", self.summary()])

    def summary(self) -> str:
        """Two lines: the verdict, and what it rests on."""
        first = self.first_divergence
        failed = sum(not tensor.ok for tensor in self.tensors)
        worst = self.worst_first()[0] if self.tensors else None
        verdict = (
            f"FAILED: {failed} of {len(self.tensors)} tensors beyond {self.bound:g} of their range, "
            f"first {first.program}/{first.name}"
            if first
            else f"OK: {len(self.tensors)} tensors within {self.bound:g} of their range"
        )
        if worst is not None:
            verdict += f"; worst {worst.difference.max_rel:.2e} at {worst.program}/{worst.name}"
        fused = f"{len(self.only_reference)} tensors of PyTorch lie inside fused kernels and were not compared."
        return f"{verdict}\n{self.batches} batches. {fused}"

    def save(self, path: str | Path) -> None:
        """Writes the report: as JSON where the name ends in .json, as one self-contained page where it ends in .html.

        Raises
        ------
        ValueError : the name ends in neither.
        """
        path = Path(path)
        if path.suffix == ".json":
            path.write_text(json.dumps(self.as_dict(), indent=1) + "\n")
        elif path.suffix == ".html":
            from keypilot.compare.html import page

            path.write_text(page(self), encoding="utf-8")
        else:
            raise ValueError(f"expected a name that ends in .json or .html, got {path.name!r}")


def worst_slice(reference: Array, actual: Array) -> Slice:
    """The last two axes of both tensors at the largest difference; scalars and vectors become one row."""
    r = reference.reshape((1,) * max(0, 2 - reference.ndim) + reference.shape)
    a = actual.reshape(r.shape)
    with np.errstate(invalid="ignore"):
        error = np.abs(r.astype(np.float32) - a.astype(np.float32))
    if not np.isfinite(error.sum()):
        error = np.nan_to_num(error, nan=0.0)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(error)), r.shape))[:-2]
    return Slice(index, r[index].astype(np.float32), a[index].astype(np.float32))
