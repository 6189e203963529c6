"""Models of one operator, and data for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import activations
import numpy as np
import numpy.typing as npt
import torch
from model_files import ProgramBuilder, write_model

import keypilot

Array = npt.NDArray[Any]
Attributes = Mapping[str, Any]

#: The fixtures `check` and `refuse` of conftest.py.
Check = Callable[..., None]
Refuse = Callable[..., None]

DTYPES = {"float32": "f32", "int32": "i32", "bool": "bool"}

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {"none": lambda x: x, **activations.ACTIVATIONS}


def text_of(value: Any) -> str:
    """An attribute's value as the model file has it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, Sequence):
        return ",".join(map(text_of, value))
    return str(int(value))


def make_model(
    path: Path, kind: str, inputs: Sequence[Array | None], attributes: Attributes, shape: Sequence[int], dtype: str
) -> Path:
    """Writes a model of one program, `p`, that applies one operator to inputs `x0`, `x1`, ... and gives `y`."""
    program = ProgramBuilder()
    values = [
        -1
        if array is None
        else program.input(f"x{i}", text_of(array.shape), DTYPES[array.dtype.name], order=range(array.ndim))
        for i, array in enumerate(inputs)
    ]
    text = " ".join(f"{name}={text_of(value)}" for name, value in attributes.items())
    output = program.op(kind, values, "y", text_of(shape), text, dtype)
    program.port("outputs", "y", output, text_of(shape), range(len(shape)))
    return write_model(path, {"p": program})


def apply(
    path: Path, kind: str, inputs: Sequence[Array | None], attributes: Attributes, like: Array, threads: int = 1
) -> Array:
    """The operator's result, whose shape and dtype the model states as those of `like`."""
    make_model(path, kind, inputs, attributes, like.shape, DTYPES[like.dtype.name])
    feeds = {f"x{i}": array for i, array in enumerate(inputs) if array is not None}
    return keypilot.Model.load(path, threads=threads).run("p", **feeds)["y"]


def normal(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def integers(low: int, high: int, *shape: int) -> npt.NDArray[np.int32]:
    return np.random.default_rng([high, *shape]).integers(low, high, shape).astype(np.int32)


def tensor(array: Array) -> Any:
    return torch.from_numpy(np.ascontiguousarray(array))
