"""The embedding of the text being typed: `transformers`' RoBERTa (Liu et al. 2019, arXiv:1907.11692)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from keypilot.reference.config import EMBEDDING_SIZE, TextConfig
from keypilot.reference.timm_shim import import_timm

if TYPE_CHECKING:
    from transformers import RobertaModel

#: RoBERTa counts positions from padding_idx + 1.
POSITION_OFFSET = 2


def roberta(config: TextConfig) -> RobertaModel:
    """`transformers`' RobertaModel of these sizes, with random weights."""
    import_timm()  # transformers imports torchvision as well
    from transformers import RobertaConfig, RobertaModel

    return RobertaModel(
        RobertaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=config.max_tokens + POSITION_OFFSET,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
        ),
        add_pooling_layer=False,
    )


class TextEncoder(nn.Module):
    """Token ids to an embedding, read at the first token.

    Inputs: input_ids, position_ids, attention_mask, each integer (N, T); position_ids count from `POSITION_OFFSET`; the
    mask is 1 where there is a token. Output: (N, 256).
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.roberta = roberta(config)
        self.projection = nn.Linear(config.hidden_size, EMBEDDING_SIZE)

    def forward(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        hidden = self.roberta(
            input_ids,
            attention_mask=(attention_mask != 0)[:, None, None, :],
            position_ids=position_ids,
            token_type_ids=torch.zeros_like(input_ids),
        ).last_hidden_state  # (N, T, hidden)
        embedding: torch.Tensor = self.projection(hidden[:, 0])
        return embedding
