"""What quantisation needs to know of a model's tensors: the float32 programs run on calibration data in the C core."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keypilot.convert.derived import views_of
from keypilot.convert.gguf import write_model
from keypilot.convert.graph import Array, Node, Port, Program, Value
from keypilot.convert.placement import Placement, keeps_channels, reads_rows, spreads_channels
from keypilot.errors import ArgumentError

#: Rows of a value, and windows of a layer, that are kept, over all batches of a program.
SAMPLES = 4096

#: Parts that calibration data is divided into, by batches: each is held out once.
FOLDS = 5

Batch = Mapping[str, Any]


class Windows(NamedTuple):
    """Windows (n, kh * kw, C) of pictures x (N, H, W, C), which are cut out when they are asked for: they overlap, and
    take up to kh * kw times the memory of x.

    picture : (n). rows, columns : (n, kh) and (n, kw); zeros stand for what is outside.
    """

    x: Array
    picture: Array
    rows: Array
    columns: Array

    def cut(self) -> Array:
        height, width, channels = self.x.shape[1:]
        rows, columns = self.rows[:, :, np.newaxis], self.columns[:, np.newaxis]
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        picture = self.picture[:, np.newaxis, np.newaxis]
        windows = self.x[picture, rows.clip(0, height - 1), columns.clip(0, width - 1)]
        result: Array = np.where(inside[..., np.newaxis], windows, np.float32(0)).reshape(len(rows), -1, channels)
        return result


def _cut(rows: Array | Windows) -> Array:
    return rows.cut() if isinstance(rows, Windows) else rows


@dataclasses.dataclass
class Samples:
    """A random sample of rows (rows, ...) in folds; a batch's are all in one, so that what is chosen on some folds is
    judged on batches that it has not seen."""

    folds: list[list[Array | Windows]] = dataclasses.field(default_factory=lambda: [[] for _ in range(FOLDS)])

    def add(self, rows: Array | Windows, batch: int) -> None:
        self.folds[batch % FOLDS].append(rows)

    def of(self, folds: Iterable[int]) -> Array:
        """The rows of some folds, of which one at least has any."""
        return np.concatenate([_cut(rows) for fold in folds for rows in self.folds[fold]])

    def half(self, index: int) -> Array:
        """Every other fold; where there was a single batch, every other row."""
        if len(self.filled()) > 1:
            return self.of(self.filled()[index::2])
        return self.all()[index::2]

    def all(self) -> Array:
        return self.of(range(FOLDS))

    def filled(self) -> list[int]:
        return [index for index, fold in enumerate(self.folds) if fold]

    def joined(self, other: Samples) -> Samples:
        return Samples([mine + others for mine, others in zip(self.folds, other.folds, strict=True)])

    def shifted(self, shift: Array) -> Samples:
        return Samples([[_cut(rows) - shift for rows in fold] for fold in self.folds])


class Bounds(NamedTuple):
    """(low, high) by channel, (C) each: of the calibration data, and with the derived views (`views_of`)."""

    low: Array
    high: Array
    wide_low: Array
    wide_high: Array


class Split(NamedTuple):
    """What a range is fitted to, and the rows that it is judged on, which are of other batches."""

    bounds: Bounds
    fit: Array
    judge: Array


@dataclasses.dataclass
class ChannelStatistics:
    """Of a value by channel, its last memory dimension.

    bounds : exact ones of each fold, (FOLDS, C); infinite for a fold without data.
    samples : rows of it.
    """

    bounds: Bounds
    samples: Samples

    def whole(self) -> Bounds:
        return self._of(range(FOLDS))

    def half(self) -> Bounds:
        """The bounds of what `Samples.half(0)` is taken from."""
        filled = self.samples.filled()
        return self._of(filled[::2]) if len(filled) > 1 else _bounds_of_rows(self.samples.half(0))

    def splits(self) -> Iterator[Split]:
        """Each fold held out once; where there was a single batch, each half of its rows."""
        filled = self.samples.filled()
        if len(filled) < 2:
            for index in (0, 1):
                rows = self.samples.half(index)
                yield Split(_bounds_of_rows(rows), rows, self.samples.half(1 - index))
            return
        for index in filled:
            others = [fold for fold in filled if fold != index]
            yield Split(self._of(others), self.samples.of(others), self.samples.of([index]))

    def joined(self, other: ChannelStatistics) -> ChannelStatistics:
        return ChannelStatistics(_joined(self.bounds, other.bounds), self.samples.joined(other.samples))

    def shifted(self, shift: Array) -> ChannelStatistics:
        bounds = Bounds(*(bound - shift for bound in self.bounds))
        return ChannelStatistics(bounds, self.samples.shifted(shift))

    def _of(self, folds: Iterable[int]) -> Bounds:
        low, high, wide_low, wide_high = (bound[list(folds)] for bound in self.bounds)
        return Bounds(low.min(0), high.max(0), wide_low.min(0), wide_high.max(0))


def _joined(a: Bounds, b: Bounds) -> Bounds:
    pick = (np.minimum, np.maximum, np.minimum, np.maximum)
    return Bounds(*(choose(x, y) for choose, x, y in zip(pick, a, b, strict=True)))


def _bounds_of_rows(rows: Array) -> Bounds:
    return Bounds(rows.min(0), rows.max(0), rows.min(0), rows.max(0))


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
    batches : program -> inputs by name, in PyTorch's shapes. A batch is held out as a whole: what belongs together,
        as views of one picture, is in one. A single batch of several is taken as so many of one.

    Raises
    ------
    ArgumentError : a program has no batches, or its inputs are not as it takes them.
    """
    from tqdm import tqdm

    from keypilot.model import Model

    check_batches(programs, batches)
    batches = {name: _single(runs) for name, runs in batches.items()}
    result = Calibration({}, {})
    taps_of = {program.name: _taps(program, placements[program.name]) for program in programs}
    with tempfile.TemporaryDirectory(prefix="keypilot-") as folder:
        path = Path(folder) / "calibration.gguf"
        tapped = [dataclasses.replace(program, taps=list(taps_of[program.name].values())) for program in programs]
        write_model(path, tapped, {"general.name": "calibration"}, "fp32")
        model = Model.load(path)
        total = sum(len(batches[program.name]) for program in programs)

        def run(program: Program, batch: Batch) -> dict[Value, Array]:
            """What `_observed` lists, in memory order."""
            with model.tap("*") as taps:
                model.run(program.name, **batch)
            arrays = {value: taps[port.name] for value, port in taps_of[program.name].items()}
            for port in program.inputs:
                if port.value.dtype == "f32":
                    order = port.order or port.value.order
                    arrays[port.value] = np.asarray(batch[port.name], np.float32).transpose(order)
            return arrays

        with tqdm(total=total, desc="calibrating", file=sys.stderr, leave=False) as progress:
            for program in programs:
                collector = _Collector(program, placements[program.name], result, len(batches[program.name]), seed)
                views = views_of(program, batches[program.name])
                for index, batch in enumerate(batches[program.name]):
                    collector.add(run(program, batch), index)
                    for view in views(batch):
                        collector.widen(run(program, view), index)
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


