"""The embedding of the person who types."""

from __future__ import annotations

import torch
from torch import nn

from keypilot.reference.config import EMBEDDING_SIZE


class UserEmbedding(nn.Module):
    """A table of learned 64-d vectors and a projection. Input: integer (N,). Output: (N, 256)."""

    width = 64

    def __init__(self, count: int) -> None:
        super().__init__()
        self.table = nn.Embedding(count, self.width)
        self.projection = nn.Linear(self.width, EMBEDDING_SIZE)

    def forward(self, user: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self.projection(self.table(user))
        return embedding
