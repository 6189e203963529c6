"""Padding joins the convolution or pooling after it, which pads without writing the padding down."""

from __future__ import annotations

import math

import numpy as np

from keypilot.convert.graph import Node, Program

_MOST = float(np.finfo(np.float32).max)


def fold_padding(program: Program) -> None:
    producers = program.producers()
    for node in program.nodes:
        pad = producers.get(node.input(0)) if node.op in ("conv2d", "pool2d") else None
        if pad is None or pad.op != "pad" or not _joins(node, pad):
            continue
        (before, after), own = _sides(pad), node.attributes["pad"]
        node.attributes["pad"] = tuple(a + b for a, b in zip(own, (*before[2:], *after[2:]), strict=True))
        if node.op == "pool2d":  # the zeros count; to a maximum that is all the same
            node.attributes["count_include_pad"] = 1
        node.inputs[0] = pad.input(0)
    for pad in program.nodes:
        if pad.op == "pad":  # files hold no infinities
            pad.attributes["value"] = float(np.nan_to_num(pad.attributes["value"], posinf=_MOST, neginf=-_MOST))


def _sides(pad: Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return pad.attributes["before"], pad.attributes["after"]


def _joins(node: Node, pad: Node) -> bool:
    before, after = _sides(pad)
    if any((*before[:2], *after[:2])):
        return False
    value = pad.attributes["value"]
    if node.op == "conv2d":
        return bool(value == 0)
    sides = (*before[2:], *after[2:])
    small = all(a + b < k for a, b, k in zip(node.attributes["pad"], sides, node.attributes["kernel"] * 2, strict=True))
    if node.attributes["fn"] == "max":
        return small and value == -math.inf
    whole = node.attributes["count_include_pad"] == 1 or not any(node.attributes["pad"])
    return small and bool(value == 0) and whole
