"""The embedding of the text being typed."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from keypilot.reference.config import EncoderConfig
from keypilot.reference.tokenizer import TOKENIZERS


class TextEncoder(nn.Module):
    """Token ids to an embedding (N, 256).

    ``forward(input_ids, position_ids, attention_mask)``, each integer (N, T), or without the mask where `masked` is
    False; positions count from `position_offset`; the mask is 1 where there is a token.

    Attributes
    ----------
    tokenizer : the kind that the ids come from: ``"bpe"``, ``"wordpiece"`` or ``"clip"``.
    vocab_size : rows of the table of embeddings.
    own_tokenizer : the tokenizer.json that the weights were trained with; None: the type's own.
    """

    tokenizer: str = "bpe"
    position_offset: int = 0
    masked: bool = True
    vocab_size: int
    own_tokenizer: Path | None = None

    @property
    def tokenizer_file(self) -> Path:
        return self.own_tokenizer or TOKENIZERS[self.tokenizer]


def build_text(config: EncoderConfig) -> TextEncoder:
    """The text encoder that the configuration names, with random weights."""
    from keypilot.reference.text_bert import Bert, DistilBert, MiniLm, Roberta
    from keypilot.reference.text_mobileclip import MobileClipText

    match config.text:
        case "roberta_tiny":
            return Roberta(config)
        case "distilbert_tiny":
            return DistilBert(config)
        case "bert_tiny":
            return Bert(config, hidden=128, layers=2, heads=2, feed_forward=512)
        case "tinybert":
            return Bert(config, hidden=312, layers=4, heads=12, feed_forward=1200)
        case "minilm_2":
            return MiniLm(config, layers=2)
        case "minilm_6":
            return MiniLm(config, layers=6)
        case _:
            return MobileClipText(config)


def text_inputs(text: TextEncoder, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """The inputs of `text` for ids (N, T) without padding."""
    positions = torch.arange(text.position_offset, text.position_offset + ids.shape[1])
    inputs = {"input_ids": ids, "position_ids": positions.expand(ids.shape[0], -1).contiguous()}
    return {**inputs, "attention_mask": torch.ones_like(ids)} if text.masked else inputs
