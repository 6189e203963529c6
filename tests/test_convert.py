"""Small modules, each for one thing that the converter does; every tensor equals PyTorch's."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from conversion import Converted, Functions  # noqa: E402
from torch import nn  # noqa: E402

import keypilot  # noqa: E402
from keypilot.convert import ProgramSource, compile_programs  # noqa: E402


@pytest.fixture
def convert(tmp_path):
    torch.manual_seed(0)
    return lambda module, dynamic=None, **examples: Converted(tmp_path / "m.gguf", module, examples, dynamic)


def _randomised(module):
    """Batch norms with statistics that a fold must get right."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(child.running_mean, 0, 0.3)
            nn.init.uniform_(child.running_var, 0.5, 1.5)
            nn.init.uniform_(child.weight, 0.5, 1.5)
            nn.init.normal_(child.bias, 0, 0.3)
    return module


# ---- Views ------------------------------------------------------------------------------------------------------

VIEWS = {
    "reshape": lambda x: x.reshape(x.shape[0], -1, 6),
    "flatten": lambda x: x.flatten(1),
    "unflatten": lambda x: x.unflatten(1, (2, 4)),
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "transpose": lambda x: x.transpose(1, 3),
    "batch_last": lambda x: x.permute(1, 2, 3, 0).reshape(8, -1).transpose(0, 1),
    "squeeze": lambda x: x[:, :1].squeeze(1).unsqueeze(-1),
    "expand": lambda x: x[:, :1].expand(-1, 5, -1, -1),
    "repeat": lambda x: x.repeat(1, 2, 1, 1),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "slice": lambda x: x[:, 2:7:2, 1:, :-1],
    "select": lambda x: x[:, -1, 2],
    "unbind": lambda x: torch.stack(x.unbind(1)[::-1], 2),
    "split": lambda x: torch.cat(x.split([3, 5], 1)[::-1], 1),
    "chunk": lambda x: x.chunk(2, 2)[1] - x.chunk(2, 2)[0],
    "roll": lambda x: x.roll((1, -2), (2, 3)),
    "patches": lambda x: (
        x.reshape(x.shape[0] * 8 * 2, 2, 3, 2)
        .transpose(1, 2)
        .reshape(x.shape[0], 8, 6, 4)
        .transpose(1, 3)
        .flatten(0, 1)
    ),
    "windows": lambda x: x.view(-1, 8, 2, 2, 2, 3).permute(0, 2, 4, 3, 5, 1).reshape(-1, 6, 8),
    "window_crop": lambda x: x.view(-1, 8, 2, 2, 2, 3).transpose(3, 4).reshape(-1, 8, 4, 6)[:, :, :3, :5],
    "qkv": lambda x: x.flatten(2).view(-1, 8, 3, 2, 4).permute(2, 0, 3, 1, 4)[1],
    "contiguous": lambda x: x.transpose(2, 3).contiguous().view(-1, 4),
    "movedim": lambda x: x.movedim(1, -1).mT,
    "strided_sum": lambda x: (x.permute(0, 2, 3, 1) + 1).reshape(x.shape[0], -1),
    "in_place": lambda x: _writes_through_a_view(x),
}


def _writes_through_a_view(x):
    y = x.clone()
    y[:, 0] += 1
    y[:, 1, 0].mul_(2)
    return y


def test_every_view_pattern_of_plain_and_of_picture_memory(convert):
    pictures = {f"picture.{n}": lambda x, view=view: view(F.max_pool2d(x, 3, 1, 1)) for n, view in VIEWS.items()}
    functions = {**VIEWS, **pictures}
    converted = convert(Functions(functions), x=torch.randn(2, 8, 4, 6))
    for batch in (1, 3):
        converted.agrees(x=torch.randn(batch, 8, 4, 6))


