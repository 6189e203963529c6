"""KeyPilot's tokenizer: the file that ships with the package, and its form in a model file.

The vocabulary is byte-level BPE (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners") with
RoBERTa's special tokens, in the `tokenizer.json` format of Hugging Face's `tokenizers`. Reading it takes the standard
library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keypilot.errors import UnsupportedError

DEFAULT_TOKENIZER: Path = Path(__file__).resolve().parent.parent / "data" / "tokenizer.json"
"""The tokenizer of KeyPilot's presets; docs/tokenizer.md tells how it was made."""

_SPECIAL_TOKENS = {"bos": "<s>", "eos": "</s>", "padding": "<pad>", "unknown": "<unk>", "mask": "<mask>"}

_ALL_SPECIAL = " ".join(_SPECIAL_TOKENS.values())

# What decides the ids, part by part: each field's accepted values, the usual one first. None is a field left out.
_PRE_TOKENIZER = {"type": ("ByteLevel",), "add_prefix_space": (False,), "use_regex": (True, None)}
_SPECIAL_TOKEN = {"special": (True,), "single_word": (False,), "rstrip": (False,), "normalized": (False,)}
_MODEL = {
    "type": ("BPE", None),
    "dropout": (None, 0.0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (False, None),
    "ignore_merges": (False, None),
}


def tokenizer_metadata(path: Path | str) -> dict[str, Any]:
    """The model file's keys of a tokenizer.json: see docs/model-file.md, "The tokenizer".

    Args:
        path: a byte-level BPE with RoBERTa's special tokens and the post-processing `<s> A </s>`, normalised with NFC
            or not at all.

    Returns:
        `tokenizer.ggml.model` and `keypilot.tokenizer.normalizer` (str), `tokenizer.ggml.tokens` (list[str], by id),
        `tokenizer.ggml.merges` (list[str], best first) and the five `tokenizer.ggml.*_token_id` (int).

    Raises:
        UnsupportedError: the file is not a tokenizer.json, or has a part that the C core does not run.
        OSError: the file cannot be read.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnsupportedError(f"{path}: expected a tokenizer.json, got what is not JSON in UTF-8 ({error})") from error
    if not isinstance(document, dict) or not isinstance(document.get("model"), dict):
        raise UnsupportedError(f'{path}: expected a tokenizer.json, a JSON object with an object "model"')

    for part in ("truncation", "padding"):
        if document.get(part) is not None:
            raise UnsupportedError(f"{path}: {part}: expected null, got {_shown(document[part])}")
    _expect(path, "pre_tokenizer", document.get("pre_tokenizer"), _PRE_TOKENIZER)
    _expect(path, "model", document["model"], _MODEL)

    tokens = _tokens(path, document)
    ids = {token: index for index, token in enumerate(tokens)}
    _check_post_processor(path, document.get("post_processor"), ids)

    metadata: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": _merges(path, document["model"], ids),
        "keypilot.tokenizer.normalizer": _normalizer(path, document.get("normalizer")),
    }
    for role, token in _SPECIAL_TOKENS.items():
        metadata[f"tokenizer.ggml.{role}_token_id"] = ids[token]
    return metadata


def _tokens(path: Path | str, document: Mapping[str, Any]) -> list[str]:
    """Every token by its id, added ones included."""
    vocabulary = document["model"].get("vocab")
    if not isinstance(vocabulary, dict):
        raise UnsupportedError(f"{path}: model.vocab: expected an object of tokens and ids, got {_shown(vocabulary)}")
    ids: dict[str, int] = dict(vocabulary)
    missing = dict.fromkeys(_SPECIAL_TOKENS.values())
    for added in document.get("added_tokens") or []:
        token = added.get("content")
        if token not in _SPECIAL_TOKENS.values():
            raise UnsupportedError(f"{path}: added_tokens: expected none but {_ALL_SPECIAL}, got {_shown(token)}")
        fields = _SPECIAL_TOKEN | {"lstrip": (token == _SPECIAL_TOKENS["mask"],)}
        if document.get("normalizer") is None:
            fields["normalized"] = (False, True)
        _expect(path, f"added_tokens {token}", added, fields)
        ids[token] = added.get("id")
        missing.pop(token, None)
    if missing:
        raise UnsupportedError(f"{path}: added_tokens: expected {_ALL_SPECIAL}, got none of {' '.join(missing)}")
    by_id = {index: token for token, index in ids.items()}
    if by_id.keys() != set(range(len(ids))):
        raise UnsupportedError(f"{path}: expected each id from 0 to {len(ids) - 1} once, for {len(ids)} tokens")
    return [by_id[index] for index in range(len(ids))]


def _merges(path: Path | str, model: Mapping[str, Any], ids: Mapping[str, int]) -> list[str]:
    """Merges as "left right"; a tokenizer.json holds them so, or as pairs."""
    merges = []
    for index, merge in enumerate(model.get("merges") or []):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if len(pair) != 2 or any(token not in ids for token in (*pair, "".join(pair))):
            raise UnsupportedError(
                f"{path}: model.merges[{index}]: expected two tokens that form a third one, all in the vocabulary, "
                f"got {_shown(merge)}"
            )
        merges.append(" ".join(pair))
    return merges


def _normalizer(path: Path | str, normalizer: Mapping[str, Any] | None) -> str:
    if normalizer is None:
        return "none"
    if normalizer == {"type": "NFC"}:
        return "nfc"
    raise UnsupportedError(f"{path}: normalizer: expected NFC or none, got {_shown(normalizer)}")


def _check_post_processor(path: Path | str, processor: Any, ids: Mapping[str, int]) -> None:
    """Refuses everything but `<s> A </s>`, as RobertaProcessing or as a template."""
    bos, eos = _SPECIAL_TOKENS["bos"], _SPECIAL_TOKENS["eos"]
    kind = processor.get("type") if isinstance(processor, dict) else None
    if (
        kind == "RobertaProcessing"
        and processor.get("cls") == [bos, ids[bos]]
        and processor.get("sep") == [eos, ids[eos]]
    ):
        return
    if kind == "TemplateProcessing":
        template = [(name, piece["id"]) for item in processor["single"] for name, piece in item.items()]
        specials = {token: special["ids"] for token, special in processor["special_tokens"].items()}
        wanted = [("SpecialToken", bos), ("Sequence", "A"), ("SpecialToken", eos)]
        if template == wanted and all(specials.get(token) == [ids[token]] for token in (bos, eos)):
            return
    raise UnsupportedError(f"{path}: post_processor: expected {bos} A {eos}, got {_shown(processor)}")


def _expect(path: Path | str, part: str, value: Any, fields: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuses a part whose fields have other values than the accepted ones; a missing field counts as None."""
    for field, accepted in fields.items():
        got = value.get(field) if isinstance(value, dict) else value
        if got not in accepted:
            raise UnsupportedError(
                f"{path}: {part}: expected {field} {_shown(accepted[0])}, got {_shown(got)} in {_shown(value)}"
            )


def _shown(value: Any) -> str:
    """JSON of a value, cut to a length that fits in a message."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:200] + "..."
