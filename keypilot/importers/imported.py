"""A network with its weights, and how it becomes a model file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from keypilot.convert.compile import ProgramSource, compile_programs
from keypilot.importers.calibration import image_batches, text_batches


@dataclasses.dataclass(frozen=True)
class ImageInput:
    """The picture that a network takes: sides in pixels, and ``(u8 / 255 - mean) / std`` per RGB channel."""

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclasses.dataclass
class Imported:
    """A network with its weights.

    Attributes
    ----------
    name : for people.
    programs : by name: ``text``, ``image``.
    metadata : further keys of the model file.
    image : the picture that the program ``image`` takes.
    notes : what somebody who converts it should know, a sentence each.
    """

    name: str
    programs: dict[str, ProgramSource] = dataclasses.field(default_factory=dict)
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    image: ImageInput | None = None
    notes: list[str] = dataclasses.field(default_factory=list)

    def add_text(self, module: nn.Module, names: Sequence[str], tokenizer: dict[str, Any]) -> None:
        """The program ``text``, whose inputs are `names`, each integer (N, T)."""
        offset = tokenizer["keypilot.tokenizer.position_offset"]
        arrays = {
            "input_ids": torch.full((2, 8), 5),
            "position_ids": torch.arange(offset, offset + 8).expand(2, -1).contiguous(),
            "attention_mask": torch.ones((2, 8), dtype=torch.int64),
        }
        inputs = {name: arrays[name] for name in names}
        self.programs["text"] = ProgramSource(module.eval(), inputs, {name: {1: "T"} for name in names})
        self.metadata |= tokenizer

    def add_image(self, module: nn.Module, image: ImageInput) -> None:
        """The program ``image``, whose input is ``image`` (N, 3, height, width)."""
        example = {"image": torch.rand(2, 3, image.height, image.width)}
        self.programs["image"] = ProgramSource(module.eval(), example)
        self.image = image
        self.metadata |= {
            "keypilot.image.height": image.height,
            "keypilot.image.width": image.width,
            "keypilot.image.mean": list(image.mean),
            "keypilot.image.std": list(image.std),
        }

    @property
    def parameters(self) -> int:
        """How many; those that programs share count once."""
        sizes = {id(p): p.numel() for program in self.programs.values() for p in program.module.parameters()}
        return sum(sizes.values())

    def compile(
        self,
        out: str | os.PathLike[str],
        *,
        precision: str = "fp32",
        calibrate: str | os.PathLike[str] | None = None,
        keep_float: Sequence[str] = (),
        max_bytes: int | None = None,
    ) -> None:
        """Writes the model file.

        Parameters
        ----------
        calibrate : for int8, a text file with a text a line, or a folder of such files, of pictures or of both; None:
            built-in texts and drawn screens.
        precision, keep_float, max_bytes : as `keypilot.compile`.

        Raises
        ------
        UnsupportedOpError, UnsupportedError : as `keypilot.compile`.
        ArgumentError : `calibrate` has nothing for one of the programs. Otherwise as `keypilot.compile`.
        """
        options: dict[str, Any] = {"keep_float": keep_float, "max_bytes": max_bytes}
        if precision == "int8":
            path = None if calibrate is None else Path(calibrate)
            batches, sources = {}, []
            if "text" in self.programs:
                batches["text"], source = text_batches(path, self.metadata, list(self.programs["text"].example_inputs))
                sources.append(source)
            if self.image is not None:
                image = self.image
                batches["image"], source = image_batches(path, image.height, image.width, image.mean, image.std)
                sources.append(source)
            options |= {"calibration": batches, "calibration_source": ", ".join(sources)}
        metadata = {"general.name": self.name, **self.metadata}
        compile_programs(self.programs, metadata=metadata, out=out, precision=precision, **options)
