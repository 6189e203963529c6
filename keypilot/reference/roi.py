"""Regions of interest: masks from learned prompts (SAM-Lite), and an embedding for each region."""

from __future__ import annotations

import torch
from torch import nn

from keypilot.reference.config import EMBEDDING_SIZE, REGIONS


class SamLite(nn.Module):
    """Four masks from four learned prompts, after SAM's mask decoder (Kirillov et al. 2023, arXiv:2304.02643).

    The prompts cross-attend once to the feature map, average-pooled to a sixteenth of the screenshot's side; each
    then gives the weights of a linear classifier over the pixels of a depthwise-separable decoder at a quarter of it.

    Input: (N, channels, S, S). Output: mask logits (N, 4, S, S), in the order of `REGIONS`; positive is inside.
    """

    num_heads = 8
    pixel_channels = 48
    pool = 4

    def __init__(self, channels: int, side: int, hidden: int = EMBEDDING_SIZE) -> None:
        super().__init__()
        tokens = (side // self.pool) ** 2
        self.prompts = nn.Parameter(torch.randn(len(REGIONS), hidden) * 0.5)
        self.position = nn.Parameter(torch.randn(tokens, channels) * 0.1)
        self.token_norm = nn.LayerNorm(channels)
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(channels, hidden)
        self.value = nn.Linear(channels, hidden)
        self.out = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden)
        self.mlp = nn.Sequential(nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, hidden))
        self.mlp_norm = nn.LayerNorm(hidden)
        self.classifier = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, self.pixel_channels))
        self.pixels = nn.Sequential(
            nn.Conv2d(channels, self.pixel_channels, 1, bias=False),
            nn.BatchNorm2d(self.pixel_channels),
            nn.SiLU(),
            nn.Conv2d(self.pixel_channels, self.pixel_channels, 3, padding=1, groups=self.pixel_channels, bias=False),
            nn.BatchNorm2d(self.pixel_channels),
            nn.SiLU(),
            nn.Conv2d(self.pixel_channels, self.pixel_channels, 1),
        )
        self.row_position = nn.Parameter(torch.randn(1, self.pixel_channels, side, 1) * 0.5)
        self.column_position = nn.Parameter(torch.randn(1, self.pixel_channels, 1, side) * 0.5)
        self.bias = nn.Parameter(torch.zeros(1, len(REGIONS), 1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        batch, _, height, width = features.shape
        tokens = nn.functional.avg_pool2d(features, self.pool).flatten(2).transpose(1, 2)
        tokens = self.token_norm(tokens + self.position)  # (N, tokens, channels)
        prompts = self.prompts.expand(batch, -1, -1)
        attended = nn.functional.scaled_dot_product_attention(
            self._heads(self.query(prompts)), self._heads(self.key(tokens)), self._heads(self.value(tokens))
        )
        prompts = self.attention_norm(prompts + self.out(attended.transpose(1, 2).flatten(2)))
        prompts = self.mlp_norm(prompts + self.mlp(prompts))
        pixels = self.pixels(features) + self.row_position + self.column_position
        logits = self.classifier(prompts) @ pixels.flatten(2)  # (N, 4, S * S)
        return (logits + self.bias).view(batch, len(REGIONS), height, width)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class MaskPool(nn.Module):
    """The mean of a feature map under each mask.

    Input: features (N, C, S, S); masks (N, R, S, S), 0 or 1, none of them empty. Output: (N, R, C).
    """

    def forward(self, features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        masks = masks.flatten(2)
        return (masks @ features.flatten(2).transpose(1, 2)) / masks.sum(-1, keepdim=True)


class RegionProjection(nn.Module):
    """Pooled features of a region (..., channels) to its embedding (..., 256)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, EMBEDDING_SIZE)
        self.norm = nn.LayerNorm(EMBEDDING_SIZE)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.norm(self.linear(pooled))