def test_views_over_the_batch_and_the_tokens(convert):
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.randn(1, 4096, 6))

        def forward(self, x):
            rows = x.flatten(0, 1)
            return {
                "rows": (rows * 2).view(x.shape).transpose(1, 2),
                "first": x[:, 0],
                "position": x + self.table[:, : x.shape[1]],
                "pairs": x.view(x.shape[0], x.shape[1], 3, 2).permute(0, 2, 1, 3).flatten(2),
                "ones": x[..., :2] + torch.ones(x.shape[0], x.shape[1], 2) * 3 + torch.zeros_like(x[..., :2]),
            }

    converted = convert(Tokens(), {"x": {1: "T"}}, x=torch.randn(1, 1, 6))
    for batch, tokens in ((1, 1), (3, 5), (2, 64)):
        converted.agrees(x=torch.randn(batch, tokens, 6))


def test_a_view_that_is_the_memory_itself_copies_nothing(convert):
    class Flat(nn.Module):
        def forward(self, x):
            pooled = F.avg_pool2d(x, 2)
            return pooled.flatten(2).transpose(1, 2) * 2  # (N, pixels, channels) is how NHWC lies

    converted = convert(Flat(), x=torch.randn(2, 4, 6, 6))
    assert converted.ops["rearrange"] == 0
    converted.agrees(x=torch.randn(2, 4, 6, 6))


# ---- Elements ---------------------------------------------------------------------------------------------------

ELEMENTS = {
    "relu": F.relu,
    "relu6": F.relu6,
    "clamp": lambda x: x.clamp(-0.5, 0.25),
    "clamp_low": lambda x: x.clamp(min=0.5),
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "silu_written_out": lambda x: x * torch.sigmoid(x),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "tanh": torch.tanh,
    "exp": torch.exp,
    "root": lambda x: (x.abs() + 0.1).sqrt() + (x.square() + 0.1).rsqrt(),
    "powers": lambda x: x.pow(2) + x**3 - x.pow(4),
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "arithmetic": lambda x: (1 - x) / (2 + x.abs()) - torch.add(x, x, alpha=0.5) * -x,
    "extremes": lambda x: torch.maximum(x, x[:, :1]) - torch.minimum(x, x[..., :1]),
    "where": lambda x: torch.where((x > 0) & ~(x > 1) | (x < -1), x, x[:, :1, :, :1].expand_as(x)),
    "masked_fill": lambda x: x.masked_fill(x.ge(0.5), 7.0),
    "bool": lambda x: x.ne(0.0) == (x > 0.1),
    "integer": lambda x: (x * 10).long() * 3 - 2,
    "cast": lambda x: (x > 0).float() + (x * 3).int(),
    "mean": lambda x: x.mean((2, 3)),
    "mean_keep": lambda x: x - x.mean((2, 3), keepdim=True),
    "mean_height": lambda x: x.mean(2),
    "sum_channels": lambda x: x.sum(1),
    "mean_all": lambda x: x.mean((1, 2, 3)),
    "normalise": lambda x: F.normalize(x, dim=1),
    "softmax_channels": lambda x: x.softmax(1),
    "softmax_last": lambda x: x.softmax(-1),
    "layer_norm": lambda x: F.layer_norm(x, (6,)),
    "layer_norm_2": lambda x: F.layer_norm(x, (4, 6)),
    "channels": lambda x: torch.cat([x, x.mean((2, 3), keepdim=True).expand_as(x)], 1),
    "row_constant": lambda x: x * torch.arange(6.0) + torch.linspace(0, 1, 8).view(8, 1, 1),
}


@pytest.mark.parametrize("picture", [False, True], ids=["plain", "picture"])
def test_every_function_of_elements_and_axes(convert, picture):
    before = (lambda x: F.max_pool2d(x, 3, 1, 1)) if picture else (lambda x: x)
    functions = {name: lambda x, function=function: function(before(x)) for name, function in ELEMENTS.items()}
    drop = {"bool"} if picture else set()
    converted = convert(
        Functions({name: function for name, function in functions.items() if name not in drop}),
        x=torch.randn(2, 8, 4, 6),
    )
    assert converted.ops["unary"] > 10
    converted.agrees(x=torch.randn(3, 8, 4, 6))