def _single(runs: Sequence[Batch]) -> Sequence[Batch]:
    """A single batch as batches of one."""
    sizes = {np.shape(array)[:1] for array in runs[0].values()}
    if len(runs) > 1 or len(sizes) != 1 or () in sizes:
        return runs
    (count,) = sizes.pop()
    return [{name: array[index : index + 1] for name, array in runs[0].items()} for index in range(count)]


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
            found = ChannelStatistics(self._bounds(_bounds_of_rows(rows), run), Samples())
            found.samples.add(rows[self._some(len(rows))], run)
            known = self.result.values.get(value)
            self.result.values[value] = found if known is None else known.joined(found)
        for node in self.layers:
            windows = self._windows(node, arrays[node.input(0)])
            self.result.windows.setdefault(node, Samples()).add(windows, run)

    def widen(self, arrays: Mapping[Value, Array], run: int) -> None:
        """Adds a derived view of a run that has been added."""
        for value in self.values:
            rows = arrays[value].reshape(-1, arrays[value].shape[-1])
            nothing = np.full(rows.shape[1], np.inf, np.float32)
            wide = self._bounds(Bounds(nothing, -nothing, rows.min(0), rows.max(0)), run)
            known = self.result.values[value]
            known.bounds = _joined(known.bounds, wide)

    @staticmethod
    def _bounds(found: Bounds, run: int) -> Bounds:
        """Bounds of one run, as those of its fold."""
        channels = len(found.wide_low)
        bounds = Bounds(*(np.full((FOLDS, channels), end, np.float32) for end in (np.inf, -np.inf, np.inf, -np.inf)))
        for bound, value in zip(bounds, found, strict=True):
            bound[run % FOLDS] = value
        return bounds

    def _some(self, count: int) -> Array:
        return np.arange(count) if count <= self.rows else self.rng.choice(count, self.rows, replace=False)

    def _windows(self, node: Node, x: Array) -> Array | Windows:
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
        windows = Windows(x, index // (height * width), rows, columns)
        return windows if len(index) * kernel[0] * kernel[1] * x.shape[-1] > x.size else windows.cut()
