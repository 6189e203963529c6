"""The C tokenizer against Hugging Face `tokenizers`: equal ids, whatever the text is."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import random
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_files import ProgramBuilder, write_model
from tokenizer_texts import (
    CODE_POINTS,
    FEWER_CODE_POINTS,
    FRAGMENTS,
    SCRIPTS,
    SPECIALS,
    WHITE_SPACE,
    mixed_texts,
)

import keypilot
from keypilot.reference.tokenizer import DEFAULT_TOKENIZER, TOKENIZERS, tokenizer_metadata

tokenizers = pytest.importorskip("tokenizers")

MAX_TOKENS = 64


@dataclasses.dataclass
class Pair:
    """The same tokenizer twice: in a model file, and Hugging Face's."""

    model: keypilot.Model
    peer: Any

    def check(self, texts: Sequence[str]) -> None:
        """Every text has the same ids from both."""
        encodings = self.peer.encode_batch_fast(texts)
        for text, encoding in zip(texts, encodings, strict=True):
            ids = self.model.tokenize(text).tolist()
            assert ids == encoding.ids, f"of {text!a}"

    def check_bytes(self, texts: Sequence[bytes]) -> None:
        """Every text has the ids of what Python's decoder makes of it."""
        for text, encoding in zip(texts, self.peer.encode_batch_fast([decoded(t) for t in texts]), strict=True):
            ids = self.model.tokenize(text).tolist()
            assert ids == encoding.ids, f"of {text!r}"


