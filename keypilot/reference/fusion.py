"""Nine tokens to one context vector."""

from __future__ import annotations

import torch
from torch import nn

from keypilot.reference.config import EMBEDDING_SIZE, REGIONS
from keypilot.reference.timm_shim import import_timm

#: [CLS] [IMG] [ROI1] [ROI2] [ROI3] [ROI4] [SEP] [TXT] [P]
TOKENS = 5 + len(REGIONS)


class GatedBertLayer(nn.Module):
    """`transformers`' post-LN BertLayer with a gate on each residual branch.

    The attention over all tokens, which is where image, regions, text and user meet, passes a gate before it is
    added: ``x = LN(x + sigmoid(W x + b) * attention(x))``, per token and channel, and the feed-forward branch passes a
    second one.
    Gates open (1), it equals BertLayer. They start nearly open: W = 0, b = 4.

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
        self.attention_gate = nn.Linear(EMBEDDING_SIZE, EMBEDDING_SIZE)
        self.output_gate = nn.Linear(EMBEDDING_SIZE, EMBEDDING_SIZE)
        for gate in (self.attention_gate, self.output_gate):
            nn.init.zeros_(gate.weight)
            nn.init.constant_(gate.bias, 4.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        attention, output = self.layer.attention, self.layer.output
        attended = attention.output.dense(attention.self(x)[0])
        x = attention.output.LayerNorm(x + torch.sigmoid(self.attention_gate(x)) * attended)
        expanded = output.dense(self.layer.intermediate(x))
        fused: torch.Tensor = output.LayerNorm(x + torch.sigmoid(self.output_gate(x)) * expanded)
        return fused


class Fusion(nn.Module):
    """One gated transformer layer over nine tokens; the context vector is its output at [CLS].

    Inputs: image (N, 256), rois (N, 4, 256), text (N, 256), user (N, 256). Output: (N, 256).
    """

    def __init__(self) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.randn(1, 1, EMBEDDING_SIZE) * 0.02)
        self.sep = nn.Parameter(torch.randn(1, 1, EMBEDDING_SIZE) * 0.02)
        self.position = nn.Parameter(torch.randn(1, TOKENS, EMBEDDING_SIZE) * 0.02)
        self.norm = nn.LayerNorm(EMBEDDING_SIZE)
        self.transformer = GatedBertLayer()

    def forward(self, image: torch.Tensor, rois: torch.Tensor, text: torch.Tensor, user: torch.Tensor) -> torch.Tensor:
        batch = image.shape[0]
        tokens = torch.cat(
            [
                self.cls.expand(batch, -1, -1),
                image.unsqueeze(1),
                rois,
                self.sep.expand(batch, -1, -1),
                text.unsqueeze(1),
                user.unsqueeze(1),
            ],
            dim=1,
        )
        return self.transformer(self.norm(tokens + self.position))[:, 0]
