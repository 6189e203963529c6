"""What an encoder is made of: one frozen dataclass, and JSON to and from it."""

from __future__ import annotations

import dataclasses
import json

#: The regions of a screen, in the order of every array with a region axis.
REGIONS = ("input_field", "chat_bubble", "keyboard", "title_bar")

#: Width of every embedding that reaches the fusion.
EMBEDDING_SIZE = 256


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """A RoBERTa encoder's sizes; the defaults are `roberta_tiny`'s."""

    vocab_size: int = 6912
    hidden_size: int = 312
    num_layers: int = 2
    num_heads: int = 12
    intermediate_size: int = 1248
    max_tokens: int = 64


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Everything that decides the encoder's graph.

    Parameters
    ----------
    backbone : the name of a network in `keypilot.reference.backbone`.
    regions : ``"sam_lite"`` predicts four masks; ``"fixed_grid"`` uses `grid` and has no parameters.
    roi_features : ``"reencode"`` sends a crop of each region through the backbone again; ``"mask_pool"`` averages the
        feature map under each region's mask.
    image_side, crop_side : sides of the square letterboxed screenshot and crops, in pixels.
    neck_channels : channels of the feature map at a quarter of the screenshot's side.
    image_mean, image_std : normalisation ``(u8 / 255 - mean) / std`` per RGB channel.
    image_pad : colour of the letterbox's margins, 0 to 255 per RGB channel.
    grid : each region's fixed cell as x0, y0, x1, y1 in thousandths of the picture's sides, in the order of `REGIONS`.
    user_count : rows of the user table.
    """

    name: str = "keypilot-base"
    backbone: str = "mobilevit_xxs_075"
    regions: str = "sam_lite"
    roi_features: str = "reencode"
    image_side: int = 256
    crop_side: int = 112
    neck_channels: int = 192
    image_mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    image_std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    image_pad: tuple[int, int, int] = (127, 127, 127)
    grid: tuple[tuple[int, int, int, int], ...] = (
        (0, 540, 1000, 620),
        (0, 120, 1000, 540),
        (0, 620, 1000, 1000),
        (0, 40, 1000, 120),
    )
    text: TextConfig = dataclasses.field(default_factory=TextConfig)
    user_count: int = 1000

    def __post_init__(self) -> None:
        _one_of("regions", self.regions, ("sam_lite", "fixed_grid"))
        _one_of("roi_features", self.roi_features, ("reencode", "mask_pool"))
        if len(self.grid) != len(REGIONS):
            raise ValueError(f"grid: expected {len(REGIONS)} cells, one for each of {REGIONS}, got {len(self.grid)}")

    @property
    def mask_side(self) -> int:
        """Side of the masks and of the feature map, in cells of 4 x 4 pixels."""
        return self.image_side // 4

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EncoderConfig:
        """The inverse of `to_json`; an unknown field is a `TypeError` that names it."""
        fields = json.loads(text)
        fields["text"] = TextConfig(**fields["text"])
        for name in ("image_mean", "image_std", "image_pad"):
            fields[name] = tuple(fields[name])
        fields["grid"] = tuple(tuple(cell) for cell in fields["grid"])
        return cls(**fields)


def _one_of(field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{field}: expected one of {', '.join(allowed)}, got {value!r}")
