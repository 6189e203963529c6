"""Texts that tokenizers may disagree about, and a comparison of the C tokenizer with Hugging Face's on many of them:

    python tests/tokenizer_texts.py [--count N] [--lines FILE] [NAME ...]

compares the tokenizers of tokenizer_files.py (all of them, or those named) on N generated texts and on every line of a
file, prints the number of texts whose ids differ, and exits with 1 where there is one.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tokenizer_files
from model_files import byte_characters

import keypilot

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
CODE_POINTS = [*range(0xD800), *range(0xE000, 0x110000)]


def stands_for_many(code: int) -> bool:
    """One of the many thousands of ideographs, syllables, private and unassigned code points that behave alike."""
    syllable_or_ideograph = 0x3400 <= code < 0xA000 or 0xAC00 <= code < 0xD7A4 or 0x17000 <= code < 0x2F800
    return syllable_or_ideograph or unicodedata.category(chr(code)) in ("Cn", "Co")


FEWER_CODE_POINTS = [c for c in CODE_POINTS if c % 127 == 0 or not stands_for_many(c)]

WHITE_SPACE = [chr(c) for c in CODE_POINTS if chr(c).isspace()] + list("\u180e\u200b\u2060\ufeff")

CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]

SCRIPTS = [
    "abcxyzABCXYZ",
    "àéîõüñçåÀÉÎÕÜÑÇÅǖệṩ",
    "aeiouAEOS\u0300\u0301\u0302\u0303\u0308\u030a\u0327\u0323\u031b",
    "가각힣한국어뷁",
    "\u1100\u1112\u1161\u1175\u11a7\u11a8\u11ab\u11c2\uac00\uac01",
    "العربيةمُحَمَّد\u0622\u0627\u0653\u0654\u0655\u0660\u0661\u0662",
    "שָׁלוֹםעברית\ufb2a\ufb1d\u05bc\u05c1",
    "नमस्तेहिन्दी\u0915\u093c\u0958\u0929\u094d१२",
    "ภาษาไทยกำน้ำ๑๒",
    "中文字符漢字\uf900\ufa10\U00020000\U0002f800",
    "日本語ひらがなカタカナ\u304b\u3099\u309a\u30d8",
    "0123456789½²Ⅷ①٣",
    "!?.,;:()[]{}<>/\\@#$%^&*-_=+|~`\"'\u2019“”…€",
    " \t\n\r\u00a0\u2003\u3000",
    "👨👩👧👍🏻🏽🏿🇩🇪🇫🇷❤\ufe0f\u200d\u20e3🏴\U000e0067\U000e007f",
    "\u0000\u001f\u007f\u00ad\u200b\u202e\ufeff\ufffd\uffff\ue000\U0010ffff",
    "\u0334\u0345\u0316\u0e38\u0f71\u0f72\u3099\u0591\u1dce\U0001d165\U0001d16d\U0001e94a",
]

FRAGMENTS = [
    *SPECIALS,
    *CONTRACTIONS,
    *(contraction.upper() for contraction in CONTRACTIONS),
    *("<", ">", "<s", "s>", "</", "<<s>>", "<ma<mask>sk>", "< mask>", "<MASK>", "<mask", "'", "\u2019s", " '", "''s"),
    *("the", " the", "Settings", " battery", "don't", "1", "23", " 2024", "3rd", "!", "?!", "..."),
    *(" ", "  ", "\n", "\t ", "\u00a0", "\u3000", "\u2028", "\x85", "\x1c", "\0", "\ufffd"),
    *("é", "e\u0301", "e\u0327\u0301", "e\u0301\u0327", "\u0301", "\u0301" * 40, "\u0323\u0301\u0334" * 12),
    *("한국", "각", "中文", "日本語", "नमस्ते", "ไทย", "שלום", "مرحبا"),
    *("👨‍👩‍👧‍👦", "👍🏽", "🇩🇪", "🇩🇪🇫", "❤️‍🔥", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"),
]


def mixed_texts(rng: random.Random, count: int) -> list[str]:
    """Texts of up to 16 parts: fragments, words of one script, and letters of all scripts."""
    words = FRAGMENTS + ["".join(rng.choices(script, k=rng.randrange(1, 6))) for script in SCRIPTS for _ in range(20)]
    words += ["".join(rng.choices("".join(SCRIPTS), k=rng.randrange(1, 6))) for _ in range(100)]
    words += [chr(rng.choice(CODE_POINTS)) for _ in range(100)]
    return ["".join(rng.choices(words, k=int(16 * rng.random() ** 2) + 1)) for _ in range(count)]


# ---- Many texts, for any tokenizer ----


def written_out(token: str) -> str:
    """A token as it stands in a text: without WordPiece's prefix, from byte characters to text."""
    if token.startswith("##"):
        return token[2:]
    token = token.removesuffix("</w>")
    if all(character in _BYTES for character in token):
        return bytes(_BYTES[character] for character in token).decode("utf-8", "ignore")
    return token


_BYTES = byte_characters()

