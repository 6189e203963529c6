"""`keypilot.TextEncoder`: texts to embeddings, by a model file that has a text program and its tokenizer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keypilot.errors import ArgumentError, UnsupportedError
from keypilot.model import Model

if TYPE_CHECKING:
    import numpy.typing as npt

_INPUTS = ("input_ids", "position_ids", "attention_mask")


class TextEncoder:
    """Texts to embeddings. Several threads may use one at once.

    >>> import keypilot
    >>> encoder = keypilot.TextEncoder.load("minilm.gguf")  # from: keypilot compile ./all-MiniLM-L6-v2
    >>> encoder.encode(["a cat sits outside", "a kitten is in the garden"]).shape
    (2, 384)
    """

    def __init__(self, model: Model) -> None:
        """Wraps an open model.

        Raises
        ------
        UnsupportedError : it has no program ``text`` from token ids to one embedding, or no tokenizer.
        """
        program = model.programs.get("text")
        if program is None:
            raise UnsupportedError(f"expected a model with a program 'text', got {', '.join(model.programs)}")
        self._names = [port.name for port in program.inputs]
        if "input_ids" not in self._names or not set(self._names) <= set(_INPUTS) or len(program.outputs) != 1:
            raise UnsupportedError(
                f"expected a program 'text' from {', '.join(_INPUTS)} to one embedding, got {', '.join(self._names)} "
                f"to {', '.join(port.name for port in program.outputs)}"
            )
        if "keypilot.tokenizer.max_tokens" not in model.metadata:
            raise UnsupportedError("expected a model with a tokenizer, got one without")
        self.model = model
        self._output = program.outputs[0].name
        self._width = int(program.outputs[0].shape[-1])
        self._offset = int(model.metadata["keypilot.tokenizer.position_offset"])

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int | None = None) -> TextEncoder:
        """Opens a model file.

        Parameters
        ----------
        path : what ``keypilot compile`` made of a text encoder, or a KeyPilot encoder, whose text part is taken.
        threads : threads of one run; None: ``KEYPILOT_THREADS``, else the processors at hand, at most 4.

        Raises
        ------
        OSError : the file cannot be read.
        ModelFileError : it is damaged, or is not a KeyPilot model.
        UnsupportedError : it has no text program, or no tokenizer.
        """
        return cls(Model.load(path, threads=threads))

    @property
    def dimension(self) -> int:
        """The length of an embedding."""
        return self._width

    @property
    def max_tokens(self) -> int:
        """The length, special tokens included, that texts are truncated to."""
        return int(self.model.metadata["keypilot.tokenizer.max_tokens"])

    def __repr__(self) -> str:
        return f"<keypilot.TextEncoder of {self.model!r}>"

    def encode(self, texts: str | bytes | Sequence[str | bytes], *, batch_size: int = 32) -> npt.NDArray[np.float32]:
        """The embeddings of texts.

        Texts of equal length run together, so that no time goes to padding; what a text gives does not depend on the
        others, in int8 to the byte.

        Parameters
        ----------
        texts : a text, or a sequence of texts; longer ones are truncated to `max_tokens`.
        batch_size : texts that run together, at most.

        Returns
        -------
        array : float32 (d,) for a text, (n, d) for n texts.

        Raises
        ------
        ArgumentError : something else than texts, or a batch size below 1.
        """
        if batch_size < 1:
            raise ArgumentError(f"batch_size: expected 1 or more, got {batch_size}")
        if isinstance(texts, (str, bytes)):
            embedding: npt.NDArray[np.float32] = self._encode([texts], 1)[0]
            return embedding
        for index, text in enumerate(texts):
            if not isinstance(text, (str, bytes)):
                raise ArgumentError(f"texts[{index}]: expected str or bytes, got {type(text).__name__}")
        return self._encode(texts, batch_size)

    def _encode(self, texts: Sequence[str | bytes], batch_size: int) -> npt.NDArray[np.float32]:
        by_length: dict[int, list[int]] = {}
        ids = [self.model.tokenize(text) for text in texts]
        for index, row in enumerate(ids):
            if len(row) == 0:
                raise ArgumentError(f"texts[{index}]: expected a text with a token, got {texts[index]!r}")
            by_length.setdefault(len(row), []).append(index)
        embeddings = np.empty((len(texts), self._width), np.float32)
        for rows in by_length.values():
            for start in range(0, len(rows), batch_size):
                batch = rows[start : start + batch_size]
                inputs = text_inputs(np.stack([ids[index] for index in batch]), self._names, self._offset)
                embeddings[batch] = self.model.run("text", **inputs)[self._output]
        return embeddings


def text_inputs(
    ids: npt.NDArray[np.integer], names: Sequence[str], position_offset: int
) -> dict[str, npt.NDArray[np.integer]]:
    """A text program's inputs of these names for ids (N, T) without padding."""
    inputs: dict[str, npt.NDArray[np.integer]] = {"input_ids": ids}
    if "position_ids" in names:
        positions = np.arange(position_offset, position_offset + ids.shape[1], dtype=np.int32)
        inputs["position_ids"] = np.broadcast_to(positions, ids.shape)
    if "attention_mask" in names:
        inputs["attention_mask"] = np.ones(ids.shape, np.int32)
    return inputs
