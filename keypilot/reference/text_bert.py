"""`transformers`' BERT (Devlin et al. 2019, arXiv:1810.04805) and its kin, in small sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from keypilot.reference.config import EMBEDDING_SIZE, TEXT_POSITIONS, EncoderConfig
from keypilot.reference.text import TextEncoder
from keypilot.reference.timm_shim import import_timm

if TYPE_CHECKING:
    from transformers import RobertaModel

#: Entries of the vocabulary that ships with the package, and of BERT's English uncased one.
BPE_ENTRIES, WORDPIECE_ENTRIES = 6912, 30522

#: RoBERTa counts positions from padding_idx + 1.
ROBERTA_OFFSET = 2


def roberta(vocab_size: int = BPE_ENTRIES, max_tokens: int = 64) -> RobertaModel:
    """`transformers`' RobertaModel (Liu et al. 2019, arXiv:1907.11692) of 2 layers of 312, with random weights."""
    import_timm()  # transformers imports torchvision as well
    from transformers import RobertaConfig, RobertaModel

    return RobertaModel(
        RobertaConfig(
            vocab_size=vocab_size,
            hidden_size=312,
            num_hidden_layers=2,
            num_attention_heads=12,
            intermediate_size=1248,
            max_position_embeddings=max_tokens + ROBERTA_OFFSET,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
        ),
        add_pooling_layer=False,
    )


class _Transformer(TextEncoder):
    """A network under the attribute that checkpoints have it under, read at the first token, and a projection."""

    network: str
    has_types = True
    projection: nn.Linear

    def forward(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        types = {"token_type_ids": torch.zeros_like(input_ids)} if self.has_types else {}
        hidden = getattr(self, self.network)(
            input_ids, attention_mask=(attention_mask != 0)[:, None, None, :], position_ids=position_ids, **types
        ).last_hidden_state  # (N, T, hidden)
        embedding: torch.Tensor = self.projection(self.pool(hidden, attention_mask))
        return embedding

    def pool(self, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(N, T, hidden) to (N, hidden)."""
        return hidden[:, 0]


class Roberta(_Transformer):
    """RoBERTa of 2 layers of 312, read at the first token."""

    network = "roberta"
    position_offset = ROBERTA_OFFSET

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.vocab_size = config.vocab_size or BPE_ENTRIES
        self.roberta = roberta(self.vocab_size, config.max_tokens)
        self.projection = nn.Linear(self.roberta.config.hidden_size, EMBEDDING_SIZE)


class DistilBert(_Transformer):
    """DistilBERT (Sanh et al. 2019, arXiv:1910.01108) of 2 layers of 312, read at the first token."""

    network, has_types = "distilbert", False
    tokenizer = "wordpiece"

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        import_timm()  # transformers imports torchvision as well
        from transformers import DistilBertConfig, DistilBertModel

        self.vocab_size = config.vocab_size or WORDPIECE_ENTRIES
        self.distilbert = DistilBertModel(
            DistilBertConfig(
                vocab_size=self.vocab_size,
                dim=312,
                n_layers=2,
                n_heads=12,
                hidden_dim=1248,
                max_position_embeddings=config.max_tokens,
            )
        )
        self.projection = nn.Linear(312, EMBEDDING_SIZE)


class Bert(_Transformer):
    """BERT, read at the first token."""

    network = "bert"
    tokenizer = "wordpiece"

    def __init__(self, config: EncoderConfig, *, hidden: int, layers: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        import_timm()  # transformers imports torchvision as well
        from transformers import BertConfig, BertModel

        self.vocab_size = config.vocab_size or WORDPIECE_ENTRIES
        self.bert = BertModel(
            BertConfig(
                vocab_size=self.vocab_size,
                hidden_size=hidden,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                intermediate_size=feed_forward,
                max_position_embeddings=TEXT_POSITIONS["bert_tiny"],
            ),
            add_pooling_layer=False,
        )
        self.projection = nn.Linear(hidden, EMBEDDING_SIZE)


class MiniLm(Bert):
    """MiniLM-L6-H384 (Wang et al. 2020, arXiv:2002.10957), whole or cut to its first layers.

    The mean over the tokens, normalised, as `sentence-transformers` pools all-MiniLM-L6-v2.
    """

    def __init__(self, config: EncoderConfig, *, layers: int) -> None:
        super().__init__(config, hidden=384, layers=layers, heads=12, feed_forward=1536)

    def pool(self, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        weights = (attention_mask != 0).to(hidden.dtype).unsqueeze(2)
        mean = (hidden * weights).sum(1) / weights.sum(1)
        return nn.functional.normalize(mean, dim=1)
