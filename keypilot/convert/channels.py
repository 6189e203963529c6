"""Which values share a quantisation: those that an operator passes on unchanged, and the inputs of shared weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from keypilot.convert.graph import Node, Program, Value
from keypilot.convert.placement import keeps_channels, spreads_channels


@dataclasses.dataclass(eq=False)
class Channels:
    """A run of channels that is quantised alike wherever it occurs.

    `name` is that of the first value that has it, and `sources` are the float32 values whose ranges count.
    """

    name: str
    width: int
    sources: list[Value]


Segments = tuple[Channels, ...]


class ChannelMap:
    """The segments of every int8 value of several programs; `join` makes two values share theirs."""

    def __init__(self, programs: Sequence[Program], quantized: Mapping[Value, Value]) -> None:
        self._segments: dict[Value, Segments] = {}
        self._joined: dict[Channels, Channels] = {}
        for program in programs:
            for node in program.nodes:
                if node.output.dtype == "i8":
                    self._segments[node.output] = self._of(node, quantized)
                    if spreads_channels(node):
                        count = node.input(0).memory_shape[-1] // node.output.memory_shape[-1]
                        self._segments[node.input(0)] = self._segments[node.output] * count.coefficient

    def __contains__(self, value: Value) -> bool:
        return value in self._segments

    def __getitem__(self, value: Value) -> Segments:
        return tuple(map(self._root, self._segments[value]))

    def get(self, value: Value) -> Segments | None:
        segments = self._segments.get(value)
        return None if segments is None else tuple(map(self._root, segments))

    def values(self) -> list[Value]:
        return list(self._segments)

    def join(self, a: Value, b: Value) -> None:
        """Shares the quantisation of two values, where they are made of segments of the same widths."""
        if [channels.width for channels in self[a]] != [channels.width for channels in self[b]]:
            return
        for first, second in zip(self[a], self[b], strict=True):
            first, second = self._root(first), self._root(second)
            if first is not second:
                first.sources += second.sources
                self._joined[second] = first

    def roots(self) -> list[Channels]:
        """Every run of channels once."""
        return list(dict.fromkeys(channels for value in self._segments for channels in self[value]))

    def _of(self, node: Node, quantized: Mapping[Value, Value]) -> Segments:
        if node.op == "concat":
            return tuple(channels for x in node.inputs if x is not None for channels in self._segments[x])
        if keeps_channels(node):
            return self._segments[node.input(0)]
        width = node.output.memory_shape[-1].coefficient
        return (Channels(node.output.name, width, [quantized.get(node.output, node.output)]),)

    def _root(self, channels: Channels) -> Channels:
        while channels in self._joined:
            channels = self._joined[channels]
        return channels
