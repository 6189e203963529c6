"""`keypilot.Tokenizer` and Hugging Face `tokenizers`: the same ids from every type of tokenizer.json."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizer_files
from tokenizer_files import Document
from tokenizer_texts import CASED, CODE_POINTS, FEWER_CODE_POINTS, MARKS, WHITE_SPACE, Texts, differences

import keypilot
from keypilot.reference.tokenizer import TOKENIZERS, tokenizer_metadata

tokenizers = pytest.importorskip("tokenizers")

#: Of the slow test; python tests/tokenizer_texts.py compares more.
MANY = int(os.environ.get("KEYPILOT_TOKENIZER_TEXTS", "10000"))


class Pair:
    """The same tokenizer in C and in Hugging Face's library."""

    def __init__(self, path: Path, max_tokens: int | None = None) -> None:
        self.document: Document = json.loads(path.read_text(encoding="utf-8"))
        self.tokenizer = keypilot.Tokenizer.from_file(path, max_tokens)
        self.peer = tokenizers.Tokenizer.from_file(str(path))
        self.peer.no_padding()
        self.peer.no_truncation()
        if max_tokens is not None:
            self.peer.enable_truncation(max_tokens)

    def check(self, texts: list[str]) -> None:
        assert differences(self.tokenizer, self.peer, texts) == []


@pytest.fixture(scope="module", params=tokenizer_files.DOCUMENTS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    yield Pair(tokenizer_files.write(tmp_path_factory.mktemp("tokenizer"), request.param))


# ---- Equal ids ----


def test_generated_texts(pair: Pair) -> None:
    assert differences(pair.tokenizer, pair.peer, Texts(pair.document, 1).many(3_000)) == []


@pytest.mark.slow
def test_many_generated_texts(pair: Pair) -> None:
    texts = Texts(pair.document, 2)
    for _ in range(0, MANY, 10_000):
        assert differences(pair.tokenizer, pair.peer, texts.many(min(MANY, 10_000))) == []


def test_every_class_of_characters(pair: Pair) -> None:
    pair.check([f"a{chr(c)}a {chr(c)}1{chr(c)}!{chr(c)}" for c in FEWER_CODE_POINTS[::3]])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert_in_bytes", "wordpiece", "clip"])
def test_every_code_point(tmp_path: Path, name: str) -> None:
    pair = Pair(tokenizer_files.write(tmp_path, name))
    for start in range(0, len(CODE_POINTS), 50_000):
        characters = map(chr, CODE_POINTS[start : start + 50_000])
        pair.check([f"a{c}a {c}1{c}!{c}\u0301\u0327{c}" for c in characters])


def test_case_marks_and_white_space(pair: Pair) -> None:
    pair.check([f"{c} x{c}{c.upper()}{c.lower()}s" for c in CASED])
    pair.check([f"e{mark}x A{mark}\u0301 {mark}" for mark in MARKS])
    pair.check([f"a{space}b{space * 2}[MASK]{space}<|endoftext|>{space}!" for space in WHITE_SPACE])


def test_long_words(pair: Pair) -> None:
    lengths = [6, 7, 8, 99, 100, 101, 191, 192, 193, 1_000, 5_000]
    units = ["a", "hello", "ß", "é", "中", "!", "0", "\u0301", "\u1100", "İ"]
    pair.check([(unit * length)[:length] + end for length in lengths for unit in units for end in ("", " a")])


def test_short_and_empty_texts(pair: Pair) -> None:
    pair.check(["", " ", "\0", "\ufffd", "a", "'", "'s", "\u0301", "中", " a", "a ", "##", "</w>", "[", "<"])


@pytest.mark.parametrize("name", ["bpe", "wordpiece", "clip", "spaced_gpt2"])
@pytest.mark.parametrize("max_tokens", [2, 3, 16])
def test_truncation(tmp_path: Path, name: str, max_tokens: int) -> None:
    pair = Pair(tokenizer_files.write(tmp_path, name), max_tokens)
    pair.check(["hello " * count for count in range(18)] + ["unaffable!" * count for count in range(18)])
    pair.check(["[MASK]<|endoftext|><mask>" * count for count in range(8)])
    assert len(pair.tokenizer.encode("hello " * 20)) == max_tokens == pair.tokenizer.max_tokens


def test_ill_formed_utf8_is_read_as_python_reads_it(pair: Pair) -> None:
    texts = [b"caf\xc3 \xe4\xb8", b"\xff", b"a\xed\xa0\x80b", bytearray(b"\xf0\x9f\x98")]
    for text in texts:
        expected = pair.peer.encode(bytes(text).decode("utf-8", "replace")).ids
        assert pair.tokenizer.encode(text).tolist() == expected
    assert pair.tokenizer.encode("a\ud800b").tolist() == pair.tokenizer.encode(b"a\xed\xa0\x80b").tolist()


def test_a_model_file_has_the_same_tokenizer(tmp_path: Path, pair: Pair) -> None:
    from test_tokenizer import load, metadata_of

    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(pair.document), encoding="utf-8")
    model = load(tmp_path / "model.gguf", metadata_of(path, 4096))
    for text in Texts(pair.document, 3).many(300):
        assert model.tokenize(text).tolist() == pair.tokenizer.encode(text).tolist()[:4096]


