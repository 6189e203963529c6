"""The PyTorch reference: its sizes, its claims about itself, its presets."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `torch`")

from keypilot.reference.config import PRESETS, EncoderConfig  # noqa: E402
from keypilot.reference.fusion import GatedBertLayer  # noqa: E402
from keypilot.reference.presets import build, drawn_screens  # noqa: E402
from keypilot.reference.roi import MaskPool  # noqa: E402


@pytest.fixture(scope="module")
def encoder():
    return build("keypilot-base")


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_encoder_has_at_most_the_designs_7_6_million_parameters(encoder):
    assert 6.5e6 < parameters(encoder) <= 7.6e6


@pytest.mark.parametrize(
    ("component", "design"), [("regions", 0.6e6), ("image", 0.3e6), ("text", 4.5e6), ("fusion", 0.8e6)]
)
def test_components_have_about_the_designs_parameters(encoder, component, design):
    assert parameters(getattr(encoder, component)) == pytest.approx(design, rel=0.2)


def test_the_text_encoder_reads_as_many_tokens_as_the_configuration_says(encoder):
    program = encoder.programs()["text"]
    tokens = encoder.config.max_tokens
    ids = torch.full((1, tokens), 7)
    positions = torch.arange(2, 2 + tokens)[None]
    out = program.module(ids, positions, torch.ones_like(ids))["text_embedding"]
    assert out.shape == (1, 256)


def test_padding_does_not_change_a_texts_embedding(encoder):
    module = encoder.programs()["text"].module
    ids, positions = torch.tensor([[0, 50, 60, 2]]), torch.arange(2, 6)[None]
    alone = module(ids, positions, torch.ones_like(ids))["text_embedding"]
    pad = torch.nn.functional.pad
    padded = module(pad(ids, (0, 5), value=1), pad(positions, (0, 5)), pad(torch.ones_like(ids), (0, 5)))
    torch.testing.assert_close(padded["text_embedding"], alone, atol=1e-5, rtol=1e-5)


def test_with_open_gates_the_fusion_layer_is_bert_layer():
    torch.manual_seed(0)
    gated = GatedBertLayer().eval()
    for gate in (gated.attention_gate, gated.output_gate):
        torch.nn.init.constant_(gate.bias, 100.0)  # sigmoid(100) is 1 in float32
    x = torch.randn(3, 9, 256)
    with torch.no_grad():
        expected = gated.layer(x)
        expected = expected[0] if isinstance(expected, tuple) else expected
        torch.testing.assert_close(gated(x), expected)


def test_mask_pool_is_the_mean_under_the_mask():
    features = torch.randn(1, 5, 4, 4)
    masks = torch.zeros(1, 4, 4, 4)
    masks[:, :, 1, 2] = 1
    masks[:, :, 3, 0] = 1
    expected = (features[0, :, 1, 2] + features[0, :, 3, 0]) / 2
    torch.testing.assert_close(MaskPool()(features, masks)[0], expected.expand(4, -1))


def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not():
    first, again, other = build("keypilot-base"), build("keypilot-base"), build("keypilot-base", seed=1)
    for (name, a), b, c in zip(
        first.state_dict().items(), again.state_dict().values(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
        if "weight" in name and a.std() > 0 and "norm" not in name.lower() and ".bn" not in name:
            assert not torch.equal(a, c), name


def test_building_a_preset_leaves_the_callers_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build("keypilot-base-grid")
    assert torch.equal(torch.rand(3), expected)


def test_every_region_of_a_seeded_encoder_covers_part_of_a_screen_it_has_not_seen(encoder):
    screens = torch.from_numpy(drawn_screens(4, 256, seed=99)).permute(0, 3, 1, 2) / 255
    logits = encoder.programs()["screen"].module(screens)["mask_logits"]
    covered = (logits > 0).float().mean((0, 2, 3))
    assert torch.all(covered > 0.02)
    assert torch.all(covered < 0.98)


@pytest.mark.parametrize("name", PRESETS)
def test_a_configuration_survives_json(name):
    assert EncoderConfig.from_json(PRESETS[name].to_json()) == PRESETS[name]


def test_an_unknown_preset_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"expected a preset, one of keypilot-base, .*got 'keypilot-huge'"):
        build("keypilot-huge")
