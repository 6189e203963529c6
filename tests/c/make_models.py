"""Writes the small model files that the C tests read: ``make_models.py DIRECTORY``.

``encoder.gguf`` is an encoder with programs of their own for the image and the regions, which come from detections.
``sample.gguf`` has three programs (``arithmetic``, ``text``, ``picture``) with seeded weights, and a tokenizer;
``wordpiece.gguf`` and ``clip.gguf`` have one program and tokenizers of the other types.
``refused/`` holds damaged variants of it; ``refused/expected.txt`` has one line for each: file, status, a part of the
message, separated by tabs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]


@dataclass
class Port:
    """An input, output or tap: a value under PyTorch's shape."""

    name: str
    value: int
    shape: str
    order: str


@dataclass
class Op:
    """An operator of a program: its value indices and attributes as docs/model-file.md writes them."""

    type: str
    inputs: str
    output: int
    attributes: str = ""


@dataclass
class Program:
    """A program's tables; see docs/model-file.md."""

    name: str
    names: list[str] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)
    tensors: dict[str, Array] = field(default_factory=dict)
    ports: dict[str, list[Port]] = field(default_factory=lambda: {"inputs": [], "outputs": [], "taps": []})
    ops: list[Op] = field(default_factory=list)

    def value(self, name: str, shape: str, dtype: str = "f32") -> int:
        """Adds a value and returns its index."""
        self.names.append(name)
        self.shapes.append(shape)
        self.dtypes.append(dtype)
        return len(self.names) - 1

    def port(self, kind: str, name: str, value: int, shape: str | None = None, order: str | None = None) -> None:
        """Adds a port; by default it has the value's own shape and order."""
        shape = self.shapes[value] if shape is None else shape
        rank = len(shape.split(",")) if shape else 0
        self.ports[kind].append(Port(name, value, shape, order or ",".join(map(str, range(rank)))))

    def input(
        self, name: str, shape: str, dtype: str = "f32", logical: str | None = None, order: str | None = None
    ) -> int:
        """Adds an input value with its port."""
        value = self.value(name, shape, dtype)
        self.port("inputs", name, value, logical, order)
        return value

    def weight(self, name: str, array: Array) -> int:
        """Adds a weight with its tensor."""
        value = self.value(name, ",".join(map(str, array.shape)), {"float32": "f32", "int32": "i32"}[str(array.dtype)])
        self.weights.append(value)
        self.tensors[name] = array
        return value

    def op(
        self, type: str, inputs: Sequence[int], name: str, shape: str, dtype: str = "f32", /, **attributes: object
    ) -> int:
        """Adds an operator with its output value and a tap on it. Attribute values are text, int or float."""
        output = self.value(name, shape, dtype)
        pairs = [f"{key}={value.hex() if isinstance(value, float) else value}" for key, value in attributes.items()]
        self.ops.append(Op(type, ",".join(map(str, inputs)), output, " ".join(pairs)))
        self.port("taps", name, output)
        return output


@dataclass
class Model:
    """A whole file. ``extra`` overrides or adds metadata: a callable gets the writer."""

    programs: list[Program]
    architecture: str = "keypilot"
    version: int = 1
    precision: str = "fp32"
    names: list[str] | None = None
    tokenizer: str = "bpe"
    encoder: dict[str, object] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Writes the model file."""
        writer = gguf.GGUFWriter(path, self.architecture)
        writer.add_name("sample")
        writer.add_uint32("keypilot.format_version", self.version)
        writer.add_string("keypilot.precision", self.precision)
        writer.add_bool("keypilot.trained", False)
        writer.add_array("keypilot.programs", self.names or [program.name for program in self.programs])
        add_tokenizer(writer, self.tokenizer)
        for key, value in self.encoder.items():
            add_key(writer, f"keypilot.encoder.{key}", value)
        tensors: dict[str, Array] = {}
        for program in self.programs:
            add_program(writer, program)
            tensors.update(program.tensors)
        for name, array in tensors.items():
            writer.add_tensor(name, array)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def add_key(writer: gguf.GGUFWriter, key: str, value: object) -> None:
    """Adds a key of the type that the reader takes: u32, f32, a string or an array."""
    if isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)


def add_array(writer: gguf.GGUFWriter, key: str, values: Sequence[object]) -> None:
    """Adds an array; an empty one is left out."""
    if values:
        writer.add_array(key, list(values))


def add_program(writer: gguf.GGUFWriter, program: Program) -> None:
    """Adds a program's tables."""
    prefix = f"keypilot.{program.name}"
    add_array(writer, f"{prefix}.values.name", program.names)
    add_array(writer, f"{prefix}.values.dtype", program.dtypes)
    add_array(writer, f"{prefix}.values.shape", program.shapes)
    add_array(writer, f"{prefix}.weights", program.weights)
    for kind, ports in program.ports.items():
        for column in ("name", "value", "shape", "order"):
            add_array(writer, f"{prefix}.{kind}.{column}", [getattr(port, column) for port in ports])
    for column in ("type", "inputs", "output", "attributes"):
        add_array(writer, f"{prefix}.ops.{column}", [getattr(op, column) for op in program.ops])