# ---- The class ----


def test_ids_are_int32_arrays_of_ones_own() -> None:
    tokenizer = keypilot.Tokenizer.from_file(TOKENIZERS["wordpiece"])
    ids = tokenizer.encode("see you at")
    assert ids.dtype == np.int32 and ids.ndim == 1 and ids.flags.writeable and ids.flags.owndata
    assert tokenizer.vocab_size == 6912 and tokenizer.max_tokens is None
    batch = tokenizer.encode_batch(["see you at", "", b"3pm"])
    assert [one.tolist() for one in batch] == [tokenizer.encode(t).tolist() for t in ("see you at", "", "3pm")]


def test_threads_may_share_a_tokenizer() -> None:
    tokenizer = keypilot.Tokenizer.from_file(TOKENIZERS["clip"])
    texts = ["see you at the station " * n for n in range(300)]
    alone = tokenizer.encode_batch(texts)
    with ThreadPoolExecutor(4) as pool:
        for together in pool.map(tokenizer.encode_batch, [texts] * 4):
            assert all(map(np.array_equal, alone, together))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_package_has_a_vocabulary_of_each_type(name: str) -> None:
    metadata = tokenizer_metadata(TOKENIZERS[name])
    assert len(metadata["tokenizer.ggml.tokens"]) == 6912
    assert all(value not in ([], "") for value in metadata.values())


@pytest.mark.parametrize("ids", [[-1], [6912], [2**80], [True, 2**31]])
def test_ids_outside_of_the_vocabulary_are_refused(ids: list[int]) -> None:
    metadata = tokenizer_metadata(TOKENIZERS["wordpiece"]) | {"keypilot.tokenizer.prefix": ids}
    with pytest.raises(keypilot.ModelFileError, match=r"prefix\[\d\]: expected the id of one of 6912 tokens"):
        keypilot.Tokenizer(metadata)
    with pytest.raises(TypeError, match="expected an int, got str"):
        keypilot.Tokenizer(metadata | {"keypilot.tokenizer.prefix": ["0"]})
    with pytest.raises(TypeError, match="expected a str, got int"):
        keypilot.Tokenizer(metadata | {"tokenizer.ggml.tokens": [0]})


def test_other_arguments_are_refused() -> None:
    tokenizer = keypilot.Tokenizer.from_file(TOKENIZERS["wordpiece"])
    with pytest.raises(TypeError):
        tokenizer.encode(3)  # type: ignore[arg-type]
    with pytest.raises(keypilot.ArgumentError, match="max_tokens: expected 1 to 4294967294, got 0"):
        keypilot.Tokenizer.from_file(TOKENIZERS["wordpiece"], 0)
    with pytest.raises(keypilot.ModelFileError, match="max_tokens: expected 2 or more, got 1"):
        keypilot.Tokenizer.from_file(TOKENIZERS["wordpiece"], 1)


# ---- What is not supported ----


