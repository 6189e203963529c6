"""What quantisation needs to know of a model's tensors: the float32 programs run on calibration data in the C core."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keypilot.convert.gguf import write_model
from keypilot.convert.graph import Array, Node, Port, Program, Value
from keypilot.convert.placement import Placement, keeps_channels, reads_rows, spreads_channels
from keypilot.errors import ArgumentError

#: Rows of a value, and windows of a layer, that are kept, over all batches of a program.
SAMPLES = 4096

Batch = Mapping[str, Any]


@dataclasses.dataclass
class Samples:
    """A random sample of rows (rows, ...), in two halves that come from different batches: what is chosen on one is
    judged on the other."""

    halves: tuple[list[Array], list[Array]] = dataclasses.field(default_factory=lambda: ([], []))

    def add(self, rows: Array, batch: int) -> None:
        self.halves[batch % 2].append(rows)

    def half(self, index: int) -> Array:
        """One half; where there was a single batch, every other row."""
        if self.halves[index]:
            return np.concatenate(self.halves[index])
        result: Array = np.concatenate(self.halves[1 - index])[index::2]
        return result

    def all(self) -> Array:
        return np.concatenate([*self.halves[0], *self.halves[1]])

    def joined(self, other: Samples) -> Samples:
        return Samples((self.halves[0] + other.halves[0], self.halves[1] + other.halves[1]))


@dataclasses.dataclass
class ChannelStatistics:
    """Of a value by channel, its last memory dimension.

    low, high : (2, C) exact bounds of the two halves of the data.
    samples : rows of it.
    """

    low: Array
    high: Array
    samples: Samples

    def bounds(self, half: int | None = None) -> tuple[Array, Array]:
        """(low, high) of all the data, or of a half; where there was a single batch, its every other row's."""
        if half is None:
            return self.low.min(0), self.high.max(0)
        if np.isfinite(self.low[half]).all():
            return self.low[half], self.high[half]
        rows = self.samples.half(half)
        return rows.min(0), rows.max(0)

    def joined(self, other: ChannelStatistics) -> ChannelStatistics:
        return ChannelStatistics(
            np.minimum(self.low, other.low), np.maximum(self.high, other.high), self.samples.joined(other.samples)
        )


@dataclasses.dataclass
class Calibration:
    """What the runs gave.

    values : float32 values that become int8, or may.
    windows : layer -> the inputs of its outputs, (rows, taps, channels): taps are a kernel's positions, 1 for a linear
        layer; zeros stand for padding.
    """

    values: dict[Value, ChannelStatistics]
    windows: dict[Node, Samples]


def calibrate(
    programs: Sequence[Program],
    placements: Mapping[str, Placement],
    batches: Mapping[str, Sequence[Batch]],
    *,
    seed: int = 0,
) -> Calibration:
    """Runs every program on its batches.

    Parameters
    ----------
    programs : float32, after all passes.
    placements : by the programs' names: what is to become int8.
    batches : program -> inputs by name, in PyTorch's shapes.

    Raises
    ------
    ArgumentError : a program has no batches, or its inputs are not as it takes them.
    """
    from tqdm import tqdm

    from keypilot.model import Model

    check_batches(programs, batches)
    result = Calibration({}, {})
    taps_of = {program.name: _taps(program, placements[program.name]) for program in programs}
    with tempfile.TemporaryDirectory(prefix="keypilot-") as folder:
        path = Path(folder) / "calibration.gguf"
        tapped = [dataclasses.replace(program, taps=list(taps_of[program.name].values())) for program in programs]
        write_model(path, tapped, {"general.name": "calibration"}, "fp32")
        model = Model.load(path)
        total = sum(len(batches[program.name]) for program in programs)
        with tqdm(total=total, desc="calibrating", file=sys.stderr, leave=False) as progress:
            for program in programs:
                collector = _Collector(program, placements[program.name], result, len(batches[program.name]), seed)
                for index, batch in enumerate(batches[program.name]):
                    with model.tap("*") as taps:
                        model.run(program.name, **batch)
                    arrays = {value: taps[port.name] for value, port in taps_of[program.name].items()}
                    for port in program.inputs:
                        if port.value.dtype == "f32":
                            order = port.order or port.value.order
                            arrays[port.value] = np.asarray(batch[port.name], np.float32).transpose(order)
                    collector.add(arrays, index)
                    progress.update()
    return result


