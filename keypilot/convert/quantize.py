"""From float32 programs and calibration data to int8: ranges, scales and weights (docs/model-file.md)."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from keypilot.convert.calibrate import Batch, Calibration, Samples, calibrate
from keypilot.convert.channels import ChannelMap, Channels, Segments
from keypilot.convert.graph import Array, Int4, Node, Program, Quantization, Uses, Value, as_shape
from keypilot.convert.int4 import round_int4, stored_bytes
from keypilot.convert.layers import (
    InputQuantization,
    LayerInput,
    RoundedLayer,
    WeightMatrices,
    mean_error,
    relative_error,
    round_layer,
)
from keypilot.convert.placement import Placement, apply_placement, matching, place
from keypilot.convert.ranges import EVENNESS, Range, choose_range
from keypilot.convert.rounding import Rounded, round_nearest
from keypilot.convert.stream import RowInputs, centre, row_inputs

#: Windows that choices are judged on.
_WINDOWS = 1024

#: Fixed ranges replace rows that are quantised when a layer runs where the squared error falls below this share: the
#: latter fit data that calibration has not seen.
_STATIC_GAIN = 0.5

#: Of ranges inside a transformer: channels' steps are drawn together, so that what a few tokens of calibration did not
#: show is not clipped.
_STREAM_EVENNESS = (0.5, 1.0)
_STREAM_HEADROOM = 1.25

_ROUNDINGS = ("nearest", "compensated")


@dataclasses.dataclass(eq=False)
class _Layer:
    """A weight, the operators that apply it to inputs of one quantisation, and samples of these inputs.

    segments : of the input; None where its rows are quantised when the layer runs.
    """

    weight: Value
    bias: Value | None
    nodes: list[Node]
    matrices: WeightMatrices
    samples: Samples
    segments: Segments | None
    rounded: RoundedLayer | None = None
    shift: Array | None = None
    error: float = 0.0


@dataclasses.dataclass(eq=False)
class _Table:
    """A table whose rows are looked up."""

    weight: Value
    nodes: list[Node]
    error: float = 0.0
    fine: bool = False


@dataclasses.dataclass(frozen=True)
class _Smaller:
    """A weight that may be stored in four bits: what that saves and costs."""

    saved: int
    cost: float
    apply: Callable[[], None]


def quantize_programs(
    programs: Sequence[Program],
    batches: Mapping[str, Sequence[Batch]],
    keep_float: Sequence[str] = (),
    *,
    fine_tables: bool = True,
) -> Quantizer:
    """Quantises programs in place.

    Parameters
    ----------
    programs : float32, after all passes.
    batches : calibration data: program -> inputs by name, in PyTorch's shapes.
    keep_float : patterns of module paths, outputs or weights of operators that stay in float32.
    fine_tables : tables of embeddings have twelve bits: a table of eight, and one of four of what that leaves over.
        A row is only looked up, so that this costs next to no time, and eight bits would be a text encoder's largest
        error. False: eight.

    Raises
    ------
    ArgumentError : a pattern matches nothing; a program has no batches, or not its inputs.
    """
    kept = matching(programs, keep_float)
    placements = {program.name: place(program, kept) for program in programs}
    calibration = calibrate(programs, placements, batches)
    quantizer = Quantizer(programs, placements, calibration)
    quantizer.run(fine_tables)
    quantizer.record["kept"] = sorted({node.output.name for node in kept})
    quantizer.record["batches"] = {name: len(runs) for name, runs in batches.items()}
    return quantizer


class Quantizer:
    """The state of one quantisation. `record` says what was chosen; docs/model-file.md describes it."""

    def __init__(
        self, programs: Sequence[Program], placements: Mapping[str, Placement], calibration: Calibration
    ) -> None:
        self.record: dict[str, Any] = {"values": {}, "weights": {}}
        self._programs = programs
        self._calibration = calibration
        quantized: dict[Value, Value] = {}
        # The matrices are those of the float32 program: `apply_placement` changes the nodes' inputs.
        found = _layers(programs, placements, calibration)
        shared = [[layer.nodes[0] for layer in same] for same in found.values()]
        inputs = row_inputs(placements, shared)
        self.record["centred"] = centre(programs, inputs, shared, calibration)
        found = _layers(programs, placements, calibration)
        self._stream = _choose_static(programs, placements, inputs, found, calibration)
        for program in programs:
            quantized.update(apply_placement(program, placements[program.name]))
        self._channels = ChannelMap(programs, quantized)
        self._layers = self._split(found)
        self._tables = _tables(placements)
        self._ranges: dict[Channels, Range] = {}
        self._evenness: dict[Channels, float] = {}

    def run(self, fine_tables: bool) -> None:
        from tqdm import tqdm

        roots = self._channels.roots()
        readers = self._readers()
        total = 2 * len(roots) + len(self._layers) + len(self._tables)
        with tqdm(total=total, desc="quantising", file=sys.stderr, leave=False) as progress:
            for channels in roots:
                statistics = self._calibration.values[channels.sources[0]]
                for source in channels.sources[1:]:
                    statistics = statistics.joined(self._calibration.values[source])
                importance = _importance(channels, readers.get(channels, []))
                self._ranges[channels], evenness = choose_range(statistics, importance)
                floors = (self._stream.get(source, 0.0) for source in channels.sources)
                self._evenness[channels] = max(evenness, *floors)
                progress.update()
            for channels in roots:
                if not any(source in self._stream for source in channels.sources):
                    self._choose_evenness(channels, readers.get(channels, []))
                progress.update()
            self._store_quantizations()
            for layer in self._layers:
                self._quantize_layer(layer)
                progress.update()
            for table in self._tables:
                _quantize_table(table)
                if fine_tables:
                    self._refine(table)
                progress.update()
        self._record_weights()

    def shrink(self, size: int) -> int:
        """Stores weights in four bits, those first whose outputs err least for the bytes saved, until `size` bytes
        are. Returns the bytes saved, which may be fewer."""
        options = [self._smaller_layer(layer) for layer in self._layers]
        options += [_smaller_table(table) for table in self._tables]
        chosen: list[_Smaller] = []
        saved = 0
        for option in sorted((option for option in options if option), key=lambda option: option.cost / option.saved):
            if saved >= size:
                break
            chosen.append(option)
            saved += option.saved
        # A large one at the end may make others unnecessary: the costliest first.
        for option in sorted(chosen[:-1], key=lambda option: -option.cost / option.saved):
            if saved - option.saved >= size:
                chosen.remove(option)
                saved -= option.saved
        for option in chosen:
            option.apply()
        self._record_weights()
        return saved

    # ---- layers -----------------------------------------------------------------------------------------------

    def _split(self, found: dict[Hashable, list[_Layer]]) -> list[_Layer]:
        """One layer for each weight and quantisation of its input; inputs of one weight share theirs if they can."""
        layers: dict[Hashable, _Layer] = {}
        for same in found.values():
            inputs = [layer.nodes[0].input(0) for layer in same]
            for value in inputs[1:]:
                if value in self._channels and inputs[0] in self._channels:
                    self._channels.join(inputs[0], value)
        for key, same in found.items():
            for layer in same:
                x = layer.nodes[0].input(0)
                layer.segments = self._channels.get(x)
                known = layers.setdefault((key, layer.segments), layer)
                if known is not layer:
                    known.nodes += layer.nodes
                    known.samples = known.samples.joined(layer.samples)
        return list(layers.values())

    def _readers(self) -> dict[Channels, list[tuple[_Layer, int]]]:
        """The layers that read each run of channels, and at which channel it starts there."""
        readers: dict[Channels, list[tuple[_Layer, int]]] = {}
        for layer in self._layers:
            start = 0
            for channels in layer.segments or ():
                readers.setdefault(channels, []).append((layer, start))
                start += channels.width
        return readers

    def _input_quantization(self, layer: _Layer, evenness: Mapping[Channels, float]) -> InputQuantization:
        if layer.segments is None:
            return InputQuantization()
        parts = [self._ranges[channels].quantization(evenness[channels]) for channels in layer.segments]
        return InputQuantization(*(np.concatenate([part[i] for part in parts]) for i in (0, 1)))

    def _inputs(self, layer: _Layer, windows: Array, how: InputQuantization) -> LayerInput:
        columns = layer.matrices.columns
        return LayerInput(columns(windows), columns(how.apply(windows)))

    def _judged(self, layer: _Layer) -> tuple[LayerInput, LayerInput, Callable[[], LayerInput]]:
        """A layer's inputs: to fit a choice to, to judge it on, and, when asked for, all."""
        how, samples = self._input_quantization(layer, self._evenness), layer.samples
        fit, judge = (self._inputs(layer, rows, how) for rows in (samples.half(0), samples.half(1)[:_WINDOWS]))
        return fit, judge, lambda: self._inputs(layer, samples.all(), how)

    def _choose_evenness(self, channels: Channels, readers: Sequence[tuple[_Layer, int]]) -> None:
        """Steps that differ much by channel make the weights that include them hard to round; steps that do not waste
        levels of the channels with small ranges. What the readers' outputs say decides."""
        readers = [(layer, start) for layer, start in readers if not layer.matrices.depthwise]
        steps = self._ranges[channels].steps()
        if not readers or steps.max() <= 1.5 * steps.min():
            return
        errors = {evenness: 0.0 for evenness in EVENNESS if evenness >= self._evenness[channels]}
        for layer, _start in readers:
            windows = layer.samples.half(0)[:_WINDOWS]
            for evenness in errors:
                how = self._input_quantization(layer, {**self._evenness, channels: evenness})
                inputs = self._inputs(layer, windows, how)
                result = round_layer(layer.matrices.matrices, _column_scale(layer, how), inputs, "nearest")
                errors[evenness] += relative_error(layer.matrices.matrices, result.weight(), inputs)[0]
        self._evenness[channels] = min(errors, key=lambda evenness: errors[evenness])

    def _quantize_layer(self, layer: _Layer) -> None:
        matrices = layer.matrices.matrices
        scale = _column_scale(layer, self._input_quantization(layer, self._evenness))
        fit, judge, whole = self._judged(layer)
        tried = {}
        for rounding in _ROUNDINGS:
            weight = round_layer(matrices, scale, fit, rounding).weight()
            shift = mean_error(matrices, weight, fit)
            tried[rounding, False], tried[rounding, True] = relative_error(matrices, weight, judge, shift)
        rounding, corrected = min(tried, key=lambda choice: tried[choice])
        del fit, judge  # as large as what follows
        inputs = whole()
        layer.rounded = round_layer(matrices, scale, inputs, rounding)
        layer.shift = mean_error(matrices, layer.rounded.weight(), inputs) if corrected else None
        layer.error = tried[rounding, corrected]
        _store_layer(layer, None)

    def _smaller_layer(self, layer: _Layer) -> _Smaller | None:
        matrices = layer.matrices.matrices
        if layer.matrices.depthwise or len(matrices) > 1 or layer.nodes[0].input(1).int4 is not None:
            return None
        rows, columns = matrices.shape[1:]
        saved = rows * columns - stored_bytes(rows, columns)
        if saved <= 0:
            return None
        fit, judge, whole = self._judged(layer)

        def rounded(inputs: LayerInput) -> tuple[RoundedLayer, Array, Int4]:
            scale = _column_scale(layer, self._input_quantization(layer, self._evenness))
            result, int4 = round_int4(matrices[0] * scale[0], inputs.moments()[0] / np.outer(scale[0], scale[0]))
            quantized = RoundedLayer([result], scale, "compensated")
            return quantized, mean_error(matrices, quantized.weight(), inputs), int4

        tried, shift, _int4 = rounded(fit)
        _plain, error = relative_error(matrices, tried.weight(), judge, shift)

        def apply() -> None:
            layer.rounded, layer.shift, int4 = rounded(whole())
            layer.error = error
            _store_layer(layer, int4)

        return _Smaller(saved, error - layer.error, apply)

    def _refine(self, table: _Table) -> None:
        """Adds the rows of a second table, in four bits, which holds what the first one leaves over."""
        coarse = table.nodes[0].input(0)
        assert table.weight.data is not None and coarse.data is not None and coarse.scale is not None
        data = table.weight.data.astype(np.float64)
        rest = data - coarse.data * coarse.scale.astype(np.float64)[:, np.newaxis]
        rounded, int4 = round_int4(rest)
        fine = dataclasses.replace(
            table.weight,
            name=f"{table.weight.name}.fine",
            dtype="i8",
            data=rounded.integers.astype(np.int8),
            scale=rounded.scale.astype(np.float32),
            int4=int4,
        )
        for program in self._programs:
            nodes: list[Node] = []
            for node in program.nodes:
                nodes.append(node)
                if node in table.nodes:
                    rows = node.output
                    node.output = dataclasses.replace(rows, name=f"{rows.name}.coarse")
                    more = dataclasses.replace(rows, name=f"{rows.name}.fine")
                    nodes.append(Node("embedding", [fine, node.inputs[1]], more, {}, node.module))
                    nodes.append(Node("binary", [node.output, more], rows, {"fn": "add"}, node.module))
            program.nodes = nodes
        table.error = float(np.square(rest - rounded.weight).sum() / max(float(np.square(data).sum()), 1e-30))
        table.fine = True

    # ---- results ----------------------------------------------------------------------------------------------

    def _store_quantizations(self) -> None:
        made: dict[Segments, Quantization] = {}
        for value in self._channels.values():
            segments = self._channels[value]
            if segments not in made:
                parts = [self._ranges[channels].quantization(self._evenness[channels]) for channels in segments]
                scale, zero_point = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
                name = segments[0].name if len(segments) == 1 else value.name
                made[segments] = Quantization(name, scale, zero_point)
            value.quantization = made[segments]
        for channels in self._channels.roots():
            chosen = self._ranges[channels]
            statistics = [self._calibration.values[source] for source in channels.sources]
            bounds = [s.whole() for s in statistics]
            whole = np.max([b.high for b in bounds], 0) - np.min([b.low for b in bounds], 0)
            covered = (chosen.high - chosen.low)[whole > 0] / whole[whole > 0]
            self.record["values"][channels.name] = [
                chosen.method,
                round(float(covered.mean()), 3) if covered.size else 1.0,
                self._evenness[channels],
            ]

    def _record_weights(self) -> None:
        weights = self.record["weights"]
        for layer in self._layers:
            assert layer.rounded is not None
            stored = layer.nodes[0].input(1)
            weights[stored.name] = [
                8 if stored.int4 is None else 4,
                layer.rounded.rounding,
                layer.shift is not None,
                _decibels(layer.error),
            ]
        for table in self._tables:
            stored = table.nodes[0].input(0)
            bits = 12 if table.fine else 8 if stored.int4 is None else 4
            weights[stored.name] = [bits, "nearest", False, _decibels(table.error)]


