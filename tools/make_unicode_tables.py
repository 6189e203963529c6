"""Writes csrc/text/unicode_tables.c: what the tokenizer needs of Unicode, as Hugging Face `tokenizers` has it.

    python tools/make_unicode_tables.py

The tokenizer must equal `tokenizers` id for id, and that library's tables come from other Unicode versions than
Python's. So its own behaviour is asked about every code point: the class that GPT-2's and CLIP's patterns see, what
BERT's normaliser and split make of it, the lower case, the canonical decomposition, whether a mark is reordered,
whether a pair composes. Python's `unicodedata` gives the candidates and the combining classes' values.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Regex, __version__, normalizers, pre_tokenizers

TARGET = Path(__file__).parents[1] / "csrc" / "text" / "unicode_tables.c"
BLOCK = 256
HANGUL = range(0xAC00, 0xD7A4)
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]

_NFC, _NFD = normalizers.NFC(), normalizers.NFD()
_SPLIT = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
_CLIP_SPLIT = pre_tokenizers.Split(
    Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True
)
_COLLAPSE = normalizers.Replace(Regex(r"\s+"), " ")
_LOWERCASE = normalizers.Lowercase()
_CLEAN = normalizers.BertNormalizer(True, False, False, False)
_SPACE_IDEOGRAPHS = normalizers.BertNormalizer(False, True, False, False)
_STRIP_ACCENTS = normalizers.BertNormalizer(False, False, True, False)
_BERT_SPLIT = pre_tokenizers.BertPreTokenizer()


def character_class(code: int) -> int:
    """0: other, 1: letter, 2: number, 3: white space, by which neighbour it shares a piece with."""
    character = chr(code)
    for value, neighbour in ((1, "a"), (2, "1"), (0, "!"), (3, " ")):
        if value == 3 or len(_SPLIT.pre_tokenize_str(neighbour + character)) == 1:
            break
    clip = [part for part, _ in _CLIP_SPLIT.pre_tokenize_str(neighbour + character)]
    expected = {0: ["!" + character], 1: ["a" + character], 2: ["1", character], 3: []}[value]
    if clip != expected or (_COLLAPSE.normalize_str(character * 2) == " ") != (value == 3):
        raise SystemExit(f"U+{code:04X}: CLIP's pattern and GPT-2's disagree")
    return value


def bert_class(code: int) -> int:
    """What BERT's normaliser and split make of a character: kp_bert_class in csrc/text/unicode.h."""
    character, between = chr(code), f"a{chr(code)}a"
    is_control = _CLEAN.normalize_str(between) == "aa"
    parts = len(_BERT_SPLIT.pre_tokenize_str(between))  # 1: joins its neighbours; 2: divides them; 3: a word of its own
    is_ideograph = _SPACE_IDEOGRAPHS.normalize_str(character) != character
    is_mark = _NFD.normalize_str(character) == character and _STRIP_ACCENTS.normalize_str(character) == ""
    if (is_control or parts == 2) + (parts == 3) + is_ideograph + is_mark > 1:
        raise SystemExit(f"U+{code:04X}: in several of BERT's classes")
    if (_CLEAN.normalize_str(between) == "a a") != (parts == 2 and not is_control):
        raise SystemExit(f"U+{code:04X}: white space in only one of BERT's two places")
    if is_control:
        return 2 if parts == 2 else 1
    return 3 if parts == 2 else 4 if is_ideograph else 5 if is_mark else 6 if parts == 3 else 0


def lowercase_ranges() -> list[tuple[int, int, int, int]]:
    """Runs of characters, `step` apart, with one distance to their lower case: (first, last, step, distance)."""
    ranges: list[tuple[int, int, int, int]] = []
    for code in CODE_POINTS:
        lower = _LOWERCASE.normalize_str(chr(code))
        if len(lower) != 1:
            if (code, lower) != (0x130, "i\u0307"):
                raise SystemExit(f"U+{code:04X}: becomes several characters in lower case")
            continue
        distance = ord(lower) - code
        if distance == 0:
            continue
        first, last, step, previous = ranges[-1] if ranges else (0, 0, 0, 0)
        gap = code - last
        if distance == previous and gap <= 2 and (first == last or gap == step):
            ranges[-1] = (first, code, gap, distance)
        else:
            ranges.append((code, code, 1, distance))
    return ranges


