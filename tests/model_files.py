"""Small model files, written straight after docs/model-file.md: tests of the core need no PyTorch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np


@dataclasses.dataclass
class ProgramBuilder:
    """One program; values are referred to by their index, which every method that makes one returns."""

    weights: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    values: list[tuple[str, str, str, str]] = dataclasses.field(default_factory=list)
    weight_values: list[int] = dataclasses.field(default_factory=list)
    ports: dict[str, list[tuple[str, int, str, str]]] = dataclasses.field(
        default_factory=lambda: {"inputs": [], "outputs": [], "taps": []}
    )
    ops: list[tuple[str, str, int, str]] = dataclasses.field(default_factory=list)

    def value(self, name: str, shape: str, dtype: str = "f32", quantization: str = "") -> int:
        self.values.append((name, dtype, shape, quantization))
        return len(self.values) - 1

    def weight(self, name: str, array: np.ndarray) -> int:
        self.weights[name] = array
        dtype = {"float32": "f32", "int32": "i32", "int8": "i8"}[array.dtype.name]
        self.weight_values.append(self.value(name, ",".join(map(str, array.shape)), dtype))
        return self.weight_values[-1]

    def int4_weight(self, name: str, nibbles: np.ndarray, multipliers: np.ndarray, scale: np.ndarray) -> int:
        """An i8 weight (rows, columns) in four bits: nibbles in -8 to 7, multipliers (rows, ceil(columns / 32))."""
        rows, columns = nibbles.shape
        padded = np.zeros((rows, columns + columns % 2), np.int8)
        padded[:, :columns] = nibbles
        self.weights[f"{name}.q4"] = ((padded[:, 0::2] & 15) | (padded[:, 1::2] << 4)).astype(np.int8)
        self.weights[f"{name}.q4.multiplier"] = multipliers.astype(np.int8)
        self.weights[f"{name}.scale"] = np.asarray(scale, np.float32)
        self.weight_values.append(self.value(name, f"{rows},{columns}", "i8"))
        return self.weight_values[-1]

    def int8_weight(self, name: str, integers: np.ndarray, scale: np.ndarray) -> int:
        """An i8 weight with a scale for each output channel."""
        self.weights[f"{name}.scale"] = np.asarray(scale, np.float32)
        return self.weight(name, integers.astype(np.int8))

    def quantization(self, name: str, scale: np.ndarray, zero_point: np.ndarray) -> str:
        """Adds a quantisation by channel and returns its name, which values are given."""
        self.weights[f"{name}.scale"] = scale.astype(np.float32)
        self.weights[f"{name}.zero_point"] = zero_point.astype(np.int8)
        return name

    def input(self, name: str, shape: str, dtype: str = "f32", order: Sequence[int] | None = None) -> int:
        index = self.value(name, _permuted(shape, order), dtype)
        self.port("inputs", name, index, shape, order)
        return index

    def op(
        self,
        kind: str,
        inputs: Sequence[int],
        name: str,
        shape: str,
        attributes: str = "",
        dtype: str = "f32",
        quantization: str = "",
    ) -> int:
        """An operator and its output, which is i8 where it has a quantisation."""
        index = self.value(name, shape, "i8" if quantization else dtype, quantization)
        self.ops.append((kind, ",".join(map(str, inputs)), index, attributes))
        return index

    def port(self, kind: str, name: str, value: int, shape: str, order: Sequence[int] | None = None) -> None:
        order = range(len(shape.split(","))) if order is None else order
        self.ports[kind].append((name, value, shape, ",".join(map(str, order))))

    def keys(self) -> dict[str, list[Any]]:
        keys: dict[str, list[Any]] = {
            "values.name": [value[0] for value in self.values],
            "values.dtype": [value[1] for value in self.values],
            "values.shape": [value[2] for value in self.values],
            "weights": self.weight_values,
            "ops.type": [op[0] for op in self.ops],
            "ops.inputs": [op[1] for op in self.ops],
            "ops.output": [op[2] for op in self.ops],
            "ops.attributes": [op[3] for op in self.ops],
        }
        if any(value[3] for value in self.values):
            keys["values.quantization"] = [value[3] for value in self.values]
        for kind, ports in self.ports.items():
            for i, field in enumerate(("name", "value", "shape", "order")):
                keys[f"{kind}.{field}"] = [port[i] for port in ports]
        return keys


def write_model(
    path: Path,
    programs: Mapping[str, ProgramBuilder],
    *,
    version: int = 1,
    precision: str = "fp32",
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a model file and returns its path. An integer in `metadata` is a u32, a list an array."""
    writer = gguf.GGUFWriter(str(path), "keypilot")
    writer.add_name("a small model")
    writer.add_uint32("keypilot.format_version", version)
    writer.add_string("keypilot.precision", precision)
    writer.add_array("keypilot.programs", list(programs))
    for key, value in (metadata or {}).items():
        add = {
            str: writer.add_string,
            bool: writer.add_bool,
            int: writer.add_uint32,
            float: writer.add_float32,
            list: writer.add_array,
        }
        add[type(value)](key, value)
    weights: dict[str, np.ndarray] = {}
    for name, program in programs.items():
        weights.update(program.weights)
        for key, array in program.keys().items():
            if array:
                writer.add_array(f"keypilot.{name}.{key}", array)
    for name, array in weights.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_encoder(path: Path) -> Path:
    """Writes an encoder of a few thousand weights, with every program, masks and crops, and a tokenizer of bytes."""
    rng = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    screen = ProgramBuilder()
    image = screen.input("image", "N,3,64,64", order=(0, 2, 3, 1))
    cells = screen.op("pool2d", [image], "backbone.pool", "N,16,16,3", "fn=average kernel=4,4 stride=4,4")
    mask_weight, mask_bias = random(4, 1, 1, 3), np.zeros(4, np.float32)
    mask_weight -= mask_weight.mean(axis=3, keepdims=True)  # so that a grey picture is at the threshold
    classifier = [screen.weight("regions.weight", mask_weight), screen.weight("regions.bias", mask_bias)]
    masks = screen.op("conv2d", [cells, *classifier], "regions", "N,16,16,4")
    pooled = screen.op("reduce", [cells], "image.pool", "N,3", "fn=mean axes=1,2")
    projection = screen.weight("image.weight", random(256, 3))
    embedding = screen.op("linear", [pooled, projection], "image.linear", "N,256")
    screen.port("outputs", "image_embedding", embedding, "N,256")
    screen.port("outputs", "mask_logits", masks, "N,4,16,16", (0, 2, 3, 1))
    screen.port("taps", "backbone.pool", cells, "N,3,16,16", (0, 2, 3, 1))

    roi = ProgramBuilder()
    crops = roi.input("crops", "N,3,32,32", order=(0, 2, 3, 1))
    cells = roi.op("pool2d", [crops], "backbone.pool", "N,8,8,3", "fn=average kernel=4,4 stride=4,4")
    pooled = roi.op("reduce", [cells], "roi.pool", "N,3", "fn=mean axes=1,2")
    embedding = roi.op("linear", [pooled, roi.weight("roi.weight", random(256, 3))], "roi.linear", "N,256")
    roi.port("outputs", "roi_embedding", embedding, "N,256")
    roi.port("taps", "backbone.pool", cells, "N,3,8,8", (0, 2, 3, 1))

    text = ProgramBuilder()
    ids = text.input("input_ids", "N,T", "i32")
    positions = text.input("position_ids", "N,T", "i32")
    text.input("attention_mask", "N,T", "i32")
    tokens = text.op("embedding", [text.weight("text.tokens", random(300, 8)), ids], "text.token", "N,T,8")
    places = text.op("embedding", [text.weight("text.positions", random(66, 8)), positions], "text.place", "N,T,8")
    total = text.op("binary", [tokens, places], "text.sum", "N,T,8", "fn=mul")
    pooled = text.op("reduce", [total], "text.pool", "N,8", "fn=mean axes=1")
    embedding = text.op("linear", [pooled, text.weight("text.weight", random(256, 8))], "text.linear", "N,256")
    text.port("outputs", "text_embedding", embedding, "N,256")
    text.port("taps", "text.pool", pooled, "N,8")

    fusion = ProgramBuilder()
    parts = [fusion.input("image", "N,256"), fusion.input("rois", "N,4,256"), fusion.input("text", "N,256")]
    vector = fusion.input("user_vector", "N,64")
    parts[1] = fusion.op("reduce", [parts[1]], "fusion.rois", "N,256", "fn=mean axes=1")
    parts.append(fusion.op("linear", [vector, fusion.weight("user.weight", random(256, 64))], "user.linear", "N,256"))
    context = parts[0]
    for i, part in enumerate(parts[1:]):
        context = fusion.op("binary", [context, part], f"fusion.{i}", "N,256", "fn=add")
    fusion.port("outputs", "context", context, "N,256")
    fusion.port("taps", "fusion.rois", parts[1], "N,256")

    return write_model(
        path,
        {"screen": screen, "roi": roi, "text": text, "user": user_program(random(1001, 64)), "fusion": fusion},
        metadata=encoder_metadata(user_count=1000),
    )