def _layers(
    programs: Sequence[Program], placements: Mapping[str, Placement], calibration: Calibration
) -> dict[Hashable, list[_Layer]]:
    """The layers by weight: one weight, or weights of one name and content, with the same bias."""
    found: dict[Hashable, list[_Layer]] = {}
    for program in programs:
        for layer in placements[program.name].layers:
            node = layer.node
            weight, bias = node.input(1), node.inputs[2] if len(node.inputs) > 2 else None
            groups = node.attributes.get("groups", 1)
            entry = _Layer(weight, bias, [node], WeightMatrices.of(weight, groups), calibration.windows[node], None)
            found.setdefault((groups, _identity(weight), _identity(bias)), []).append(entry)
    return found


def _choose_static(
    programs: Sequence[Program],
    placements: Mapping[str, Placement],
    inputs: Sequence[RowInputs],
    found: Mapping[Hashable, Sequence[_Layer]],
    calibration: Calibration,
) -> dict[Value, float]:
    """Float32 inputs of layers whose rows would be quantised when they run, and that err less, on data that they were
    not fitted to, with fixed ranges by channel: activations that are mostly of one sign, channels that differ."""
    rows = {layer.node: layer for placement in placements.values() for layer in placement.layers if layer.rows}
    layers = {layer.nodes[0]: layer for same in found.values() for layer in same}
    places = {layer.node: placement for placement in placements.values() for layer in placement.layers}
    producers, users, outputs = Uses.of(programs)
    static: dict[Value, float] = {}
    for group in inputs:
        fuses = all(
            producers.get(x) in places and x not in outputs and set(users[x]) == set(nodes)
            for x, nodes in group.readers.items()
        )
        error, evenness = _static_error(list(group.readers), [layers[node] for node in group.nodes()], calibration)
        if error < _STATIC_GAIN:
            static.update(dict.fromkeys(group.readers, evenness))
            for node in group.nodes():
                rows[node].rows = False
            if fuses:
                for x in group.readers:
                    places[producers[x]].int8.add(x)
    return static


