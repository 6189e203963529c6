"""Writes programs and metadata as a model file: docs/model-file.md."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from keypilot.convert.graph import Array, Dim, Port, Program, Quantization, Value, shape_text
from keypilot.convert.schema import verify_program
from keypilot.errors import ArgumentError

FORMAT_VERSION = 1

_STORED = {"f32": np.float32, "i32": np.int32, "i8": np.int8}

Metadata = Mapping[str, str | bool | int | float | Sequence[str] | Sequence[int] | Sequence[float]]


def write_model(path: str | os.PathLike[str], programs: Sequence[Program], metadata: Metadata, precision: str) -> None:
    """Writes the file; one that was there is replaced only when the new one is complete.

    Constants of the same name and content, in one program or several, are stored once; where the contents differ,
    a later program's gets its program's name as a suffix: ``conv.weight@roi``.
    """
    target = Path(path)
    partial = target.with_name(f"{target.name}.partial")
    writer = gguf.GGUFWriter(partial, "keypilot")
    weights = _Weights()
    keys: dict[str, Any] = {
        "general.name": programs[0].name,
        **metadata,
        "keypilot.format_version": FORMAT_VERSION,
        "keypilot.precision": precision,
        "keypilot.programs": [program.name for program in programs],
    }
    keys.setdefault("keypilot.trained", True)
    for program in programs:
        keys.update(_program_keys(program, weights))
    try:
        for key, value in keys.items():
            _add(writer, key, value)
        for name, array in weights.arrays.items():
            writer.add_tensor(name, array)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


class _Weights:
    """The file's tensors, and the names under which constants and quantisations are stored."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def add(self, constant: Value, program: str) -> str:
        array = _stored(constant)
        name, count = constant.name, 1
        while not self._fits(_weight_tensors(name, array, constant)):
            name = f"{constant.name}@{program}" if count == 1 else f"{constant.name}@{program}.{count}"
            count += 1
        self.arrays.update(_weight_tensors(name, array, constant))
        self.shapes[name] = array.shape
        return name

    def add_quantization(self, quantization: Quantization) -> str:
        name, count = quantization.name, 1
        while not self._fits(_quantization_tensors(name, quantization)):
            count += 1
            name = f"{quantization.name}:{count}"
        self.arrays.update(_quantization_tensors(name, quantization))
        return name

    def _fits(self, tensors: Mapping[str, Array]) -> bool:
        """No other tensor has one of the names."""
        return all(name not in self.arrays or _equal(self.arrays[name], array) for name, array in tensors.items())


def _equal(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _weight_tensors(name: str, array: Array, constant: Value) -> dict[str, Array]:
    if constant.int4 is not None:
        nibbles = np.pad(constant.int4.nibbles, ((0, 0), (0, constant.int4.nibbles.shape[1] % 2))) & 15
        tensors = {
            f"{name}.q4": (nibbles[:, ::2] | nibbles[:, 1::2] << 4).astype(np.uint8).view(np.int8),
            f"{name}.q4.multiplier": constant.int4.multipliers.astype(np.int8),
        }
    else:
        tensors = {name: array}
    return tensors if constant.scale is None else {**tensors, f"{name}.scale": constant.scale.astype(np.float32)}


def _quantization_tensors(name: str, quantization: Quantization) -> dict[str, Array]:
    return {
        f"{name}.scale": quantization.scale.astype(np.float32),
        f"{name}.zero_point": quantization.zero_point.astype(np.int8),
    }


def _stored(constant: Value) -> Array:
    """A constant in memory order, with the file's dtype; a scalar has one dimension."""
    assert constant.data is not None
    data = constant.data.transpose(constant.order)
    if constant.dtype == "i32" and data.size and not -(2**31) <= int(data.min()) <= int(data.max()) < 2**31:
        raise ArgumentError(
            f"{constant.name}: expected integers of 32 bits, got {int(data.min())} to {int(data.max())}"
        )
    array: Array = np.ascontiguousarray(data.astype(_STORED[constant.dtype]))
    return array.reshape(1) if array.ndim == 0 else array


def _program_keys(program: Program, weights: _Weights) -> dict[str, Any]:
    verify_program(program)
    names: list[str] = []
    dtypes: list[str] = []
    shapes: list[str] = []
    quantizations: list[str] = []
    constants: list[int] = []
    index: dict[Value, int] = {}
    by_name: dict[str, int] = {}
    for value in program.values():
        if value.data is None:
            name, shape = value.name, shape_text(value.memory_shape)
        else:
            name = weights.add(value, program.name)
            shape = shape_text(map(Dim, weights.shapes[name]))
            if name in by_name:
                index[value] = by_name[name]
                continue
            by_name[name] = len(names)
            constants.append(len(names))
        index[value] = len(names)
        names.append(name)
        dtypes.append(value.dtype)
        shapes.append(shape)
        quantizations.append("" if value.quantization is None else weights.add_quantization(value.quantization))
    prefix = f"keypilot.{program.name}"
    keys: dict[str, Any] = {
        f"{prefix}.values.name": names,
        f"{prefix}.values.dtype": dtypes,
        f"{prefix}.values.shape": shapes,
        f"{prefix}.values.quantization": quantizations if any(quantizations) else [],
        f"{prefix}.weights": constants,
        f"{prefix}.ops.type": [node.op for node in program.nodes],
        f"{prefix}.ops.inputs": [
            ",".join("-1" if value is None else str(index[value]) for value in _trimmed(node.inputs))
            for node in program.nodes
        ],
        f"{prefix}.ops.output": [index[node.output] for node in program.nodes],
        f"{prefix}.ops.attributes": [attributes_text(node.attributes) for node in program.nodes],
    }
    for kind, ports in (("inputs", program.inputs), ("outputs", program.outputs), ("taps", program.taps)):
        keys.update(_port_keys(f"{prefix}.{kind}", ports, index))
    return {key: value for key, value in keys.items() if value}


def _trimmed(inputs: Sequence[Value | None]) -> list[Value | None]:
    """Without absent inputs at the end."""
    kept = list(inputs)
    while kept and kept[-1] is None:
        kept.pop()
    return kept


def _port_keys(prefix: str, ports: Sequence[Port], index: Mapping[Value, int]) -> dict[str, Any]:
    described = [(port.shape or port.value.shape, port.order or port.value.order) for port in ports]
    return {
        f"{prefix}.name": [port.name for port in ports],
        f"{prefix}.value": [index[port.value] for port in ports],
        f"{prefix}.shape": [shape_text(shape) for shape, _order in described],
        f"{prefix}.order": [",".join(map(str, order)) for _shape, order in described],
    }


def attributes_text(attributes: Mapping[str, Any]) -> str:
    """As docs/model-file.md writes them."""
    return " ".join(f"{name}={_attribute_text(value)}" for name, value in attributes.items())


def _attribute_text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(_attribute_text, value))
    return value.hex() if isinstance(value, float) else str(value)


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    types = gguf.GGUFValueType
    if key == "general.architecture":
        return
    if isinstance(value, bool | np.bool_):
        writer.add_bool(key, bool(value))
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, int | np.integer):
        writer.add_uint32(key, int(value))
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, Sequence) and value:
        if isinstance(value[0], str):
            kind = types.STRING
        elif isinstance(value[0], float):
            kind = types.FLOAT32
        else:
            kind = types.INT32 if key.endswith((".value", ".output", ".weights")) else types.UINT32
        writer.add_key_value(key, list(value), types.ARRAY, sub_type=kind)
    else:
        raise ArgumentError(f"metadata {key!r}: expected a string, boolean, number or a filled list, got {value!r}")
