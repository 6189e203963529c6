"""Tokenizers: the files that ship with the package, and the form of a `tokenizer.json` in a model file.

Three types, in the `tokenizer.json` format of Hugging Face's `tokenizers`: byte-level BPE (Radford et al. 2019,
"Language Models are Unsupervised Multitask Learners"), CLIP's variant of it (Radford et al. 2021, "Learning
Transferable Visual Models From Natural Language Supervision"), and BERT's WordPiece (Devlin et al. 2019). Reading them
takes the standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from keypilot.errors import UnsupportedError

_DATA = Path(__file__).resolve().parent.parent / "data"

TOKENIZERS: Mapping[str, Path] = MappingProxyType(
    {"bpe": _DATA / "tokenizer.json", "wordpiece": _DATA / "wordpiece.json", "clip": _DATA / "clip_bpe.json"}
)
"""A tokenizer of each type, of 6,912 entries; docs/tokenizer.md tells how they were made."""

DEFAULT_TOKENIZER: Path = TOKENIZERS["bpe"]
"""The tokenizer of the preset `keypilot-base`."""

# What decides the ids, part by part: each field's accepted values, the usual one first. None is a field left out.
_ADDED_TOKEN = {"single_word": (False, None)}
_BYTE_PAIRS = {
    "dropout": (None, 0.0),
    "continuing_subword_prefix": (None, ""),
    "byte_fallback": (False, None),
    "ignore_merges": (False, None),
}
_BYTE_LEVEL = {"type": ("ByteLevel",), "use_regex": (True, None), "add_prefix_space": (False, True)}
_SPLIT = {"type": ("Split",), "behavior": ("Removed",), "invert": (True,)}

_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_CLIP_PATTERNS = {
    _CLIP_WORDS: "clip",
    r"<\|startoftext\|>|<\|endoftext\|>|" + _CLIP_WORDS: "clip-specials",
}

_WHITE_SPACE_RUN = {"Regex": r"\s+"}
_STEPS = "NFC, Lowercase, Replace of \\s+ by one space, BertNormalizer, each once, a Sequence of these, or none"

# Tokens by their role, for tools that read GGUF.
_PADDING = ("<pad>", "[PAD]")
_UNKNOWN = ("<unk>", "[UNK]")
_MASK = ("<mask>", "[MASK]")


def tokenizer_metadata(path: Path | str) -> dict[str, Any]:
    """The model file's keys of a tokenizer.json: see docs/model-file.md, "The tokenizer".

    Args:
        path: a byte-level BPE as RoBERTa's or GPT-2's, CLIP's BPE, or BERT's WordPiece. Its truncation and padding
            are left out: the model file's `keypilot.tokenizer.max_tokens` truncates.

    Returns:
        Strings, booleans, integers, and lists of strings or integers, by key, without empty ones; all of the
        tokenizer's keys but `keypilot.tokenizer.max_tokens` and `.position_offset`, which are the text encoder's.

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
    try:
        return _metadata(path, document)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise UnsupportedError(
            f"{path}: expected a tokenizer.json, got one with a part of another type ({error})"
        ) from error


def _metadata(path: Path | str, document: Mapping[str, Any]) -> dict[str, Any]:
    model = document["model"]
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict):
        raise UnsupportedError(f"{path}: model.vocab: expected an object of tokens and ids, got {_shown(vocabulary)}")
    added = _added_tokens(path, document, vocabulary)
    ids: dict[str, int] = vocabulary | {token["content"]: token["id"] for token in added}
    prefix, suffix = _template(path, document.get("post_processor"), len(ids))
    keys: dict[str, Any] = {
        "tokenizer.ggml.tokens": _by_id(path, ids),
        "keypilot.tokenizer.normalizer": ",".join(_normalizer(path, document.get("normalizer"))) or "none",
        "keypilot.tokenizer.added_tokens": [token["id"] for token in added],
        "keypilot.tokenizer.added_tokens.flags": [_flags(token, vocabulary) for token in added],
        "keypilot.tokenizer.prefix": prefix,
        "keypilot.tokenizer.suffix": suffix,
        **_split(path, document.get("pre_tokenizer")),
    }
    kind = model.get("type") or ("BPE" if "merges" in model else "WordPiece")
    expected = {"BPE": ("gpt-2", "clip", "clip-specials"), "WordPiece": ("bert",)}
    if kind not in expected:
        raise UnsupportedError(f"{path}: model: expected type BPE or WordPiece, got {_shown(kind)}")
    if keys["tokenizer.ggml.pre"] not in expected[kind]:
        pre_tokenizer = "BertPreTokenizer" if kind == "WordPiece" else "ByteLevel, or CLIP's Split and ByteLevel"
        raise UnsupportedError(
            f"{path}: pre_tokenizer: expected {pre_tokenizer} before {kind}, got {_shown(document['pre_tokenizer'])}"
        )
    keys |= _word_pieces(path, model) if kind == "WordPiece" else _byte_pairs(path, model)

    roles = {
        "bos": prefix[:1],
        "eos": suffix[-1:],
        "padding": [ids[token] for token in _PADDING if token in ids],
        "unknown": [ids[token] for token in (model.get("unk_token"), *_UNKNOWN) if token in ids],
        "mask": [ids[token] for token in _MASK if token in ids],
    }
    keys |= {f"tokenizer.ggml.{role}_token_id": found[0] for role, found in roles.items() if found}
    return {key: value for key, value in keys.items() if value not in ([], "")}


