"""The whole encoder as PyTorch modules, and the programs that it is converted to."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from keypilot.reference.backbone import FeaturePyramid, build_backbone
from keypilot.reference.config import (
    EMBEDDING_SIZE,
    IMAGENET_MEAN,
    IMAGENET_STD,
    POOLED_IMAGES,
    REGION_NETWORKS,
    REGIONS,
    USER_SIZE,
    EncoderConfig,
)
from keypilot.reference.detections import LIMITS
from keypilot.reference.fusion import Fusion
from keypilot.reference.global_image import ImagePicture, build_global_image
from keypilot.reference.roi import MaskPool, RegionProjection, SamLite
from keypilot.reference.text import build_text, text_inputs
from keypilot.reference.user import UserEmbedding


class KeyPilotEncoder(nn.Module):
    """Every component, under the names that the model file's tensors carry."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config.backbone)
        self.neck = FeaturePyramid(self.backbone.channels, config.neck_channels)
        self.regions = _build_regions(config)
        self.image = build_global_image(config)
        self.roi = RegionProjection(config.neck_channels)
        self.text = build_text(config)
        self.user = UserEmbedding(config.user_count) if config.user == "table" else None
        self.fusion = Fusion(config)

    @property
    def image_picture(self) -> ImagePicture | None:
        """The picture of the program `image`; None where the screen program gives the embedding."""
        picture = getattr(self.image, "picture", None)
        return picture if isinstance(picture, ImagePicture) else None

    def programs(self) -> dict[str, Program]:
        """The encoder cut where the pipeline does integer work in between, in the order in which data flow."""
        config = self.config
        side, mask, crop = config.image_side, config.mask_side, config.crop_side
        programs: dict[str, Program] = {}
        screen = ScreenProgram(self)
        if screen.has_outputs:
            programs["screen"] = Program(screen, {"image": torch.rand(2, 3, side, side)})
        if config.regions in REGION_NETWORKS:
            picture = torch.rand(2, 3, config.regions_side, config.regions_side)
            programs["regions"] = Program(RegionsProgram(self), {"image": picture})
        if self.image_picture is not None:
            own = self.image_picture.side
            programs["image"] = Program(ImageProgram(self), {"image": torch.rand(2, 3, own, own)})
        if config.roi_features == "reencode":
            programs["roi"] = Program(RoiReencode(self), {"crops": torch.rand(8, 3, crop, crop)})
        else:
            maps = {
                "features": torch.randn(2, config.neck_channels, mask, mask),
                "masks": torch.ones(2, len(REGIONS), mask, mask),
            }
            programs["roi"] = Program(RoiMaskPool(self), maps)
        texts = text_inputs(self.text, torch.full((2, 8), 5))
        text = MaskedTextProgram(self) if self.text.masked else TextProgram(self)
        programs["text"] = Program(text, texts, {name: {1: "T"} for name in texts})
        vectors = {
            "image": torch.randn(2, EMBEDDING_SIZE),
            "rois": torch.randn(2, len(REGIONS), EMBEDDING_SIZE),
            "text": torch.randn(2, EMBEDDING_SIZE),
        }
        if self.user is None:
            programs["fusion"] = Program(UserlessFusionProgram(self), vectors)
        else:
            programs["user"] = Program(UserProgram(self), {"user": torch.zeros(2, dtype=torch.int64)})
            vectors["user_vector"] = torch.randn(2, USER_SIZE)
            programs["fusion"] = Program(FusionProgram(self), vectors)
        return programs

    def metadata(self, *, trained: bool = False) -> dict[str, Any]:
        """The model file's keys of the encoder and its tokenizer: see docs/model-file.md."""
        from keypilot.reference.tokenizer import tokenizer_metadata

        config = self.config
        masks = {"fixed_grid": "grid", "fast_sam_s": "detections", "fast_sam_x": "detections"}
        keys: dict[str, Any] = {
            "general.name": config.name,
            "keypilot.trained": trained,
            "keypilot.config": config.to_json(),
            "keypilot.encoder.image_side": config.image_side,
            "keypilot.encoder.image_mean": list(config.image_mean),
            "keypilot.encoder.image_std": list(config.image_std),
            "keypilot.encoder.image_pad": list(config.image_pad),
            "keypilot.encoder.mask_side": config.mask_side,
            "keypilot.encoder.regions": masks.get(config.regions, "masks"),
            "keypilot.encoder.grid": [edge for cell in config.grid for edge in cell],
            "keypilot.encoder.roi_features": config.roi_features,
        }
        if self.image_picture is not None:
            keys.update(_picture_keys("global", self.image_picture, config))
        if self.regions_picture is not None:
            keys.update(_picture_keys("regions_picture", self.regions_picture, config))
        if keys["keypilot.encoder.regions"] == "detections":
            keys.update({f"keypilot.encoder.detections.{name}": limit for name, limit in LIMITS._asdict().items()})
        if self.user is not None:
            keys["keypilot.encoder.user_count"] = config.user_count
        if config.roi_features == "reencode":
            keys["keypilot.encoder.crop_side"] = config.crop_side
        keys.update(tokenizer_metadata(self.text.tokenizer_file))
        keys["keypilot.tokenizer.max_tokens"] = config.max_tokens
        keys["keypilot.tokenizer.position_offset"] = self.text.position_offset
        return keys

    @property
    def regions_picture(self) -> ImagePicture | None:
        """The picture of the program `regions`; None where there is none."""
        match self.config.regions:
            case "mobile_sam":
                return ImagePicture(self.config.regions_side, IMAGENET_MEAN, IMAGENET_STD)
            case "fast_sam_s" | "fast_sam_x":
                return ImagePicture(self.config.regions_side, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        return None


def _build_regions(config: EncoderConfig) -> nn.Module | None:
    match config.regions:
        case "sam_lite":
            return SamLite(config.neck_channels, config.mask_side)
        case "mobile_sam":
            from keypilot.reference.mobile_sam import MobileSam

            return MobileSam(config.regions_side, config.grid)
        case "fast_sam_s" | "fast_sam_x":
            from keypilot.reference.fast_sam import FastSam

            return FastSam(config.regions.removeprefix("fast_sam_"), config.regions_side)
    return None


def _picture_keys(group: str, picture: ImagePicture, config: EncoderConfig) -> dict[str, Any]:
    prefix = f"keypilot.encoder.{group}"
    return {
        f"{prefix}.image_side": picture.side,
        f"{prefix}.image_mean": list(picture.mean),
        f"{prefix}.image_std": list(picture.std),
        f"{prefix}.image_pad": list(config.image_pad),
    }


class Program(NamedTuple):
    """What the converter needs for one program.

    `dynamic` names axes beside the first of every input, which is the batch N: input name -> axis -> symbol.
    """

    module: nn.Module
    example_inputs: dict[str, torch.Tensor]
    dynamic: Mapping[str, Mapping[int, str]] = MappingProxyType({})


class ScreenProgram(nn.Module):
    """image (N, 3, side, side) -> as configured image_embedding (N, 256), mask_logits (N, 4, S, S), features."""

    def __init__(self, encoder: KeyPilotEncoder) -> None:
        super().__init__()
        config = encoder.config
        self.backbone = encoder.backbone
        self.neck = encoder.neck
        self.image = encoder.image if config.global_image in POOLED_IMAGES else None
        self.regions = encoder.regions if config.regions == "sam_lite" else None
        self.gives_features = config.roi_features == "mask_pool"
        self.has_outputs = self.image is not None or self.regions is not None or self.gives_features

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.neck(self.backbone(image))
        outputs = {}
        if self.image is not None:
            outputs["image_embedding"] = self.image(features)
        if self.regions is not None:
            outputs["mask_logits"] = self.regions(features)
        if self.gives_features:
            outputs["features"] = features
        return outputs


class RegionsProgram(nn.Module):
    """image (N, 3, R, R) -> what the network of the regions gives: see docs/model-file.md."""

    def __init__(self, encoder: KeyPilotEncoder) -> None:
        super().__init__()
        self.regions = encoder.regions

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        assert self.regions is not None
        outputs: dict[str, torch.Tensor] = self.regions(image)
        return outputs


class ImageProgram(nn.Module):
    """image (N, 3, G, G) -> image_embedding (N, 256)."""

    def __init__(self, encoder: KeyPilotEncoder) -> None:
        super().__init__()
        self.image = _for_conversion(encoder.image)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"image_embedding": self.image(image)}


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
    """input_ids, position_ids (N, T) -> text_embedding (N, 256)."""

    def __init__(self, encoder: KeyPilotEncoder) -> None:
        super().__init__()
        self.text = _for_conversion(encoder.text)

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"text_embedding": self.text(input_ids, position_ids)}


