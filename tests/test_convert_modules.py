"""Layers and networks as people write them, through the converter and the C core; and what the converter refuses."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from activations import ACTIVATIONS  # noqa: E402
from conversion import Converted, Functions  # noqa: E402
from torch import nn  # noqa: E402

import keypilot  # noqa: E402
from keypilot.convert import ProgramSource, compile_programs  # noqa: E402

BATCHES = (1, 2, 5)


@pytest.fixture
def convert(tmp_path):
    torch.manual_seed(0)
    return lambda module, dynamic=None, **examples: Converted(tmp_path / "m.gguf", module, examples, dynamic)


class Apply(nn.Module):
    """A function of one tensor."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


# ---- Views and writes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_the_batch_of_the_example_is_of_no_consequence(convert, batch):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 5))
    converted = convert(module, input=torch.randn(batch, 3, 6, 6))
    for other in BATCHES:
        converted.agrees(input=torch.randn(other, 3, 6, 6))


def _windows(x):
    """Swin's window partition: (N, H, W, C) to (N * windows, 6, C)."""
    n, h, w, c = x.shape
    return x.view(n, h // 2, 2, w // 3, 3, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 6, c)


def _unwindowed(x, h=4, w=6):
    c = x.shape[-1]
    return x.view(-1, h // 2, w // 3, 2, 3, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, h, w, c)


def _patches(x):
    """MobileViT's unfold: (N, C, H, W) to (N * 4, patches, C)."""
    n, c, h, w = x.shape
    x = x.reshape(n * c * (h // 2), 2, w // 2, 2).transpose(1, 2)
    return x.reshape(n, c, (h // 2) * (w // 2), 4).transpose(1, 3).reshape(n * 4, -1, c)


def _folded(x, h=4, w=6):
    c = x.shape[-1]
    x = x.contiguous().view(-1, 4, (h // 2) * (w // 2), c).transpose(1, 3)
    return x.reshape(-1, w // 2, 2, 2).transpose(1, 2).reshape(-1, c, h, w)


def test_windows_and_patches_and_back(convert):
    functions = {
        "windows": _windows,
        "windows and back": lambda x: _unwindowed(_windows(x) * 2) + x,
        "windows and back, cropped": lambda x: _unwindowed(_windows(x) * 2)[:, :3, :5],
        "patches": lambda x: _patches(x.permute(0, 3, 1, 2)),
        "patches and back": lambda x: _folded(_patches(x.permute(0, 3, 1, 2)) * 2),
    }
    converted = convert(Functions(functions), x=torch.randn(2, 4, 6, 5))
    for batch in BATCHES:
        converted.agrees(x=torch.randn(batch, 4, 6, 5))


def _assigns(x):
    y = torch.zeros_like(x)
    y[:, 1:3] = x[:, :2]
    y[..., -1].mul_(3.0)
    y[:, 0] = 7.0
    y[:, :, 1] += x[:, :, 2]
    return y


def _activates_a_part(x):
    y = x * 2
    y[:, 0].sigmoid_()
    return y


def test_writes_in_place_have_their_effect(convert):
    functions = {
        "assigns": _assigns,
        "activates a part": _activates_a_part,
        "accumulates": lambda x: (x * 2).add_(x).mul_(3),
        "masked_fill_": lambda x: (x * 2).masked_fill_(x > 0, -1.0),
    }
    converted = convert(Functions(functions), x=torch.randn(2, 4, 5))
    for batch in BATCHES:
        converted.agrees(x=torch.randn(batch, 4, 5))


def test_an_operator_that_pytorch_defines_by_others_is_taken_apart(convert):
    functions = {
        "einsum": lambda x: torch.einsum("nhij,nhkj->nikh", x, x * 2),
        "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
        "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2),
        "glu": lambda x: F.glu(x, 1),
        "rms_norm": lambda x: F.rms_norm(x, (6,), eps=1e-6),
    }
    converted = convert(Functions(functions), x=torch.randn(2, 4, 2, 6))
    for batch in BATCHES:
        converted.agrees(x=torch.randn(batch, 4, 2, 6))


# ---- Layers --------------------------------------------------------------------------------------------------------


def test_convolutions_of_pictures_and_of_signals(convert):
    class Convolutions(nn.Module):
        def __init__(self):
            super().__init__()
            self.picture = nn.ModuleDict(
                {
                    "same": nn.Conv2d(4, 6, (3, 5), padding="same", dilation=(1, 2)),
                    "uneven": nn.Conv2d(4, 6, (3, 5), stride=(2, 3), padding=(1, 0), bias=False),
                    "dilated": nn.Conv2d(4, 6, 3, dilation=(2, 1), padding=2, groups=2),
                    "depthwise": nn.Conv2d(4, 4, 3, stride=2, groups=4, padding=1),
                }
            )
            self.signal = nn.ModuleDict(
                {
                    "strided": nn.Conv1d(4, 6, 5, stride=2, dilation=2),
                    "same": nn.Conv1d(4, 6, 4, padding="same", bias=False),
                    "grouped": nn.Conv1d(4, 6, 1, groups=2),
                    "depthwise": nn.Sequential(nn.Conv1d(4, 4, 11, padding=5, groups=4, bias=False), nn.BatchNorm1d(4)),
                }
            )

        def forward(self, x, y):
            pictures = {f"picture_{name}": layer(x) for name, layer in self.picture.items()}
            return {**pictures, **{f"signal_{name}": F.gelu(layer(y)) for name, layer in self.signal.items()}}

    converted = convert(Convolutions(), x=torch.randn(2, 4, 9, 11), y=torch.randn(2, 4, 23))
    assert converted.ops["conv2d"] == 8 and converted.ops["unary"] == 0
    for batch in BATCHES:
        converted.agrees(x=torch.randn(batch, 4, 9, 11), y=torch.randn(batch, 4, 23))


def test_transposed_convolutions(convert):
    class Transposed(nn.Module):
        def __init__(self):
            super().__init__()
            layers = {
                "doubling": nn.ConvTranspose2d(4, 6, 2, 2),
                "overlapping": nn.ConvTranspose2d(4, 6, 3, 2, 1, 1),
                "cropped": nn.ConvTranspose2d(4, 6, 4, 2, 1, bias=False),
                "grouped": nn.ConvTranspose2d(4, 6, 3, (1, 2), 1, (0, 1), groups=2),
                "with gaps": nn.ConvTranspose2d(4, 6, 1, 2),
                "all cut off": nn.ConvTranspose2d(4, 6, 5, 2, 4),
                "normalised": nn.Sequential(nn.ConvTranspose2d(4, 6, (2, 3), (2, 3)), nn.BatchNorm2d(6), nn.GELU()),
                "convolved": nn.Sequential(nn.ConvTranspose2d(4, 6, 2, 2), nn.Conv2d(6, 2, 3)),
            }
            layers["normalised"][1].running_var.uniform_(0.5, 2)
            self.layers = nn.ModuleDict(layers)

        def forward(self, x):
            return {name: layer(x) for name, layer in self.layers.items()}

    converted = convert(Transposed(), x=torch.randn(2, 4, 5, 7))
    assert set(converted.ops) == {"conv2d", "rearrange"} and converted.ops["conv2d"] == 9
    for batch in BATCHES:
        converted.agrees(x=torch.randn(batch, 4, 5, 7))


def test_int8_stays_int8_through_a_transposed_convolution_and_padding(tmp_path):
    from quantized_oracle import QuantizedOracle

    class Up(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.middle = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
            self.up, self.overlapping = nn.ConvTranspose2d(16, 8, 2, 2), nn.ConvTranspose2d(6, 5, 3, 2, 1, 1)
            self.last = nn.Conv2d(5, 4, 3)

        def forward(self, x):
            x = F.relu(self.up(F.relu(self.down(x))))
            x = self.middle(torch.cat([F.pad(x, (0, 0, 2, 0)), F.pad(x, (0, 0, 0, 2))], 2))
            return self.last(self.overlapping(x))

    module, pictures = Up().eval(), torch.randn(8, 3, 12, 16)
    path = tmp_path / "m.gguf"
    model = keypilot.compile(module, pictures[:2], precision="int8", calibration=pictures.split(1), out=path)
    oracle = QuantizedOracle(path)
    assert "dequantize" not in oracle.keys["keypilot.main.ops.type"]
    output, wanted = model(pictures.numpy()), module(pictures).detach().numpy()
    assert 10 * np.log10(np.square(wanted).mean() / np.square(output - wanted).mean()) > 35
    np.testing.assert_array_equal(oracle.run("main", {"x": pictures.numpy()})[0]["output"], output)


def test_padding_joins_what_pads_itself(convert):
    weight = torch.randn(2, 3, 3, 3)
    functions = {
        "convolution": lambda x: F.conv2d(F.pad(x, (0, 1, 1, 2)), weight, padding=1),
        "average": lambda x: F.avg_pool2d(F.pad(x, (0, 1, 1, 1)), 3, 2),
        "maximum": lambda x: F.max_pool2d(F.pad(x, (0, 1, 1, 1), value=-float("inf")), 3, 2),
    }
    converted = convert(Functions(functions), x=torch.randn(2, 3, 8, 6))
    assert converted.ops["pad"] == 0
    for batch in BATCHES:
        converted.agrees(x=torch.randn(batch, 3, 8, 6))


def test_padding_that_stays(convert):
    functions = {
        "windows": lambda x: F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, 1, 0, 2)) * 2,
        "cut": lambda x: F.pad(x, (-1, 2, 1, -1), value=3.0),
        "of pictures": lambda x: F.pad(F.conv2d(x, torch.ones(2, 3, 1, 1)), (1, 0, 2, 0), value=-1.0),
        "averaged without": lambda x: F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2, 1, count_include_pad=False),
        "maximum of numbers": lambda x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-0.5), 3, 2),
        "maximum of nothing": lambda x: F.max_pool2d(F.pad(x, (0, 5, 0, 5), value=-float("inf")), 3, 2)[:, :, :2, :2],
    }
    converted = convert(Functions(functions), x=torch.randn(2, 3, 8, 6))
    assert converted.ops["pad"] == len(functions)
    for batch in BATCHES:
        converted.agrees(x=torch.randn(batch, 3, 8, 6))


def test_functions_made_of_others(convert):
    norm = nn.GroupNorm(2, 4)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    slopes = torch.tensor([0.1, -0.2, 0.3, 1.4])
    functions = {
        "elu": lambda x: F.elu(x, 0.7),
        "selu": F.selu,
        "celu": lambda x: F.celu(x, 2.0),
        "softplus": lambda x: F.softplus(x, 2.0),
        "mish": F.mish,
        "prelu": lambda x: F.prelu(x, slopes),
        "logsigmoid": F.logsigmoid,
        "log_softmax": lambda x: x.log_softmax(1),
        "logsumexp": lambda x: torch.logsumexp(x, 1),
        "normalize": lambda x: F.normalize(x, dim=1),
        "group_norm": norm,
        "group_norm without parameters": nn.GroupNorm(1, 4, affine=False),
        "instance_norm": nn.InstanceNorm2d(4),
        "variance": lambda x: x.var((1, 3)),
        "deviation": lambda x: x.std((2, 3), unbiased=False, keepdim=True),
        "sine": torch.sin,
        "cosine": torch.cos,
        "logarithm": lambda x: (x.abs() + 0.1).log(),
        "an empty part": lambda x: torch.cat([x.new_zeros(0), x], 1),
        "more parts than a concat takes": lambda x: torch.cat([x * i for i in range(20)], 1),
    }
    converted = convert(Functions(functions), x=torch.randn(2, 4, 3, 6))
    for batch in BATCHES:
        converted.agrees(x=torch.randn(batch, 4, 3, 6))


def test_squares_of_the_number_of_tokens(convert):
    """Heads moved in front of (T, T) pairs, as relative position biases are."""

    class Pairs(nn.Module):
        def forward(self, x):
            pairs = x.unsqueeze(1) - x.unsqueeze(2)
            return pairs * 2, pairs.sum(0).permute(2, 0, 1)[None] + x.mT.unsqueeze(-1)

    converted = convert(Pairs(), {"x": {1: "T"}}, x=torch.randn(2, 3, 4))
    for tokens in (1, 2, 7):
        converted.agrees(x=torch.randn(3, tokens, 4))
    with pytest.raises(keypilot.UnsupportedError, match="4TT"):
        keypilot.compile(
            Apply(lambda x: (x.unsqueeze(1) - x.unsqueeze(2)).permute(0, 3, 1, 2) * 2),
            torch.randn(2, 3, 4),
            dynamic={"x": {1: "T"}},
        )


def test_reading_by_index(convert):
    def count(size, *shape):
        return torch.arange(size).reshape(shape)

    functions = {
        "rows of each": lambda x: x[torch.arange(x.shape[0]), x[:, :, 0, 0].argmax(-1)],
        "several rows of each": lambda x: x[torch.arange(x.shape[0])[:, None], (x[:, :2, 0, 0] > 0).long()],
        "constant": lambda x: x[:, torch.tensor([[2, 0], [-1, 1]])],
        "index_select": lambda x: x.index_select(2, torch.tensor([1, 1])),
        "gather": lambda x: x.gather(1, (x[:, :2] > 0).long()),
        "gather of equal numbers": lambda x: (
            torch.full((1, 7), 3.0).expand(x.shape[0], 7).gather(1, (x[:, :, 0, 0] > 0).long())
        ),
        "transposed": lambda x: x[count(x.shape[0], -1, 1, 1, 1), count(3, 1, 1, 3, 1), count(4, 1, 4, 1, 1)],
        "positions": lambda x: x + torch.arange(x.shape[0]).mul(2)[:, None, None, None],
        "steps": lambda x: torch.arange(1, x.shape[0] * 3 + 1, 3) * 2.0,
        "sums": lambda x: x.cumsum(1),
        "sums of integers": lambda x: (x > 0).long().cumsum(2),
        "smallest": lambda x: x.argmin(2, keepdim=True),
        "largest and where": lambda x: torch.stack([y.float() for y in x.max(2)]),
        "smallest and where": lambda x: torch.stack([y.float() for y in x.min(-1, keepdim=True)]),
        "sums of signs": lambda x: (x > 0).sum((1, 3)),
        "any and all": lambda x: torch.stack([(x > 1).any(2), (x > -1).all(2)]),
        "range": lambda x: x.amax((2, 3)) - x.amin((1, 3))[:, :3],
    }
    converted = convert(Functions(functions), x=torch.randn(2, 3, 4, 6))
    for batch in BATCHES:
        converted.agrees(x=torch.randn(batch, 3, 4, 6))


def test_every_activation_joins_a_layer_with_its_residual(convert):
    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.picture = nn.ModuleDict({name: nn.Conv2d(4, 4, 3, padding=1) for name in ACTIVATIONS})
            self.rows = nn.ModuleDict({name: nn.Linear(6, 6) for name in ACTIVATIONS})

        def forward(self, x):
            pictures = {f"conv_{name}": x + act(self.picture[name](x)) for name, act in ACTIVATIONS.items()}
            return {**pictures, **{f"rows_{name}": act(self.rows[name](x)) + x for name, act in ACTIVATIONS.items()}}

    converted = convert(Layers(), x=torch.randn(2, 4, 5, 6))
    assert set(converted.ops) <= {"conv2d", "linear", "rearrange"}
    for batch in BATCHES:
        converted.agrees(x=torch.randn(batch, 4, 5, 6))


def test_a_residual_stays_outside_where_the_layer_cannot_take_it(convert):
    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.depthwise, self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 4, 1)
            self.wide, self.narrow = nn.Linear(6, 5), nn.Linear(6, 1)

        def forward(self, x):
            return {
                "depthwise": x + self.depthwise(x),
                "before an activation": F.relu(x + self.conv(x)),
                "broadcast": self.wide(x) + self.narrow(x),
            }

    converted = convert(Layers(), x=torch.randn(2, 4, 5, 6))
    assert converted.ops["unary"] == 1 and converted.ops["binary"] >= 1
    for batch in BATCHES:
        converted.agrees(x=torch.randn(batch, 4, 5, 6))


@pytest.mark.parametrize("options", [{}, {"kdim": 7, "vdim": 7}, {"bias": False}, {"add_zero_attn": False}])
def test_multihead_attention_over_padded_keys(convert, options):
    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(12, 3, batch_first=True, **options)

        def forward(self, x, y, padding):
            return self.attention(x, y, y, key_padding_mask=padding, need_weights=False)[0]

    def inputs(batch):
        padding = torch.arange(6) >= torch.randint(1, 7, (batch, 1))
        return {"x": torch.randn(batch, 4, 12), "y": torch.randn(batch, 6, options.get("kdim", 12)), "padding": padding}

    converted = convert(Cross(), **inputs(2))
    assert converted.ops["attention"] == 1 and converted.ops["softmax"] == 0
    for batch in BATCHES:
        converted.agrees(**inputs(batch))


def test_attention_without_heads_and_with_one(convert):
    functions = {
        "no heads": lambda x: F.scaled_dot_product_attention(x, x * 2, x + 1, scale=0.7),
        "written out": lambda x: (x @ x.mT * 0.3).softmax(-1) @ (x * 2),
        "one head": lambda x: F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], is_causal=True),
    }
    converted = convert(Functions(functions), x=torch.randn(2, 5, 8))
    assert converted.ops["attention"] == 3
    for batch in BATCHES:
        converted.agrees(x=torch.randn(batch, 5, 8))


def test_constants_repeat_along_the_batch_wherever_they_are_read(convert):
    class Queries(nn.Module):
        def __init__(self):
            super().__init__()
            self.cls, self.query = nn.Parameter(torch.randn(1, 1, 6)), nn.Parameter(torch.randn(1, 2, 6))
            self.linear, self.weight = nn.Linear(6, 6), nn.Parameter(torch.randn(3))

        def forward(self, x):
            n = x.shape[0]
            x = torch.cat([self.cls.expand(n, -1, -1), x, x.new_zeros(n, 1, 6)], 1)
            query = self.linear(self.query).expand(n, -1, -1)
            ones = torch.ones(n, 2, x.shape[1])
            attended = F.scaled_dot_product_attention(query, x, x)
            return attended, ones @ x, torch.zeros_like(x) + x, query, self.weight.expand(n, 3)

    converted = convert(Queries(), x=torch.randn(2, 3, 6))
    for batch in BATCHES:
        converted.agrees(x=torch.randn(batch, 3, 6))


# ---- Inputs and outputs --------------------------------------------------------------------------------------------


def test_inputs_and_computed_tensors_can_be_outputs_more_than_once(convert):
    def gives(x):
        y = x * 2
        return x, y, y, y.unsqueeze(1), x.mT

    converted = convert(Apply(gives), x=torch.randn(2, 3, 4))
    for batch in BATCHES:
        converted.agrees(x=torch.randn(batch, 3, 4))


def test_outputs_are_named_as_they_are_returned():
    def names(function):
        model = keypilot.compile(Apply(function), torch.randn(2, 4))
        return [port.name for port in model.programs["main"].outputs]

    assert names(lambda x: x * 2) == ["output"]
    assert names(lambda x: (x * 2, x + 1)) == ["output.0", "output.1"]
    assert names(lambda x: {"sum": x.sum(-1), "parts": [x[:, :1], x[:, 1:]]}) == ["sum", "parts.0", "parts.1"]


def test_inputs_are_integers_booleans_and_numbers_by_name(convert):
    class Several(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(11, 5, padding_idx=1)

        def forward(self, ids, keep, x):
            rows = self.words(ids) * keep.unsqueeze(-1)
            return torch.where(keep.unsqueeze(-1), rows, x), ids * 2 - 1, ids == 3

    def inputs(batch):
        ids, keep = torch.randint(11, (batch, 4)), torch.rand(batch, 4) < 0.5
        return {"ids": ids, "keep": keep, "x": torch.randn(batch, 4, 5)}

    converted = convert(Several(), **dict(reversed(inputs(2).items())))
    assert [port.name for port in converted.model.programs["main"].inputs] == ["ids", "keep", "x"]
    for batch in BATCHES:
        converted.agrees(**inputs(batch))


# ---- What is refused -----------------------------------------------------------------------------------------------


def _refused(function, *shape, error=keypilot.UnsupportedError, dtype=None, **options):
    """The message with which a function of a (2, 4) tensor is refused."""
    with pytest.raises(error) as caught:
        keypilot.compile(Apply(function), torch.ones(shape or (2, 4), dtype=dtype), **options)
    return str(caught.value)


def test_an_unknown_operator_lists_public_names_only():
    message = _refused(lambda x: torch.cumprod(x, 1), error=keypilot.UnsupportedOpError)
    assert "aten.cumprod" in message
    supported = message.split("Supported: ")[1].split(", ")
    assert {"conv2d", "linear", "softmax", "gelu"} <= set(supported)
    assert "interpolate" in supported and supported == sorted(set(supported))
    assert not [name for name in supported if name.startswith(("_", "native", "upsample", "lift"))]


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64, torch.int8, torch.float16])
def test_inputs_of_other_types_are_refused(dtype):
    message = _refused(lambda x: x * 2, dtype=dtype, error=keypilot.KeyPilotError)
    assert str(dtype) in message and "torch.float32" in message and "'x'" in message


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64, torch.int8])
def test_computations_in_other_types_are_refused(dtype):
    message = _refused(lambda x: (x.to(dtype) * 2).abs().float())
    assert str(dtype) in message and "torch.float32" in message and "aten" in message


