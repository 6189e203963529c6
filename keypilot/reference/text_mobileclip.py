"""MobileCLIP-S0's text tower (Vasu et al. 2024, arXiv:2311.17049), under the names of Apple's published weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from keypilot.reference.config import EMBEDDING_SIZE, TEXT_POSITIONS, EncoderConfig
from keypilot.reference.text import TextEncoder

_WIDTH = 512
_HEADS = 8
_LAYERS = 4
_KERNEL = 11
_POSITIONS = TEXT_POSITIONS["mobileclip"]

#: CLIP's vocabulary.
CLIP_ENTRIES = 49408


class ConvNorm(nn.Sequential):
    """A depthwise convolution over the tokens, 1 x 11, and BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = _token_convolution(bias=False)
        self.bn = nn.BatchNorm2d(_WIDTH)


class MobileOne(nn.Module):
    """MobileOne's block (Vasu et al. 2023, arXiv:2206.04040) without activation: parallel branches, summed."""

    def __init__(self, *, convolution: bool) -> None:
        super().__init__()
        self.rbr_skip = nn.BatchNorm2d(_WIDTH)
        self.rbr_conv: Sequence[ConvNorm] = nn.ModuleList([ConvNorm()] if convolution else [])  # type: ignore[assignment]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.rbr_skip(x)
        for branch in self.rbr_conv:
            out = out + branch(x)
        return out

    def kernel(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight (512, 1, 1, 11) and bias (512,) of the convolution that equals the sum."""
        identity = torch.zeros(_WIDTH, 1, 1, _KERNEL)
        identity[..., _KERNEL // 2] = 1
        weight, bias = _folded(identity, self.rbr_skip)
        for branch in self.rbr_conv:
            more = _folded(branch.conv.weight, branch.bn)
            weight, bias = weight + more[0], bias + more[1]
        return weight, bias


class RepMixer(nn.Module):
    """FastViT's token mixer (Vasu et al. 2023, arXiv:2303.14189) over a text's tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = MobileOne(convolution=False)
        self.mixer = MobileOne(convolution=True)
        self.layer_scale = nn.Parameter(torch.full((_WIDTH, 1, 1), _LAYER_SCALE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = x + self.layer_scale * (self.mixer(x) - self.norm(x))
        return mixed

    def convolution(self) -> nn.Conv2d:
        """The one convolution that it equals."""
        (mixer, mixer_bias), (norm, norm_bias) = self.mixer.kernel(), self.norm.kernel()
        conv = _token_convolution(bias=True)
        weight = self.layer_scale.unsqueeze(-1) * (mixer - norm)
        weight[..., _KERNEL // 2] += 1
        conv.weight.data = weight
        assert conv.bias is not None
        conv.bias.data = self.layer_scale.flatten() * (mixer_bias - norm_bias)
        return conv


class ConvFeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = ConvNorm()
        self.fc1 = nn.Conv2d(_WIDTH, 4 * _WIDTH, 1)
        self.fc2 = nn.Conv2d(4 * _WIDTH, _WIDTH, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc2(nn.functional.gelu(self.fc1(self.conv(x))))
        return out


class RepMixerBlock(nn.Module):
    """Tokens (N, T, 512), mixed by convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.token_mixer: nn.Module = RepMixer()
        self.convffn = ConvFeedForward()
        self.layer_scale = nn.Parameter(torch.full((_WIDTH, 1, 1), _LAYER_SCALE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.transpose(1, 2).unsqueeze(2)  # (N, 512, 1, T)
        x = self.token_mixer(x)
        x = x + self.layer_scale * self.convffn(x)
        return x.squeeze(2).transpose(1, 2)


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv_proj = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.out_proj = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv_proj(x).unflatten(2, (3, _HEADS, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        out: torch.Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return out


class TransformerLayer(nn.Module):
    """A pre-LN transformer layer over tokens (N, T, 512). The names' gaps are the dropouts of training."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_norm_mha = nn.Sequential(nn.LayerNorm(_WIDTH), SelfAttention(), nn.Dropout(0.0))
        self.pre_norm_ffn = nn.Sequential(
            nn.LayerNorm(_WIDTH),
            nn.Linear(_WIDTH, 4 * _WIDTH),
            nn.GELU(),
            nn.Dropout(0.0),
            nn.Linear(4 * _WIDTH, _WIDTH),
            nn.Dropout(0.0),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.pre_norm_mha(x)
        out: torch.Tensor = x + self.pre_norm_ffn(x)
        return out


class TextTower(nn.Module):
    """What the published ``text_encoder.*`` are the weights of.

    Inputs: input_ids, position_ids (N, T). Output: (N, 512), read at the token of the largest id, <|endoftext|>. No
    token is masked: the published use pads every text with id 0 to 77 tokens.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding_layer = nn.Embedding(vocab_size, _WIDTH)
        nn.init.normal_(self.embedding_layer.weight, std=0.02)
        self.positional_embedding = nn.Module()
        self.positional_embedding.pos_embed = nn.Module()
        self.positional_embedding.pos_embed.pos_embed = nn.Parameter(torch.randn(1, 1, _POSITIONS, _WIDTH) * 0.01)
        blocks = [RepMixerBlock(), *(TransformerLayer() for _ in range(_LAYERS)), RepMixerBlock()]
        self.transformer = nn.ModuleList(blocks)
        self.final_layer_norm = nn.LayerNorm(_WIDTH)
        self.projection_layer = nn.Parameter(torch.randn(_WIDTH, _WIDTH) * _WIDTH**-0.5)

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        table: Any = self.positional_embedding.pos_embed
        x = self.embedding_layer(input_ids) + nn.functional.embedding(position_ids, table.pos_embed[0, 0])
        for layer in self.transformer:
            x = layer(x)
        x = self.final_layer_norm(x)
        last = x[torch.arange(x.shape[0]), input_ids.argmax(dim=-1)]
        return last @ self.projection_layer


class MobileClipText(TextEncoder):
    """MobileCLIP-S0's text tower and a projection."""

    tokenizer = "clip"
    masked = False

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.vocab_size = config.vocab_size or CLIP_ENTRIES
        self.text_encoder = TextTower(self.vocab_size)
        self.projection = nn.Linear(_WIDTH, EMBEDDING_SIZE)

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self.projection(self.text_encoder(input_ids, position_ids))
        return embedding

    def for_conversion(self) -> MobileClipText:
        """A copy whose token mixers are one convolution each."""
        converted = copy.deepcopy(self).eval()
        for block in converted.text_encoder.transformer:
            if isinstance(block, RepMixerBlock) and isinstance(block.token_mixer, RepMixer):
                block.token_mixer = block.token_mixer.convolution()
        return converted.requires_grad_(False)


#: Of an untrained network; the published start, 1e-5, hides the branches.
_LAYER_SCALE = 0.25


def _token_convolution(*, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(_WIDTH, _WIDTH, (1, _KERNEL), padding=(0, _KERNEL // 2), groups=_WIDTH, bias=bias)


def _folded(weight: torch.Tensor, norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the convolution that equals one with `weight` followed by `norm`."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return weight * scale.view(-1, 1, 1, 1), norm.bias - norm.running_mean * scale
