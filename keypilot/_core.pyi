"""The C core. `keypilot.Model` and `keypilot.Encoder` are the public faces."""

import os
from collections.abc import Sequence
from typing import Any, Literal, TypedDict, final

import numpy as np
import numpy.typing as npt

class AttributeSchema(TypedDict):
    name: str
    kind: Literal["int", "dim", "float", "word"]
    min_count: int
    max_count: int
    words: tuple[str, ...]
    required: bool
    default: int | float | str | None

class OpSchema(TypedDict):
    name: str
    min_inputs: int
    max_inputs: int
    attributes: tuple[AttributeSchema, ...]

class EncoderInfo(TypedDict):
    image_side: int
    crop_side: int
    regions_side: int
    mask_shape: tuple[int, int]
    max_tokens: int
    user_count: int
    trained: bool

def version() -> str: ...
def cpu_isa() -> tuple[str, ...]: ...
def capped_isa(name: str | None, /) -> str: ...
def op_schemas() -> list[OpSchema]: ...

_Port = tuple[str, np.dtype[Any], tuple[int | str, ...]]
_Array = npt.NDArray[Any]

@final
class Model:
    @classmethod
    def open(cls, path: str | bytes | os.PathLike[str], isa: str | None = None) -> Model: ...
    @classmethod
    def from_bytes(cls, data: bytes, isa: str | None = None) -> Model: ...
    @property
    def programs(self) -> tuple[str, ...]: ...
    @property
    def isa(self) -> str: ...
    @property
    def file_bytes(self) -> int: ...
    @property
    def metadata_keys(self) -> tuple[str, ...]: ...
    def metadata(self, key: str, /) -> Any: ...
    def ports(self, program: int, kind: Literal["input", "output", "tap"], /) -> tuple[_Port, ...]: ...
    def weights(self) -> dict[str, _Array]: ...
    def tokenize(self, text: bytes, /) -> npt.NDArray[np.int32]: ...
    def encoder_info(self) -> EncoderInfo: ...

@final
class Session:
    def __new__(cls, model: Model, threads: int = 1) -> Session: ...
    @property
    def threads(self) -> int: ...
    def run(
        self, program: int, inputs: dict[str, npt.ArrayLike], taps: Sequence[bytes] | None = None, /
    ) -> tuple[dict[str, _Array], list[tuple[int, int, _Array]]]: ...
    def encode(
        self,
        image: npt.ArrayLike,
        text: bytes,
        user: int | npt.NDArray[np.float32] | None,
        taps: Sequence[bytes] | None = None,
        /,
    ) -> tuple[dict[str, Any], list[tuple[int, int, _Array]]]: ...
    def cost(self, program: int, n: int, t: int, /) -> tuple[int, int, tuple[tuple[str, str, int, int], ...]]: ...
    def start_digest(self) -> None: ...
    def take_digest(self) -> bytes: ...

@final
class Tokenizer:
    def __new__(
        cls,
        *,
        model: str,
        pre: str,
        normalizer: str,
        tokens: list[str],
        merges: list[str],
        added_tokens: list[int],
        added_flags: list[str],
        prefix: list[int],
        suffix: list[int],
        add_space_prefix: bool,
        word_suffix: str,
        continuation: str,
        unknown_id: int,
        max_word_characters: int,
        max_tokens: int,
    ) -> Tokenizer: ...
    @property
    def vocab_size(self) -> int: ...
    def encode(self, text: str | bytes, /) -> npt.NDArray[np.int32]: ...

# For tests, and tools that need no model.

def letterbox(
    image: npt.ArrayLike,
    rect: tuple[int, int, int, int],
    side: int,
    pad: tuple[int, int, int],
    threads: int = 1,
    isa: str | None = None,
    /,
) -> npt.NDArray[np.uint8]: ...
def regions(
    masks: npt.ArrayLike, image_side: int, width: int, height: int, /
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32], npt.NDArray[np.bool_]]: ...
def detection_masks(
    detections: tuple[_Array, _Array, _Array, _Array],
    limits: tuple[float, float, int],
    grid: npt.ArrayLike,
    image_side: int,
    width: int,
    height: int,
    /,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]: ...
def grid_region(
    cell: tuple[int, int, int, int], side: int, image_side: int, width: int, height: int, /
) -> tuple[npt.NDArray[np.uint8], tuple[int, int, int, int]]: ...
