"""What an encoder is made of: one frozen dataclass, JSON to and from it, and presets. Imports no PyTorch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from keypilot.errors import ArgumentError

#: The regions of a screen, in the order of every array with a region axis.
REGIONS = ("input_field", "chat_bubble", "keyboard", "title_bar")

#: Width of every embedding that reaches the fusion.
EMBEDDING_SIZE = 256

#: Width of a user's vector.
USER_SIZE = 64

#: Field of `EncoderConfig` -> the names that it may have.
COMPONENTS: dict[str, tuple[str, ...]] = {
    "backbone": ("mobilevit_xxs_075", "mobilevit_xxs", "mobilevit_xs", "mobilenetv3_small"),
    "regions": ("sam_lite", "mobile_sam", "fast_sam_s", "fast_sam_x", "fixed_grid"),
    "roi_features": ("reencode", "mask_pool"),
    "global_image": (
        "projection",
        "pool_linear",
        "mobileclip_s0",
        "mobileclip_s1",
        "clip_vit_tiny",
        "siglip_small",
    ),
    "text": (
        "roberta_tiny",
        "distilbert_tiny",
        "bert_tiny",
        "tinybert",
        "minilm_2",
        "minilm_6",
        "mobileclip",
    ),
    "fusion": ("transformer", "transformer_2", "cross_attention"),
    "user": ("table", "none"),
}

#: Text encoder -> the tokens that it has positions for; the others have as many as `max_tokens`.
TEXT_POSITIONS = {**dict.fromkeys(("bert_tiny", "tinybert", "minilm_2", "minilm_6"), 512), "mobileclip": 77}

#: Of the RGB channels of ImageNet's pictures, from 0 to 1.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: Global image encoders that read the feature map of the screen; the others are networks of their own.
POOLED_IMAGES = ("projection", "pool_linear")

#: Region models that are networks of their own, with a picture of their own.
REGION_NETWORKS = ("mobile_sam", "fast_sam_s", "fast_sam_x")


#: Backbone -> its published pictures, where these are not the defaults of `EncoderConfig`.
_PICTURES: dict[str, dict[str, Any]] = {
    "mobilenetv3_small": {
        "image_side": 224,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
    }
}

#: Fields that the changes of a preset's name may give.
_CHANGEABLE = (
    *COMPONENTS,
    *("image_side", "crop_side", "regions_side", "neck_channels"),
    *("vocab_size", "max_tokens", "user_count", "int8_bytes"),
)


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Everything that decides the encoder's graph.

    Parameters
    ----------
    backbone, regions, roi_features, global_image, text, fusion, user : names of `COMPONENTS`. `roi_features` is
        ``"reencode"``, which sends a crop of each region through the backbone again, or ``"mask_pool"``, which averages
        the feature map under each region's mask, and needs masks that lie on it: ``sam_lite``'s or the fixed grid's.
    image_side, crop_side : sides of the square letterboxed screenshot and crops, in pixels, multiples of 16.
    regions_side : side of the letterboxed screenshot that ``mobile_sam`` or ``fast_sam_*`` sees.
    neck_channels : channels of the feature map at a quarter of the screenshot's side.
    image_mean, image_std : normalisation ``(u8 / 255 - mean) / std`` per RGB channel, of the backbone's pictures.
    image_pad : colour of the letterbox's margins, 0 to 255 per RGB channel.
    grid : each region's fixed cell as x0, y0, x1, y1 in thousandths of the picture's sides, in the order of `REGIONS`.
    vocab_size : rows of the text encoder's table; None: its own number.
    max_tokens : length of a text after truncation, special tokens included.
    user_count : users that the table has a vector for.
    int8_bytes : the largest that the int8 file may be: weights are stored in four bits until it is; 0: no limit.
    """

    name: str = "keypilot-base"
    backbone: str = "mobilevit_xxs_075"
    regions: str = "sam_lite"
    roi_features: str = "reencode"
    global_image: str = "projection"
    text: str = "roberta_tiny"
    fusion: str = "transformer"
    user: str = "table"
    image_side: int = 256
    crop_side: int = 112
    regions_side: int = 1024
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
    vocab_size: int | None = None
    max_tokens: int = 64
    user_count: int = 1000
    int8_bytes: int = 0

    def __post_init__(self) -> None:
        for field, allowed in COMPONENTS.items():
            value = getattr(self, field)
            if value not in allowed:
                raise ValueError(f"{field}: expected one of {', '.join(allowed)}, got {value!r}")
        if self.roi_features == "mask_pool" and self.regions in REGION_NETWORKS:
            raise ValueError(
                "roi_features: expected reencode, since mask_pool needs masks on the backbone's feature map, which "
                f"sam_lite and fixed_grid have, got mask_pool with regions {self.regions!r}"
            )
        for field in ("image_side", "crop_side", "regions_side"):
            side = getattr(self, field)
            if isinstance(side, bool) or not isinstance(side, int) or side < 32 or side % 16:
                raise ValueError(f"{field}: expected a multiple of 16 from 32 on, got {side!r}")
        for field in ("neck_channels", "max_tokens", "user_count"):
            number = getattr(self, field)
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ValueError(f"{field}: expected a positive integer, got {number!r}")
        positions = TEXT_POSITIONS.get(self.text, self.max_tokens)
        if self.max_tokens > positions:
            raise ValueError(
                f"max_tokens: expected at most {positions}, the positions of text {self.text!r}, got {self.max_tokens}"
            )
        if self.regions.startswith("fast_sam") and self.regions_side % 32:
            raise ValueError(
                f"regions_side: expected a multiple of 32 with regions {self.regions!r}, got {self.regions_side}"
            )
        if len(self.grid) != len(REGIONS):
            raise ValueError(f"grid: expected {len(REGIONS)} cells, one for each of {REGIONS}, got {len(self.grid)}")

    @property
    def masks_picture_side(self) -> int:
        """Side of the letterboxed screenshot that the masks lie in."""
        return self.regions_side if self.regions in REGION_NETWORKS else self.image_side

    @property
    def mask_side(self) -> int:
        """Side of the masks, in cells of 4 x 4 pixels of their picture."""
        return self.masks_picture_side // 4

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EncoderConfig:
        """The inverse of `to_json`; fields that are left out have their defaults.

        Raises
        ------
        ValueError : not JSON, not an object, a field that there is not, or a value outside a field's domain.
        """
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError(f"expected an object of fields, got {type(fields).__name__}")
        known = [field.name for field in dataclasses.fields(cls)]
        for name in fields.keys() - set(known):
            raise ValueError(f"expected fields of {', '.join(known)}, got {name!r}")
        try:
            for name in ("image_mean", "image_std", "image_pad"):
                if name in fields:
                    fields[name] = tuple(fields[name])
            if "grid" in fields:
                fields["grid"] = tuple(tuple(cell) for cell in fields["grid"])
            return cls(**fields)
        except TypeError as error:
            raise ValueError(f"expected the types of EncoderConfig's fields: {error}") from error


