"""The embedding of the person who types."""

from __future__ import annotations

import torch
from torch import nn

from keypilot.reference.config import EMBEDDING_SIZE, USER_SIZE


class UserEmbedding(nn.Module):
    """A table of learned vectors, and their projection.

    The table's last row is of the user that nobody knows; untrained, it is the mean of the others.
    Input of `forward`: vectors (N, 64), the table's or given ones. Output: (N, 256).
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        rows = nn.Embedding(count, USER_SIZE).weight.detach()
        self.table = nn.Embedding.from_pretrained(torch.cat([rows, rows.mean(0, keepdim=True)]), freeze=False)
        self.projection = nn.Linear(USER_SIZE, EMBEDDING_SIZE)

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self.projection(vector)
        return embedding
