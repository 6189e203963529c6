"""What the quantisation of each layer costs: the float32 program with that one layer taken from the int8 model.

The program of the float32 model file is written anew with one operator replaced by the int8 model's, with that
operator's weight, scales and zero points, and is run by the C core; its outputs are compared with those of the program
without a replacement. So the noise of the other layers does not hide what one costs, and the figures of two layers can
be compared. (Keeping one layer in float32 and quantising all others changes the sum by little, and says less.)
"""

from __future__ import annotations

import dataclasses
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

from keypilot.compare.metrics import Array
from keypilot.compare.report import write_report
from keypilot.errors import ArgumentError

if TYPE_CHECKING:
    from keypilot.model import Model

Batch = Mapping[str, Array]

#: Operators that only move values about, or convert them: who reads them has the cost.
_PASSIVE = frozenset({"quantize", "dequantize", "alias", "rearrange", "concat", "resize2d"})

_IMPORTED = "int8:"  # before the names of what comes from the int8 model


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """One operator of a program.

    layer : the PyTorch module path of its weight, or, without one, the name of its output. sqnr_db : of the program's
    outputs when it alone is quantised; the lowest of several outputs, which is `output`. share : of the noise that
    all layers of the program make by themselves.
    """

    program: str
    layer: str
    operator: str
    sqnr_db: float
    output: str
    share: float


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """Every quantised operator.

    layers : worst first. whole : program -> lowest SQNR of its outputs when all of it is quantised. unmatched : int8
    operators that the float32 model has no counterpart of, as "program/output".
    """

    layers: Sequence[LayerCost]
    whole: Mapping[str, float]
    unmatched: Sequence[str]
    title: str = "sensitivity"

    def as_dict(self) -> dict[str, Any]:
        """Plain data; an infinite SQNR is None."""
        return {
            "title": self.title,
            "whole": {program: _finite(sqnr) for program, sqnr in self.whole.items()},
            "layers": [{**dataclasses.asdict(layer), "sqnr_db": _finite(layer.sqnr_db)} for layer in self.layers],
            "unmatched": list(self.unmatched),
        }

    def table(self, *, limit: int | None = None) -> str:
        """As text, one line a layer."""
        shown = self.layers if limit is None else self.layers[:limit]
        width = max([len(f"{row.program}/{row.layer}") for row in shown], default=5)
        lines = [f"{'layer':<{width}}  {'operator':<10} {'SQNR dB':>8} {'noise':>7}  output"]
        for row in shown:
            figures = f"{row.operator:<10} {row.sqnr_db:8.1f} {row.share:7.1%}"
            lines.append(f"{f'{row.program}/{row.layer}':<{width}}  {figures}  {row.output}")
        if len(shown) < len(self.layers):
            lines.append(f"... and {len(self.layers) - len(shown)} more")
        return "\n".join([*lines, "", self.summary()])

    def summary(self) -> str:
        """What all layers give together."""
        whole = ", ".join(f"{program} {sqnr:.1f} dB" for program, sqnr in self.whole.items())
        text = f"SQNR of the outputs against float32, one layer quantised at a time. All together: {whole}."
        return text + (f" Not measured: {', '.join(self.unmatched)}." if self.unmatched else "")

    def save(self, path: str | Path) -> None:
        """Writes JSON where the name ends in .json, a self-contained page where it ends in .html.

        Raises
        ------
        ValueError : the name ends in neither.
        """
        from keypilot.compare.html import sensitivity_page

        write_report(Path(path), self.as_dict, lambda: sensitivity_page(self))


def sensitivity(
    model: Model, against: Model, batches: Mapping[str, Sequence[Batch]], *, progress: bool = True
) -> Sensitivity:
    """Measures every quantised operator by itself.

    Parameters
    ----------
    model : an int8 model.
    against : the float32 model of the same modules.
    batches : program -> inputs by name, in PyTorch's shapes. Programs without any are left out.
    progress : show a progress bar on standard error.

    Raises
    ------
    ArgumentError : `model` is not int8 or `against` is not float32, or they have other programs.
    """
    from tqdm import tqdm

    for one, precision in ((model, "int8"), (against, "fp32")):
        if (got := one.metadata.get("keypilot.precision")) != precision:
            raise ArgumentError(
                f"sensitivity: expected an int8 model and its float32 model, got {got!r} for {precision!r}"
            )
    jobs: list[tuple[str, int]] = []
    graphs: dict[str, tuple[_Graph, _Graph]] = {}
    for name in batches:
        if name not in model.programs or name not in against.programs:
            raise ArgumentError(f"sensitivity: expected programs that both models have, got {name!r}")
        graphs[name] = _Graph.read(model, name), _Graph.read(against, name)
        jobs += [(name, index) for index in graphs[name][0].quantized_operators()]
    whole = {}
    unmatched = []
    measured: list[tuple[LayerCost, float]] = []
    references: dict[str, list[dict[str, Array]]] = {}
    with tempfile.TemporaryDirectory(prefix="keypilot-") as folder:
        path = Path(folder) / "layer.gguf"

        def outputs_of(graph: _Graph, program: str) -> list[dict[str, Array]]:
            from keypilot.model import Model

            graph.write(path, program)
            alone = Model.load(path, threads=model.threads)
            return [alone.run(program, **batch) for batch in batches[program]]

        for program, index in tqdm(jobs, desc="layers", disable=not progress, file=sys.stderr, leave=False):
            int8, float32 = graphs[program]
            if program not in references:
                references[program] = outputs_of(float32, program)
                noise, _ = _noise(references[program], [model.run(program, **batch) for batch in batches[program]])
                whole[program] = _decibels(noise)
            mixed = float32.with_operator(int8, index)
            if mixed is None:
                unmatched.append(f"{program}/{int8.names[int8.outputs[index]]}")
                continue
            noise, output = _noise(references[program], outputs_of(mixed, program))
            cost = LayerCost(program, int8.layer_name(index), int8.types[index], _decibels(noise), output, 0.0)
            measured.append((cost, noise))
    totals = {name: sum(noise for cost, noise in measured if cost.program == name) or 1.0 for name in graphs}
    layers = [dataclasses.replace(cost, share=noise / totals[cost.program]) for cost, noise in measured]
    layers.sort(key=lambda cost: cost.sqnr_db)
    title = f"sensitivity of {model.metadata.get('general.name', 'a model')}"
    return Sensitivity(layers, whole, unmatched, title)


