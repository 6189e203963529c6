"""The encoder: a screenshot and the text being typed to a context vector, and what led to it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from keypilot.cache import DEFAULT_PRESET, PRECISIONS, preset_model
from keypilot.errors import ArgumentError
from keypilot.model import Model, Taps, utf8

if TYPE_CHECKING:
    import numpy.typing as npt
    import PIL.Image

#: Who types: a number, a vector, or None: unknown.
User: TypeAlias = "int | npt.NDArray[np.floating[Any]] | None"

#: A picture: a path, a PIL image, or an array (H, W) or (H, W, 1, 3 or 4) of uint8 or uint16.
Picture: TypeAlias = "str | os.PathLike[str] | PIL.Image.Image | npt.NDArray[Any]"


@dataclasses.dataclass(frozen=True, eq=False)
class EncoderOutput:
    """What one picture and one text give. For a batch, every field but `trained` has one more axis, the first.

    Attributes
    ----------
    context : float32 (256,). The context vector: the fusion's output at ``[CLS]``.
    image : float32 (256,). The whole screen.
    rois : float32 (4, 256). The regions, in the order of `keypilot.reference.config.REGIONS`.
    text : float32 (256,).
    masks : bool (4, S, S). The regions, over the picture letterboxed to `Encoder.regions_side`.
    boxes : int32 (4, 4). x0, y0, x1, y1 in the picture's pixels, x1 and y1 exclusive.
    roi_valid : bool (4,). False where no mask was found and the fixed grid's cell was used.
    tokens : int64 (). How many tokens the text has, special tokens included.
    timings : stage -> float64 (), seconds.
    trained : False where the model has seeded weights, made to test the engine.
    """

    context: npt.NDArray[np.float32]
    image: npt.NDArray[np.float32]
    rois: npt.NDArray[np.float32]
    text: npt.NDArray[np.float32]
    masks: npt.NDArray[np.bool_]
    boxes: npt.NDArray[np.int32]
    roi_valid: npt.NDArray[np.bool_]
    tokens: npt.NDArray[np.int64]
    timings: dict[str, npt.NDArray[np.float64]]
    trained: bool

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Every array by name, the timings as ``seconds_<stage>``: what ``keypilot encode --out`` writes."""
        fields = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("timings", "trained")
        }
        return {**fields, **{f"seconds_{stage}": seconds for stage, seconds in self.timings.items()}}