def _added_tokens(path: Path | str, document: Mapping[str, Any], vocabulary: Mapping[str, int]) -> list[dict[str, Any]]:
    """Tokens that are found in the text before it is split, special ones first, as `tokenizers` looks for them."""
    tokens = document.get("added_tokens") or []
    for token in tokens:
        content = token.get("content") if isinstance(token, dict) else None
        if not isinstance(content, str) or not content or not isinstance(token.get("id"), int):
            raise UnsupportedError(f"{path}: added_tokens: expected a content and an id, got {_shown(token)}")
        _expect(path, f"added_tokens {content}", token, _ADDED_TOKEN)
        if vocabulary.get(content, token["id"]) != token["id"]:
            raise UnsupportedError(
                f"{path}: added_tokens {content}: expected the vocabulary's id {vocabulary[content]}, got {token['id']}"
            )
    return sorted(tokens, key=lambda token: not token.get("special"))


def _flags(token: Mapping[str, Any], vocabulary: Mapping[str, int]) -> str:
    flags = [flag for flag in ("lstrip", "rstrip", "normalized") if token.get(flag)]
    return " ".join(flags if token["content"] in vocabulary else [*flags, "outside"])


def _by_id(path: Path | str, ids: Mapping[str, int]) -> list[str]:
    by_id = {index: token for token, index in ids.items()}
    if by_id.keys() != set(range(len(ids))):
        raise UnsupportedError(f"{path}: expected each id from 0 to {len(ids) - 1} once, for {len(ids)} tokens")
    return [by_id[index] for index in range(len(ids))]


def _byte_pairs(path: Path | str, model: Mapping[str, Any]) -> dict[str, Any]:
    _expect(path, "model", model, _BYTE_PAIRS)
    suffix = model.get("end_of_word_suffix") or ""
    if not isinstance(suffix, str):
        raise UnsupportedError(f"{path}: model.end_of_word_suffix: expected a string, got {_shown(suffix)}")
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.merges": _merges(path, model),
        "keypilot.tokenizer.word_suffix": suffix,
    }


def _merges(path: Path | str, model: Mapping[str, Any]) -> list[str]:
    """Merges as "left right"; a tokenizer.json holds them so, or as pairs."""
    merges, vocabulary = [], model["vocab"]
    for index, merge in enumerate(model.get("merges") or []):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if len(pair) != 2 or any(token not in vocabulary for token in (*pair, "".join(pair))):
            raise UnsupportedError(
                f"{path}: model.merges[{index}]: expected two tokens that form a third one, all in the vocabulary, "
                f"got {_shown(merge)}"
            )
        merges.append(" ".join(pair))
    return merges


def _word_pieces(path: Path | str, model: Mapping[str, Any]) -> dict[str, Any]:
    unknown, most = model.get("unk_token"), model.get("max_input_chars_per_word")
    if unknown not in model["vocab"]:
        raise UnsupportedError(f"{path}: model.unk_token: expected a token of the vocabulary, got {_shown(unknown)}")
    if not isinstance(most, int) or not 1 <= most <= 1000:
        raise UnsupportedError(f"{path}: model.max_input_chars_per_word: expected 1 to 1000, got {_shown(most)}")
    continuation = model.get("continuing_subword_prefix", "##")
    if not isinstance(continuation, str):
        raise UnsupportedError(
            f"{path}: model.continuing_subword_prefix: expected a string, got {_shown(continuation)}"
        )
    return {
        "tokenizer.ggml.model": "bert",
        "keypilot.tokenizer.continuation": continuation,
        "keypilot.tokenizer.max_word_characters": most,
    }