def _static_error(inputs: Sequence[Value], readers: Sequence[_Layer], calibration: Calibration) -> tuple[float, float]:
    """The squared error of the readers' outputs with fixed ranges, as a share of that with rows quantised, and the
    evenness of the steps that gives it."""
    # The bounds of one half, with headroom: what the other holds must not be known.
    bounds = [calibration.values[x].half() for x in inputs]
    low, high = np.min([b.low for b in bounds], 0), np.max([b.high for b in bounds], 0)
    chosen = Range(np.minimum(low, 0) * _STREAM_HEADROOM, np.maximum(high, 0) * _STREAM_HEADROOM, "")

    def error(how: InputQuantization) -> float:
        total = 0.0
        for layer in readers:
            fit, judge = (
                LayerInput(layer.matrices.columns(windows), layer.matrices.columns(how.apply(windows)))
                for windows in (layer.samples.half(index)[:_WINDOWS] for index in (0, 1))
            )
            matrices = layer.matrices.matrices
            rounded = round_layer(matrices, _column_scale(layer, how), fit, "nearest")
            total += relative_error(matrices, rounded.weight(), judge)[0]
        return total

    rows = max(error(InputQuantization()), 1e-30)
    return min(
        (error(InputQuantization(*chosen.quantization(evenness))) / rows, evenness) for evenness in _STREAM_EVENNESS
    )


