"""The embedding of the whole screenshot: from the backbone's feature map, or from a network of its own."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import nn

from keypilot.reference.config import EMBEDDING_SIZE, EncoderConfig
from keypilot.reference.timm_shim import import_timm


class Projection(nn.Module):
    """Mean over the feature map, then an MLP channels-768-256.

    Input: (N, channels, S, S). Output: (N, 256).
    """

    hidden = 768

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(channels, self.hidden), nn.GELU(), nn.Linear(self.hidden, EMBEDDING_SIZE))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.mlp(features.mean((2, 3)))


class PoolLinear(nn.Module):
    """Mean over the feature map, a linear layer to 256, LayerNorm, GELU.

    Input: (N, channels, S, S). Output: (N, 256).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, EMBEDDING_SIZE)
        self.norm = nn.LayerNorm(EMBEDDING_SIZE)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return nn.functional.gelu(self.norm(self.linear(features.mean((2, 3)))))


class ImagePicture(NamedTuple):
    """The picture that a network of its own takes: side in pixels, and ``(u8 / 255 - mean) / std`` per RGB channel."""

    side: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


_UNIT = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class MobileClipImage(nn.Module):
    """MobileCLIP's image tower (Vasu et al. 2024, arXiv:2311.17049), timm's `fastvit_mci*`, and a projection.

    Input: (N, 3, 256, 256). Output: (N, 256).
    """

    picture = ImagePicture(256, *_UNIT)
    width = 512

    def __init__(self, timm_name: str) -> None:
        super().__init__()
        self.tower: Any = import_timm().create_model(timm_name, num_classes=self.width)
        for name, parameter in self.tower.named_parameters():
            if name.endswith(".gamma"):  # published: 1e-5, which hides an untrained branch
                nn.init.constant_(parameter, 0.25)
        self.projection = nn.Linear(self.width, EMBEDDING_SIZE)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.projection(self.tower(image))

    def for_conversion(self) -> MobileClipImage:
        """A copy whose parallel branches are one convolution each."""
        converted = copy.deepcopy(self).eval()
        converted.tower = import_timm().utils.reparameterize_model(converted.tower, inplace=True)
        return converted


class VisionTower(nn.Module):
    """A vision transformer of `transformers`, pooled as it does it, and a projection.

    Input: (N, 3, side, side). Output: (N, 256).
    """

    def __init__(self, tower: Any, picture: ImagePicture) -> None:
        super().__init__()
        self.picture = picture
        self.tower = tower
        self.projection = nn.Linear(tower.config.hidden_size, EMBEDDING_SIZE)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.projection(self.tower(image).pooler_output)


def _clip_vit_tiny() -> VisionTower:
    """CLIP's vision tower (Radford et al. 2021, arXiv:2103.00020) in ViT-Tiny's sizes."""
    import_timm()  # transformers imports torchvision as well
    from transformers import CLIPVisionConfig, CLIPVisionModel

    picture = ImagePicture(224, *_CLIP)
    config = CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=12,
        num_attention_heads=3,
        image_size=picture.side,
        patch_size=16,
    )
    return VisionTower(CLIPVisionModel(config), picture)


def _siglip_small() -> VisionTower:
    """SigLIP's vision tower (Zhai et al. 2023, arXiv:2303.15343) with its pooling head, 6 layers of 384."""
    import_timm()  # transformers imports torchvision as well
    from transformers import SiglipVisionConfig, SiglipVisionModel

    picture = ImagePicture(224, *_HALF)
    config = SiglipVisionConfig(
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=6,
        num_attention_heads=6,
        image_size=picture.side,
        patch_size=16,
    )
    return VisionTower(SiglipVisionModel(config), picture)


def build_global_image(config: EncoderConfig) -> nn.Module:
    """The global image encoder that the configuration names, with random weights.

    It takes the feature map where the name is one of `keypilot.reference.config.POOLED_IMAGES`; else a picture, which
    its `picture` describes.
    """
    match config.global_image:
        case "projection":
            return Projection(config.neck_channels)
        case "pool_linear":
            return PoolLinear(config.neck_channels)
        case "clip_vit_tiny":
            return _clip_vit_tiny()
        case "siglip_small":
            return _siglip_small()
        case "mobileclip_s0":
            return MobileClipImage("fastvit_mci0")
        case _:
            return MobileClipImage("fastvit_mci1")