def byte_characters() -> list[str]:
    """GPT-2's character for each byte: itself where printable, else the next one from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [table[byte] for byte in range(256)]


def add_tokenizer(writer: gguf.GGUFWriter, kind: str) -> None:
    """Adds a tokenizer: bpe and clip of all bytes and three merges, or wordpiece of a few words."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    merges: list[str] = []
    if kind == "wordpiece":
        tokens = [*special, *"helo,!", *(f"##{c}" for c in "helo"), "he", "##llo", "caf", "##e", "<mask>"]
        tokens = list(dict.fromkeys(tokens))
        normalizer, pre = "clean,space_ideographs,strip_accents,lowercase", "bert"
        writer.add_string("keypilot.tokenizer.continuation", "##")
        writer.add_uint32("keypilot.tokenizer.max_word_characters", 100)
        writer.add_uint32("tokenizer.ggml.unknown_token_id", 3)
    else:
        end = "</w>" if kind == "clip" else ""
        merges = ["h e", f"l l{end}", f"he ll{end}"]
        tokens = [*special, *byte_characters(), *(f"{c}{end}" for c in byte_characters() if end)]
        tokens += [*(merge.replace(" ", "") for merge in merges), "<mask>"]
        normalizer, pre = ("nfc,collapse_spaces,lowercase", "clip-specials") if end else ("nfc", "gpt-2")
        writer.add_string("keypilot.tokenizer.word_suffix", end)
        writer.add_token_merges(merges)
    writer.add_tokenizer_model("bert" if kind == "wordpiece" else "gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_bool("tokenizer.ggml.add_space_prefix", kind == "bpe")
    writer.add_array("keypilot.tokenizer.added_tokens", [0, 1, 2, 3, len(tokens) - 1])
    writer.add_array("keypilot.tokenizer.added_tokens.flags", ["", "", "rstrip", "normalized", "lstrip normalized"])
    writer.add_array("keypilot.tokenizer.prefix", [0])
    writer.add_array("keypilot.tokenizer.suffix", [2])
    writer.add_uint32("keypilot.tokenizer.max_tokens", 16)
    writer.add_string("keypilot.tokenizer.normalizer", normalizer)
    writer.add_uint32("keypilot.tokenizer.position_offset", 2)


def arithmetic() -> Program:
    """relu(x + w) * b, with outputs that are an alias, an alias of an input, and a weight; x and b are (N, 4)."""
    p = Program("arithmetic")
    x, b = p.input("x", "N,4"), p.input("b", "N,4")
    w = p.weight("w", np.array([1, -2, 3, -4], np.float32))
    p.port("taps", "x.tap", x)
    total = p.op("binary", [x, w], "total", "N,4", fn="add")
    relu = p.op("unary", [total], "relu", "N,4", fn="relu")
    product = p.op("binary", [relu, b], "product", "N,4", fn="mul")
    flat = p.op("alias", [product], "flat", "4N", shape="4N")
    again = p.op("alias", [x], "x.flat", "4N", shape="4N")
    p.port("taps", "w.tap", w)
    p.port("outputs", "product", flat)
    p.port("outputs", "x", again)
    p.port("outputs", "w", w)
    return p


def text(rng: np.random.Generator) -> Program:
    """A transformer layer over token ids (N, T), pooled to (N, 8)."""
    p = Program("text")

    def weight(name: str, *shape: int) -> int:
        return p.weight(name, rng.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(shape[-1])))

    ids = p.input("input_ids", "N,T", "i32")
    mask = p.input("attention_mask", "N,T", "i32")
    embedded = p.op("embedding", [weight("embed.weight", 11, 8), ids], "embed", "N,T,8")
    normed = p.op("layer_norm", [embedded, weight("norm.weight", 8), weight("norm.bias", 8)], "norm", "N,T,8", eps=1e-5)
    qkv = p.op("linear", [normed, weight("qkv.weight", 24, 8), weight("qkv.bias", 24)], "qkv", "N,T,24")
    allowed = p.op("cast", [mask], "allowed", "N,T", "bool", to="bool")
    wide = p.op("alias", [allowed], "wide", "N,1,1,T", "bool", shape="N,1,1,T")
    attended = p.op(
        "attention", [qkv, qkv, qkv, wide], "attention", "N,T,8",
        heads=2, head_dim=4, scale=0.5, q_offset=0, k_offset=8, v_offset=16,
    )  # fmt: skip
    projected = p.op("linear", [attended, weight("proj.weight", 8, 8), -1, normed], "proj", "N,T,8")
    hidden = p.op("linear", [projected, weight("fc.weight", 16, 8), weight("fc.bias", 16)], "fc", "N,T,16", act="gelu")
    gate = p.op("softmax", [hidden], "gate", "N,T,16", axis=2)
    scores = p.op("matmul", [hidden, gate], "scores", "N,T,T", transpose_b=1, alpha=0.25)
    mixed = p.op("matmul", [scores, projected], "mixed", "N,T,8")
    pooled = p.op("reduce", [mixed], "pooled", "N,8", fn="mean", axes=1)
    p.port("outputs", "text_embedding", pooled)
    return p


