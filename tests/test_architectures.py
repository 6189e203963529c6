"""Networks of timm and transformers that the converter knows nothing about: every tensor of the float32 model equals
PyTorch's, and an int8 model runs and stays near it. What cannot be converted says where, why, and what to do."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conversion import reference  # noqa: E402
from torch import nn  # noqa: E402

import keypilot  # noqa: E402
from keypilot.convert.compile import ProgramSource, build_program  # noqa: E402
from keypilot.reference.timm_shim import import_timm  # noqa: E402

timm = import_timm()  # before transformers, which imports torchvision too
transformers = pytest.importorskip("transformers")

#: The largest difference of any tensor in float32, as a share of its range.
BOUND = 1e-4

#: The least cosine of the int8 output with the float32 one; random weights amplify rounding.
SIMILAR = 0.9

Inputs = Callable[[int, int], dict[str, Any]]


class Architecture(NamedTuple):
    """How to build a module, and its inputs for a batch and a number of tokens."""

    build: Callable[[], nn.Module]
    inputs: Inputs
    tokens: tuple[str, ...] = ()  # inputs whose second axis is T
    int8: bool = True  # of each kind one that is converted to int8 in seconds


# ---- Pictures ----


def _pictures(height: int, width: int | None = None) -> Inputs:
    return lambda batch, _tokens: {"x": torch.randn(batch, 3, height, width or height)}


def _settled(module: nn.Module, *shape: int) -> nn.Module:
    """Batch norms that have seen pictures: the statistics are those of a random batch."""
    norms = [child for child in module.modules() if isinstance(child, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    module.eval()
    for norm in norms:
        norm.train()
    with torch.no_grad():
        module(torch.randn(shape))
    return module.eval()


def _of_timm(
    name: str, side: int = 64, reparameterised: bool = False, int8: bool = True, **options: Any
) -> Architecture:
    def build() -> nn.Module:
        module = _settled(timm.create_model(name, num_classes=10, **options), 4, 3, side, side)
        return timm.utils.reparameterize_model(module) if reparameterised else module

    return Architecture(build, _pictures(side), int8=int8)


class UNet(nn.Module):
    """Ronneberger et al. 2015 (arXiv:1505.04597), two levels deep."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(self._convolutions(a, b) for a, b in zip([3, *widths[:2]], widths, strict=True))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in widths[1::-1])
        self.up = nn.ModuleList(self._convolutions(2 * w, w) for w in widths[1::-1])
        self.head = nn.Conv2d(width, 2, 1)

    @staticmethod
    def _convolutions(inputs: int, outputs: int) -> nn.Module:
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers)

    def forward(self, x):
        skipped = []
        for level in self.down:
            x = level(x)
            skipped.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = skipped.pop()
        for grow, up in zip(self.grow, self.up, strict=True):
            x = up(torch.cat([skipped.pop(), grow(x)], 1))
        return self.head(x)


# ---- Text ----

_SMALL = {
    "vocab_size": 100,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 40,
}


class Text(nn.Module):
    """A text model as people call it: ids and a mask of ones and zeros; positions are the model's own affair."""

    def __init__(self, model: nn.Module, output: str = "last_hidden_state") -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, input_ids, attention_mask):
        return getattr(self.model(input_ids=input_ids, attention_mask=attention_mask), self.output)


class Pixels(nn.Module):
    def __init__(self, model: nn.Module, output: str) -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, x):
        return getattr(self.model(pixel_values=x), self.output)


def _texts(batch: int, tokens: int) -> dict[str, Any]:
    """Texts of several lengths, the last real token being the largest id, and padding 1."""
    lengths = torch.tensor([max(1, tokens - 2 * i) for i in range(batch)])
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    ids = torch.randint(3, 90, (batch, tokens))
    ids[torch.arange(batch), lengths - 1] = 99
    return {"input_ids": torch.where(mask == 1, ids, 1), "attention_mask": mask}


def _of_transformers(kind: str, output: str = "last_hidden_state", **options: Any) -> Architecture:
    def build() -> nn.Module:
        config = getattr(transformers, f"{kind.removesuffix('Projection').removesuffix('With')}Config", None)
        config = config or getattr(transformers, kind.split("Model")[0] + "Config")
        model = getattr(transformers, kind if "Model" in kind else f"{kind}Model")
        return Text(model(config(**{**_SMALL, **options})).eval(), output)

    return Architecture(build, _texts, ("input_ids", "attention_mask"))