class MaskedTextProgram(nn.Module):
    """input_ids, position_ids, attention_mask (N, T) -> text_embedding (N, 256)."""

    def __init__(self, encoder: KeyPilotEncoder) -> None:
        super().__init__()
        self.text = _for_conversion(encoder.text)

    def forward(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return {"text_embedding": self.text(input_ids, position_ids, attention_mask)}


class UserProgram(nn.Module):
    """user (N,) -> user_vector (N, 64); `user_count` is the unknown user."""

    def __init__(self, encoder: KeyPilotEncoder) -> None:
        super().__init__()
        self.user = encoder.user

    def forward(self, user: torch.Tensor) -> dict[str, torch.Tensor]:
        assert self.user is not None
        return {"user_vector": self.user.table(user)}


class FusionProgram(nn.Module):
    """image (N, 256), rois (N, 4, 256), text (N, 256), user_vector (N, 64) -> context (N, 256)."""

    def __init__(self, encoder: KeyPilotEncoder) -> None:
        super().__init__()
        self.user = encoder.user
        self.fusion = encoder.fusion

    def forward(
        self, image: torch.Tensor, rois: torch.Tensor, text: torch.Tensor, user_vector: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        assert self.user is not None
        return {"context": self.fusion(image, rois, text, self.user(user_vector))}


class UserlessFusionProgram(nn.Module):
    """image (N, 256), rois (N, 4, 256), text (N, 256) -> context (N, 256)."""

    def __init__(self, encoder: KeyPilotEncoder) -> None:
        super().__init__()
        self.fusion = encoder.fusion

    def forward(self, image: torch.Tensor, rois: torch.Tensor, text: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"context": self.fusion(image, rois, text)}


def _for_conversion(module: nn.Module) -> nn.Module:
    """The module, or what it makes of itself to be converted, as with parallel convolutions joined."""
    convert = getattr(module, "for_conversion", None)
    return module if convert is None else convert()
