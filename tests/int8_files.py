"""A small int8 encoder whose every byte follows from integers, and a picture: what the golden digest is of.

``int8_files.py MODEL.gguf PICTURE.ppm`` writes both.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from model_files import ProgramBuilder, encoder_metadata, write_model

#: The output scale of a layer of K inputs that brings its sums to about -4 to 4.
_SUM = 4.0 / (64 * 64)


def integers(seed: int, *shape: int) -> np.ndarray:
    """-127 to 127, from a multiplicative hash of the position: the same wherever integers are."""
    index = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(seed * 1_000_003 + 1)
    mixed = (index * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)
    return (mixed % np.uint64(255)).astype(np.int64).reshape(shape) - 127


def floats(seed: int, *shape: int) -> np.ndarray:
    """-1 to 1, multiples of 1/128."""
    return (integers(seed, *shape) / 128).astype(np.float32)


def picture(height: int = 150, width: int = 90) -> np.ndarray:
    """A synthetic picture, (H, W, 3)."""
    y, x, c = np.ogrid[:height, :width, :3]
    return ((3 * x + 5 * y * (c + 1) + (x // 16 + y // 24) % 2 * 90) % 256).astype(np.uint8)


class Int8Builder(ProgramBuilder):
    """Layers with int8 weights, and activations quantised by channel."""

    def activations(self, name: str, channels: int, seed: int = 0) -> str:
        scale = (3 + (np.arange(channels) * 5 + seed) % 4) / 128
        return self.quantization(name, scale, np.arange(channels) * 7 % 41 - 20)

    def layer_weight(self, name: str, seed: int, *shape: int) -> list[int]:
        """A weight and its bias; (kh, kw, channels) is a depthwise one."""
        channels = shape[-1] if len(shape) == 3 else shape[0]
        terms = int(np.prod(shape)) // channels
        scale = _SUM / np.sqrt(terms) * (8 + np.arange(channels) % 5) / 8
        weight = self.int8_weight(f"{name}.weight", integers(seed, *shape), scale)
        return [weight, self.weight(f"{name}.bias", floats(seed + 1, channels))]

    def four_bit_table(self, name: str, seed: int, rows: int, columns: int) -> int:
        """An i8 table in four bits; `columns` is even."""
        nibbles = (integers(seed, rows, columns) + 127) % 16
        self.weights[f"{name}.q4"] = (nibbles[:, ::2] | nibbles[:, 1::2] << 4).astype(np.uint8).view(np.int8)
        multipliers = 1 + (integers(seed + 1, rows, -(-columns // 32)) + 127) % 15
        self.weights[f"{name}.q4.multiplier"] = multipliers.astype(np.int8)
        self.weights[f"{name}.scale"] = ((1 + np.arange(rows) % 3) / 64).astype(np.float32)
        self.weight_values.append(self.value(name, f"{rows},{columns}", "i8"))
        return self.weight_values[-1]

    def norm(self, x: int, name: str, shape: str, seed: int, channels: int) -> int:
        weights = [self.weight(f"{name}.weight", 1 + floats(seed, channels) / 4)]
        weights.append(self.weight(f"{name}.bias", floats(seed + 1, channels)))
        return self.op("layer_norm", [x, *weights], name, shape, f"eps={float.hex(1e-5)}")


def write_int8_encoder(path: Path) -> Path:
    """Writes an int8 encoder that has every operator on int8, shared weights, and a table in four bits."""
    programs = {"screen": _screen(), "roi": _roi(), "text": _text(), "user": _user(), "fusion": _fusion()}
    return write_model(path, programs, precision="int8", metadata=encoder_metadata(user_count=4))


def _stem(p: Int8Builder, port: str, side: int) -> int:
    """The shared first layers: (N, side / 2, side / 2, 8) in int8."""
    image = p.input(port, f"N,3,{side},{side}", order=(0, 2, 3, 1))
    half = f"N,{side // 2},{side // 2},8"
    x = p.op("quantize", [image], "image.quantized", f"N,{side},{side},3", quantization=p.activations("image", 3))
    x = p.op("conv2d", [x, *p.layer_weight("stem", 1, 8, 3, 3, 3)], "stem", half,
             "stride=2,2 pad=1,1,1,1 act=silu out=i8", quantization=p.activations("stem", 8, 1))  # fmt: skip
    p.port("taps", "stem", x, f"N,8,{side // 2},{side // 2}", (0, 2, 3, 1))
    return x


def _screen() -> ProgramBuilder:
    p = Int8Builder()
    stem = _stem(p, "image", 64)
    x = p.op("conv2d", [stem, *p.layer_weight("depthwise", 3, 3, 3, 8)], "depthwise", "N,32,32,8",
             "pad=1,1,1,1 groups=8 act=hardswish out=i8", quantization=p.activations("depthwise", 8, 2))  # fmt: skip
    x = p.op("conv2d", [x, *p.layer_weight("point", 5, 8, 1, 1, 8), stem], "point", "N,32,32,8", "out=i8",
             quantization=p.activations("point", 8, 3))  # fmt: skip
    down = p.op("conv2d", [x, *p.layer_weight("down", 7, 16, 3, 3, 8)], "down", "N,16,16,16",
                "stride=2,2 pad=1,1,1,1 act=relu out=i8", quantization=p.activations("down", 16, 1))  # fmt: skip
    smooth = p.op("conv2d", [down, *p.layer_weight("smooth", 9, 3, 3, 16)], "smooth", "N,16,16,16",
                  "pad=1,1,1,1 groups=16 act=gelu out=i8", quantization=p.activations("smooth", 16, 2))  # fmt: skip
    total = p.op("binary", [down, smooth], "total", "N,16,16,16", "fn=add out=i8",
                 quantization=p.activations("total", 16))  # fmt: skip
    pooled = p.op("pool2d", [total], "pooled", "N,8,8,16", "fn=max kernel=2,2 stride=2,2", quantization="total")
    wide = p.op("resize2d", [pooled], "wide", "N,16,16,16", "fn=nearest size=16,16", quantization="total")
    joined = p.quantization("both", *(np.tile(p.weights[f"total.{part}"], 2) for part in ("scale", "zero_point")))
    both = p.op("concat", [total, wide], "both", "N,16,16,32", "axis=3", quantization=joined)
    tokens = p.op("alias", [both], "tokens.int8", "N,256,32", "shape=N,256,32", quantization=joined)
    tokens = p.op("dequantize", [tokens], "tokens", "N,256,32")
    normed = p.norm(tokens, "norm", "N,256,32", 11, 32)
    qkv = p.op("linear", [normed, *p.layer_weight("qkv", 13, 96, 32)], "qkv", "N,256,96")
    attended = p.op("attention", [qkv, qkv, qkv], "attention", "N,256,32",
                    f"heads=4 head_dim=8 scale={float.hex(0.35)} k_offset=32 v_offset=64 precision=i8")  # fmt: skip
    mixed = p.op("linear", [attended, *p.layer_weight("mix", 15, 32, 32), tokens], "mixed", "N,256,32")
    back = p.op("alias", [mixed], "back", "N,16,16,32", "shape=N,16,16,32")
    back = p.op("quantize", [back], "back.quantized", "N,16,16,32", quantization=p.activations("back", 32, 3))
    average = p.op("pool2d", [back], "average", "N,16,16,32", "fn=average kernel=3,3 stride=1,1 pad=1,1,1,1 out=i8",
                   quantization=p.activations("average", 32))  # fmt: skip
    masks = p.op("conv2d", [average, *p.layer_weight("masks", 17, 4, 1, 1, 32)], "masks", "N,16,16,4")
    mean = p.op("reduce", [average], "mean", "N,32", "fn=mean axes=1,2")
    image = p.op("linear", [mean, *p.layer_weight("image", 19, 256, 32)], "image.linear", "N,256", "act=gelu")
    p.port("outputs", "image_embedding", image, "N,256")
    p.port("outputs", "mask_logits", masks, "N,4,16,16", (0, 2, 3, 1))
    return p


def _roi() -> ProgramBuilder:
    p = Int8Builder()
    mean = p.op("reduce", [_stem(p, "crops", 32)], "mean", "N,8", "fn=mean axes=1,2")
    roi = p.op("linear", [mean, *p.layer_weight("roi", 21, 256, 8)], "roi", "N,256", "act=tanh")
    p.port("outputs", "roi_embedding", roi, "N,256")
    return p


def _text() -> ProgramBuilder:
    p = Int8Builder()
    ids, positions, mask = (p.input(name, "N,T", "i32") for name in ("input_ids", "position_ids", "attention_mask"))
    tokens = p.op("embedding", [p.four_bit_table("text.tokens", 23, 264, 32), ids], "text.token", "N,T,32")
    places = p.op("embedding", [p.weight("text.places", floats(25, 66, 32)), positions], "text.place", "N,T,32")
    x = p.op("binary", [tokens, places], "text.sum", "N,T,32", "fn=add")
    x = p.norm(x, "text.norm", "N,T,32", 27, 32)
    qkv = p.op("linear", [x, *p.layer_weight("text.qkv", 29, 96, 32)], "text.qkv", "N,T,96")
    allowed = p.op("cast", [mask], "text.allowed", "N,T", "to=bool", dtype="bool")
    allowed = p.op("alias", [allowed], "text.mask", "N,1,1,T", "shape=N,1,1,T", dtype="bool")
    attended = p.op("attention", [qkv, qkv, qkv, allowed], "text.attention", "N,T,32",
                    f"heads=4 head_dim=8 scale={float.hex(0.35)} k_offset=32 v_offset=64")  # fmt: skip
    x = p.op("linear", [attended, *p.layer_weight("text.mix", 31, 32, 32), x], "text.mixed", "N,T,32")
    x = p.op("linear", [x, *p.layer_weight("text.up", 33, 64, 32)], "text.up", "N,T,64", "act=gelu")
    x = p.op("linear", [x, *p.layer_weight("text.down", 35, 32, 64)], "text.down", "N,T,32")
    mean = p.op("reduce", [x], "text.mean", "N,32", "fn=mean axes=1")
    out = p.op("linear", [mean, *p.layer_weight("text.out", 37, 256, 32)], "text.out", "N,256")
    p.port("outputs", "text_embedding", out, "N,256")
    return p


def _user() -> ProgramBuilder:
    p = Int8Builder()
    table = p.int8_weight("user.table", integers(39, 5, 64), np.full(5, 1 / 64))
    row = p.op("embedding", [table, p.input("user", "N", "i32")], "user.row", "N,64")
    p.port("outputs", "user_vector", row, "N,64")
    return p


def _fusion() -> ProgramBuilder:
    p = Int8Builder()
    image, rois, text = p.input("image", "N,256"), p.input("rois", "N,4,256"), p.input("text", "N,256")
    vector = p.input("user_vector", "N,64")
    rows = [p.op("alias", [x], f"fusion.{i}", "N,1,256", "shape=N,1,256") for i, x in enumerate((image, text))]
    rows.append(p.op("linear", [vector, *p.layer_weight("user.linear", 45, 256, 64)], "user.linear", "N,256"))
    rows[2] = p.op("alias", [rows[2]], "user.token", "N,1,256", "shape=N,1,256")
    tokens = p.op("concat", [rows[0], rois, *rows[1:]], "fusion.tokens", "N,7,256", "axis=1")
    narrow = p.op("linear", [tokens, *p.layer_weight("fusion.down", 41, 32, 256)], "fusion.narrow", "N,7,32")
    scores = p.op("matmul", [narrow, narrow], "fusion.scores", "N,7,7", f"transpose_b=1 alpha={float.hex(0.25)}")
    shares = p.op("softmax", [scores], "fusion.shares", "N,7,7", "axis=2")
    mixed = p.op("matmul", [shares, narrow], "fusion.mixed", "N,7,32")
    mixed = p.op("unary", [mixed], "fusion.bent", "N,7,32", "fn=silu")
    mean = p.op("reduce", [mixed], "fusion.mean", "N,32", "fn=mean axes=1")
    context = p.op("linear", [mean, *p.layer_weight("fusion.up", 43, 256, 32)], "fusion.up", "N,256")
    p.port("outputs", "context", context, "N,256")
    return p


def write_ppm(path: Path, pixels: np.ndarray) -> None:
    """Writes (H, W, 3) as binary Netpbm."""
    height, width, _ = pixels.shape
    path.write_bytes(b"P6\n%d %d\n255\n" % (width, height) + pixels.tobytes())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    write_int8_encoder(Path(sys.argv[1]))
    write_ppm(Path(sys.argv[2]), picture())
