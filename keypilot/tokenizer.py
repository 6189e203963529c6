"""`keypilot.Tokenizer`: a `tokenizer.json` run by the C core."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from keypilot import _core
from keypilot.errors import ArgumentError

_NO_TRUNCATION = 2**32 - 1

_MODEL = "tokenizer.ggml."
_SETTING = "keypilot.tokenizer."


class Tokenizer:
    """Turns text into token ids as Hugging Face's `tokenizers` does, id for id, without it.

    Byte-level BPE (RoBERTa, GPT-2), CLIP's BPE and WordPiece (BERT, MiniLM); docs/tokenizer.md lists what a
    `tokenizer.json` of these types may hold. Immutable: any number of threads may use one.

    >>> import keypilot
    >>> from keypilot.reference.tokenizer import TOKENIZERS
    >>> tokenizer = keypilot.Tokenizer.from_file(TOKENIZERS["wordpiece"])
    >>> tokenizer.encode("see you at").dtype
    dtype('int32')
    """

    def __init__(self, metadata: dict[str, Any], max_tokens: int | None = None) -> None:
        """From the keys that `keypilot.reference.tokenizer.tokenizer_metadata` returns; see `from_file`."""
        if max_tokens is not None and not 0 < max_tokens < _NO_TRUNCATION:
            raise ArgumentError(f"max_tokens: expected 1 to {_NO_TRUNCATION - 1}, got {max_tokens}")
        self._core = _core.Tokenizer(
            model=metadata[f"{_MODEL}model"],
            pre=metadata[f"{_MODEL}pre"],
            normalizer=metadata[f"{_SETTING}normalizer"],
            tokens=metadata[f"{_MODEL}tokens"],
            merges=metadata.get(f"{_MODEL}merges", []),
            added_tokens=metadata.get(f"{_SETTING}added_tokens", []),
            added_flags=metadata.get(f"{_SETTING}added_tokens.flags", []),
            prefix=metadata.get(f"{_SETTING}prefix", []),
            suffix=metadata.get(f"{_SETTING}suffix", []),
            add_space_prefix=metadata[f"{_MODEL}add_space_prefix"],
            word_suffix=metadata.get(f"{_SETTING}word_suffix", ""),
            continuation=metadata.get(f"{_SETTING}continuation", ""),
            unknown_id=metadata.get(f"{_MODEL}unknown_token_id", 0),
            max_word_characters=metadata.get(f"{_SETTING}max_word_characters", 1),
            max_tokens=_NO_TRUNCATION if max_tokens is None else max_tokens,
        )
        self._max_tokens = max_tokens

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], max_tokens: int | None = None) -> Tokenizer:
        """Reads a `tokenizer.json`; the truncation and padding in it are left out.

        Parameters
        ----------
        path : the file.
        max_tokens : what longer texts are truncated to, special tokens included; None: no truncation.

        Raises
        ------
        UnsupportedError : not a `tokenizer.json`, or one with a part that the C core does not run.
        ModelFileError : a vocabulary that has a token or merge twice, or no token for a byte; or `max_tokens` has no
            room for the special tokens.
        """
        from keypilot.reference.tokenizer import tokenizer_metadata

        return cls(tokenizer_metadata(os.fspath(path)), max_tokens)

    @property
    def vocab_size(self) -> int:
        """The number of tokens, added ones included."""
        return self._core.vocab_size

    @property
    def max_tokens(self) -> int | None:
        """The length that texts are truncated to; None: none."""
        return self._max_tokens

    def encode(self, text: str | bytes) -> npt.NDArray[np.int32]:
        """Token ids (T,) int32, special tokens included, of text or UTF-8 bytes; what is not UTF-8 becomes U+FFFD."""
        return self._core.encode(text)

    def encode_batch(self, texts: Iterable[str | bytes]) -> list[npt.NDArray[np.int32]]:
        """The ids of each text, without padding."""
        return [self._core.encode(text) for text in texts]
