"""Attention written out in matrix products, for the engines whose converters know no fused one."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


class PlainAttention(nn.Module):
    """Softmax attention of x (N, T, width) on itself, heads split by views of at most four dimensions.

    Gives the result alone, or with None for the weights, as the module that it stands for does.
    """

    def __init__(self, query: nn.Linear, key: nn.Linear, value: nn.Linear, out: nn.Module | None, heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = query, key, value, out
        self.heads = heads
        self.scale = (query.out_features // heads) ** -0.5

    def forward(self, x: torch.Tensor, attention_mask: torch.Tensor | None = None, **unused: Any) -> Any:
        query, key, value = (self._split(linear(x)) for linear in (self.query, self.key, self.value))
        scores = (query * self.scale) @ key.transpose(2, 3)
        if attention_mask is not None:
            scores = scores + torch.where(attention_mask, 0.0, -1e9)
        mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(x.shape)
        return (mixed, None) if self.out is None else self.out(mixed)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


def with_plain_attention(module: nn.Module) -> nn.Module:
    """A copy of the module in which timm's and transformers' self-attention is `PlainAttention`."""
    module = copy.deepcopy(module)
    for name, part in list(module.named_modules()):
        if hasattr(part, "qkv") and hasattr(part, "proj"):
            query, key, value = _split_linear(part.qkv)
            plain = PlainAttention(query, key, value, part.proj, part.num_heads)
        elif all(hasattr(part, child) for child in ("query", "key", "value", "num_attention_heads")):
            plain = PlainAttention(part.query, part.key, part.value, None, part.num_attention_heads)
        else:
            continue
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, plain.eval())
    return module


def _split_linear(joined: nn.Linear) -> list[nn.Linear]:
    """A linear layer of three results as three."""
    parts = []
    for weight, bias in zip(joined.weight.chunk(3), joined.bias.chunk(3), strict=True):
        part = nn.Linear(weight.shape[1], weight.shape[0])
        part.weight, part.bias = nn.Parameter(weight.clone(), False), nn.Parameter(bias.clone(), False)
        parts.append(part)
    return parts