def _vision(kind: str, output: str, **options: Any) -> Architecture:
    def build() -> nn.Module:
        config = getattr(transformers, kind.split("Model")[0] + "Config")
        sizes = {key: value for key, value in _SMALL.items() if key not in ("vocab_size", "max_position_embeddings")}
        model = getattr(transformers, kind)(config(**sizes, image_size=64, patch_size=16, **options))
        return Pixels(model.eval(), output)

    return Architecture(build, _pictures(64))


QUICK = {
    "U-Net": Architecture(lambda: _settled(UNet(), 4, 3, 32, 48), _pictures(32, 48)),
    "ConvNeXt": _of_timm("convnext_atto", 32, depths=(1, 1, 1, 1), dims=(16, 32, 48, 64)),
    "DeiT": _of_timm("deit_tiny_patch16_224", img_size=64, depth=2),
    "RoBERTa": _of_transformers("Roberta", type_vocab_size=1),
    "ALBERT": _of_transformers("Albert", embedding_size=32),
    "CLIP text": _of_transformers("CLIPTextModelWithProjection", "text_embeds", projection_dim=32, eos_token_id=99),
    "SigLIP vision": _vision("SiglipVisionModel", "pooler_output"),
}

SLOW = {
    "MobileNetV2": _of_timm("mobilenetv2_050"),
    "EfficientNet-Lite0": _of_timm("tf_efficientnet_lite0", int8=False),
    "ConvNeXtV2": _of_timm("convnextv2_atto", int8=False),
    "GhostNet": _of_timm("ghostnet_050", int8=False),
    "RepVGG": _of_timm("repvgg_a0", reparameterised=True, int8=False),
    "EdgeNeXt": _of_timm("edgenext_xx_small", int8=False),
    "EfficientFormer": _of_timm("efficientformer_l1", 224, int8=False),
    "PoolFormer": _of_timm("poolformer_s12", int8=False),
    "TinyViT": _of_timm("tiny_vit_5m_224", 224, int8=False),
    "FastViT MCi0": _of_timm("fastvit_mci0", reparameterised=True, int8=False),
    "MobileOne": _of_timm("mobileone_s0", reparameterised=True, int8=False),
    "DenseNet": _of_timm("densenet121", growth_rate=8, block_config=(2, 18), int8=False),
    "MobileViT 512x256": Architecture(
        lambda: _settled(timm.create_model("mobilevit_xxs"), 2, 3, 512, 256), _pictures(512, 256), int8=False
    ),
    "BERT": _of_transformers("Bert"),
    "BERT, eager attention": _of_transformers("Bert", attn_implementation="eager"),
    "DistilBERT": _of_transformers("DistilBert", dim=64, n_layers=2, n_heads=4, hidden_dim=128),
    "ELECTRA": _of_transformers("Electra", embedding_size=32),
    "MPNet": _of_transformers("MPNet"),
    "GPT-2": _of_transformers("GPT2", n_embd=64, n_layer=2, n_head=4, n_positions=40),
    "ModernBERT": _of_transformers(
        "ModernBert", pad_token_id=1, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3
    ),
    "CLIP vision": _vision("CLIPVisionModelWithProjection", "image_embeds", projection_dim=32),
    "DINOv2": _vision("Dinov2Model", "pooler_output"),
}

ARCHITECTURES = {**QUICK, **SLOW}


@pytest.fixture
def compiled(monkeypatch):
    """A module as a float32 model and, where the architecture says so, an int8 one, of one export."""

    def make(module: nn.Module, architecture: Architecture) -> tuple[keypilot.Model, keypilot.Model | None]:
        dynamic = {name: {1: "T"} for name in architecture.tokens}
        examples = architecture.inputs(2, 9)
        program = build_program("main", ProgramSource(module, examples, dynamic))
        compiling = sys.modules[build_program.__module__]
        monkeypatch.setattr(compiling, "build_program", lambda *_arguments: copy.deepcopy(program))
        exact = keypilot.compile(module, examples, dynamic=dynamic)
        if not architecture.int8:
            return exact, None
        calibration = [architecture.inputs(2, tokens) for tokens in (5, 9, 12, 16)]
        return exact, keypilot.compile(module, examples, dynamic=dynamic, precision="int8", calibration=calibration)

    return make