def user_program(table: np.ndarray) -> ProgramBuilder:
    """user -> user_vector, whose last row is the unknown user's."""
    user = ProgramBuilder()
    ids = user.input("user", "N", "i32")
    row = user.op("embedding", [user.weight("user.table", table), ids], "user.row", "N,64")
    user.port("outputs", "user_vector", row, "N,64")
    return user


def encoder_metadata(*, user_count: int) -> dict[str, Any]:
    """A small encoder's settings: pictures of 64, masks of 16, crops of 32 pixels; a tokenizer of bytes."""
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    encoder = {
        "image_side": 64,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "image_pad": [127, 127, 127],
        "mask_side": 16,
        "crop_side": 32,
        "regions": "masks",
        "roi_features": "reencode",
        "grid": [0, 540, 1000, 620, 0, 120, 1000, 540, 0, 620, 1000, 1000, 0, 40, 1000, 120],
        "user_count": user_count,
    }
    return {
        "keypilot.trained": False,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [*specials, *byte_characters(), "ab"],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.add_space_prefix": False,
        "keypilot.tokenizer.added_tokens": [0, 1, 2, 3, 4],
        "keypilot.tokenizer.added_tokens.flags": ["", "", "", "", "lstrip"],
        "keypilot.tokenizer.prefix": [0],
        "keypilot.tokenizer.suffix": [2],
        "keypilot.tokenizer.max_tokens": 64,
        "keypilot.tokenizer.normalizer": "nfc",
        "keypilot.tokenizer.position_offset": 2,
        **{f"keypilot.encoder.{key}": value for key, value in encoder.items()},
    }


def byte_characters() -> dict[str, int]:
    """GPT-2's character for each byte, and the byte, in the order of its vocabulary."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


def _add_key(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    types = gguf.GGUFValueType
    if isinstance(value, list):
        kinds = {str: types.STRING, float: types.FLOAT32, int: types.UINT32}
        writer.add_key_value(key, value, types.ARRAY, sub_type=kinds[type(value[0])])
    else:
        add = {bool: writer.add_bool, int: writer.add_uint32, str: writer.add_string}[type(value)]
        add(key, value)


def _permuted(shape: str, order: Sequence[int] | None) -> str:
    dims = shape.split(",")
    return ",".join(dims[i] for i in (order or range(len(dims))))
