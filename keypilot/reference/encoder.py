"""The whole encoder as PyTorch modules, and the programs that it is converted to."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from keypilot.reference.backbone import FeaturePyramid, build_backbone
from keypilot.reference.config import EMBEDDING_SIZE, REGIONS, EncoderConfig
from keypilot.reference.fusion import Fusion
from keypilot.reference.global_image import Projection
from keypilot.reference.roi import MaskPool, RegionProjection, SamLite
from keypilot.reference.text import POSITION_OFFSET, TextEncoder
from keypilot.reference.user import UserEmbedding


class KeyPilotEncoder(nn.Module):
    """Every component, under the names that the model file's tensors carry."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config.backbone)
        self.neck = FeaturePyramid(self.backbone.channels, config.neck_channels)
        self.regions = SamLite(config.neck_channels, config.mask_side) if config.regions == "sam_lite" else None
        self.image = Projection(config.neck_channels)
        self.roi = RegionProjection(config.neck_channels)
        self.text = TextEncoder(config.text)
        self.user = UserEmbedding(config.user_count)
        self.fusion = Fusion()

    def programs(self) -> dict[str, Program]:
        """The encoder cut where the pipeline does integer work in between."""
        config = self.config
        side, mask, crop = config.image_side, config.mask_side, config.crop_side
        roi = (
            Program(RoiReencode(self), {"crops": torch.rand(8, 3, crop, crop)})
            if config.roi_features == "reencode"
            else Program(
                RoiMaskPool(self),
                {
                    "features": torch.randn(2, config.neck_channels, mask, mask),
                    "masks": torch.ones(2, len(REGIONS), mask, mask),
                },
            )
        )
        tokens = torch.full((2, 8), 5)
        positions = torch.arange(POSITION_OFFSET, POSITION_OFFSET + 8).expand(2, -1).contiguous()
        token_axis = {"input_ids": {1: "T"}, "position_ids": {1: "T"}, "attention_mask": {1: "T"}}
        return {
            "screen": Program(ScreenProgram(self), {"image": torch.rand(2, 3, side, side)}),
            "roi": roi,
            "text": Program(
                TextProgram(self),
                {"input_ids": tokens, "position_ids": positions, "attention_mask": torch.ones_like(tokens)},
                token_axis,
            ),
            "fusion": Program(
                FusionProgram(self),
                {
                    "image": torch.randn(2, EMBEDDING_SIZE),
                    "rois": torch.randn(2, len(REGIONS), EMBEDDING_SIZE),
                    "text": torch.randn(2, EMBEDDING_SIZE),
                    "user": torch.zeros(2, dtype=torch.int64),
                },
            ),
        }

    def metadata(self, *, trained: bool = False) -> dict[str, Any]:
        """The model file's keys of the encoder and its tokenizer: see docs/model-file.md."""
        from keypilot.reference.tokenizer import DEFAULT_TOKENIZER, tokenizer_metadata

        config = self.config
        keys: dict[str, Any] = {
            "general.name": config.name,
            "keypilot.trained": trained,
            "keypilot.config": config.to_json(),
            "keypilot.encoder.image_side": config.image_side,
            "keypilot.encoder.image_mean": list(config.image_mean),
            "keypilot.encoder.image_std": list(config.image_std),
            "keypilot.encoder.image_pad": list(config.image_pad),
            "keypilot.encoder.mask_side": config.mask_side,
            "keypilot.encoder.regions": "masks" if config.regions == "sam_lite" else "grid",
            "keypilot.encoder.grid": [edge for cell in config.grid for edge in cell],
            "keypilot.encoder.roi_features": config.roi_features,
            "keypilot.encoder.user_count": config.user_count,
        }
        if config.roi_features == "reencode":
            keys["keypilot.encoder.crop_side"] = config.crop_side
        keys.update(tokenizer_metadata(DEFAULT_TOKENIZER))
        keys["keypilot.tokenizer.max_tokens"] = config.text.max_tokens
        keys["keypilot.tokenizer.position_offset"] = POSITION_OFFSET
        return keys


class Program(NamedTuple):
    """What the converter needs for one program.

    `dynamic` names axes beside the first of every input, which is the batch N: input name -> axis -> symbol.
    """

    module: nn.Module
    example_inputs: dict[str, torch.Tensor]
    dynamic: Mapping[str, Mapping[int, str]] = MappingProxyType({})


class ScreenProgram(nn.Module):
    """image (N, 3, side, side) -> image_embedding (N, 256), and as configured mask_logits (N, 4, S, S), features."""

    def __init__(self, encoder: KeyPilotEncoder) -> None:
        super().__init__()
        self.backbone = encoder.backbone
        self.neck = encoder.neck
        self.image = encoder.image
        self.regions = encoder.regions
        self.gives_features = encoder.config.roi_features == "mask_pool"

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.neck(self.backbone(image))
        outputs = {"image_embedding": self.image(features)}
        if self.regions is not None:
            outputs["mask_logits"] = self.regions(features)
        if self.gives_features:
            outputs["features"] = features
        return outputs


class RoiReencode(nn.Module):
    """crops (N, 3, crop, crop) -> roi_embedding (N, 256)."""

    def __init__(self, encoder: KeyPilotEncoder) -> None:
        super().__init__()
        self.backbone = encoder.backbone
        self.neck = encoder.neck
        self.roi = encoder.roi

    def forward(self, crops: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.neck(self.backbone(crops))
        return {"roi_embedding": self.roi(features.mean((2, 3)))}


class RoiMaskPool(nn.Module):
    """features (N, C, S, S), masks (N, 4, S, S) -> roi_embedding (N, 4, 256)."""

    def __init__(self, encoder: KeyPilotEncoder) -> None:
        super().__init__()
        self.mask_pool = MaskPool()
        self.roi = encoder.roi

    def forward(self, features: torch.Tensor, masks: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"roi_embedding": self.roi(self.mask_pool(features, masks))}


class TextProgram(nn.Module):
    """input_ids, position_ids, attention_mask (N, T) -> text_embedding (N, 256)."""

    def __init__(self, encoder: KeyPilotEncoder) -> None:
        super().__init__()
        self.text = encoder.text

    def forward(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return {"text_embedding": self.text(input_ids, position_ids, attention_mask)}


class FusionProgram(nn.Module):
    """image (N, 256), rois (N, 4, 256), text (N, 256), user (N,) -> context (N, 256)."""

    def __init__(self, encoder: KeyPilotEncoder) -> None:
        super().__init__()
        self.user = encoder.user
        self.fusion = encoder.fusion

    def forward(
        self, image: torch.Tensor, rois: torch.Tensor, text: torch.Tensor, user: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return {"context": self.fusion(image, rois, text, self.user(user))}
