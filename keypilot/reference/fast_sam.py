"""FastSAM (Zhao et al. 2023, arXiv:2306.12156): YOLOv8's instance segmentation network with one class.

YOLOv8's blocks after their published description: CSP stages with all intermediate maps joined (C2f), spatial pyramid
pooling (SPPF), a path aggregation neck (Liu et al. 2018, arXiv:1803.01534), decoupled heads without anchor boxes, edges
as distributions over 16 bins (Li et al. 2020, arXiv:2006.04388), and YOLACT's prototypes (Bolya et al. 2019,
arXiv:1904.02689). The modules have the names of the public checkpoints.
"""

from __future__ import annotations

import torch
from torch import nn

_BINS = 16  # of the distribution of a box's edge, in cells
_COEFFICIENTS = 32
_STRIDES = (8, 16, 32)

#: Size -> multiples of depth and of width, and the most channels before widening.
_SIZES = {"s": (1 / 3, 0.5, 1024), "x": (1.0, 1.25, 512)}


class Conv(nn.Module):
    """Convolution, BatchNorm and SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.act(self.bn(self.conv(x)))
        return output


class Bottleneck(nn.Module):
    """Two 3x3 convolutions, with a residual where the map is the backbone's."""

    def __init__(self, channels: int, *, residual: bool) -> None:
        super().__init__()
        self.cv1 = Conv(channels, channels, 3)
        self.cv2 = Conv(channels, channels, 3)
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.cv2(self.cv1(x))
        return x + y if self.residual else y