def _normalizer(path: Path | str, normalizer: Any) -> list[str]:
    """The steps of a normaliser, in order."""
    kind = normalizer.get("type") if isinstance(normalizer, dict) else None
    refused = UnsupportedError(f"{path}: normalizer: expected {_STEPS}, got {_shown(normalizer)}")
    steps: list[str] = []
    if normalizer is None:
        pass
    elif kind == "Sequence":
        steps = [step for part in normalizer.get("normalizers") or [] for step in _normalizer(path, part)]
    elif kind == "NFC":
        steps = ["nfc"]
    elif kind == "Lowercase":
        steps = ["lowercase"]
    elif kind == "Replace" and normalizer.get("pattern") == _WHITE_SPACE_RUN and normalizer.get("content") == " ":
        steps = ["collapse_spaces"]
    elif kind == "BertNormalizer":
        lowercase, accents = normalizer.get("lowercase", True), normalizer.get("strip_accents")
        wanted = {
            "clean": normalizer.get("clean_text", True),
            "space_ideographs": normalizer.get("handle_chinese_chars", True),
            "strip_accents": lowercase if accents is None else accents,
            "lowercase": lowercase,
        }
        steps = [step for step, is_wanted in wanted.items() if is_wanted]
    else:
        raise refused
    if len(steps) != len(set(steps)):
        raise refused
    return steps


def _split(path: Path | str, pre_tokenizer: Any) -> dict[str, Any]:
    """How text is split into words."""
    parts = pre_tokenizer if isinstance(pre_tokenizer, dict) else {}
    if parts.get("type") == "BertPreTokenizer":
        return {"tokenizer.ggml.pre": "bert", "tokenizer.ggml.add_space_prefix": False}
    if parts.get("type") == "ByteLevel":
        _expect(path, "pre_tokenizer", parts, _BYTE_LEVEL)
        return {"tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.add_space_prefix": parts["add_prefix_space"]}
    if parts.get("type") == "Sequence" and len(parts.get("pretokenizers") or []) == 2:
        split, byte_level = parts["pretokenizers"]
        pattern = split.get("pattern", {}).get("Regex")
        if split.get("type") == "Split" and pattern in _CLIP_PATTERNS:
            _expect(path, "pre_tokenizer", split, _SPLIT)
            _expect(path, "pre_tokenizer", byte_level, _BYTE_LEVEL | {"add_prefix_space": (False,)})
            return {"tokenizer.ggml.pre": _CLIP_PATTERNS[pattern], "tokenizer.ggml.add_space_prefix": False}
    raise UnsupportedError(
        f"{path}: pre_tokenizer: expected ByteLevel (GPT-2's, RoBERTa's), CLIP's Split and ByteLevel, or "
        f"BertPreTokenizer, got {_shown(pre_tokenizer)}"
    )


def _template(path: Path | str, processor: Any, token_count: int) -> tuple[list[int], list[int]]:
    """The ids that a post-processor puts before and after a text."""
    kind = processor.get("type") if isinstance(processor, dict) else None
    try:
        before, after = _template_ids(kind, processor)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        before, after = [-1], []
    if not all(isinstance(index, int) and 0 <= index < token_count for index in before + after):
        raise UnsupportedError(
            f"{path}: post_processor: expected RobertaProcessing, BertProcessing, ByteLevel, TemplateProcessing of one "
            f"A and special tokens, a Sequence of one of these and ByteLevel, or none, got {_shown(processor)}"
        )
    return before, after


def _template_ids(kind: str | None, processor: Any) -> tuple[list[int], list[int]]:
    if processor is None or kind == "ByteLevel":
        return [], []
    if kind in ("RobertaProcessing", "BertProcessing"):
        return [processor["cls"][1]], [processor["sep"][1]]
    if kind == "TemplateProcessing":
        items = [(name, item["id"]) for part in processor["single"] for name, item in part.items()]
        here = items.index(("Sequence", "A"))
        specials = {token: special["ids"] for token, special in processor["special_tokens"].items()}
        before, after = (
            [index for _, token in part for index in specials[token]] for part in (items[:here], items[here + 1 :])
        )
        return before, after
    if kind == "Sequence":
        others = [part for part in processor["processors"] if part["type"] != "ByteLevel"]
        if len(others) <= 1:
            return _template_ids(others[0]["type"], others[0]) if others else ([], [])
    raise ValueError(kind)


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