def picture(rng: np.random.Generator) -> Program:
    """A small convolutional network over pictures (N, 3, 16, 16)."""
    p = Program("picture")

    def weight(name: str, *shape: int) -> int:
        return p.weight(name, rng.standard_normal(shape).astype(np.float32) * np.float32(0.3))

    image = p.input("image", "N,16,16,3", logical="N,3,16,16", order="0,2,3,1")
    stem = p.op(
        "conv2d", [image, weight("stem.weight", 8, 3, 3, 3), weight("stem.bias", 8)], "stem", "N,8,8,8",
        stride="2,2", pad="1,1,1,1", act="silu",
    )  # fmt: skip
    depthwise = p.op("conv2d", [stem, weight("dw.weight", 3, 3, 8)], "dw", "N,8,8,8", pad="1,1,1,1", groups=8)
    point = p.op("conv2d", [depthwise, weight("pw.weight", 8, 1, 1, 8), -1, stem], "pw", "N,8,8,8", act="hardswish")
    pooled = p.op("pool2d", [point], "pool", "N,4,4,8", fn="max", kernel="2,2", stride="2,2")
    resized = p.op("resize2d", [pooled], "resize", "N,8,8,8", fn="bilinear", size="8,8")
    both = p.op("concat", [point, resized], "both", "N,8,8,16", axis=3)
    patches = p.op(
        "rearrange", [both], "patches", "4N,16,16",
        dims="N,4,2,4,2,16", strides="1024,256,16,32,128,1", shape="4N,16,16",
    )  # fmt: skip
    limit = p.weight("limit", np.zeros((), np.float32))
    positive = p.op("compare", [patches, limit], "positive", "4N,16,16", "bool", fn="gt")
    kept = p.op("select", [positive, patches, limit], "kept", "4N,16,16")
    means = p.op("reduce", [kept], "means", "4N,16", fn="l2norm", axes=1)
    p.port("outputs", "features", both, "N,16,8,8", "0,2,3,1")
    p.port("outputs", "norms", means)
    return p


def sample() -> Model:
    """The model that loads."""
    rng = np.random.default_rng(0)
    return Model([arithmetic(), text(rng), picture(rng)])


