"""``keypilot parity``: the C core beside PyTorch, tensor by tensor."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from keypilot.cache import preset_model
from keypilot.errors import ArgumentError
from keypilot.extras import torch_extra

#: One for each picture in turn, where none is given: empty, short, other scripts, and longer than 64 tokens.
DEFAULT_TEXTS = (
    "see you at",
    "",
    "Wie wäre es morgen um 8?",
    "今晚七点在车站见面好吗",
    "👍🏽 on my way! ",
    "the quick brown fox jumps over the lazy dog " * 8,
)

_PICTURE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "parity",
        help="compare every tensor with PyTorch",
        description="Runs a preset in PyTorch and in the C core on the same pictures and texts, and compares every "
        "tensor that both have. Needs the extra `torch`. Exit code 1 if a tensor is beyond the bound.",
    )
    parser.add_argument("preset", nargs="?", default="keypilot-base", metavar="PRESET", help="default: keypilot-base")
    parser.add_argument(
        "--images", nargs="+", type=Path, metavar="PATH", help="pictures, or folders of them (default: drawn screens)"
    )
    parser.add_argument("--text", action="append", metavar="T", help="a text; repeat for several (default: a few)")
    parser.add_argument("--bound", type=float, default=1e-4, metavar="X", help="on max rel, of a tensor's range (1e-4)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], metavar="N", help="programs' batch sizes (1)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the weights (default: 0)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the C core")
    parser.add_argument("--worst", action="store_true", help="sort the table, worst first")
    parser.add_argument("--limit", type=int, metavar="N", help="print only the first N rows")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--html", type=Path, metavar="F.html", help="also write the report as a page")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with torch_extra("keypilot parity"):
        from keypilot.compare import encoder_parity
        from keypilot.convert.encoder import compile_encoder
        from keypilot.model import Model
        from keypilot.reference.presets import PRESETS, build, drawn_screens
    if args.preset not in PRESETS:
        raise ArgumentError(f"preset: expected one of {', '.join(PRESETS)}, got {args.preset!r}")
    if min(args.batch) < 1:
        raise ArgumentError(f"--batch: expected positive sizes, got {min(args.batch)}")
    if args.html and args.html.suffix != ".html":
        raise ArgumentError(f"--html: expected a name that ends in .html, got {args.html.name!r}")
    pictures = picture_paths(args.images) if args.images else list(drawn_screens(4, 512, seed=1))
    texts = args.text or DEFAULT_TEXTS
    samples = [(picture, texts[i % len(texts)]) for i, picture in enumerate(pictures)]
    encoder = build(args.preset, seed=args.seed)
    if args.seed == 0:
        model = Model.load(preset_model(args.preset), threads=args.threads)
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.gguf"
            compile_encoder(encoder, path)
            model = Model.load(path, threads=args.threads)
    report = encoder_parity(
        model, encoder, samples, batch_sizes=args.batch, bound=args.bound, progress=sys.stderr.isatty()
    )
    if args.html:
        report.save(args.html)
    if args.json:
        print(json.dumps(report.as_dict()))
    else:
        print(report.table(worst_first=args.worst, limit=args.limit))
    return 0 if report.ok else 1


def picture_paths(paths: list[Path]) -> list[Path]:
    """The files named, and the pictures in the folders named, in order.

    Raises
    ------
    ArgumentError : a path does not exist, or a folder holds no picture.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in _PICTURE_ENDINGS)
            if not inside:
                raise ArgumentError(f"--images: no picture in the folder {str(path)!r}")
            found.extend(inside)
        elif path.exists():
            found.append(path)
        else:
            raise ArgumentError(f"--images: there is no {str(path)!r}")
    return found
