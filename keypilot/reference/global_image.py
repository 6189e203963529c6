"""The embedding of the whole screenshot."""

from __future__ import annotations

import torch
from torch import nn

from keypilot.reference.config import EMBEDDING_SIZE


class Projection(nn.Module):
    """Mean over the feature map, then an MLP channels-768-256.

    Input: (N, channels, S, S). Output: (N, 256).
    """

    hidden = 768

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(channels, self.hidden), nn.GELU(), nn.Linear(self.hidden, EMBEDDING_SIZE))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.mlp(features.mean((2, 3)))