def check_batches(programs: Iterable[Program], batches: Mapping[str, Sequence[Batch]]) -> None:
    names = [program.name for program in programs]
    if unknown := sorted(batches.keys() - set(names)):
        raise ArgumentError(f"calibration: expected the programs {', '.join(names)}, got {unknown[0]!r}")
    for program in programs:
        runs = batches.get(program.name)
        if not runs:
            raise ArgumentError(f"calibration: program {program.name!r} has no batches; int8 takes at least one")
        inputs = {port.name for port in program.inputs}
        for index, batch in enumerate(runs):
            if batch.keys() != inputs:
                raise ArgumentError(
                    f"calibration of {program.name!r}, batch {index}: expected the inputs "
                    f"{', '.join(sorted(inputs))}, got {', '.join(sorted(batch))}"
                )


def _taps(program: Program, placement: Placement) -> dict[Value, Port]:
    """A tap, in memory order, of every computed value that is looked at."""
    computed = {node.output for node in program.nodes}
    return {
        value: Port(f"{program.name}.{index}", value, value.memory_shape, tuple(range(value.rank)))
        for index, value in enumerate(_observed(program, placement))
        if value in computed
    }


def _observed(program: Program, placement: Placement) -> list[Value]:
    """The inputs of layers, and the values that become int8, but for those that take over another's
    quantisation."""
    followers = {node.output for node in program.nodes if node.op == "concat" or keeps_channels(node)}
    followers |= {node.input(0) for node in program.nodes if spreads_channels(node) and node.output in placement.int8}
    inputs = [layer.node.input(0) for layer in placement.layers]
    stored = [value for value in program.values() if value in placement.int8 and value not in followers]
    return list(dict.fromkeys([*inputs, *stored]))


class _Collector:
    """Adds one program's runs to a calibration."""

    def __init__(self, program: Program, placement: Placement, result: Calibration, runs: int, seed: int) -> None:
        self.values = _observed(program, placement)
        self.layers = [layer.node for layer in placement.layers]
        self.result = result
        self.rows = -(-SAMPLES // runs)
        self.rng = np.random.default_rng(seed)

    def add(self, arrays: Mapping[Value, Array], run: int) -> None:
        for value in self.values:
            rows = arrays[value].reshape(-1, arrays[value].shape[-1])
            low, high = (
                np.full((2, rows.shape[1]), np.inf, np.float32),
                np.full((2, rows.shape[1]), -np.inf, np.float32),
            )
            low[run % 2], high[run % 2] = rows.min(0), rows.max(0)
            found = ChannelStatistics(low, high, Samples())
            found.samples.add(rows[self._some(len(rows))], run)
            known = self.result.values.get(value)
            self.result.values[value] = found if known is None else known.joined(found)
        for node in self.layers:
            windows = self._windows(node, arrays[node.input(0)])
            self.result.windows.setdefault(node, Samples()).add(windows, run)

    def _some(self, count: int) -> Array:
        return np.arange(count) if count <= self.rows else self.rng.choice(count, self.rows, replace=False)

    def _windows(self, node: Node, x: Array) -> Array:
        """The inputs (rows, taps, channels) of some of a layer's outputs."""
        if reads_rows(node):
            rows = x.reshape(-1, x.shape[-1])
            return rows[self._some(len(rows))][:, np.newaxis]
        weight, output = node.input(1), node.output.memory_shape
        kernel = [
            dim.coefficient for dim in (weight.memory_shape[:2] if weight.rank == 3 else weight.memory_shape[1:3])
        ]
        height, width = output[1].coefficient, output[2].coefficient
        index = self._some(len(x) * height * width)
        place = (index // width % height, index % width)
        rows, columns = (
            (place[axis] * node.attributes["stride"][axis] - node.attributes["pad"][axis])[:, np.newaxis]
            + np.arange(kernel[axis]) * node.attributes["dilation"][axis]
            for axis in (0, 1)
        )
        inside = ((rows >= 0) & (rows < x.shape[1]))[:, :, np.newaxis] & ((columns >= 0) & (columns < x.shape[2]))[
            :, np.newaxis
        ]
        picture = (index // (height * width))[:, np.newaxis, np.newaxis]
        windows = x[
            picture, rows.clip(0, x.shape[1] - 1)[:, :, np.newaxis], columns.clip(0, x.shape[2] - 1)[:, np.newaxis]
        ]
        result: Array = np.where(inside[..., np.newaxis], windows, np.float32(0)).reshape(len(index), -1, x.shape[-1])
        return result