def test_a_written_out_gate_is_one_operator(convert):
    converted = convert(
        Functions({name: ELEMENTS[name] for name in ("silu_written_out", "quick_gelu")}), x=torch.randn(2, 4)
    )
    assert converted.ops == {"unary": 2}
    converted.agrees(x=torch.randn(2, 4))


def test_a_written_out_channel_layer_norm_is_one_operator(convert):
    class LayerNorm2d(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.rand(8) + 0.5)
            self.bias = nn.Parameter(torch.randn(8))

        def forward(self, x):
            mean = x.mean(1, keepdim=True)
            variance = (x - mean).pow(2).mean(1, keepdim=True)
            x = (x - mean) / torch.sqrt(variance + 1e-6)
            return self.weight[:, None, None] * x + self.bias[:, None, None]

    converted = convert(
        nn.Sequential(nn.Conv2d(3, 8, 1), LayerNorm2d(), nn.Conv2d(8, 3, 1)), input=torch.randn(2, 3, 5, 5)
    )
    assert converted.ops["layer_norm"] == 1 and converted.ops["rearrange"] == converted.ops["binary"] == 0
    converted.agrees(input=torch.randn(2, 3, 5, 5))


# ---- Pictures ---------------------------------------------------------------------------------------------------


def test_convolutions_of_every_kind(convert):
    class Convolutions(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Conv2d(8, 12, 3, stride=2, padding=1)
            self.point = nn.Conv2d(8, 4, 1, bias=False)
            self.grouped = nn.Conv2d(8, 12, (3, 1), groups=4, padding=(1, 0), dilation=(1, 1))
            self.depthwise = nn.Conv2d(8, 8, 5, padding="same", groups=8)
            self.dilated = nn.Conv2d(8, 4, 3, padding=2, dilation=2)
            self.valid = nn.Conv2d(8, 4, 3, padding="valid")
            self.multiplied = nn.Conv2d(8, 16, 3, groups=8)
            self.signal = nn.Conv1d(8, 8, 11, padding=5, groups=8)

        def forward(self, x):
            picture = {name: child(x) for name, child in self.named_children() if name != "signal"}
            return {
                **picture,
                "signal": self.signal(x.flatten(2)),
                "max": F.max_pool2d(x, 3, 2, 1),
                "average": F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
                "adaptive": F.adaptive_avg_pool2d(x, (4, 5)),
                "nearest": F.interpolate(x, scale_factor=2, mode="nearest"),
                "bilinear": F.interpolate(x, size=(7, 13), mode="bilinear"),
            }

    converted = convert(Convolutions(), x=torch.randn(2, 8, 8, 10))
    for batch in (1, 3):
        converted.agrees(x=torch.randn(batch, 8, 8, 10))


def test_batch_norm_activation_and_residual_are_in_the_convolution(convert):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(6, 12, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(12)
            self.act1 = nn.SiLU(inplace=True)
            self.conv2 = nn.Conv2d(12, 12, 3, padding=1, groups=12)
            self.bn2 = nn.BatchNorm2d(12)
            self.act2 = nn.Hardswish(inplace=True)
            self.conv3 = nn.Conv2d(12, 6, 1)
            self.scale = nn.Parameter(torch.randn(6, 1, 1))

        def forward(self, x):
            y = self.act1(self.bn1(self.conv1(x)))
            y = self.act2(self.bn2(self.conv2(y)))
            return x + self.conv3(y) * self.scale

    converted = convert(_randomised(Block()), x=torch.randn(2, 6, 7, 7))
    assert converted.ops == {"conv2d": 3}
    assert converted.taps == {"act1", "act2"}
    assert {"conv1.weight", "conv1.bias", "conv2.weight", "conv3.weight"} <= set(converted.oracle.weights)
    converted.agrees(x=torch.randn(3, 6, 7, 7))


def test_what_is_read_twice_is_not_fused_away(convert):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.bn = nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.conv(x)
            return F.relu(self.bn(y)) + y

    converted = convert(_randomised(Twice()), x=torch.randn(2, 3, 4, 4))
    assert "conv" in converted.taps
    converted.agrees(x=torch.randn(2, 3, 4, 4))


def test_a_batch_norm_without_a_convolution_is_written_out(convert):
    converted = convert(_randomised(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())), input=torch.randn(2, 3, 4, 4))
    assert converted.ops["binary"] == 2
    converted.agrees(input=torch.randn(1, 3, 4, 4))
    converted = convert(_randomised(nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))), input=torch.randn(2, 3))
    assert converted.ops == {"linear": 1}
    converted.agrees(input=torch.randn(4, 3))