def _tables(placements: Mapping[str, Placement]) -> list[_Table]:
    tables: dict[Hashable, _Table] = {}
    for placement in placements.values():
        for node in placement.tables:
            weight = node.input(0)
            tables.setdefault(_identity(weight), _Table(weight, [])).nodes.append(node)
    return list(tables.values())


def _identity(value: Value | None) -> Hashable:
    if value is None or value.data is None:
        return None
    content = hashlib.sha256(np.ascontiguousarray(value.data.astype(np.float32)).tobytes()).digest()
    return value.name, value.shape, value.order, content


def _column_scale(layer: _Layer, how: InputQuantization) -> Array:
    """(groups, columns): the input's scales as the weight includes them."""
    matrices = layer.matrices.matrices
    if how.scale is None:
        return np.ones((matrices.shape[0], matrices.shape[2]))
    taps = matrices.shape[2] * matrices.shape[0] // len(how.scale)
    spread = np.broadcast_to(how.scale.astype(np.float64), (1, taps, len(how.scale)))
    return layer.matrices.columns(spread)[:, 0]


def _importance(channels: Channels, readers: Sequence[tuple[_Layer, int]]) -> Array:
    """What an error of each channel does to the readers' outputs: the squares of their weights."""
    total = np.zeros(channels.width)
    for layer, start in readers:
        matrices = layer.matrices.matrices
        groups, _rows, columns = matrices.shape
        power = np.square(matrices).sum(1)
        if layer.matrices.depthwise:
            by_channel = power.sum(1)
        else:
            count = layer.matrices.shape[-1]
            by_channel = power.reshape(groups, columns // count, count).sum(1).reshape(-1)
        total += by_channel[start : start + channels.width]
    return total if total.any() else np.ones(channels.width)


def _store_layer(layer: _Layer, int4: Int4 | None) -> None:
    """Puts the quantised weight, and the corrected bias, in place of the float ones."""
    assert layer.rounded is not None
    matrices = layer.matrices
    integers = matrices.stored(np.stack([rounded.integers for rounded in layer.rounded.rounded])).astype(np.int8)
    scale = np.concatenate([rounded.scale for rounded in layer.rounded.rounded])
    inverse = np.argsort(layer.weight.order)
    weight = dataclasses.replace(
        layer.weight, dtype="i8", data=integers.transpose(inverse), scale=scale.astype(np.float32), int4=int4
    )
    bias = layer.bias
    if layer.shift is not None:
        old = 0.0 if bias is None or bias.data is None else bias.data.astype(np.float64)
        name = bias.name if bias is not None else f"{layer.weight.name.removesuffix('weight').removesuffix('.')}.bias"
        bias = Value(name, as_shape((len(scale),)), "f32", old + layer.shift.reshape(-1))
    for node in layer.nodes:
        node.inputs += [None] * (3 - len(node.inputs))
        node.inputs[1], node.inputs[2] = weight, bias


def _quantize_table(table: _Table) -> None:
    assert table.weight.data is not None
    data = table.weight.data.astype(np.float64)
    _store_table(table, round_nearest(data, np.ones(data.shape[1])), None)


def _smaller_table(table: _Table) -> _Smaller | None:
    assert table.weight.data is not None
    if table.nodes[0].input(0).int4 is not None or table.fine:
        return None
    data = table.weight.data.astype(np.float64)
    saved = data.size - stored_bytes(*data.shape)
    rounded, int4 = round_int4(data)
    cost = _table_error(data, rounded) - table.error
    return _Smaller(saved, cost, lambda: _store_table(table, rounded, int4)) if saved > 0 else None


def _store_table(table: _Table, rounded: Rounded, int4: Int4 | None) -> None:
    assert table.weight.data is not None
    table.error = _table_error(table.weight.data, rounded)
    weight = dataclasses.replace(
        table.weight,
        dtype="i8",
        data=rounded.integers.astype(np.int8),
        scale=rounded.scale.astype(np.float32),
        int4=int4,
    )
    for node in table.nodes:
        node.inputs[0] = weight


def _table_error(data: Array, rounded: Rounded) -> float:
    return float(np.square(rounded.weight - data).sum() / max(float(np.square(data).sum()), 1e-30))


def _decibels(error: float) -> float:
    """A relative error as a signal-to-noise ratio."""
    return round(-10 * math.log10(max(error, 1e-12)), 1)
