"""Feature extractors: timm's networks without the classifier, and the neck on their maps."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from keypilot.reference.timm_shim import import_timm


def _mobilevit_xxs(width: float) -> Any:
    """timm's ByobNet of MobileViT-XXS (Mehta & Rastegari 2022, arXiv:2110.02178), every width scaled by `width`.

    Channels and transformer widths are ``make_divisible(c * width, 8)``, which never takes away more than a tenth.
    """
    import_timm()
    from timm.layers.helpers import make_divisible
    from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg

    def scaled(channels: int) -> int:
        return int(make_divisible(channels * width, 8))

    def inverted_residual(depth: int, channels: int, stride: int) -> Any:
        kwargs = {"bottle_in": True, "linear_out": True}
        return ByoBlockCfg(type="bottle", d=depth, c=scaled(channels), s=stride, gs=1, br=2.0, block_kwargs=kwargs)

    def mobilevit(channels: int, transformer_dim: int, depth: int) -> Any:
        kwargs = {"transformer_dim": scaled(transformer_dim), "transformer_depth": depth, "patch_size": 2}
        block = ByoBlockCfg(type="mobilevit", d=1, c=scaled(channels), s=1, block_kwargs=kwargs)
        return (inverted_residual(1, channels, 2), block)

    config = ByoModelCfg(
        blocks=(
            inverted_residual(1, 16, 1),
            inverted_residual(3, 24, 2),
            mobilevit(48, 64, 2),
            mobilevit(64, 80, 4),
            mobilevit(80, 96, 3),
        ),
        stem_chs=scaled(16),
        stem_type="3x3",
        stem_pool="",
        downsample="",
        act_layer="silu",
        num_features=0,
    )
    return ByobNet(config, num_classes=0, global_pool="")


def _mobilevit_xs() -> Any:
    import_timm()
    from timm.models.byobnet import ByobNet
    from timm.models.mobilevit import model_cfgs

    return ByobNet(dataclasses.replace(model_cfgs["mobilevit_xs"], num_features=0), num_classes=0, global_pool="")


class ByobBackbone(nn.Module):
    """A ByobNet's stem and stages; gives the feature maps at strides 4, 8, 16 and 32.

    Input: (N, 3, H, W), H and W multiples of 16. Output: a list of four maps, finest first.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.stem: nn.Module = net.stem
        self.stages: nn.Sequential = net.stages
        # The last feature_info entry is named for the classifier's convolution; its map is the last stage's.
        info = [dict(entry, index=i) for i, entry in enumerate(net.feature_info[-len(self.stages) :])]
        coarsest = {entry["reduction"]: entry for entry in info}
        #: Index of the last stage at each of the strides 4, 8, 16, 32.
        self.taps = [int(coarsest[stride]["index"]) for stride in (4, 8, 16, 32)]
        #: Channels of the four maps.
        self.channels = [int(coarsest[stride]["num_chs"]) for stride in (4, 8, 16, 32)]

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        x = self.stem(image)
        maps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.taps:
                maps.append(x)
        return maps


class MobileNetBackbone(nn.Module):
    """timm's MobileNetV3-Small (Howard et al. 2019, arXiv:1905.02244) without its head: maps at strides 4 to 32.

    Input: (N, 3, H, W). Output: a list of four maps, finest first.
    """

    def __init__(self) -> None:
        super().__init__()
        timm = import_timm()
        self.net: Any = timm.create_model("mobilenetv3_small_100", features_only=True, out_indices=(1, 2, 3, 4))
        #: Channels of the four maps.
        self.channels = [int(channels) for channels in self.net.feature_info.channels()]

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return list(self.net(image))


def build_backbone(name: str) -> ByobBackbone | MobileNetBackbone:
    """The backbone of that name, one of `keypilot.reference.config.COMPONENTS`, with random weights."""
    match name:
        case "mobilevit_xxs_075":
            return ByobBackbone(_mobilevit_xxs(0.75))
        case "mobilevit_xxs":
            return ByobBackbone(_mobilevit_xxs(1.0))
        case "mobilevit_xs":
            return ByobBackbone(_mobilevit_xs())
        case _:
            return MobileNetBackbone()


class FeaturePyramid(nn.Module):
    """A light feature pyramid (Lin et al. 2017, arXiv:1612.03144) with a single output at stride 4.

    A 1x1 lateral brings each map to `out_channels`; coarser maps are upsampled (nearest) and added to finer ones; one
    depthwise 3x3 smooths the sum.

    Input: four maps (N, C_i, H / s, W / s) for s = 4, 8, 16, 32. Output: (N, out_channels, H / 4, W / 4).
    """

    def __init__(self, in_channels: list[int], out_channels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, out_channels, 1) for c in in_channels)
        self.smooth = nn.Sequential(
            nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=out_channels, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.SiLU(),
        )

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        x = self.laterals[-1](maps[-1])
        for lateral, finer in zip(reversed(self.laterals[:-1]), reversed(maps[:-1]), strict=True):
            x = lateral(finer) + nn.functional.interpolate(x, size=finer.shape[-2:], mode="nearest")
        return self.smooth(x)
