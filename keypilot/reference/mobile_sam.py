"""MobileSAM (Zhang et al. 2023, arXiv:2306.14289): SAM's prompt encoder and mask decoder on a TinyViT.

SAM is Kirillov et al. 2023, arXiv:2304.02643. The modules have the names of the public checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from keypilot.reference.tiny_vit import LayerNorm2d, TinyVit

if TYPE_CHECKING:
    from keypilot.reference.encoder import Program

_DIM = 256
_HEADS = 8
_MASKS = 4  # mask tokens: one for a prompt that is clear, three for parts and wholes of one that is not


class RandomFourierFeatures(nn.Module):
    """Positions in 0 to 1, (..., 2), to (..., 256): sines and cosines of random projections."""

    def __init__(self) -> None:
        super().__init__()
        self.positional_encoding_gaussian_matrix: torch.Tensor
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, _DIM // 2))

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        angles = (2 * positions - 1) @ self.positional_encoding_gaussian_matrix * (2 * math.pi)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PromptEncoder(nn.Module):
    """Points, boxes and masks to what the decoder attends to.

    Parameters
    ----------
    side : of the image in pixels.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.pe_layer = RandomFourierFeatures()
        #: Of a point outside, a point inside, a box's first corner and its second.
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, _DIM) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, _DIM)
        self.no_mask_embed = nn.Embedding(1, _DIM)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, stride=2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, stride=2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, _DIM, 1),
        )

    def points(self, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Pixels (N, P, 2) as x, y and labels (N, P), 1 inside, 0 outside, -1 none, to (N, P, 256)."""
        outside, inside = (self._point_embedding(index) for index in (0, 1))
        labels = labels.unsqueeze(-1)
        found = self._positions(points) + torch.where(labels == 1, inside, outside)
        return torch.where(labels == -1, self.not_a_point_embed.weight, found)

    def padding(self, count: int) -> torch.Tensor:
        """The point that is none, which SAM adds to points without a box: (count, 1, 256)."""
        return self.not_a_point_embed.weight.expand(count, 1, -1)

    def boxes(self, boxes: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 4) as x0, y0, x1, y1 to (N, 2, 256)."""
        corners = torch.cat([self._point_embedding(index) for index in (2, 3)])
        return self._positions(boxes.view(-1, 2, 2)) + corners

    def masks(self, masks: torch.Tensor) -> torch.Tensor:
        """Mask logits (N, 1, side / 4, side / 4) to (N, 256, side / 16, side / 16)."""
        embedded: torch.Tensor = self.mask_downscaling(masks)
        return embedded

    def no_mask(self) -> torch.Tensor:
        """In place of a mask: (1, 256, 1, 1)."""
        return self.no_mask_embed.weight.view(1, -1, 1, 1)

    def image_positions(self) -> torch.Tensor:
        """Of the image embedding's cells: (1, 256, side / 16, side / 16)."""
        cells = self.side // 16
        places = (torch.arange(cells, dtype=self.no_mask_embed.weight.dtype) + 0.5) / cells
        grid = torch.stack([places.expand(cells, cells), places[:, None].expand(cells, cells)], dim=-1)
        positions: torch.Tensor = self.pe_layer(grid).permute(2, 0, 1)
        return positions.unsqueeze(0)

    def _point_embedding(self, index: int) -> torch.Tensor:
        weight = self.point_embeddings[index].weight
        assert isinstance(weight, torch.Tensor)
        return weight

    def _positions(self, pixels: torch.Tensor) -> torch.Tensor:
        positions: torch.Tensor = self.pe_layer((pixels + 0.5) / self.side)
        return positions


class Attention(nn.Module):
    """Multi-head attention of q (N, Lq, 256) to k and v (N, Lk, 256), in `inner` channels."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(_DIM, inner)
        self.k_proj = nn.Linear(_DIM, inner)
        self.v_proj = nn.Linear(_DIM, inner)
        self.out_proj = nn.Linear(inner, _DIM)

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        heads = (
            projection(x).unflatten(2, (_HEADS, -1)).transpose(1, 2)
            for projection, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        attended = nn.functional.scaled_dot_product_attention(*heads)
        output: torch.Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return output


class FeedForward(nn.Module):
    """(..., 256) to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.lin1 = nn.Linear(_DIM, 2048)
        self.lin2 = nn.Linear(2048, _DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.lin2(self.lin1(x).relu())
        return output


class TwoWayBlock(nn.Module):
    """Tokens attend to themselves and to the image, then the image to the tokens."""

    def __init__(self, *, is_first: bool) -> None:
        super().__init__()
        self.is_first = is_first
        self.self_attn = Attention(_DIM)
        self.norm1 = nn.LayerNorm(_DIM)
        self.cross_attn_token_to_image = Attention(_DIM // 2)
        self.norm2 = nn.LayerNorm(_DIM)
        self.mlp = FeedForward()
        self.norm3 = nn.LayerNorm(_DIM)
        self.norm4 = nn.LayerNorm(_DIM)
        self.cross_attn_image_to_token = Attention(_DIM // 2)

    def forward(
        self, tokens: torch.Tensor, image: torch.Tensor, prompts: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.is_first:  # the tokens are the prompts: nothing to add, and no residual
            tokens = self.norm1(self.self_attn(tokens, tokens, tokens))
        else:
            placed = tokens + prompts
            tokens = self.norm1(tokens + self.self_attn(placed, placed, tokens))
        keys = image + positions
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + prompts, keys, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(keys, tokens + prompts, tokens))
        return tokens, image


class TwoWayTransformer(nn.Module):
    """Tokens (N, L, 256) and an image (N, cells, 256) with positions, to both, each having seen the other."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(is_first=index == 0) for index in range(2))
        self.final_attn_token_to_image = Attention(_DIM // 2)
        self.norm_final_attn = nn.LayerNorm(_DIM)

    def forward(
        self, image: torch.Tensor, positions: torch.Tensor, prompts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = prompts
        for layer in self.layers:
            tokens, image = layer(tokens, image, prompts, positions)
        attended = self.final_attn_token_to_image(tokens + prompts, image + positions, image)
        return self.norm_final_attn(tokens + attended), image


class Mlp(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(_DIM, width) for width in (_DIM, _DIM, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        output: torch.Tensor = self.layers[-1](x)
        return output


class MaskDecoder(nn.Module):
    """SAM's: masks as classifiers, which the mask tokens give, over the image's pixels, enlarged four times."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer()
        self.iou_token = nn.Embedding(1, _DIM)
        self.mask_tokens = nn.Embedding(_MASKS, _DIM)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(_DIM, _DIM // 4, 2, stride=2),
            LayerNorm2d(_DIM // 4),
            nn.GELU(),
            nn.ConvTranspose2d(_DIM // 4, _DIM // 8, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(Mlp(_DIM // 8) for _ in range(_MASKS))
        self.iou_prediction_head = Mlp(_MASKS)

    def forward(
        self, image: torch.Tensor, positions: torch.Tensor, prompts: torch.Tensor, masks: int = _MASKS
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits of the first `masks` of the masks, and what each one's intersection over union is thought to be.

        Parameters
        ----------
        image : (N, 256, h, w), the embedding and that of the mask prompt.
        positions : (1, 256, h, w).
        prompts : (N, P, 256).

        Returns
        -------
        logits : (N, masks, 4 h, 4 w).
        iou : (N, 4).
        """
        batch, _, height, width = image.shape
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(batch, -1, -1)
        tokens, pixels = self.transformer(
            image.flatten(2).transpose(1, 2), positions.flatten(2).transpose(1, 2), torch.cat([own, prompts], dim=1)
        )
        enlarged = self.output_upscaling(pixels.transpose(1, 2).unflatten(2, (height, width)))
        classifiers = torch.stack(
            [mlp(tokens[:, 1 + index]) for index, mlp in enumerate(self.output_hypernetworks_mlps[:masks])], dim=1
        )
        logits = classifiers @ enlarged.flatten(2)
        return logits.unflatten(2, (4 * height, 4 * width)), self.iou_prediction_head(tokens[:, 0])


class MobileSam(nn.Module):
    """The regions' masks from four constant box prompts, the cells of the fixed grid.

    Input: image (N, 3, side, side). Output: mask_logits (N, 4, side / 4, side / 4), positive inside.

    Parameters
    ----------
    side : of the image in pixels, a multiple of 16; 1024 is what MobileSAM was trained with.
    grid : the cells, as x0, y0, x1, y1 in thousandths of the image's sides.
    """

    def __init__(self, side: int, grid: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.side = side
        self.image_encoder = TinyVit()
        self.prompt_encoder = PromptEncoder(side)
        self.mask_decoder = MaskDecoder()
        self.cells: torch.Tensor
        self.register_buffer("cells", torch.tensor(grid) * (side / 1000), persistent=False)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        embedding = self.image_encoder(image) + self.prompt_encoder.no_mask()  # (N, 256, h, w)
        prompts = self.prompt_encoder.boxes(self.cells)  # (R, 2, 256)
        regions, cells = len(self.cells), self.side // 16
        images = embedding.unsqueeze(1).expand(-1, regions, -1, -1, -1).reshape(-1, _DIM, cells, cells)
        prompts = prompts.expand(image.shape[0], -1, -1, -1).reshape(-1, 2, _DIM)
        logits, _ = self.mask_decoder(images, self.prompt_encoder.image_positions(), prompts, masks=1)
        return {"mask_logits": logits.view(-1, regions, 4 * cells, 4 * cells)}

    def programs(self, points: int = 1) -> dict[str, Program]:
        """Programs for prompts of one's own: one embeds an image, the others find an object in it.

        ``encoder`` takes image (N, 3, side, side) and gives image_embedding (N, 256, side / 16, side / 16). ``points``
        takes image_embedding, points (N, P, 2) in pixels as x, y, and labels (N, P): 1 inside, 0 outside, -1 for a
        place that is not used. ``boxes`` takes image_embedding and boxes (N, 4) in pixels as x0, y0, x1, y1;
        ``points_and_boxes`` all of them. They give mask_logits (N, 4, side / 4, side / 4) and iou (N, 4): the first
        mask is the one for a prompt that is clear, as a box; the other three are the choices for one that is not, as a
        single point, and iou says which is the best.

        Parameters
        ----------
        points : P.
        """
        from keypilot.reference.encoder import Program

        image = {"image_embedding": torch.randn(2, _DIM, self.side // 16, self.side // 16)}
        clicks = {"points": torch.rand(2, points, 2) * self.side, "labels": torch.ones(2, points, dtype=torch.int64)}
        boxes = {"boxes": torch.tensor([[0.1, 0.1, 0.6, 0.7], [0.0, 0.2, 1.0, 0.5]]) * self.side}
        return {
            "encoder": Program(ImageEmbedding(self), {"image": torch.rand(2, 3, self.side, self.side)}),
            "points": Program(PointPrompts(self), image | clicks),
            "boxes": Program(BoxPrompts(self), image | boxes),
            "points_and_boxes": Program(PointAndBoxPrompts(self), image | clicks | boxes),
        }


class ImageEmbedding(nn.Module):
    """image (N, 3, side, side) -> image_embedding (N, 256, side / 16, side / 16)."""

    def __init__(self, sam: MobileSam) -> None:
        super().__init__()
        self.image_encoder = sam.image_encoder

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"image_embedding": self.image_encoder(image)}


class _Prompts(nn.Module):
    """Prompts on an image embedding; see `MobileSam.programs`."""

    def __init__(self, sam: MobileSam) -> None:
        super().__init__()
        self.prompt_encoder = sam.prompt_encoder
        self.mask_decoder = sam.mask_decoder

    def decode(self, image_embedding: torch.Tensor, prompts: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        encoder = self.prompt_encoder
        logits, iou = self.mask_decoder(
            image_embedding + encoder.no_mask(), encoder.image_positions(), torch.cat(prompts, dim=1)
        )
        return {"mask_logits": logits, "iou": iou}


class PointPrompts(_Prompts):
    """image_embedding, points (N, P, 2), labels (N, P) -> mask_logits, iou."""

    def forward(
        self, image_embedding: torch.Tensor, points: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        encoder = self.prompt_encoder
        return self.decode(image_embedding, [encoder.points(points, labels), encoder.padding(points.shape[0])])


class BoxPrompts(_Prompts):
    """image_embedding, boxes (N, 4) -> mask_logits, iou."""

    def forward(self, image_embedding: torch.Tensor, boxes: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.decode(image_embedding, [self.prompt_encoder.boxes(boxes)])


class PointAndBoxPrompts(_Prompts):
    """image_embedding, points (N, P, 2), labels (N, P), boxes (N, 4) -> mask_logits, iou."""

    def forward(
        self, image_embedding: torch.Tensor, points: torch.Tensor, labels: torch.Tensor, boxes: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        encoder = self.prompt_encoder
        return self.decode(image_embedding, [encoder.points(points, labels), encoder.boxes(boxes)])