def _noise(references: Sequence[Mapping[str, Array]], actuals: Sequence[Mapping[str, Array]]) -> tuple[float, str]:
    """The largest share of noise in an output's signal, over all batches, and that output."""
    worst, name = 0.0, next(iter(references[0]))
    for output in references[0]:
        signal = sum(float(np.square(batch[output], dtype=np.float64).sum()) for batch in references)
        pairs = zip(references, actuals, strict=True)
        noise = sum(float(np.square(r[output] - a[output], dtype=np.float64).sum()) for r, a in pairs)
        share = noise / signal if signal else (math.inf if noise else 0.0)
        if share > worst:
            worst, name = share, output
    return worst, name


def _decibels(share: float) -> float:
    return math.inf if share == 0 else -10.0 * math.log10(share)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


@dataclasses.dataclass(frozen=True)
class _Graph:
    """A program's tables as the model file has them: docs/model-file.md, "A program"."""

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    shapes: tuple[str, ...]
    quantizations: tuple[str, ...]
    weights: tuple[int, ...]
    types: tuple[str, ...]
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[int, ...]
    attributes: tuple[str, ...]
    ports: Mapping[str, tuple[Any, ...]]  # key -> column, of inputs and outputs
    tensors: Mapping[str, Array]  # every tensor of the file

    @classmethod
    def read(cls, model: Model, program: str) -> _Graph:
        def column(key: str) -> tuple[Any, ...]:
            return tuple(model.metadata.get(f"keypilot.{program}.{key}", ()))

        names = column("values.name")
        ports = [f"{kind}.{part}" for kind in ("inputs", "outputs") for part in ("name", "value", "shape", "order")]
        return cls(
            names=names,
            dtypes=column("values.dtype"),
            shapes=column("values.shape"),
            quantizations=column("values.quantization") or ("",) * len(names),
            weights=column("weights"),
            types=column("ops.type"),
            inputs=tuple(tuple(map(int, text.split(","))) for text in column("ops.inputs")),
            outputs=column("ops.output"),
            attributes=column("ops.attributes"),
            ports={key: column(key) for key in ports},
            tensors=model.weights,
        )

    def quantized_operators(self) -> list[int]:
        """The operators that compute something from int8 values or weights, or in int8 inside."""
        return [
            index
            for index, inputs in enumerate(self.inputs)
            if self.types[index] not in _PASSIVE
            and not (self.types[index] == "pool2d" and "fn=max" in self.attributes[index])
            and (any(i >= 0 and self.dtypes[i] == "i8" for i in inputs) or "precision=i8" in self.attributes[index])
        ]

    def layer_name(self, index: int) -> str:
        """The module path of an operator's weight; without one, its output's name."""
        weights = set(self.weights)
        for i in self.inputs[index]:
            if i in weights and self.dtypes[i] == "i8":
                return self.names[i].partition("@")[0].removesuffix(".weight")
        return self.names[self.outputs[index]]

    def source(self, value: int) -> str:
        """The name of what a value holds, conversions to int8 and back left out."""
        producers = {output: index for index, output in enumerate(self.outputs)}
        while value in producers and self.types[producers[value]] in ("quantize", "dequantize"):
            value = self.inputs[producers[value]][0]
        return self.names[value]

    def with_operator(self, other: _Graph, index: int) -> _Graph | None:
        """This program with the operator that gives the same value replaced by operator `index` of `other`, whose
        int8 inputs are quantised just before. None where it has no such value, or computes an input of it later."""
        values = {name: i for i, name in enumerate(self.names)}
        output = values.get(other.names[other.outputs[index]])
        if output is None or output not in self.outputs:
            return None
        place = self.outputs.index(output)
        known = {*(i for i in range(len(self.names)) if i not in self.outputs), *self.outputs[:place]}
        graph = _Editor(self, place)
        inputs = []
        for i in other.inputs[index]:
            if i < 0:
                inputs.append(-1)
            elif i in other.weights:
                inputs.append(graph.import_weight(other, i))
            else:
                source = values.get(other.source(i))
                if source is None or source not in known:
                    return None
                inputs.append(graph.quantize(source, other, i) if other.dtypes[i] == "i8" else source)
        words = [word for word in other.attributes[index].split() if not word.startswith("out=")]
        return graph.replaced(other.types[index], inputs, " ".join(words))

    def write(self, path: Path, program: str) -> None:
        """Writes a model file of this program alone, without taps; its float products are the core's own kernels'."""
        columns: dict[str, Sequence[Any]] = {
            "values.name": self.names,
            "values.dtype": self.dtypes,
            "values.shape": self.shapes,
            "values.quantization": self.quantizations if any(self.quantizations) else (),
            "weights": self.weights,
            "ops.type": self.types,
            "ops.inputs": [",".join(map(str, inputs)) for inputs in self.inputs],
            "ops.output": self.outputs,
            "ops.attributes": self.attributes,
            **self.ports,
        }
        writer = gguf.GGUFWriter(path, "keypilot")
        writer.add_uint32("keypilot.format_version", 1)
        writer.add_string("keypilot.precision", "int8")
        writer.add_array("keypilot.programs", [program])
        for key, column in columns.items():
            if column:
                writer.add_array(f"keypilot.{program}.{key}", list(column))
        for name in dict.fromkeys(
            tensor for i in self.weights for tensor in _tensor_names(self.tensors, self.names[i])
        ):
            writer.add_tensor(name, self.tensors[name])
        for name in dict.fromkeys(filter(None, self.quantizations)):
            for part in (f"{name}.scale", f"{name}.zero_point"):
                writer.add_tensor(part, self.tensors[part])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _tensor_names(tensors: Mapping[str, Array], weight: str) -> list[str]:
    """The tensors that a weight is stored as."""
    parts = ("", ".scale", ".q4", ".q4.multiplier") if f"{weight}.scale" in tensors else ("",)
    return [weight + part for part in parts if weight + part in tensors]