def changed(*path: str | int, to: Any) -> Callable[[Document], None]:
    def apply(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = to

    return apply


LLAMA_SPLIT = {"type": "Split", "pattern": {"Regex": "[a-z]+"}, "behavior": "Isolated", "invert": False}

REFUSED: list[tuple[str, Callable[[Document], None], str]] = [
    ("bpe", changed("model", to=[]), 'an object "model"'),
    ("bpe", changed("model", "vocab", to=[]), "model.vocab: expected an object"),
    ("bpe", changed("model", "vocab", "a", to=7000), "expected each id from 0 to 6911 once"),
    ("bpe", changed("model", "type", to="Unigram"), 'model: expected type BPE or WordPiece, got "Unigram"'),
    ("bpe", changed("model", "dropout", to=0.1), "model: expected dropout null, got 0.1"),
    ("bpe", changed("model", "byte_fallback", to=True), "model: expected byte_fallback false"),
    ("bpe", changed("model", "ignore_merges", to=True), "model: expected ignore_merges false"),
    ("bpe", changed("model", "continuing_subword_prefix", to="##"), "model: expected continuing_subword_prefix null"),
    ("bpe", changed("model", "merges", 0, to="a b c"), r"model.merges\[0\]: expected two tokens"),
    ("bpe", changed("normalizer", to={"type": "NFKC"}), 'normalizer: expected NFC, .*got {"type": "NFKC"}'),
    ("bpe", changed("normalizer", to={"type": "Replace", "pattern": {"String": "a"}, "content": ""}), "normalizer: "),
    ("bpe", changed("pre_tokenizer", to=None), "pre_tokenizer: expected ByteLevel .*got null"),
    ("bpe", changed("pre_tokenizer", to=LLAMA_SPLIT), "pre_tokenizer: expected ByteLevel .*Split"),
    ("bpe", changed("pre_tokenizer", "use_regex", to=False), "pre_tokenizer: expected use_regex true, got false"),
    ("bpe", changed("pre_tokenizer", to={"type": "BertPreTokenizer"}), "expected ByteLevel, or CLIP's .*before BPE"),
    ("bpe", changed("post_processor", "cls", to=["<s>", 6912]), "post_processor: expected RobertaProcessing"),
    ("bpe", changed("post_processor", to={"type": "Other"}), "post_processor: expected RobertaProcessing"),
    ("bpe", changed("added_tokens", 0, "single_word", to=True), "added_tokens <s>: expected single_word false"),
    ("bpe", changed("added_tokens", 0, "id", to=9), "added_tokens <s>: expected the vocabulary's id 0, got 9"),
    ("bpe", changed("added_tokens", 0, "content", to=""), "added_tokens: expected a content and an id"),
    ("clip", changed("pre_tokenizer", "pretokenizers", 0, "invert", to=False), "expected invert true, got false"),
    ("clip", changed("pre_tokenizer", "pretokenizers", 0, "pattern", "Regex", to="."), "pre_tokenizer: expected"),
    ("clip", changed("normalizer", "normalizers", 1, to={"type": "NFC"}), "normalizer: expected .*each once"),
    ("wordpiece", changed("model", "unk_token", to="[X]"), r'model.unk_token: expected a token .*got "\[X\]"'),
    ("wordpiece", changed("model", "max_input_chars_per_word", to=0), "max_input_chars_per_word: expected 1 to 1000"),
    ("wordpiece", changed("pre_tokenizer", to={"type": "Whitespace"}), "pre_tokenizer: expected ByteLevel"),
    ("wordpiece", changed("post_processor", "single", to=[]), "post_processor: expected RobertaProcessing"),
    ("wordpiece", changed("model", "continuing_subword_prefix", to=3), "continuing_subword_prefix: expected a string"),
    ("clip", changed("model", "end_of_word_suffix", to=[1]), "end_of_word_suffix: expected a string"),
    ("bpe", changed("model", "type", to=["BPE"]), "a part of another type"),
    ("bpe", changed("model", "merges", to=5), "a part of another type"),
    ("bpe", changed("added_tokens", to=5), "a part of another type"),
    ("bpe", changed("model", "vocab", "a", to=[1]), "a part of another type"),
    ("clip", changed("pre_tokenizer", "pretokenizers", 0, to="Split"), "a part of another type"),
    ("clip", changed("normalizer", "normalizers", to=5), "a part of another type"),
    ("wordpiece", changed("model", "unk_token", to=["[UNK]"]), "a part of another type"),
]


@pytest.mark.parametrize(("name", "change", "message"), REFUSED, ids=[message for _, _, message in REFUSED])
def test_what_is_not_supported_is_named(
    tmp_path: Path, name: str, change: Callable[[Document], None], message: str
) -> None:
    document = copy.deepcopy(tokenizer_files.DOCUMENTS[name]())
    change(document)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(keypilot.UnsupportedError, match=message):
        keypilot.Tokenizer.from_file(path)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b"\x80")
    with pytest.raises(keypilot.UnsupportedError, match="expected a tokenizer.json, got what is not JSON"):
        keypilot.Tokenizer.from_file(path)
    with pytest.raises(FileNotFoundError):
        keypilot.Tokenizer.from_file(tmp_path / "none.json")