def test_a_shape_that_depends_on_the_data_is_refused():
    for function in (lambda x: x[x > 0], lambda x: x[:, : int(x.sum().item())]):
        assert "depend" in _refused(function)


def test_a_module_for_one_batch_size_only_is_refused():
    assert "N" in _refused(lambda x: x.reshape(2, 4) * 2)
    assert "N" in _refused(lambda x: x + torch.ones(2, 4))


def test_sizes_beside_products_are_refused():
    assert "N + 1" in _refused(lambda x: torch.cat([x, x[:1]]))


@pytest.mark.parametrize("read", ["index", "embedding", "index_select"])
def test_an_index_outside_a_constant_is_found_at_conversion(read):
    table = torch.randn(4, 4)

    def reads(x):
        indices = torch.arange(3, 5)
        rows = {
            "index": lambda: table[indices],
            "embedding": lambda: F.embedding(indices, table),
            "index_select": lambda: table.index_select(0, indices),
        }[read]()
        return x + rows.sum(0)

    assert "out of" in _refused(reads, error=keypilot.ArgumentError)


def test_an_index_outside_a_table_is_found_at_run_time(convert):
    model = convert(nn.Embedding(4, 3), input=torch.zeros(2, 2, dtype=torch.int64)).model
    with pytest.raises(keypilot.KeyPilotError, match="4"):
        model(np.array([[0, 4]]))


