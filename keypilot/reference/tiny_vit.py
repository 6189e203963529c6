"""TinyViT (Wu et al. 2022, arXiv:2207.10666) as the image encoder of MobileSAM (Zhang et al. 2023, arXiv:2306.14289).

The modules have the names of MobileSAM's checkpoints, below ``image_encoder``.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn

_DIMS = (64, 128, 160, 320)
_DEPTHS = (2, 2, 6, 2)
_HEADS = (2, 4, 5, 10)
_WINDOWS = (7, 7, 14, 7)


class ConvNorm(nn.Sequential):
    """A convolution ``c`` without bias, and its BatchNorm ``bn``."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.add_module("c", nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(outputs))


class PatchEmbed(nn.Module):
    """Image (N, 3, H, W) to (N, dim, H / 4, W / 4)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvNorm(3, dim // 2, 3, stride=2), nn.GELU(), ConvNorm(dim // 2, dim, 3, stride=2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches: torch.Tensor = self.seq(x)
        return patches


class MBConv(nn.Module):
    """MobileNetV2's inverted residual, expanding four times, with GELU. (N, dim, H, W) to the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, 4 * dim)
        self.conv2 = ConvNorm(4 * dim, 4 * dim, 3, groups=4 * dim)
        self.conv3 = ConvNorm(4 * dim, dim)
        self.act = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv3(self.act(self.conv2(self.act(self.conv1(x)))))
        return self.act(x + y)


class PatchMerging(nn.Module):
    """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs)
        self.conv2 = ConvNorm(outputs, outputs, 3, stride=stride, groups=outputs)
        self.conv3 = ConvNorm(outputs, outputs)
        self.act = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        merged: torch.Tensor = self.conv3(self.act(self.conv2(self.act(self.conv1(x)))))
        return merged


def attention_bias_indices(window: int) -> tuple[torch.Tensor, int]:
    """For each pair of a window's positions, the index of its offset (|dy|, |dx|), (window^2, window^2); and how many.

    Offsets are numbered as they come up, pairs in raster order.
    """
    positions = list(itertools.product(range(window), repeat=2))
    numbers: dict[tuple[int, int], int] = {}
    indices = [
        numbers.setdefault((abs(y0 - y1), abs(x0 - x1)), len(numbers)) for y0, x0 in positions for y1, x1 in positions
    ]
    return torch.tensor(indices).view(len(positions), len(positions)), len(numbers)


class WindowAttention(nn.Module):
    """Self-attention in a window, after a LayerNorm, with a learned bias for each offset. (N, window^2, dim)."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        indices, offsets = attention_bias_indices(window)
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.randn(heads, offsets) * 0.02)
        self.attention_bias_idxs: torch.Tensor
        self.register_buffer("attention_bias_idxs", indices, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, dim = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, length, self.heads, 3 * (dim // self.heads))
        q, k, v = qkv.transpose(1, 2).chunk(3, dim=3)
        bias = self.attention_biases[:, self.attention_bias_idxs]
        attended = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        output: torch.Tensor = self.proj(attended.transpose(1, 2).reshape(batch, length, dim))
        return output


class FeedForward(nn.Module):
    """(..., dim) to the same, after a LayerNorm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.fc2(self.act(self.fc1(self.norm(x))))
        return output


class TinyVitBlock(nn.Module):
    """Window attention, a depthwise convolution and a feed-forward layer. (N, dim, H, W) to the same.

    Maps whose sides are no multiples of the window are padded at the bottom and right; padded positions are zeros
    before the LayerNorm, and are attended to.
    """

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(dim, heads, window)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = FeedForward(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self._attended(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.local_conv(x)
        return x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _attended(self, x: torch.Tensor) -> torch.Tensor:
        """(N, H, W, dim) to the same, window by window."""
        _, height, width, dim = x.shape
        window = self.window
        below, beside = -height % window, -width % window
        if below or beside:
            x = nn.functional.pad(x, (0, 0, 0, beside, 0, below))
        rows, columns = (height + below) // window, (width + beside) // window
        windows = x.reshape(-1, rows, window, columns, window, dim).transpose(2, 3)
        attended = self.attn(windows.reshape(-1, window * window, dim))
        maps = attended.view(-1, rows, columns, window, window, dim).transpose(2, 3)
        maps = maps.reshape(-1, rows * window, columns * window, dim)
        return maps[:, :height, :width]


class Stage(nn.Module):
    """Blocks at one resolution, and the step to the next."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class LayerNorm2d(nn.Module):
    """LayerNorm over the channels of (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = nn.functional.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6)
        return normed.permute(0, 3, 1, 2)


class TinyVit(nn.Module):
    """TinyViT-5M up to a sixteenth of the image's sides, where its last stage stays, and SAM's neck to 256 channels.

    Input: image (N, 3, H, W), sides multiples of 16. Output: (N, 256, H / 16, W / 16).
    """

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(_DIMS[0])
        steps: list[nn.Module | None] = [
            *(PatchMerging(a, b, stride) for a, b, stride in zip(_DIMS[:-1], _DIMS[1:], (2, 2, 1), strict=True)),
            None,
        ]
        self.layers = nn.ModuleList(
            Stage([MBConv(dim) if index == 0 else TinyVitBlock(dim, heads, window) for _ in range(depth)], step)
            for index, (dim, depth, heads, window, step) in enumerate(
                zip(_DIMS, _DEPTHS, _HEADS, _WINDOWS, steps, strict=True)
            )
        )
        self.neck = nn.Sequential(
            nn.Conv2d(_DIMS[-1], 256, 1, bias=False),
            LayerNorm2d(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            LayerNorm2d(256),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(image)
        for layer in self.layers:
            x = layer(x)
        embedding: torch.Tensor = self.neck(x)
        return embedding