def encoder() -> Model:
    """An encoder of pictures of 16, masks of 4 and crops of 8 pixels; 16 detections, 2 users."""
    rng = np.random.default_rng(1)

    def weight(p: Program, name: str, *shape: int) -> int:
        return p.weight(name, rng.standard_normal(shape).astype(np.float32))

    def cells(p: Program, port: str, side: int) -> int:
        image = p.input(port, f"N,{side},{side},3", logical=f"N,3,{side},{side}", order="0,2,3,1")
        stem = weight(p, f"{p.name}.stem", 6, 4, 4, 3)
        return p.op("conv2d", [image, stem], "cells", f"N,{side // 4},{side // 4},6", stride="4,4")

    def project(p: Program, value: int, width: int, output: str) -> None:
        out = p.op("linear", [value, weight(p, f"{p.name}.out", 256, width)], "out", "N,256")
        p.port("outputs", output, out)

    def embedding(name: str, port: str, side: int, output: str) -> Program:
        p = Program(name)
        project(p, p.op("reduce", [cells(p, port, side)], "pooled", "N,6", fn="mean", axes="1,2"), 6, output)
        return p

    regions = Program("regions")
    maps = cells(regions, "image", 16)
    for name, channels, shape in (("boxes", 4, "N,16,4"), ("scores", 1, "N,16"), ("coefficients", 32, "N,16,32")):
        head = weight(regions, f"regions.{name}", channels, 1, 1, 6)
        value = regions.op("conv2d", [maps, head], f"{name}.head", f"N,4,4,{channels}")
        if name == "boxes":
            corners = np.array([-8, -8, 24, 24], np.float32)
            value = regions.op("binary", [value, regions.weight("corners", corners)], "moved", "N,4,4,4", fn="add")
        regions.port("outputs", name, regions.op("alias", [value], name, shape, shape=shape))
    value = regions.op("conv2d", [maps, weight(regions, "regions.basis", 32, 1, 1, 6)], "prototypes", "N,4,4,32")
    regions.port("outputs", "prototypes", value, "N,32,4,4", "0,2,3,1")

    words = Program("text")
    table = weight(words, "words", 264, 8)
    rows = words.op("embedding", [table, words.input("input_ids", "N,T", "i32")], "rows", "N,T,8")
    project(words, words.op("reduce", [rows], "pooled", "N,8", fn="mean", axes=1), 8, "text_embedding")

    user = Program("user")
    table = weight(user, "users", 3, 64)
    user.port("outputs", "user_vector", user.op("embedding", [table, user.input("user", "N", "i32")], "row", "N,64"))

    fusion = Program("fusion")
    person = fusion.input("user_vector", "N,64")
    total = fusion.op("linear", [person, weight(fusion, "person", 256, 64)], "person.out", "N,256")
    rois = fusion.op("reduce", [fusion.input("rois", "N,4,256")], "rois.mean", "N,256", fn="mean", axes=1)
    for i, part in enumerate((rois, fusion.input("image", "N,256"), fusion.input("text", "N,256"))):
        total = fusion.op("binary", [total, part], f"total{i}", "N,256", fn="add")
    fusion.port("outputs", "context", total)

    picture = {"image_side": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "image_pad": [127] * 3}
    groups = ("", "global.", "regions_picture.")
    keys: dict[str, object] = {
        **{f"{group}{key}": value for group in groups for key, value in picture.items()},
        "regions": "detections",
        "mask_side": 4,
        "grid": [0, 540, 1000, 620, 0, 120, 1000, 540, 0, 620, 1000, 1000, 0, 40, 1000, 120],
        "detections.min_score": 0.0,
        "detections.max_overlap": 0.9,
        "detections.max_count": 10,
        "roi_features": "reencode",
        "crop_side": 8,
        "user_count": 2,
    }
    image, roi = embedding("image", "image", 16, "image_embedding"), embedding("roi", "crops", 8, "roi_embedding")
    return Model([image, regions, roi, words, user, fusion], encoder=keys)