class _Editor:
    """A copy of a graph whose operator at `place` is being replaced."""

    def __init__(self, graph: _Graph, place: int) -> None:
        self._graph = graph
        self._place = place
        self._names = list(graph.names)
        self._dtypes = list(graph.dtypes)
        self._shapes = list(graph.shapes)
        self._quantizations = list(graph.quantizations)
        self._weights = list(graph.weights)
        self._tensors = dict(graph.tensors)
        self._before: list[tuple[int, int]] = []  # quantize operators: input, output

    def import_weight(self, other: _Graph, value: int) -> int:
        """A weight of another graph, under a name of its own."""
        name = other.names[value]
        for tensor in _tensor_names(other.tensors, name):
            self._tensors[_IMPORTED + tensor] = other.tensors[tensor]
        index = self._value(_IMPORTED + name, other.dtypes[value], other.shapes[value], "")
        self._weights.append(index)
        return index

    def quantize(self, source: int, other: _Graph, value: int) -> int:
        """`source`, quantised as `value` of another graph is."""
        name = other.quantizations[value]
        for part in ("scale", "zero_point"):
            self._tensors[f"{_IMPORTED}{name}.{part}"] = other.tensors[f"{name}.{part}"]
        new = f"{_IMPORTED}{self._names[source]}#{len(self._before)}"
        index = self._value(new, "i8", self._shapes[source], _IMPORTED + name)
        self._before.append((source, index))
        return index

    def _value(self, name: str, dtype: str, shape: str, quantization: str) -> int:
        if name in self._names:  # a weight that an operator reads twice
            return self._names.index(name)
        for column, item in (
            (self._names, name),
            (self._dtypes, dtype),
            (self._shapes, shape),
            (self._quantizations, quantization),
        ):
            column.append(item)
        return len(self._names) - 1

    def replaced(self, kind: str, inputs: Sequence[int], attributes: str) -> _Graph:
        """The new graph."""
        graph, place = self._graph, self._place
        before = self._before
        return dataclasses.replace(
            graph,
            names=tuple(self._names),
            dtypes=tuple(self._dtypes),
            shapes=tuple(self._shapes),
            quantizations=tuple(self._quantizations),
            weights=tuple(dict.fromkeys(self._weights)),
            types=(*graph.types[:place], *("quantize" for _ in before), kind, *graph.types[place + 1 :]),
            inputs=(*graph.inputs[:place], *((i,) for i, _ in before), tuple(inputs), *graph.inputs[place + 1 :]),
            outputs=(*graph.outputs[:place], *(o for _, o in before), *graph.outputs[place:]),
            attributes=(*graph.attributes[:place], *("" for _ in before), attributes, *graph.attributes[place + 1 :]),
            tensors=self._tensors,
        )