CASED = [chr(c) for c in CODE_POINTS if chr(c).lower() != chr(c) or chr(c).upper() != chr(c)]
MARKS = [chr(c) for c in CODE_POINTS if unicodedata.category(chr(c))[0] == "M"]
CONTROLS = [chr(c) for c in CODE_POINTS if unicodedata.category(chr(c)) in ("Cc", "Cf")]
UNASSIGNED = [chr(c) for c in CODE_POINTS if unicodedata.category(chr(c)) == "Cn"]


class Texts:
    """Random texts from a vocabulary's own tokens, its special tokens in many forms, and all of Unicode."""

    def __init__(self, document: dict[str, Any], seed: int) -> None:
        self.rng = random.Random(seed)
        self.words = sorted({written_out(token) for token in document["model"]["vocab"]} - {""})
        self.specials = [token["content"] for token in document["added_tokens"]]
        self.kinds: list[tuple[int, Callable[[], str]]] = [
            (30, lambda: self.rng.choice(self.words)),
            (10, lambda: " " + self.rng.choice(self.words)),
            (6, lambda: self.rng.choice((str.upper, str.title, str.swapcase))(self.rng.choice(self.words))),
            (12, lambda: self.rng.choice(FRAGMENTS)),
            (8, self.special),
            (12, lambda: self.of(self.rng.choice(SCRIPTS), 8)),
            (4, lambda: self.of(CASED, 4)),
            (4, lambda: self.of(MARKS, 6)),
            (3, lambda: self.of(CONTROLS, 3)),
            (3, lambda: self.of(WHITE_SPACE, 4)),
            (2, lambda: self.of(UNASSIGNED, 3)),
            (4, lambda: "".join(chr(self.rng.choice(CODE_POINTS)) for _ in range(self.rng.randrange(1, 4)))),
            (1, lambda: self.rng.choice(self.words)[:1] * int(10 ** self.rng.uniform(1, 3))),
        ]
        self.weights = [weight for weight, _ in self.kinds]

    def of(self, characters: Sequence[str], most: int) -> str:
        return "".join(self.rng.choices(characters, k=self.rng.randrange(1, most)))

    def special(self) -> str:
        token, other = self.rng.choice(self.specials), self.rng.choice(self.specials)
        cut = self.rng.randrange(len(token))
        forms = [token, f" {token} ", token.upper(), token.lower(), token[:cut], token[cut:], token[:cut] + other]
        return self.rng.choice(
            [*forms, token[:cut] + other + token[cut:], f"{token}{other}", f"\u3000{token}\t{other}!"]
        )

    def one(self) -> str | bytes:
        """A text; one of ten is bytes with a few of them changed, so that most are not UTF-8."""
        count = int(16 * self.rng.random() ** 2) + 1
        text = "".join(make() for _, make in self.rng.choices(self.kinds, self.weights, k=count))
        if self.rng.random() > 0.1:
            return text
        damaged = bytearray(text.encode("utf-8"))
        for _ in range(self.rng.randrange(1, 4)):
            place = self.rng.randrange(len(damaged) + 1)
            damaged[place : place + self.rng.randrange(3)] = self.rng.randbytes(self.rng.randrange(3))
        return bytes(damaged)

    def many(self, count: int) -> Iterator[str | bytes]:
        return (self.one() for _ in range(count))


def differences(tokenizer: keypilot.Tokenizer, peer: Any, texts: Iterable[str | bytes]) -> list[str]:
    """Each text whose ids differ, with both; bytes as Python decodes them."""
    listed = list(texts)
    read = [text if isinstance(text, str) else text.decode("utf-8", "replace") for text in listed]
    found = []
    for text, encoding in zip(listed, peer.encode_batch_fast(read), strict=True):
        ids = tokenizer.encode(text).tolist()
        if ids != encoding.ids:
            found.append(f"{text!a}: {ids}, the peer has {encoding.ids}")
    return found


def load(path: Path) -> tuple[keypilot.Tokenizer, Any]:
    """The same tokenizer in C, and Hugging Face's, neither truncated nor padded."""
    import tokenizers

    peer = tokenizers.Tokenizer.from_file(str(path))
    peer.no_truncation()
    peer.no_padding()
    return keypilot.Tokenizer.from_file(path), peer


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the C tokenizer with Hugging Face's on many texts.")
    parser.add_argument("names", nargs="*", default=list(tokenizer_files.DOCUMENTS), metavar="NAME")
    parser.add_argument("--count", type=int, default=1_000_000, help="generated texts (default: 1,000,000)")
    parser.add_argument("--lines", type=Path, help="a file of real texts, one on each line, in UTF-8")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    lines = options.lines.read_text(encoding="utf-8").split("\n") if options.lines else []
    failed = False
    for name in options.names:
        with tempfile.TemporaryDirectory() as folder:
            path = tokenizer_files.write(Path(folder), name)
            tokenizer, peer = load(path)
            texts = Texts(json.loads(path.read_text(encoding="utf-8")), options.seed)
        found: list[str] = []
        for start in range(0, options.count, 10_000):
            found += differences(tokenizer, peer, texts.many(min(10_000, options.count - start)))
        for start in range(0, len(lines), 10_000):
            found += differences(tokenizer, peer, lines[start : start + 10_000])
        print(f"{name:20} {options.count:9,} generated, {len(lines):9,} read, {len(found):,} differ", flush=True)
        print("".join(f"  {text}\n" for text in found[:5]), end="")
        failed = failed or bool(found)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
