"""Single short texts to token ids: `keypilot.Tokenizer` and Hugging Face `tokenizers`, in turns, in one process.

    python benchmarks/text.py [TOKENIZER.json ...] [--rounds N] [--clock wall|cpu] [--json F]

Without files it takes the tokenizers that ship with the package. README.md says what is measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runner import CLOCKS

import keypilot
from keypilot.reference.tokenizer import TOKENIZERS

TEXTS = (
    "Settings",
    "see you at",
    "Meeting moved to 3pm, can you make it?",
    "Grüße aus Zürich, schöne Straße",
    "明日の会議は何時からですか",
    "https://example.org/a?b=c&d=1 👍🏽",
)

#: What texts are truncated to, as in the presets.
MAX_TOKENS = 64

#: Calls in a turn.
CALLS = 400


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Time single short texts in KeyPilot's and Hugging Face's tokenizers.")
    parser.add_argument("files", nargs="*", type=Path, default=list(TOKENIZERS.values()), metavar="TOKENIZER.json")
    parser.add_argument("--rounds", type=int, default=40, help="turns of each (default: 40)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="as in run.py (default: wall)")
    parser.add_argument("--json", type=Path, metavar="F", help="writes the figures to a file")
    options = parser.parse_args(arguments)
    rows = [row for file in options.files for row in measured(file, options.rounds, CLOCKS[options.clock])]
    print(f"{'tokenizer':18} {'text':40} {'ids':>4} {'keypilot us':>12} {'tokenizers us':>14} {'ratio':>6}")
    for row in rows:
        print(
            f"{row['tokenizer'][:18]:18} {row['text'][:40]:40} {row['ids']:4} {row['keypilot_us']:12.2f} "
            f"{row['tokenizers_us']:14.2f} {row['tokenizers_us'] / row['keypilot_us']:6.1f}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return 0


def measured(file: Path, rounds: int, clock: Callable[[], int]) -> list[dict[str, Any]]:
    """A row for each text: the minimum over the turns of the mean time of a call."""
    from tokenizers import Tokenizer

    peer = Tokenizer.from_file(str(file))
    peer.no_padding()
    peer.enable_truncation(MAX_TOKENS)
    ours = keypilot.Tokenizer.from_file(file, MAX_TOKENS)
    calls: dict[str, Callable[[str], Any]] = {"keypilot": ours.encode, "tokenizers": peer.encode}
    rows = []
    for text in TEXTS:
        ids = ours.encode(text).tolist()
        if ids != peer.encode(text).ids:
            raise SystemExit(f"{file}: {text!r} has other ids than in tokenizers")
        best = dict.fromkeys(calls, float("inf"))
        for index in range(rounds):
            for name in calls if index % 2 else reversed(calls):
                best[name] = min(best[name], turn(calls[name], text, clock))
        row = {"tokenizer": file.stem, "text": text, "ids": len(ids)}
        rows.append(row | {f"{name}_us": value for name, value in best.items()})
    return rows


def turn(encode: Callable[[str], object], text: str, clock: Callable[[], int]) -> float:
    """Microseconds a call."""
    start = clock()
    for _ in range(CALLS):
        encode(text)
    return (clock() - start) / CALLS / 1000


if __name__ == "__main__":
    raise SystemExit(main())
