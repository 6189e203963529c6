"""KeyPilot's encoder as a model file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from keypilot.convert.compile import ProgramSource, compile_programs

if TYPE_CHECKING:
    from keypilot.reference.encoder import KeyPilotEncoder


def compile_encoder(encoder: KeyPilotEncoder, path: str | os.PathLike[str], *, trained: bool = False) -> None:
    """Writes the encoder's programs, weights, tokenizer and settings to `path`.

    `trained` says whether the weights are; a file of seeded ones says that it is.
    """
    programs = {name: ProgramSource(*program) for name, program in encoder.programs().items()}
    compile_programs(programs, metadata=encoder.metadata(trained=trained), out=path)