def refused_models() -> dict[str, tuple[Callable[[Model], None], str, str]]:
    """What to change in the sample, and the status and message that the reader must give."""

    def change(path: Callable[[Program], object], new: object, index: int, key: str) -> Callable[[Model], None]:
        def apply(model: Model) -> None:
            target = path(model.programs[0])
            if isinstance(target, list) and not key:
                target[index] = new
            else:
                setattr(target[index], key, new)  # type: ignore[index]

        return apply

    def names(new: object, index: int) -> Callable[[Model], None]:
        return change(lambda p: p.names, new, index, "")

    def shapes(new: object, index: int) -> Callable[[Model], None]:
        return change(lambda p: p.shapes, new, index, "")

    def op(key: str, new: object, index: int = 0) -> Callable[[Model], None]:
        return change(lambda p: p.ops, new, index, key)

    def port(kind: str, key: str, new: object, index: int = 0) -> Callable[[Model], None]:
        return change(lambda p: p.ports[kind], new, index, key)

    def model(key: str, new: object) -> Callable[[Model], None]:
        return lambda m: setattr(m, key, new)

    # Values of `arithmetic`: 0 x, 1 b, 2 w, 3 total, 4 relu, 5 product, 6 flat, 7 x.flat.
    return {
        "architecture": (model("architecture", "llama"), "model", "expected 'keypilot', got 'llama'"),
        "version": (model("version", 2), "version", "format version 2; this library reads version 1"),
        "precision": (model("precision", "int4"), "unsupported", "expected 'fp32' or 'int8', got 'int4'"),
        "program_name": (model("names", ["Main"]), "model", "program name: expected"),
        "program_twice": (model("names", ["text", "text"]), "model", "'text' appears twice"),
        "value_twice": (names("x", 1), "model", "value 'x': the name appears twice"),
        "value_unnamed": (names("", 1), "model", "value 1: expected a name"),
        "value_long_name": (names("n" * 300, 1), "model", "1 to 255 bytes, got 300"),
        "value_dtype": (change(lambda p: p.dtypes, "f16", 0, ""), "model", "value 'x': dtype: expected f32"),
        "value_shape": (shapes("N,-4", 0), "model", "value 'x': shape: expected"),
        "value_count": (lambda m: m.programs[0].dtypes.append("f32"), "model", "values.dtype: expected 8 elements"),
        "value_undefined": (
            lambda m: void(m.programs[0].value("loose", "N")), "model", "value 'loose': it is no input"),
        "weight_missing": (names("v", 2), "model", "weight 'v': the file has no tensor"),
        "weight_shape": (shapes("5", 2), "model", "weight 'w': its dtype and shape are not the tensor's, f32 (4,)"),
        "weight_symbol": (shapes("4N", 2), "model", "weight 'w': its dtype and shape"),
        "weight_dtype": (change(lambda p: p.dtypes, "i32", 2, ""), "model", "weight 'w': its dtype and shape"),
        "weight_twice": (lambda m: m.programs[0].weights.append(2), "model", "weight 1: value 'w': it is defined"),
        "weight_index": (lambda m: m.programs[0].weights.append(99), "model", "expected a value index below 8, got 99"),
        "input_is_weight": (port("inputs", "value", 2), "model", "input 'x': shape: 'N,4' has not as many"),
        "input_value_twice": (port("inputs", "value", 0, 1), "model", "input 'b': value 'x': it is defined twice"),
        "input_elements": (port("inputs", "shape", "N,5"), "model", "input 'x': shape: 'N,5' has not as many"),
        "input_symbol": (port("inputs", "shape", "T,4"), "model", "input 'x': shape: 'T,4' has not as many"),
        "input_order": (port("inputs", "order", "0,0"), "model", "input 'x': order: expected each of 0 to 1 once"),
        "input_order_short": (port("inputs", "order", "0"), "model", "input 'x': order: expected each of 0 to 1 once"),
        "input_twice": (port("inputs", "name", "b"), "model", "input 'b': the name appears twice"),
        "output_value": (port("outputs", "value", -1), "model", "output 'product': expected a value index"),
        "tap_shape": (port("taps", "shape", "N,4,", 1), "model", "tap 'total': shape: expected"),
        "op_type": (op("type", "fft"), "model", "operator 0: this library has no operator 'fft'"),
        "op_attribute": (op("attributes", "fn=plus"), "model", "operator 0 (binary): attribute 'fn'"),
        "op_attribute_missing": (op("attributes", ""), "model", "operator 0 (binary): attribute 'fn' is missing"),
        "op_inputs": (op("inputs", "0"), "model", "operator 0 (binary): inputs: expected at least 2, got 1"),
        "op_many_inputs": (op("inputs", "0,2,2"), "model", "operator 0 (binary): inputs: expected at most 2"),
        "op_input_text": (op("inputs", "0;2"), "model", "operator 0 (binary): input 0: expected value indices"),
        "op_input_absent": (op("inputs", "-1,2"), "model", "operator 0 (binary): expected a value index"),
        "op_input_later": (op("inputs", "0,4"), "model", "input 1: value 'relu' is not computed before"),
        "op_input_itself": (op("inputs", "0,3"), "model", "input 1: value 'total' is not computed before"),
        "op_output_input": (op("output", 0), "model", "operator 0 (binary): value 'x': it is defined twice"),
        "op_output_index": (op("output", 8), "model", "operator 0 (binary): expected a value index below 8, got 8"),
        "op_shape": (shapes("4,N", 3), "model", "operator 0, binary 'total': the file says (4, 1)"),
        "op_dtype": (change(lambda p: p.dtypes, "i32", 3, ""), "model", "binary 'total': the file says i32"),
    }  # fmt: skip


def void(_: object) -> None:
    """Drops a result, where a lambda must give none."""


def main(directory: Path) -> None:
    """Writes every file."""
    (directory / "refused").mkdir(parents=True, exist_ok=True)
    sample().write(directory / "sample.gguf")
    encoder().write(directory / "encoder.gguf")
    for tokenizer in ("wordpiece", "clip"):
        Model([arithmetic()], tokenizer=tokenizer).write(directory / f"{tokenizer}.gguf")
    lines = []
    for name, (damage, status, message) in refused_models().items():
        model = deepcopy(sample())
        damage(model)
        model.write(directory / "refused" / f"{name}.gguf")
        lines.append(f"{name}.gguf\t{status}\t{message}\n")
    (directory / "refused" / "expected.txt").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
