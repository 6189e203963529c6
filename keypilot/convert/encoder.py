"""KeyPilot's encoder as a model file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keypilot.convert.compile import ProgramSource, compile_programs
from keypilot.convert.encoder_calibration import calibration_batches

if TYPE_CHECKING:
    from keypilot.encoder import Picture
    from keypilot.reference.encoder import KeyPilotEncoder


def compile_encoder(
    encoder: KeyPilotEncoder,
    path: str | os.PathLike[str],
    *,
    trained: bool = False,
    precision: str = "fp32",
    pictures: Sequence[Picture] | None = None,
    keep_float: Sequence[str] = (),
    max_bytes: int | None = None,
) -> None:
    """Writes the encoder's programs, weights, tokenizer and settings to `path`.

    Parameters
    ----------
    trained : whether the weights are; a file of seeded ones says that it is.
    precision, keep_float : as `keypilot.compile`.
    pictures : for int8, screenshots to calibrate on, in any form that `keypilot.Encoder.encode` takes; None: drawn
        ones.
    max_bytes : as `keypilot.compile`; None: the configuration's `int8_bytes`.
    """
    programs = {name: ProgramSource(*program) for name, program in encoder.programs().items()}
    options: dict[str, Any] = {"keep_float": keep_float, "max_bytes": max_bytes}
    if precision == "int8":
        batches, source = calibration_batches(encoder, pictures)
        options |= {
            "calibration": batches,
            "calibration_source": source,
            "max_bytes": max_bytes or encoder.config.int8_bytes or None,  # 0: no limit
        }
    compile_programs(programs, metadata=encoder.metadata(trained=trained), out=path, precision=precision, **options)