class Encoder:
    """KeyPilot's vision-language encoder. Several threads may use one encoder at once."""

    def __init__(self, model: Model, *, threads: int | None = None) -> None:
        """Wraps an open model.

        Parameters
        ----------
        model : one whose programs are an encoder's.
        threads : threads of one run; None: the model's.

        Raises
        ------
        UnsupportedError : the model is not an encoder.
        """
        self._info = model._core.encoder_info()
        self.model = model if threads is None else model.with_threads(threads)

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] | None = None,
        *,
        precision: str | None = None,
        threads: int | None = None,
    ) -> Encoder:
        """Opens an encoder.

        Parameters
        ----------
        model : the path of a model file, or a configuration, whose file is made once, with seeded weights, and
            cached: a preset's name, one with changes, as ``keypilot-base:text=bert_tiny``, or the path of a JSON file
            of fields of `EncoderConfig`; None: the preset ``keypilot-base``. Making the file takes the extra
            ``torch``.
        precision : ``"int8"`` or ``"fp32"``; None: a file's own, and a preset in int8.
        threads : threads of one run; None: ``KEYPILOT_THREADS``, else the processors at hand, at most 4.

        Raises
        ------
        OSError : the file cannot be read, or the cache not written.
        ModelFileError : the file is damaged, or is not a KeyPilot model.
        ArgumentError : no preset has that name; `precision` or `threads` is outside its domain, or the file is of
            another precision.
        UnsupportedError : the model is not an encoder.
        MissingDependencyError : a preset's file has to be made, and PyTorch is not installed.
        """
        path = model_path(model, precision)
        opened = Model.load(path, threads=threads)
        own = opened.metadata["keypilot.precision"]
        if precision not in (None, own):
            raise ArgumentError(f"precision: expected {own!r}, which {path.name} is in, got {precision!r}")
        return cls(opened)

    @property
    def trained(self) -> bool:
        """False where the weights are seeded, made to test the engine."""
        return self._info["trained"]

    @property
    def image_side(self) -> int:
        """The side, in pixels, of the square that a picture is letterboxed into for the screen program."""
        return self._info["image_side"]

    @property
    def regions_side(self) -> int:
        """The side, in pixels, of the letterboxed picture that the masks lie over."""
        return self._info["regions_side"]

    @property
    def user_count(self) -> int:
        """How many users the model has a vector for; 0 where it does not ask who types."""
        return self._info["user_count"]

    def __repr__(self) -> str:
        return f"<keypilot.Encoder of {self.model!r}>"

    def encode(
        self,
        image: Picture | Sequence[Picture],
        text: str | bytes | Sequence[str | bytes] = "",
        user: User | Sequence[User] = None,
    ) -> EncoderOutput:
        """Encodes a picture and a text, or a batch of them.

        Parameters
        ----------
        image : a path, a PIL image, or an array (H, W) or (H, W, 1, 3 or 4) of uint8 or uint16, sides of 1 to 16384
            pixels. A list or tuple of these, or an array (B, H, W, C), is a batch.
        text : the text being typed, truncated to the model's longest; for a batch one for all, or a sequence.
        user : from 0 to `user_count` - 1, or a float array (64,) in place of the model's vector for a user, or None: an
            unknown one; for a batch one for all, or a sequence. None alone where `user_count` is 0.

        Raises
        ------
        ArgumentError : a picture, or a user, that is not as said above, or sequences whose lengths differ.
        OSError : a file is not a picture, or cannot be read.
        """
        if not isinstance(image, (list, tuple)) and not (isinstance(image, np.ndarray) and image.ndim == 4):
            return self._output(self._encode_one(image, text, user))
        if len(image) == 0:
            raise ArgumentError("image: expected at least one picture, got an empty batch")
        texts = self._one_for_each("text", text, len(image), isinstance(text, (str, bytes)))
        users = self._one_for_each("user", user, len(image), _is_user(user))
        fields = [self._encode_one(*one) for one in zip(image, texts, users, strict=True)]
        batch: dict[str, Any] = {
            name: np.stack([one[name] for one in fields]) for name in fields[0] if name != "timings"
        }
        batch["timings"] = {
            stage: np.array([one["timings"][stage] for one in fields]) for stage in fields[0]["timings"]
        }
        return self._output(batch)

    def tap(self, *patterns: str) -> AbstractContextManager[Taps]:
        """Records tensors inside the runs of this encoder: see `Model.tap`. Of a batch, the last picture's."""
        return self.model.tap(*patterns)

    def _encode_one(self, image: Any, text: Any, user: Any) -> dict[str, Any]:
        if not isinstance(text, (str, bytes)):
            raise ArgumentError(f"text: expected str or bytes, got {type(text).__name__}")
        if not _is_user(user):
            raise ArgumentError(f"user: expected an integer, a float array (64,) or None, got {type(user).__name__}")
        if isinstance(user, np.ndarray):
            user = np.ascontiguousarray(user, np.float32)
        elif user is not None:
            user = int(user)
        return self.model._encode(_pixels(image), utf8(text), user)

    def _output(self, fields: dict[str, Any]) -> EncoderOutput:
        fields["tokens"] = np.asarray(fields["tokens"], np.int64)
        fields["timings"] = {stage: np.asarray(seconds, np.float64) for stage, seconds in fields["timings"].items()}
        return EncoderOutput(**fields, trained=self.trained)

    @staticmethod
    def _one_for_each(name: str, value: Any, count: int, is_one: bool) -> Sequence[Any]:
        if is_one or not hasattr(value, "__len__"):  # `_encode_one` refuses what is neither one nor a sequence
            return [value] * count
        if len(value) != count:
            raise ArgumentError(f"{name}: expected one for each of {count} pictures, got {len(value)}")
        return list(value)


def model_path(model: str | os.PathLike[str] | None, precision: str | None = None) -> Path:
    """The file that a path, or a configuration, or None means; a configuration's in that precision, None being int8.

    A configuration is a preset's name, one with changes, or the path of a JSON file: see
    `keypilot.reference.config.resolve_config`.
    """
    if precision not in (None, *PRECISIONS):
        raise ArgumentError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    if model is None:
        return preset_model(DEFAULT_PRESET, precision or "int8")
    path = Path(model)
    named = path.name == model and not path.suffix and not path.exists()
    if isinstance(model, str) and (named or path.suffix == ".json"):
        return preset_model(model, precision or "int8")
    return path


def _is_user(user: Any) -> bool:
    """Whether it is one user, and not one for each picture of a batch."""
    if isinstance(user, np.ndarray):
        return user.ndim == 1 and user.dtype.kind == "f"
    return user is None or (isinstance(user, (int, np.integer)) and not isinstance(user, bool))


def _pixels(image: Picture) -> npt.NDArray[Any]:
    """The array that the core takes; pictures that are not arrays are decoded."""
    if isinstance(image, np.ndarray):
        return image
    from keypilot.picture import load_rgb

    return load_rgb(image)
