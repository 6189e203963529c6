"""The tokens of image, regions, text and user to one context vector."""

from __future__ import annotations

import torch
from torch import nn

from keypilot.reference.config import EMBEDDING_SIZE, REGIONS, EncoderConfig
from keypilot.reference.timm_shim import import_timm


class Gate(nn.Linear):
    """``sigmoid(W x + b)``, per token and channel. It starts nearly open: W = 0, b = 4."""

    def __init__(self) -> None:
        super().__init__(EMBEDDING_SIZE, EMBEDDING_SIZE)
        nn.init.zeros_(self.weight)
        nn.init.constant_(self.bias, 4.0)


class GatedBertLayer(nn.Module):
    """`transformers`' post-LN BertLayer with a gate on each residual branch.

    The attention over all tokens, which is where image, regions, text and user meet, passes a gate before it is
    added: ``x = LN(x + gate(x) * attention(x))``, and the feed-forward branch passes a second one. Gates open (1), it
    equals BertLayer.

    Input and output: (N, tokens, 256).
    """

    def __init__(self, num_heads: int = 8, intermediate_size: int = 1024) -> None:
        super().__init__()
        import_timm()  # transformers imports torchvision as well
        from transformers import BertConfig
        from transformers.models.bert.modeling_bert import BertLayer

        self.layer = BertLayer(
            BertConfig(
                hidden_size=EMBEDDING_SIZE,
                num_attention_heads=num_heads,
                intermediate_size=intermediate_size,
                attn_implementation="sdpa",  # type: ignore[call-arg]  # taken by every config's base class
            )
        )
        self.attention_gate = Gate()
        self.output_gate = Gate()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        attention, output = self.layer.attention, self.layer.output
        attended = attention.output.dense(attention.self(x)[0])
        x = attention.output.LayerNorm(x + torch.sigmoid(self.attention_gate(x)) * attended)
        expanded = output.dense(self.layer.intermediate(x))
        fused: torch.Tensor = output.LayerNorm(x + torch.sigmoid(self.output_gate(x)) * expanded)
        return fused


class GatedCrossAttention(nn.Module):
    """The first token attends to all of them; a gated residual, then a small feed-forward with a residual.

    Input: (N, tokens, 256). Output: (N, 1, 256).
    """

    num_heads = 8

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(EMBEDDING_SIZE, EMBEDDING_SIZE)
        self.key = nn.Linear(EMBEDDING_SIZE, EMBEDDING_SIZE)
        self.value = nn.Linear(EMBEDDING_SIZE, EMBEDDING_SIZE)
        self.out = nn.Linear(EMBEDDING_SIZE, EMBEDDING_SIZE)
        self.gate = Gate()
        self.attention_norm = nn.LayerNorm(EMBEDDING_SIZE)
        self.mlp = nn.Sequential(
            nn.Linear(EMBEDDING_SIZE, EMBEDDING_SIZE), nn.GELU(), nn.Linear(EMBEDDING_SIZE, EMBEDDING_SIZE)
        )
        self.mlp_norm = nn.LayerNorm(EMBEDDING_SIZE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = x[:, :1]
        attended = nn.functional.scaled_dot_product_attention(
            self._heads(self.query(first)), self._heads(self.key(x)), self._heads(self.value(x))
        )
        attended = self.out(attended.transpose(1, 2).flatten(2))
        first = self.attention_norm(first + torch.sigmoid(self.gate(first)) * attended)
        fused: torch.Tensor = self.mlp_norm(first + self.mlp(first))
        return fused

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class Fusion(nn.Module):
    """One vector from the tokens [CLS] [IMG] [ROI1] [ROI2] [ROI3] [ROI4] [SEP] [TXT] [P]: what becomes of [CLS].

    An encoder without users has no [P].

    Inputs: image (N, 256), rois (N, 4, 256), text (N, 256), user (N, 256) or None. Output: (N, 256).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        tokens = 4 + len(REGIONS) + (config.user != "none")
        self.cls = nn.Parameter(torch.randn(1, 1, EMBEDDING_SIZE) * 0.02)
        self.sep = nn.Parameter(torch.randn(1, 1, EMBEDDING_SIZE) * 0.02)
        self.position = nn.Parameter(torch.randn(1, tokens, EMBEDDING_SIZE) * 0.02)
        self.norm = nn.LayerNorm(EMBEDDING_SIZE)
        self.transformer: nn.Module
        if config.fusion == "cross_attention":
            self.transformer = GatedCrossAttention()
        elif config.fusion == "transformer_2":
            self.transformer = nn.Sequential(GatedBertLayer(), GatedBertLayer())
        else:
            self.transformer = GatedBertLayer()

    def forward(
        self, image: torch.Tensor, rois: torch.Tensor, text: torch.Tensor, user: torch.Tensor | None = None
    ) -> torch.Tensor:
        batch = image.shape[0]
        tokens = [
            self.cls.expand(batch, -1, -1),
            image.unsqueeze(1),
            rois,
            self.sep.expand(batch, -1, -1),
            text.unsqueeze(1),
        ]
        if user is not None:
            tokens.append(user.unsqueeze(1))
        return self.transformer(self.norm(torch.cat(tokens, dim=1) + self.position))[:, 0]