_BASE = EncoderConfig(int8_bytes=5_800_000)

#: Every preset. The variants of `keypilot-base` are its other ROI mode, and the one without a model of regions.
PRESETS: dict[str, EncoderConfig] = {
    config.name: config
    for config in (
        _BASE,
        dataclasses.replace(_BASE, name="keypilot-base-mask-pool", roi_features="mask_pool"),
        dataclasses.replace(_BASE, name="keypilot-base-grid", regions="fixed_grid"),
        dataclasses.replace(
            _BASE,
            name="keypilot-lite",
            **_PICTURES["mobilenetv3_small"],
            backbone="mobilenetv3_small",
            regions="fixed_grid",
            text="bert_tiny",
            fusion="cross_attention",
            int8_bytes=0,
        ),
        dataclasses.replace(_BASE, name="keypilot-mobileclip", global_image="mobileclip_s0", int8_bytes=0),
        dataclasses.replace(_BASE, name="keypilot-sam", regions="mobile_sam", int8_bytes=0),
    )
}


def resolve_config(text: str) -> EncoderConfig:
    """The configuration that a text names.

    Parameters
    ----------
    text : a preset's name; a preset's name and changes of its fields, as ``keypilot-base:global_image=mobileclip_s0``
        or ``keypilot-lite:text=minilm_2,max_tokens=32``; or the path of a JSON file, ending in ``.json``, with fields
        of `EncoderConfig`, and changes likewise. A changed backbone brings its pictures' side and normalisation, where
        those are not given.

    Raises
    ------
    ArgumentError : none of these, or a value outside a field's domain.
    OSError : the file cannot be read.
    """
    try:
        named = text if text.endswith(".json") else text.rsplit(":", 1)[0]
        if named.endswith(".json"):
            config = EncoderConfig.from_json(Path(named).read_text(encoding="utf-8"))
        elif named in PRESETS:
            config = PRESETS[named]
        else:
            raise ValueError(f"expected a preset, one of {', '.join(PRESETS)}, got {named!r}")
        return config if named == text else _changed(config, text, text[len(named) + 1 :].split(","))
    except ValueError as error:
        raise ArgumentError(f"{text}: {error}") from error


def _changed(config: EncoderConfig, name: str, changes: list[str]) -> EncoderConfig:
    fields: dict[str, Any] = {}
    for change in changes:
        field, equals, value = change.partition("=")
        if not equals or field not in _CHANGEABLE:
            raise ValueError(f"expected changes FIELD=VALUE of {', '.join(_CHANGEABLE)}, got {change!r}")
        if field in COMPONENTS:
            fields[field] = value
        elif value.isascii() and value.isdigit():
            fields[field] = int(value)
        else:
            raise ValueError(f"{field}: expected a number, got {value!r}")
    picture = _PICTURES.get(fields.get("backbone", ""), {})
    return dataclasses.replace(config, **{"int8_bytes": 0, **picture, **fields, "name": name})
