"""The whole encoder in Python: Pillow and NumPy around the PyTorch programs. What `kp_encode` is compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from keypilot.reference.encoder import KeyPilotEncoder
from keypilot.reference.image import as_rgb, letterbox, normalize
from keypilot.reference.regions import find_regions
from keypilot.reference.text import POSITION_OFFSET

if TYPE_CHECKING:
    from keypilot.encoder import Picture

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Encoding:
    """What one picture and one text give; the fields are those of `keypilot.EncoderOutput`.

    inputs : program -> input name -> the array, batch 1 (roi: 4 crops), that the program ran on.
    """

    context: Array
    image: Array
    rois: Array
    text: Array
    masks: Array
    boxes: Array
    roi_valid: Array
    inputs: dict[str, dict[str, Array]]


class Pipeline:
    """Runs a `KeyPilotEncoder` on pictures and texts."""

    def __init__(self, encoder: KeyPilotEncoder) -> None:
        from tokenizers import Tokenizer

        from keypilot.reference.tokenizer import DEFAULT_TOKENIZER

        self.config = encoder.config
        self._programs = {name: program.module.eval() for name, program in encoder.programs().items()}
        self._tokenizer = Tokenizer.from_file(str(DEFAULT_TOKENIZER))
        self._tokenizer.enable_truncation(encoder.config.text.max_tokens)

    def run(self, program: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One program's outputs by name."""
        with torch.no_grad():
            outputs = self._programs[program](**{name: torch.from_numpy(array) for name, array in inputs.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def text_inputs(self, text: str) -> dict[str, Array]:
        """A text as the text program takes it, batch 1."""
        ids = np.array([self._tokenizer.encode(text).ids])
        positions = np.arange(POSITION_OFFSET, POSITION_OFFSET + ids.shape[1])[np.newaxis]
        return {"input_ids": ids, "position_ids": positions, "attention_mask": np.ones_like(ids)}

    def encode(self, picture: Picture, text: str, user: int) -> Encoding:
        """One picture, in any form that `keypilot.Encoder.encode` takes, one text and one user."""
        config = self.config
        rgb = as_rgb(picture)
        height, width = rgb.shape[:2]
        inputs: dict[str, dict[str, Array]] = {}

        def run(program: str, arrays: dict[str, Array]) -> dict[str, Array]:
            inputs[program] = arrays
            return self.run(program, arrays)

        def squares(boxes: Array, side: int) -> Array:
            """The boxes' contents, letterboxed and normalised: (boxes, 3, side, side)."""
            pixels = np.stack([letterbox(rgb, box, side, config.image_pad) for box in boxes.tolist()])
            return np.ascontiguousarray(normalize(pixels, config.image_mean, config.image_std).transpose(0, 3, 1, 2))

        whole = np.array([[0, 0, width, height]])
        screen = run("screen", {"image": squares(whole, config.image_side)})
        masks, boxes, roi_valid = find_regions(
            screen["mask_logits"][0] > 0 if "mask_logits" in screen else None,
            config.grid,
            image_side=config.image_side,
            mask_side=config.mask_side,
            width=width,
            height=height,
        )
        if config.roi_features == "reencode":
            rois = run("roi", {"crops": squares(boxes, config.crop_side)})["roi_embedding"]
        else:
            region_masks = masks[np.newaxis].astype(np.float32)
            rois = run("roi", {"features": screen["features"], "masks": region_masks})["roi_embedding"][0]
        text_embedding = run("text", self.text_inputs(text))["text_embedding"]
        fused = run(
            "fusion",
            {
                "image": screen["image_embedding"],
                "rois": rois[np.newaxis],
                "text": text_embedding,
                "user": np.array([user]),
            },
        )
        return Encoding(
            context=fused["context"][0],
            image=screen["image_embedding"][0],
            rois=rois,
            text=text_embedding[0],
            masks=masks,
            boxes=boxes,
            roi_valid=roi_valid,
            inputs=inputs,
        )