# ---- Matrices and attention -------------------------------------------------------------------------------------


def test_matrix_products(convert):
    class Products(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 5))
            self.linear = nn.Linear(6, 7)

        def forward(self, x, y):
            return {
                "both": x @ y,
                "transposed": x @ x.transpose(1, 2),
                "constant": x @ self.weight,
                "heads": x.view(-1, 4, 2, 3).transpose(1, 2) @ y.view(-1, 2, 3, 4),
                "scaled_linear": self.linear(x).sigmoid() * 2 - 1,
                "addmm": torch.addmm(torch.ones(5), x[:, 0], self.weight),
            }

    converted = convert(Products(), x=torch.randn(2, 4, 6), y=torch.randn(2, 6, 4))
    assert converted.ops["linear"] == 3
    converted.agrees(x=torch.randn(3, 4, 6), y=torch.randn(3, 6, 4))


class _Attention(nn.Module):
    """Self-attention with packed rows, in one of several forms."""

    def __init__(self, form, heads=2, width=12):
        super().__init__()
        self.form, self.heads, self.depth = form, heads, width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x, mask=None):
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, self.depth).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.form == "written":
            weights = (q * self.depth**-0.5) @ k.transpose(-2, -1)
            y = (weights if mask is None else weights + mask).softmax(-1) @ v
        elif self.form == "written_bmm":
            q, k, v = (part.reshape(batch * self.heads, length, self.depth) for part in (q, k, v))
            y = torch.bmm(torch.bmm(q, k.transpose(1, 2)).div(self.depth**0.5).softmax(-1), v)
            y = y.view(batch, self.heads, length, self.depth)
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=self.form == "causal")
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


@pytest.mark.parametrize("form", ["sdpa", "causal", "written", "written_bmm"])
def test_attention_reads_packed_rows_without_a_copy(convert, form):
    converted = convert(_Attention(form), {"x": {1: "T"}}, x=torch.randn(2, 5, 12))
    expected = {"linear": 2, "attention": 1}
    if form == "written_bmm":  # which merges batch and heads, so that rows are not packed any more
        expected = {"linear": 2, "attention": 1}
        assert converted.ops["attention"] == 1 and converted.ops["softmax"] == 0
    else:
        assert converted.ops == expected
    for batch, tokens in ((1, 1), (3, 7)):
        converted.agrees(x=torch.randn(batch, tokens, 12))


def test_attention_masks(convert):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = _Attention("sdpa")
            self.written = _Attention("written")
            self.bias = nn.Parameter(torch.randn(2, 5, 5))
            self.register_buffer("triangle", torch.tril(torch.ones(5, 5, dtype=torch.bool)))

        def forward(self, x, keep):
            key_padding = (keep != 0)[:, None, None, :]
            return {
                "padding": self.attention(x, key_padding),
                "expanded": self.attention(x, key_padding.expand(-1, -1, 5, -1)),
                "additive": self.written(x, (1.0 - keep[:, None, None, :].float()) * -1e4),
                "bias": self.attention(x, self.bias),
                "constant": self.attention(x, self.triangle),
                "both": self.attention(x, key_padding & self.triangle),
            }

    converted = convert(Masked(), x=torch.randn(2, 5, 12), keep=torch.ones(2, 5, dtype=torch.int64))
    assert converted.ops["attention"] == 6 and converted.ops["softmax"] == 0
    keep = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 1, 0, 1]])
    converted.agrees(x=torch.randn(3, 5, 12), keep=keep)