class C2f(nn.Module):
    """Half of the channels through bottlenecks, one after the other; all maps on the way are joined."""

    def __init__(self, inputs: int, outputs: int, depth: int, *, residual: bool = False) -> None:
        super().__init__()
        half = outputs // 2
        self.cv1 = Conv(inputs, 2 * half)
        self.cv2 = Conv((2 + depth) * half, outputs)
        self.m = nn.ModuleList(Bottleneck(half, residual=residual) for _ in range(depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = list(self.cv1(x).chunk(2, dim=1))
        for bottleneck in self.m:
            maps.append(bottleneck(maps[-1]))
        joined: torch.Tensor = self.cv2(torch.cat(maps, dim=1))
        return joined


class Sppf(nn.Module):
    """A map joined with its maxima over 5x5, 9x9 and 13x13."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1 = Conv(channels, channels // 2)
        self.cv2 = Conv(2 * channels, channels)
        self.m = nn.MaxPool2d(5, stride=1, padding=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = [self.cv1(x)]
        for _ in range(3):
            maps.append(self.m(maps[-1]))
        joined: torch.Tensor = self.cv2(torch.cat(maps, dim=1))
        return joined


class Join(nn.Module):
    """Maps joined along their channels."""

    def forward(self, *maps: torch.Tensor) -> torch.Tensor:
        return torch.cat(maps, dim=1)


class Prototypes(nn.Module):
    """(N, inputs, H, W) to mask prototypes (N, 32, 2 H, 2 W)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.cv1 = Conv(inputs, hidden, 3)
        self.upsample = nn.ConvTranspose2d(hidden, hidden, 2, stride=2)
        self.cv2 = Conv(hidden, hidden, 3)
        self.cv3 = Conv(hidden, _COEFFICIENTS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        prototypes: torch.Tensor = self.cv3(self.cv2(self.upsample(self.cv1(x))))
        return prototypes


class Expectation(nn.Module):
    """The mean of a distribution over bins 0 to 15: (..., 16) to (...)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(_BINS, 1, 1, bias=False)
        self.conv.weight = nn.Parameter(torch.arange(_BINS, dtype=torch.float32).view(1, _BINS, 1, 1), False)

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return (logits.softmax(-1) @ self.conv.weight.view(_BINS, 1)).squeeze(-1)


class SegmentHead(nn.Module):
    """Boxes, scores and mask coefficients of every cell of three maps, and the prototypes, from the finest map."""

    def __init__(self, channels: list[int], prototype_channels: int, side: int) -> None:
        super().__init__()
        finest = channels[0]

        def heads(hidden: int, outputs: int) -> nn.ModuleList:
            return nn.ModuleList(
                nn.Sequential(Conv(inputs, hidden, 3), Conv(hidden, hidden, 3), nn.Conv2d(hidden, outputs, 1))
                for inputs in channels
            )

        self.cv2 = heads(max(finest // 4, 4 * _BINS), 4 * _BINS)  # the boxes' edges
        self.cv3 = heads(finest, 1)  # the class
        self.dfl = Expectation()
        self.proto = Prototypes(finest, prototype_channels)
        self.cv4 = heads(max(finest // 4, _COEFFICIENTS), _COEFFICIENTS)
        centers, strides = zip(*(_cells(side // stride, stride) for stride in _STRIDES), strict=True)
        self.centers: torch.Tensor
        self.register_buffer("centers", torch.cat(centers), persistent=False)
        self.strides: torch.Tensor
        self.register_buffer("strides", torch.cat(strides), persistent=False)

    def forward(self, maps: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        edges = self.dfl(_flat(self.cv2, maps).unflatten(2, (4, _BINS))) * self.strides  # left, top, right, bottom
        return {
            "boxes": torch.cat([self.centers - edges[..., :2], self.centers + edges[..., 2:]], dim=2),
            "scores": _flat(self.cv3, maps).sigmoid().squeeze(2),
            "coefficients": _flat(self.cv4, maps),
            "prototypes": self.proto(maps[0]),
        }


def _cells(count: int, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The centres in pixels of count x count cells, (count^2, 2), and as many strides, (count^2, 1)."""
    places = (torch.arange(count, dtype=torch.float32) + 0.5) * stride
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    return torch.stack([columns, rows], dim=-1).view(-1, 2), torch.full((count * count, 1), float(stride))


def _flat(heads: nn.ModuleList, maps: list[torch.Tensor]) -> torch.Tensor:
    """Each head on its map; all cells, (N, A, outputs)."""
    return torch.cat([head(x).flatten(2).transpose(1, 2) for head, x in zip(heads, maps, strict=True)], dim=1)


class FastSam(nn.Module):
    """YOLOv8-seg with one class.

    Input: image (N, 3, side, side), in 0 to 1. Outputs: boxes (N, A, 4), x0, y0, x1, y1 in pixels; scores (N, A);
    coefficients (N, A, 32); prototypes (N, 32, side / 4, side / 4). A is 21 / 1024 of the image's pixels.

    Parameters
    ----------
    size : ``"s"`` or ``"x"``.
    side : of the image in pixels, a multiple of 32; 1024 is what FastSAM was trained with.
    """

    def __init__(self, size: str, side: int) -> None:
        super().__init__()
        if size not in _SIZES:
            raise ValueError(f"size: expected one of {', '.join(_SIZES)}, got {size!r}")
        if side < 32 or side % 32:
            raise ValueError(f"side: expected a multiple of 32, got {side}")
        depth, width, most = _SIZES[size]
        two, four, eight, sixteen, widest = (
            -(-int(min(channels, most) * width) // 8) * 8 for channels in (64, 128, 256, 512, 1024)
        )
        few, many = max(1, round(3 * depth)), max(1, round(6 * depth))
        self.model = nn.ModuleList(
            [
                Conv(3, two, 3, 2),
                Conv(two, four, 3, 2),
                C2f(four, four, few, residual=True),
                Conv(four, eight, 3, 2),
                C2f(eight, eight, many, residual=True),
                Conv(eight, sixteen, 3, 2),
                C2f(sixteen, sixteen, many, residual=True),
                Conv(sixteen, widest, 3, 2),
                C2f(widest, widest, few, residual=True),
                Sppf(widest),
                nn.Upsample(scale_factor=2),
                Join(),
                C2f(widest + sixteen, sixteen, few),
                nn.Upsample(scale_factor=2),
                Join(),
                C2f(sixteen + eight, eight, few),
                Conv(eight, eight, 3, 2),
                Join(),
                C2f(eight + sixteen, sixteen, few),
                Conv(sixteen, sixteen, 3, 2),
                Join(),
                C2f(sixteen + widest, widest, few),
                SegmentHead([eight, sixteen, widest], eight, side),
            ]
        )

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        # The places of the maps that later ones are joined with, and of those that the head reads.
        joined_with = {11: 6, 14: 4, 17: 12, 20: 9}
        kept: dict[int, torch.Tensor] = {}
        x = image
        for index, module in enumerate(self.model[:-1]):
            x = module(x, kept[joined_with[index]]) if index in joined_with else module(x)
            kept[index] = x
        outputs: dict[str, torch.Tensor] = self.model[-1]([kept[15], kept[18], kept[21]])
        return outputs