def combining_class(code: int) -> int:
    """Unicode's canonical combining class where `tokenizers` reorders the character, else 0."""
    mark = chr(code)
    overlay, cedilla = "\u0334", "\u0327"  # classes 1 and 202
    moves = _NFD.normalize_str(mark + overlay) == overlay + mark
    moves = moves or _NFD.normalize_str(cedilla + mark) == mark + cedilla
    value = unicodedata.combining(mark)
    if moves and value == 0:
        raise SystemExit(f"U+{code:04X}: reordered by tokenizers, unknown to unicodedata; use a newer Python")
    return value if moves else 0


def decomposition(code: int) -> tuple[int, ...]:
    """The full canonical decomposition, empty where there is none. Hangul syllables are computed in C."""
    if code in HANGUL:
        return ()
    parts = tuple(map(ord, _NFD.normalize_str(chr(code))))
    return () if parts == (code,) else parts


def compositions() -> dict[tuple[int, int], int]:
    """Pairs that compose: (first, second) -> composite."""
    pairs = {}
    for code in CODE_POINTS:
        text = unicodedata.decomposition(chr(code))
        if not text or text.startswith("<") or code in HANGUL:
            continue
        parts = [int(part, 16) for part in text.split()]
        if len(parts) == 2 and _NFC.normalize_str("".join(map(chr, parts))) == chr(code):
            pairs[parts[0], parts[1]] = code
    return pairs


def two_stages(values: Sequence[int], block_size: int) -> tuple[list[int], list[int]]:
    """An index of blocks, and the distinct blocks one after another."""
    blocks: dict[tuple[int, ...], int] = {}
    index = []
    for start in range(0, len(values), block_size):
        block = tuple(values[start : start + block_size])
        index.append(blocks.setdefault(block, len(blocks)))
    if len(blocks) > 256:
        raise SystemExit(f"{len(blocks)} distinct blocks do not fit a byte")
    return index, [value for block in blocks for value in block]


def array(declaration: str, values: Iterable[int], form: str = "{}") -> str:
    cells = [form.format(value) for value in values]
    lines, line = [], "   "
    for cell in cells:
        if len(line) + len(cell) + 2 > 118:
            lines.append(line)
            line = "   "
        line += f" {cell},"
    return f"const {declaration}[{len(cells)}] = {{\n" + "\n".join([*lines, line]) + "\n};\n"


def main() -> None:
    full = [0] * 0x110000
    classes, combining, bert = list(full), list(full), list(full)
    marks = {c for c in CODE_POINTS if unicodedata.category(chr(c)) in ("Mn", "Mc", "Me", "Cn")}
    for code in CODE_POINTS:
        classes[code] = character_class(code)
        bert[code] = bert_class(code)
        combining[code] = combining_class(code) if code in marks else 0
    packed = [sum(classes[i + k] << (2 * k) for k in range(4)) for i in range(0, len(classes), 4)]
    class_index, class_blocks = two_stages(packed, BLOCK // 4)
    nibbles = [bert[i] | bert[i + 1] << 4 for i in range(0, len(bert), 2)]
    bert_index, bert_blocks = two_stages(nibbles, BLOCK // 2)
    combining_index, combining_blocks = two_stages(combining, BLOCK)

    decompositions = {code: parts for code in CODE_POINTS if (parts := decomposition(code))}
    starts, pool = [], []
    for parts in decompositions.values():
        starts.append(len(pool))
        pool.extend(parts)
    starts.append(len(pool))
    pairs = sorted(compositions().items())
    ranges = lowercase_ranges()

    TARGET.write_text(
        f"/* Generated by tools/make_unicode_tables.py from tokenizers {__version__} and Unicode "
        f"{unicodedata.unidata_version}. Do not edit. */\n"
        '// clang-format off\n#include "text/unicode_tables.h"\n\n'
        + "\n".join(
            [
                array("uint8_t kp_class_index", class_index),
                array("uint8_t kp_class_blocks", class_blocks),
                array("uint8_t kp_bert_index", bert_index),
                array("uint8_t kp_bert_blocks", bert_blocks),
                array("uint8_t kp_combining_index", combining_index),
                array("uint8_t kp_combining_blocks", combining_blocks),
                array("uint32_t kp_decomposed", decompositions, "0x{:X}"),
                array("uint16_t kp_decomposition_starts", starts),
                array("uint32_t kp_decompositions", pool, "0x{:X}"),
                array("uint32_t kp_compositions", [x for (a, b), c in pairs for x in (a, b, c)], "0x{:X}"),
                array("int32_t kp_lowercase", [x for row in ranges for x in row]),
            ]
        )
        + f"\nconst size_t kp_decomposed_count = {len(decompositions)};\n"
        f"const size_t kp_composition_count = {len(pairs)};\n"
        f"const size_t kp_lowercase_count = {len(ranges)};\n"
    )


if __name__ == "__main__":
    main()