def decoded(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def small_program() -> ProgramBuilder:
    program = ProgramBuilder()
    output = program.op("unary", [program.input("x", "N,4")], "y", "N,4", "fn=relu")
    program.port("outputs", "y", output, "N,4")
    return program


def load(path: Path, metadata: dict[str, Any]) -> keypilot.Model:
    return keypilot.Model.load(write_model(path, {"relu": small_program()}, metadata=metadata))


def metadata_of(tokenizer: Path, max_tokens: int = MAX_TOKENS) -> dict[str, Any]:
    return {
        **tokenizer_metadata(tokenizer),
        "keypilot.tokenizer.max_tokens": max_tokens,
        "keypilot.tokenizer.position_offset": 2,
    }


def make_pair(directory: Path, tokenizer: Path = DEFAULT_TOKENIZER, max_tokens: int = MAX_TOKENS) -> Pair:
    peer = tokenizers.Tokenizer.from_file(str(tokenizer))
    peer.enable_truncation(max_tokens)
    return Pair(load(directory / f"{tokenizer.stem}.gguf", metadata_of(tokenizer, max_tokens)), peer)


def byte_pair_tokenizer(path: Path, normalizer: dict[str, str] | None) -> Path:
    """A tokenizer in which any two bytes merge, so that the ids show where the pieces end that merging stays within."""
    document = json.loads(DEFAULT_TOKENIZER.read_text(encoding="utf-8"))
    characters = sorted(token for token in document["model"]["vocab"] if len(token) == 1)
    merges = list(itertools.product(characters, repeat=2))
    random.Random(0).shuffle(merges)
    tokens = [*SPECIALS, *characters, *map("".join, merges)]
    document["model"] |= {"vocab": {token: i for i, token in enumerate(tokens)}, "merges": merges}
    document["normalizer"] = normalizer
    for i, added in enumerate(document["added_tokens"]):
        added["id"] = i
    for part in ("sep", "cls"):
        document["post_processor"][part][1] = tokens.index(document["post_processor"][part][0])
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def default_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="module")
def byte_pairs(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    directory = tmp_path_factory.mktemp("pairs")
    return make_pair(directory, byte_pair_tokenizer(directory / "nfc.json", {"type": "NFC"}))


@pytest.fixture(scope="module")
def byte_pairs_as_they_are(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Without a normalizer."""
    directory = tmp_path_factory.mktemp("none")
    return make_pair(directory, byte_pair_tokenizer(directory / "none.json", None))


@pytest.fixture(scope="module", params=["default_pair", "byte_pairs", "byte_pairs_as_they_are"])
def pair(request: pytest.FixtureRequest) -> Pair:
    found: Pair = request.getfixturevalue(request.param)
    return found


# ---- All of Unicode ----

CONTEXTS: dict[str, Callable[[str], str]] = {
    "alone": lambda c: c,
    "among letters": lambda c: f"a{c}a",
    "between spaces": lambda c: f" {c} ",
    "after a digit and punctuation": lambda c: f"1{c}!{c}",
    "before marks out of order": lambda c: c + "\u0301\u0327",
    "among marks": lambda c: f"a\u0345{c}\u0316\u0301",
    "twice before a special token": lambda c: f"{c}{c}<mask>",
}


def batched(texts: Iterable[str], size: int = 50_000) -> Iterator[list[str]]:
    iterator = iter(texts)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


@pytest.mark.parametrize("context", ["alone", "among marks"])
def test_code_points_have_the_peers_ids(default_pair: Pair, context: str) -> None:
    default_pair.check([CONTEXTS[context](chr(c)) for c in FEWER_CODE_POINTS])


def test_code_points_split_and_normalise_as_in_the_peer(byte_pairs: Pair) -> None:
    characters = [chr(c) for c in FEWER_CODE_POINTS]
    byte_pairs.check([f"a{c}a1{c}1!{c}! {c} {c}<mask>" for c in characters])
    byte_pairs.check([f"{c}\u0301\u0327{c}{c}\na\u0345{c}\u0316\u0301" for c in characters])


@pytest.mark.slow
@pytest.mark.parametrize("context", CONTEXTS)
def test_every_code_point_has_the_peers_ids(byte_pairs: Pair, context: str) -> None:
    for texts in batched(CONTEXTS[context](chr(c)) for c in CODE_POINTS):
        byte_pairs.check(texts)


@functools.cache
def decompositions() -> list[tuple[str, str]]:
    """Each character that is not its own canonical decomposition, with it."""
    pairs = [(chr(c), unicodedata.normalize("NFD", chr(c))) for c in CODE_POINTS]
    return [(character, parts) for character, parts in pairs if character != parts]


def test_composed_and_decomposed_forms_are_the_same_text(default_pair: Pair, byte_pairs: Pair) -> None:
    default_pair.check([parts for _, parts in decompositions()])
    byte_pairs.check([character + parts for character, parts in decompositions()])
    assert default_pair.model.tokenize("cafe\u0301").tolist() == default_pair.model.tokenize("caf\u00e9").tolist()


@pytest.mark.parametrize("between", ["\u0300", "\u0316", "\u0334", "\u3099", "a", "\u1161"])
def test_compositions_are_blocked_as_in_the_peer(byte_pairs: Pair, between: str) -> None:
    byte_pairs.check([parts[:-1] + between + parts[-1:] for _, parts in decompositions()])


@pytest.mark.parametrize("length", [2, 31, 32, 33, 34, 100, 5_000])
def test_runs_of_marks_are_put_in_order_as_in_the_peer(pair: Pair, length: int) -> None:
    rng = random.Random(length)
    marks = [chr(c) for c in FEWER_CODE_POINTS if unicodedata.combining(chr(c))]
    pair.check([rng.choice(("", "a", "<mask>")) + "".join(rng.choices(marks, k=length)) + "\u0301" for _ in range(20)])


# ---- White space, contractions, digits, special tokens ----


def test_white_space_of_every_kind(pair: Pair) -> None:
    runs = [*WHITE_SPACE, *map("".join, itertools.product(WHITE_SPACE, repeat=2))]
    pair.check([before + run + after for run in runs for before, after in ("  ", "aa", "1!", "!<", ("", "<mask>"))])


@pytest.mark.parametrize("space", WHITE_SPACE)
def test_runs_of_white_space(pair: Pair, space: str) -> None:
    ends = ["", "a", "1", "!", "'s", "<mask>", "<s>", "\u0301"]
    pair.check([a + space * length + b for length in range(1, 8) for a in ends for b in ends])


def test_contractions_in_every_position_and_case(pair: Pair) -> None:
    quotes = ["'", "''", " '", "\u2019"]
    endings = [
        "",
        "s",
        "t",
        "r",
        "re",
        "v",
        "ve",
        "m",
        "l",
        "ll",
        "d",
        "S",
        "Re",
        "rE",
        "LL",
        "x",
        "ss",
        "é",
        "s\u0301",
    ]
    ends = ["", "a", " ", "1", "!", "'", "<s>"]
    pair.check(["".join(parts) for parts in itertools.product(ends, quotes, endings, ends)])


def test_numbers(pair: Pair) -> None:
    digits = [chr(c) for c in CODE_POINTS if unicodedata.category(chr(c))[0] == "N"]
    pair.check([text for d in digits for text in (f"1{d}", f"{d}a", f" {d}", f"x{d}.{d}")])
    pair.check([str(10**n) for n in range(80)])


def test_special_tokens_in_the_text(pair: Pair) -> None:
    forms = ["{}", " {}", "{} ", "  {}  ", "a{}b", "<{}>", "<<{}>", "{0}{0}", "{0} {0}", "\n{}\n", "'{}s"]
    forms += ["e{}\u0301", "\u0301{}", "\u1112{}\u1161"]
    inside = [token[:i] + other + token[i:] for token in SPECIALS for other in SPECIALS for i in range(len(token))]
    parts = [token[:i] for token in SPECIALS for i in range(1, len(token))]
    pair.check([form.format(text) for form in forms for text in (*SPECIALS, *inside, *parts)])


# ---- Length ----


@pytest.mark.parametrize("max_tokens", [2, 3, 64, 4096])
def test_truncation(tmp_path: Path, max_tokens: int) -> None:
    pair = make_pair(tmp_path, max_tokens=max_tokens)
    around = range(max(max_tokens - 6, 0), max_tokens + 4)
    units = ["!1", " a", "<s>", "<mask>", "\n\u0301", "\U0010ffff"]
    pair.check([unit * count for unit in units for count in {*around, *(count // 2 for count in around)}])
    lengths = {len(pair.model.tokenize("<s>" * count)) for count in around}
    assert lengths == {min(count + 2, max_tokens) for count in around}


def test_nothing_is_two_special_tokens(default_pair: Pair) -> None:
    default_pair.check([""])
    assert default_pair.model.tokenize("").tolist() == default_pair.peer.encode("").ids
    assert len(default_pair.model.tokenize(b"")) == 2


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("see you at the station. " * 4_200, id="sentences"),
        pytest.param("station" * 30_000, id="one word"),
        pytest.param("a" * 200_000, id="one letter"),
        pytest.param(" " * 200_000, id="spaces"),
        pytest.param("a" + "\u0301\u0327" * 50_000, id="marks"),
        pytest.param("가" * 100_000, id="hangul"),
        pytest.param("<" * 200_000, id="almost special"),
        pytest.param(" " * 100_000 + "<mask>", id="spaces before a mask"),
    ],
)
def test_long_texts_are_equal_and_take_little_time(default_pair: Pair, text: str) -> None:
    start = time.perf_counter()
    ids = default_pair.model.tokenize(text)
    assert time.perf_counter() - start < 1.0
    assert ids.tolist() == default_pair.peer.encode(text).ids


# ---- Bytes that are not UTF-8 ----

# Both sides of every limit of well-formed UTF-8 (Unicode 15, table 3-7).
EDGE_BYTES = bytes.fromhex("417f808f909fa0bfc0c1c2dfe0e1ecedeeeff0f1f3f4f5ff")


def test_ill_formed_utf8_is_read_as_python_reads_it(default_pair: Pair, byte_pairs: Pair) -> None:
    default_pair.check_bytes([bytes(two) + b"a" for two in itertools.product(range(256), repeat=2)])
    byte_pairs.check_bytes([bytes(three) for three in itertools.product(EDGE_BYTES, repeat=3)])
    text = "aé中👍".encode()
    byte_pairs.check_bytes([text[:end] for end in range(len(text))])


@pytest.mark.slow
def test_ill_formed_utf8_of_four_bytes(byte_pairs: Pair) -> None:
    byte_pairs.check_bytes([bytes(four) for four in itertools.product(EDGE_BYTES, repeat=4)])


@given(st.lists(st.one_of(st.binary(max_size=8), st.sampled_from(FRAGMENTS).map(str.encode)), max_size=12))
def test_any_bytes_are_a_text(default_pair: Pair, parts: list[bytes]) -> None:
    default_pair.check_bytes([b"".join(parts)])


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\ud83d\ude00", "e\ud800\u0301", "\udcff <mask>"])
def test_a_lone_surrogate_is_three_bytes_that_are_not_utf8(default_pair: Pair, text: str) -> None:
    replaced = decoded(text.encode("utf-8", "surrogatepass"))
    assert default_pair.model.tokenize(text).tolist() == default_pair.peer.encode(replaced).ids


# ---- Random texts ----

random_texts = st.lists(
    st.one_of(
        st.sampled_from(FRAGMENTS),
        st.sampled_from(SCRIPTS).flatmap(lambda script: st.text(st.sampled_from(script), min_size=1, max_size=8)),
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4),
    ),
    max_size=16,
).map("".join)


@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(random_texts)
def test_random_texts(default_pair: Pair, byte_pairs: Pair, byte_pairs_as_they_are: Pair, text: str) -> None:
    for pair in (default_pair, byte_pairs, byte_pairs_as_they_are):
        pair.check([text])


@pytest.mark.parametrize("seed", range(3))
def test_mixed_texts(pair: Pair, seed: int) -> None:
    pair.check(mixed_texts(random.Random(seed), 5_000))


@pytest.mark.slow
def test_a_million_mixed_texts(default_pair: Pair, byte_pairs: Pair) -> None:
    rng = random.Random(1)
    for _ in range(300):
        default_pair.check(mixed_texts(rng, 4_000))
    for _ in range(30):
        byte_pairs.check(mixed_texts(rng, 4_000))


# ---- Damaged tokenizers ----

TOKENS, MERGES = "tokenizer.ggml.tokens", "tokenizer.ggml.merges"


def replaced(key: str, index: int, change: Callable[[list[str]], str]) -> Callable[[dict[str, Any]], None]:
    def apply(metadata: dict[str, Any]) -> None:
        metadata[key][index] = change(metadata[key])

    return apply


def appended(key: str, change: Callable[[list[str]], str]) -> Callable[[dict[str, Any]], None]:
    return lambda metadata: metadata[key].append(change(metadata[key]))


def assigned(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda metadata: metadata.update({key: value})


def without(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda metadata: metadata.pop(key)


def without_byte(byte: str) -> Callable[[dict[str, Any]], None]:
    def apply(metadata: dict[str, Any]) -> None:
        metadata[TOKENS][metadata[TOKENS].index(byte)] = "another token"

    return apply


ADDED_KEY, FLAGS_KEY = "keypilot.tokenizer.added_tokens", "keypilot.tokenizer.added_tokens.flags"
PREFIX_KEY, SUFFIX_KEY = "keypilot.tokenizer.prefix", "keypilot.tokenizer.suffix"
MAX_TOKENS_KEY, OFFSET_KEY = "keypilot.tokenizer.max_tokens", "keypilot.tokenizer.position_offset"
NORMALIZER_KEY, SPACE_KEY = "keypilot.tokenizer.normalizer", "tokenizer.ggml.add_space_prefix"
UNKNOWN_KEY, CHARACTERS_KEY = "tokenizer.ggml.unknown_token_id", "keypilot.tokenizer.max_word_characters"
CONTINUATION_KEY, WORD_SUFFIX_KEY = "keypilot.tokenizer.continuation", "keypilot.tokenizer.word_suffix"

Damages = list[tuple[str, Callable[[dict[str, Any]], None], str]]

OF_ALL: Damages = [
    ("a token twice", appended(TOKENS, lambda tokens: tokens[9]), r"tokenizer\.ggml\.tokens\[\d+\]: .*twice, got "),
    ("no tokens", without(TOKENS), r"tokenizer\.ggml\.tokens: "),
    ("tokens of another type", assigned(TOKENS, "a"), r"tokenizer\.ggml\.tokens"),
    ("no added tokens", without(ADDED_KEY), r"added_tokens: .*as many flags"),
    ("no flags", without(FLAGS_KEY), r"added_tokens: .*as many flags"),
    ("an unknown flag", replaced(FLAGS_KEY, 1, lambda flags: "lstrip left"), r"flags\[1\]: .*'lstrip left'"),
    *(
        (f"{key} {value}", assigned(key, [value]), rf"{key.replace('.', chr(92) + '.')}\[0\]: .*got {value}")
        for key in (PREFIX_KEY, SUFFIX_KEY)
        for value in (-1, 2**31 - 1)
    ),
    ("an added token past the end", replaced(ADDED_KEY, 1, lambda ids: 2**30), r"added_tokens\[1\]: .*1073741824"),
    ("17 tokens at the end", assigned(SUFFIX_KEY, [0] * 17), r"suffix: expected at most 16 ids, got 17"),
    *((f"{n} tokens", assigned(MAX_TOKENS_KEY, n), rf"keypilot\.tokenizer\.max_tokens: .*{n}") for n in (0, 1, 4097)),
    ("no max_tokens", without(MAX_TOKENS_KEY), r"keypilot\.tokenizer\.max_tokens"),
    ("a position too far", assigned(OFFSET_KEY, 4097), r"keypilot\.tokenizer\.position_offset: .*4097"),
    ("no position offset", without(OFFSET_KEY), r"keypilot\.tokenizer\.position_offset"),
    ("an unknown normalizer", assigned(NORMALIZER_KEY, "nfkc"), r"keypilot\.tokenizer\.normalizer: .*nfkc"),
    ("a step twice", assigned(NORMALIZER_KEY, "nfc,nfc"), r"keypilot\.tokenizer\.normalizer: .*no step twice"),
    ("no normalizer", without(NORMALIZER_KEY), r"keypilot\.tokenizer\.normalizer"),
    ("no pre-tokeniser", without("tokenizer.ggml.pre"), r"tokenizer\.ggml\.pre"),
    ("nothing about the space", without(SPACE_KEY), r"tokenizer\.ggml\.add_space_prefix"),
    ("a model of another type", assigned("tokenizer.ggml.model", 1), r"tokenizer\.ggml\.model"),
]

OF_BPE: Damages = [
    ("no token for the space", without_byte("Ġ"), r"tokenizer\.ggml\.tokens: .*0x20"),
    ("no token for a letter", without_byte("A"), r"tokenizer\.ggml\.tokens: .*0x41"),
    ("no token for byte 255", without_byte("ÿ"), r"tokenizer\.ggml\.tokens: .*0xFF"),
    ("a merge without a space", replaced(MERGES, 0, lambda merges: "ab"), r"tokenizer\.ggml\.merges\[0\]: .*'ab'"),
    ("an empty merge", replaced(MERGES, 0, lambda merges: ""), r"tokenizer\.ggml\.merges\[0\]: "),
    ("a merge of nothing", replaced(MERGES, 1, lambda merges: "a "), r"tokenizer\.ggml\.merges\[1\]: "),
    ("an unknown left side", replaced(MERGES, 2, lambda merges: "中 a"), r"tokenizer\.ggml\.merges\[2\]: .*中"),
    ("an unknown right side", replaced(MERGES, 2, lambda merges: "a 中"), r"tokenizer\.ggml\.merges\[2\]: .*中"),
    ("an unknown whole", appended(MERGES, lambda merges: "< <"), r"tokenizer\.ggml\.merges\[\d+\]: .*'< <'"),
    ("a merge of three", appended(MERGES, lambda merges: "a b c"), r"tokenizer\.ggml\.merges\[\d+\]: .*'a b c'"),
    ("a merge twice", appended(MERGES, lambda merges: merges[3]), r"tokenizer\.ggml\.merges\[\d+\]: .*twice"),
    ("merges of another type", assigned(MERGES, 1), r"tokenizer\.ggml\.merges"),
]

OF_CLIP: Damages = [
    ("no token for a last byte", without_byte("ÿ</w>"), r"a token for each byte followed by </w>, .* 0xFF"),
    ("another suffix", assigned(WORD_SUFFIX_KEY, "</v>"), r"a token for each byte followed by </v>, .* 0x00"),
    ("a space at the start", assigned(SPACE_KEY, True), r"add_space_prefix: expected false with clip-specials"),
]

OF_WORDPIECE: Damages = [
    ("no unknown token", without(UNKNOWN_KEY), r"tokenizer\.ggml\.unknown_token_id"),
    ("an unknown token past the end", assigned(UNKNOWN_KEY, 6912), r"unknown_token_id: .*6912 tokens, got 6912"),
    *((f"words of {n}", assigned(CHARACTERS_KEY, n), rf"max_word_characters: .*1 to 1000, got {n}") for n in (0, 1001)),
    ("no length of a word", without(CHARACTERS_KEY), r"keypilot\.tokenizer\.max_word_characters"),
    ("a continuation of another type", assigned(CONTINUATION_KEY, 1), r"keypilot\.tokenizer\.continuation"),
]

DAMAGES = [
    pytest.param(name, damage, message, id=f"{name}: {label}")
    for name, damages in {
        "bpe": OF_ALL + OF_BPE,
        "clip": OF_ALL + OF_CLIP,
        "wordpiece": OF_ALL + OF_WORDPIECE,
    }.items()
    for label, damage, message in damages
]


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGES)
def test_a_damaged_tokenizer_is_refused(
    tmp_path: Path, name: str, damage: Callable[[dict[str, Any]], None], message: str
) -> None:
    metadata = metadata_of(TOKENIZERS[name])
    damage(metadata)
    with pytest.raises(keypilot.ModelFileError, match=message):
        load(tmp_path / "damaged.gguf", metadata)


@pytest.mark.parametrize(("name", "pre"), [("bpe", "bert"), ("clip", "llama-bpe"), ("wordpiece", "gpt-2")])
def test_another_split_is_not_supported(tmp_path: Path, name: str, pre: str) -> None:
    metadata = metadata_of(TOKENIZERS[name]) | {"tokenizer.ggml.pre": pre}
    with pytest.raises(keypilot.UnsupportedError, match=rf"tokenizer\.ggml\.pre: expected .*, got '{pre}'"):
        load(tmp_path / "split.gguf", metadata)


def test_another_kind_of_tokenizer_is_not_supported(tmp_path: Path) -> None:
    metadata = metadata_of(DEFAULT_TOKENIZER) | {"tokenizer.ggml.model": "llama"}
    with pytest.raises(keypilot.UnsupportedError, match=r"tokenizer\.ggml\.model: expected gpt2 .* or bert .*'llama'"):
        load(tmp_path / "llama.gguf", metadata)


@pytest.mark.parametrize("shift", range(4))
def test_a_message_cuts_a_long_token_between_characters(tmp_path: Path, shift: int) -> None:
    metadata = metadata_of(DEFAULT_TOKENIZER)
    metadata[TOKENS] += ["x" * shift + "\U0001f44d" * 200] * 2
    with pytest.raises(keypilot.ModelFileError, match=f"expected no token twice, got '{'x' * shift}\U0001f44d+$"):
        load(tmp_path / "long.gguf", metadata)


def test_a_model_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    with pytest.raises(keypilot.UnsupportedError, match="no tokenizer"):
        load(tmp_path / "none.gguf", {}).tokenize("a")