def _run(model: keypilot.Model, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    with model.tap("*") as taps:
        outputs = model.run("main", **{name: tensor.numpy() for name, tensor in inputs.items()})
    return outputs, dict(taps)


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)], ids=lambda name: name
)
def test_an_architecture_runs_as_in_pytorch(compiled, name):
    torch.manual_seed(0)
    architecture = ARCHITECTURES[name]
    module = architecture.build()
    exact, quantized = compiled(module, architecture)
    for batch, tokens in ((1, 7), (3, 20)):
        inputs = architecture.inputs(batch, tokens)
        expected = reference(module, inputs)
        outputs, taps = _run(exact, inputs)
        for key, array in {**taps, **outputs}.items():
            scale = max(float(np.abs(expected[key]).max()), 1e-6)
            assert array.shape == expected[key].shape, key
            assert np.abs(array - expected[key]).max() <= BOUND * scale, key
        small = _run(quantized, inputs)[0] if quantized is not None else {}
        for key, array in small.items():
            got, wanted = array.reshape(-1).astype(np.float64), expected[key].reshape(-1).astype(np.float64)
            assert got @ wanted >= SIMILAR * np.linalg.norm(got) * np.linalg.norm(wanted), key


def test_a_text_may_have_as_many_tokens_as_there_are_positions():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(9, 4), nn.Embedding(6, 4)
            self.register_buffer("ids", torch.arange(6)[None])

        def forward(self, x):
            return self.words(x) + self.places(self.ids[:, : x.shape[1]])

    module = Positions()
    model = keypilot.compile(module, torch.zeros(2, 3, dtype=torch.int64), dynamic={"x": {1: "T"}})
    for tokens in (1, 2, 6):
        x = torch.randint(9, (2, tokens))
        np.testing.assert_allclose(model(x.numpy()), module(x).detach().numpy(), rtol=1e-6)
    with pytest.raises(keypilot.KeyPilotError, match=r"dims \(7\) reach element 6 of an input of shape \(1,6\)"):
        model(np.zeros((1, 7), np.int32))


class _Inside(nn.Module):
    """A module two levels down that does something else."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.blocks = nn.ModuleList([nn.Identity(), _Function(function)])

    def forward(self, x):
        for block in (self.stem, *self.blocks):
            x = block(x)
        return x


class _Function(nn.Module):
    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("operator", "words", "function"),
    [
        ("aten._to_copy", "complex64", lambda x: torch.fft.fft2(x).real),
        ("aten.sort", "compile the module without that part", lambda x: x.sort(-1)[0]),
        ("aten.grid_sampler_2d", "compile the module without that part",
         lambda x: nn.functional.grid_sample(x, torch.zeros(1, 2, 2, 2).expand(x.shape[0], 2, 2, 2))),
        ("aten.convolution", "three-dimensional",
         lambda x: nn.functional.conv3d(x[:, None], torch.ones(1, 1, 1, 1, 1))),
        ("aten.conv2d", "computed at run time", lambda x: nn.functional.conv2d(x, x[:1].expand(2, -1, -1, -1))),
        ("aten.conv_transpose2d", "dilated",
         lambda x: nn.functional.conv_transpose2d(x, torch.ones(4, 2, 2, 2), dilation=2)),
        ("aten.index", "supported are x[i]", lambda x: x[(x[:, 0, 0, 0] > 0).long(), (x[:, 0, 0, 1] > 0).long()]),
        ("aten.upsample_bilinear2d", "align_corners",
         lambda x: nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)),
    ],
)  # fmt: skip
def test_what_is_refused_says_where_why_and_what_to_do(operator, words, function):
    with pytest.raises(keypilot.UnsupportedOpError) as caught:
        keypilot.compile(_Inside(function), torch.randn(2, 3, 6, 6))
    message = str(caught.value)
    assert operator in message and "blocks.1" in message and words in message