def test_cross_attention_from_learned_queries(convert):
    class Queries(nn.Module):
        def __init__(self):
            super().__init__()
            self.queries = nn.Parameter(torch.randn(3, 8))
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            queries = self.queries.expand(x.shape[0], -1, -1)
            attended, weights = self.attention(queries, x, x)
            return {"attended": attended, "weights": weights}

    converted = convert(Queries(), {"x": {1: "T"}}, x=torch.randn(2, 5, 8))
    converted.agrees(x=torch.randn(1, 4, 8))


# ---- Names ------------------------------------------------------------------------------------------------------


def test_tensors_keep_their_module_paths(convert):
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            y = self.linear(x)
            return y, {"rows": y.view(-1, 2, 2), "nothing": None}

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()
            self.act = nn.Tanh()

        def forward(self, x):
            first, _ = self.inner(x)
            second, views = self.inner(self.act(first) - first)
            return second * 2 + views["rows"].flatten(1)

    converted = convert(Outer(), x=torch.randn(2, 4))
    assert {"inner.linear", "inner.0", "inner.linear#2", "inner.0#2", "inner.1.rows#2", "act"} <= converted.taps
    converted.agrees(x=torch.randn(3, 4))


def test_in_place_changes_reach_only_what_comes_after_them(convert):
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.act = nn.ReLU(inplace=True)

        def forward(self, x):
            y = self.linear(x)
            doubled = y * 2
            y = self.act(y)
            y[:, 0] += 5
            return doubled + y

    converted = convert(InPlace(), x=torch.randn(2, 4))
    assert "linear" in converted.taps
    converted.agrees(x=torch.randn(3, 4))


# ---- Constants --------------------------------------------------------------------------------------------------


def test_constants_are_evaluated_at_conversion(convert):
    class Constants(nn.Module):
        def __init__(self):
            super().__init__()
            self.cls = nn.Parameter(torch.randn(1, 1, 6))
            self.types = nn.Embedding(2, 6)
            self.project = nn.Linear(6, 6)

        def forward(self, x):
            prompt = self.project(self.cls.expand(x.shape[0], -1, -1))
            kinds = self.types(torch.zeros(x.shape[:2], dtype=torch.int64))
            grid = torch.arange(6.0).sin()
            return torch.cat([prompt, x + kinds + grid, torch.zeros_like(x[:, :2])], 1)

    converted = convert(Constants(), x=torch.randn(2, 3, 6))
    assert converted.ops["linear"] == converted.ops["embedding"] == 0
    for batch in (1, 4):
        converted.agrees(x=torch.randn(batch, 3, 6))


