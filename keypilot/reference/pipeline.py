"""The whole encoder in Python: Pillow and NumPy around the PyTorch programs. What `kp_encode` is compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from keypilot.reference.detections import LIMITS, Detections, detection_masks
from keypilot.reference.encoder import KeyPilotEncoder
from keypilot.reference.image import as_rgb, letterbox, normalize
from keypilot.reference.regions import find_regions
from keypilot.reference.text import text_inputs

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

        from keypilot.reference.tokenizer import TOKENIZERS

        self.config = encoder.config
        self._encoder = encoder
        self._programs = {name: program.module.eval() for name, program in encoder.programs().items()}
        self._tokenizer = Tokenizer.from_file(str(TOKENIZERS[encoder.text.tokenizer]))
        self._tokenizer.enable_truncation(encoder.config.max_tokens)

    def run(self, program: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One program's outputs by name."""
        with torch.no_grad():
            outputs = self._programs[program](**{name: torch.from_numpy(array) for name, array in inputs.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def text_inputs(self, text: str) -> dict[str, Array]:
        """A text as the text program takes it, batch 1."""
        ids = torch.tensor([self._tokenizer.encode(text).ids])
        return {name: tensor.numpy() for name, tensor in text_inputs(self._encoder.text, ids).items()}

    def encode(self, picture: Picture, text: str, user: int | Array | None) -> Encoding:
        """One picture, in any form that `keypilot.Encoder.encode` takes, one text and one user."""
        config = self.config
        rgb = as_rgb(picture)
        height, width = rgb.shape[:2]
        inputs: dict[str, dict[str, Array]] = {}

        def run(program: str, arrays: dict[str, Array]) -> dict[str, Array]:
            inputs[program] = arrays
            return self.run(program, arrays)

        def squares(
            boxes: Array, side: int, mean: Sequence[float] = config.image_mean, std: Sequence[float] = config.image_std
        ) -> Array:
            """The boxes' contents, letterboxed and normalised: (boxes, 3, side, side)."""
            pixels = np.stack([letterbox(rgb, box, side, config.image_pad) for box in boxes.tolist()])
            return np.ascontiguousarray(normalize(pixels, mean, std).transpose(0, 3, 1, 2))

        whole = np.array([[0, 0, width, height]])
        screen: dict[str, Array] = {}
        if "screen" in self._programs:
            screen = run("screen", {"image": squares(whole, config.image_side)})
        seen = screen
        if self._encoder.regions_picture is not None:
            side, mean, std = self._encoder.regions_picture
            seen = run("regions", {"image": squares(whole, side, mean, std)})
        frame: dict[str, int] = {"image_side": config.masks_picture_side, "width": width, "height": height}
        found = seen["mask_logits"][0] > 0 if "mask_logits" in seen else None
        if "prototypes" in seen:
            detections = Detections(**{name: array[0] for name, array in seen.items()})
            found = detection_masks(detections, LIMITS, config.grid, **frame)
        masks, boxes, roi_valid = find_regions(found, config.grid, mask_side=config.mask_side, **frame)
        if config.roi_features == "reencode":
            rois = run("roi", {"crops": squares(boxes, config.crop_side)})["roi_embedding"]
        else:
            region_masks = masks[np.newaxis].astype(np.float32)
            rois = run("roi", {"features": screen["features"], "masks": region_masks})["roi_embedding"][0]
        text_embedding = run("text", self.text_inputs(text))["text_embedding"]
        if self._encoder.image_picture is not None:
            side, mean, std = self._encoder.image_picture
            screen |= run("image", {"image": squares(whole, side, mean, std)})
        vectors = {"image": screen["image_embedding"], "rois": rois[np.newaxis], "text": text_embedding}
        if self._encoder.user is not None:
            if isinstance(user, np.ndarray):
                vectors["user_vector"] = np.asarray(user[np.newaxis], np.float32)
            else:
                row = np.array([config.user_count if user is None else user])
                vectors["user_vector"] = run("user", {"user": row})["user_vector"]
        fused = run("fusion", vectors)
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