def test_other_symbols_and_other_precisions_are_refused():
    message = _refused(lambda x: x, error=keypilot.ArgumentError, dynamic={"x": {1: "L"}})
    assert "'N'" in message and "'T'" in message and "'L'" in message
    message = _refused(lambda x: x, error=keypilot.ArgumentError, dynamic={"y": {1: "T"}})
    assert "'y'" in message and "x" in message
    message = _refused(lambda x: x, error=keypilot.ArgumentError, precision="int4")
    assert "fp32" in message and "int8" in message and "'int4'" in message


def test_a_missing_input_is_named():
    class Two(nn.Module):
        def forward(self, image, scale):
            return image * scale

    with pytest.raises(keypilot.ArgumentError, match="scale"):
        keypilot.compile(Two(), torch.randn(2, 3))
    with pytest.raises(keypilot.ArgumentError, match="axis 0"):
        keypilot.compile(Two(), (torch.randn(2, 3), torch.tensor(1.0)))
    with pytest.raises(keypilot.ArgumentError, match="N is 2 in 'image' and 3 in 'scale'"):
        keypilot.compile(Two(), (torch.randn(2, 3), torch.randn(3, 3)))


def test_a_program_is_named_in_lower_case(tmp_path):
    with pytest.raises(keypilot.ArgumentError, match="'Main'"):
        compile_programs({"Main": ProgramSource(nn.ReLU(), {"input": torch.zeros(2, 3)})}, metadata={}, out=tmp_path)


def test_a_conversion_is_silent(recwarn, capfd):
    keypilot.compile(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), torch.randn(2, 3, 6, 6))
    assert not list(recwarn) and capfd.readouterr() == ("", "")