def test_an_index_outside_a_constant_table_is_found_at_conversion(convert):
    class OutOfTable(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(4, 3)

        def forward(self, x):
            return x + self.table(torch.arange(2, 6))

    with pytest.raises(keypilot.ArgumentError, match="table.*out of range"):
        convert(OutOfTable(), x=torch.randn(2, 4, 3))


# ---- The file ---------------------------------------------------------------------------------------------------


class _Two(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x):
        return {"features": self.backbone(x), "score": self.head(self.backbone(x).mean((2, 3)))}


class _Reader(nn.Module):
    def forward(self, features):
        return features * 2


def test_programs_share_weights_by_path(tmp_path):
    backbone = _randomised(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)))
    programs = {
        "large": ProgramSource(_Two(backbone, nn.Linear(4, 2)), {"x": torch.randn(1, 3, 8, 8)}),
        "small": ProgramSource(_Two(backbone, nn.Linear(4, 2)), {"x": torch.randn(1, 3, 4, 4)}),
    }
    with pytest.raises(keypilot.ArgumentError, match=r"head\.weight.*'large' and 'small'"):
        compile_programs(programs, metadata={}, out=tmp_path / "m.gguf")
    head = programs["large"].module.head
    programs["small"] = ProgramSource(_Two(backbone, head), {"x": torch.randn(1, 3, 4, 4)})
    compile_programs(
        {**programs, "reader": (_Reader(), {"features": torch.randn(2, 4, 8, 8)})}, metadata={}, out=tmp_path / "m.gguf"
    )
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    assert sorted(tensor.name for tensor in reader.tensors if not tensor.name.startswith("constant")) == [
        "backbone.0.bias", "backbone.0.weight", "head.bias", "head.weight",
    ]  # fmt: skip
    model = keypilot.Model.load(tmp_path / "m.gguf")
    assert list(model.programs) == ["large", "small", "reader"]
    keys = {name: field.contents() for name, field in reader.fields.items()}
    # What one program hands to the next lies alike in both.
    assert keys["keypilot.reader.inputs.order"] == keys["keypilot.large.outputs.order"][:1] == ["0,2,3,1"]


def test_a_failed_conversion_leaves_no_file(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"before")
    with pytest.raises(keypilot.ArgumentError):
        compile_programs({"main": (_Reader(), {"features": torch.randn(2, 3)})}, metadata={"x": {}}, out=path)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_compile_returns_a_model_and_leaves_the_module_alone():
    module = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)).train()
    model = keypilot.compile(module, torch.randn(1, 3), name="tiny")
    assert module.training and module[0].weight.requires_grad
    x = np.ones((5, 3), np.float32)
    expected = module[0](torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-6)
    assert model.metadata["general.name"] == "tiny"
    assert keypilot.compile(module, (torch.randn(2, 3),)).programs["main"].inputs[0].name == "input"


# ---- Errors -----------------------------------------------------------------------------------------------------


def test_an_unknown_operator_is_named_with_its_module_and_the_way_out():
    class Sorter(nn.Module):
        def forward(self, x):
            return x.sort(-1).values

    with pytest.raises(
        keypilot.UnsupportedOpError, match=r"(?s)aten\.sort.* in 1: .*compile the module without.*conv2d"
    ):
        keypilot.compile(nn.Sequential(nn.Linear(3, 3), Sorter()), torch.randn(2, 3))


def test_a_random_operator_is_refused():
    class Noise(nn.Module):
        def forward(self, x):
            return x + torch.rand(3)

    with pytest.raises(keypilot.UnsupportedOpError, match="random"):
        keypilot.compile(Noise(), torch.randn(2, 3))


def test_a_size_that_files_cannot_express_is_refused():
    class OneMore(nn.Module):
        def forward(self, x):
            return torch.cat([x, x[:, :1]], 1)

    with pytest.raises(keypilot.UnsupportedError, match=r"T \+ 1"):
        keypilot.compile(OneMore(), torch.randn(2, 5, 3), dynamic={"x": {1: "T"}})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"example_inputs": [1.0]}, "expected a torch.Tensor, got float"),
        ({"example_inputs": {"y": torch.zeros(2, 3)}}, "takes input, got y"),
        ({"example_inputs": (torch.zeros(2, 3),) * 2}, "takes 1 inputs, got 2"),
        ({"precision": "fp8"}, "expected one of int8, fp32"),
        ({"module": nn.Linear(3, 3).double()}, "weight: expected torch.float32"),
        ({"dynamic": {"input": {5: "T"}}}, "no axis 5"),
    ],
)
def test_wrong_arguments_say_what_was_expected(arguments, message):
    given = {"module": nn.Linear(3, 3), "example_inputs": torch.zeros(2, 3), **arguments}
    with pytest.raises(keypilot.ArgumentError, match=message):
        keypilot.compile(given.pop("module"), given.pop("example_inputs"), **given)
