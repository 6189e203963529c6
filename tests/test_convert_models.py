"""Networks from timm and transformers, and KeyPilot's encoder, through the converter: every tensor equals PyTorch's."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conversion import Converted, assert_close, reference, run_core  # noqa: E402
from model_oracle import ModelOracle  # noqa: E402
from torch import nn  # noqa: E402

import keypilot  # noqa: E402
from keypilot.reference.timm_shim import import_timm  # noqa: E402

timm = import_timm()  # before transformers, which imports torchvision too
transformers = pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _randomised(module):
    """Batch norms with statistics that a fold must get right."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            nn.init.normal_(child.running_mean, 0, 0.2)
            nn.init.uniform_(child.running_var, 0.5, 1.5)
            nn.init.uniform_(child.weight, 0.5, 1.5)
            nn.init.normal_(child.bias, 0, 0.2)
    return module


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side", "ops"),
    [
        ("resnet18", 64, {"conv2d": 20, "unary": 8, "pool2d": 1, "linear": 1}),
        ("mobilenetv3_small_100", 64, {"conv2d": 53, "reduce": 10, "linear": 1}),
        ("mobilevit_xxs", 96, {"attention": 9, "layer_norm": 21, "rearrange": 6}),
        ("vit_tiny_patch16_224", 224, {"attention": 12, "layer_norm": 25}),
        ("convnext_atto", 64, {"layer_norm": 17}),
    ],
)
def test_a_network_from_timm(tmp_path, name, side, ops):
    module = _randomised(timm.create_model(name))
    converted = Converted(tmp_path / "m.gguf", module, {"x": torch.randn(1, 3, side, side)})
    counts = converted.ops
    assert {op: counts[op] for op in ops} == ops
    for batch in (1, 3):
        converted.agrees(x=torch.randn(batch, 3, side, side))


class _Roberta(nn.Module):
    def __init__(self):
        super().__init__()
        config = transformers.RobertaConfig(
            vocab_size=100,
            hidden_size=312,
            num_hidden_layers=2,
            num_attention_heads=12,
            intermediate_size=624,
            max_position_embeddings=66,
            type_vocab_size=1,
        )
        self.roberta = transformers.RobertaModel(config, add_pooling_layer=False)

    def forward(self, input_ids, position_ids, attention_mask):
        mask = (attention_mask != 0)[:, None, None, :]
        kinds = torch.zeros_like(input_ids)
        return self.roberta(
            input_ids, attention_mask=mask, position_ids=position_ids, token_type_ids=kinds
        ).last_hidden_state


def test_roberta_with_a_mask_of_real_tokens(tmp_path):
    def inputs(batch, tokens):
        mask = torch.randint(0, 2, (batch, tokens))
        mask[:, 0] = 1
        return {
            "input_ids": torch.randint(0, 100, (batch, tokens)),
            "position_ids": torch.arange(2, tokens + 2).expand(batch, -1).contiguous(),
            "attention_mask": mask,
        }

    dynamic = {key: {1: "T"} for key in inputs(1, 1)}
    converted = Converted(tmp_path / "m.gguf", _Roberta(), inputs(2, 8), dynamic)
    # Two lookups and not three: that of the token types, all zero, is a row added to each token.
    assert converted.ops == Counter(attention=2, embedding=2, layer_norm=5, linear=12, binary=2, compare=1, alias=1)
    for batch, tokens in ((1, 1), (3, 20), (2, 64)):
        converted.agrees(**inputs(batch, tokens))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_bert_layer(tmp_path, attention):
    from transformers.models.bert.modeling_bert import BertLayer

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            config = transformers.BertConfig(
                hidden_size=64, num_attention_heads=4, intermediate_size=128, attn_implementation=attention
            )
            self.layer = BertLayer(config)

        def forward(self, x):
            output = self.layer(x)
            return output[0] if isinstance(output, tuple) else output

    converted = Converted(tmp_path / "m.gguf", Layer(), {"x": torch.randn(2, 9, 64)})
    assert converted.ops == {"linear": 6, "attention": 1, "layer_norm": 2}
    converted.agrees(x=torch.randn(5, 9, 64))


# ---- The encoder ------------------------------------------------------------------------------------------------


def _batch(example, dynamic, size, tokens):
    shape = [size, *example.shape[1:]]
    for axis in dynamic:
        shape[axis] = tokens
    if example.is_floating_point():
        return torch.rand(shape)
    return torch.randint(1, 5, shape)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, {"roi_features": "mask_pool"}, {"regions": "fixed_grid"}], ids=["reencode", "mask_pool", "grid"]
)
def test_every_program_of_the_encoder(tmp_path, changes):
    from keypilot.convert.encoder import compile_encoder
    from keypilot.reference.config import EncoderConfig
    from keypilot.reference.encoder import KeyPilotEncoder

    encoder = _randomised(KeyPilotEncoder(dataclasses.replace(EncoderConfig(), **changes)))
    path = tmp_path / "encoder.gguf"
    compile_encoder(encoder, path)
    model, oracle = keypilot.Model.load(path), ModelOracle(path)
    programs = encoder.programs()
    assert list(model.programs) == list(programs)
    for name, program in programs.items():
        for size, tokens in ((1, 1), (3, 20)):
            inputs = {
                key: _batch(example, program.dynamic.get(key, {}), size, tokens)
                for key, example in program.example_inputs.items()
            }
            expected = reference(program.module.eval(), inputs)
            arrays = {key: tensor.numpy() for key, tensor in inputs.items()}
            for reader, (outputs, taps) in {
                "oracle": oracle.run(name, arrays),
                "core": run_core(model, name, arrays),
            }.items():
                assert_close({**taps, **outputs}, expected, f"{reader}, {name}")
    # The backbone is stored once, however many programs run it.
    stored = sum(array.size for array in oracle.weights.values())
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    assert stored == pytest.approx(parameters, rel=0.01)
    assert np.unique([name.split("@")[0] for name in oracle.weights]).size == len(oracle.weights)
