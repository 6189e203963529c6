"""``keypilot parity``: the C core beside PyTorch, tensor by tensor."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keypilot.cache import preset_model
from keypilot.cli.arguments import CONFIG_HELP
from keypilot.errors import ArgumentError
from keypilot.extras import torch_extra
from keypilot.reference.config import PRESETS, resolve_config

if TYPE_CHECKING:
    from keypilot.compare import Report, Sensitivity
    from keypilot.encoder import Picture
    from keypilot.model import Model
    from keypilot.reference.encoder import KeyPilotEncoder

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
        description="Runs a configuration in PyTorch and in the C core on the same pictures and texts, and compares "
        "every tensor that both have; of an int8 model, beside its float32 model. Needs the extra `torch`. Exit code 1 "
        "if a tensor is beyond the bound.",
    )
    parser.add_argument(
        "model",
        nargs="?",
        default="keypilot-base",
        metavar="CONFIG|MODEL",
        help=f"a model file, or {CONFIG_HELP} (default: keypilot-base)",
    )
    parser.add_argument("--precision", choices=("fp32", "int8"), help="of a configuration (default: fp32)")
    parser.add_argument("--reference", metavar="CONFIG", help="what MODEL was made from (default: the file's name)")
    parser.add_argument("--against", type=Path, metavar="F.gguf", help="the float32 model beside an int8 MODEL")
    parser.add_argument(
        "--images", nargs="+", type=Path, metavar="PATH", help="pictures, or folders of them (default: drawn screens)"
    )
    parser.add_argument("--text", action="append", metavar="T", help="a text; repeat for several (default: a few)")
    parser.add_argument(
        "--bound", type=float, default=1e-4, metavar="X", help="on max rel of float32, of a tensor's range (1e-4)"
    )
    parser.add_argument("--min-sqnr", type=float, metavar="DB", help="the least SQNR of an int8 output (default: none)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], metavar="N", help="programs' batch sizes (1)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the weights (default: 0)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the C core")
    parser.add_argument(
        "--sensitivity", action="store_true", help="what quantising each layer by itself costs, worst first, instead"
    )
    parser.add_argument("--worst", action="store_true", help="sort the table, worst first")
    parser.add_argument("--limit", type=int, metavar="N", help="print only the first N rows")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--html", type=Path, metavar="F.html", help="also write the report as a page")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with torch_extra("keypilot parity"):
        from keypilot.compare import encoder_parity
    if min(args.batch) < 1:
        raise ArgumentError(f"--batch: expected positive sizes, got {min(args.batch)}")
    if args.html and args.html.suffix != ".html":
        raise ArgumentError(f"--html: expected a name that ends in .html, got {args.html.name!r}")
    encoder, model, against = _models(args)
    samples = _samples(args)
    progress = sys.stderr.isatty()
    if args.sensitivity and against is not None:
        costs = _sensitivity(encoder, model, against, samples, progress)
        _show(args, costs, costs.table(limit=args.limit))
        return 0
    report = encoder_parity(
        model,
        encoder,
        samples,
        batch_sizes=args.batch,
        against=against,
        bound=args.bound,
        min_sqnr_db=args.min_sqnr,
        progress=progress,
    )
    _show(args, report, report.table(worst_first=args.worst, limit=args.limit))
    return 0 if report.ok else 1


def _show(args: argparse.Namespace, report: Report | Sensitivity, text: str) -> None:
    if args.html:
        report.save(args.html)
    print(json.dumps(report.as_dict()) if args.json else text)


def _models(args: argparse.Namespace) -> tuple[KeyPilotEncoder, Model, Model | None]:
    """The reference, the model, and the float32 model beside an int8 one."""
    from keypilot.convert.encoder import compile_encoder
    from keypilot.model import Model
    from keypilot.reference.presets import build_config

    def of_config(text: str, precision: str) -> Model:
        if args.seed == 0:
            return Model.load(preset_model(text, precision=precision), threads=args.threads)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.gguf"
            compile_encoder(encoder, path, precision=precision)
            return Model.load(path, threads=args.threads)

    if args.model.endswith(".json") or (args.model.partition(":")[0] in PRESETS and not Path(args.model).is_file()):
        if args.reference or args.against:
            raise ArgumentError(
                f"--reference, --against: expected a model file beside them, got the configuration {args.model!r}"
            )
        if args.sensitivity and args.precision != "int8":
            raise ArgumentError("--sensitivity: expected an int8 model, or --precision int8 beside the configuration")
        encoder = build_config(resolve_config(args.model), seed=args.seed)
        float32 = of_config(args.model, "fp32")
        if args.precision != "int8":
            return encoder, float32, None
        return encoder, of_config(args.model, "int8"), float32
    if args.precision:
        raise ArgumentError(f"--precision: expected a configuration beside it, got {args.model!r}")
    if not Path(args.model).exists():
        raise ArgumentError(f"expected a model file, a JSON file or one of {', '.join(PRESETS)}, got {args.model!r}")
    model = Model.load(args.model, threads=args.threads)
    int8 = model.metadata["keypilot.precision"] == "int8"
    if args.sensitivity and not int8:
        raise ArgumentError("--sensitivity: expected an int8 model, got a float32 one")
    if args.against and not int8:
        raise ArgumentError("--against: expected an int8 model beside it, got a float32 one")
    reference = args.reference or model.metadata.get("general.name", "")
    try:
        encoder = build_config(resolve_config(reference), seed=args.seed)
    except ArgumentError as error:
        raise ArgumentError(f"--reference: {error}") from error
    if not int8:
        return encoder, model, None
    float32 = Model.load(args.against, threads=args.threads) if args.against else of_config(reference, "fp32")
    return encoder, model, float32


def _samples(args: argparse.Namespace) -> list[tuple[Picture, str]]:
    from keypilot.reference.presets import drawn_screens

    pictures = picture_paths(args.images) if args.images else list(drawn_screens(4, 512, seed=1))
    texts = args.text or DEFAULT_TEXTS
    return [(picture, texts[i % len(texts)]) for i, picture in enumerate(pictures)]


def _sensitivity(
    encoder: KeyPilotEncoder, model: Model, against: Model, samples: Sequence[tuple[Picture, str]], progress: bool
) -> Sensitivity:
    """On the inputs that each program has in PyTorch's pipeline."""
    from keypilot.compare import sensitivity
    from keypilot.reference.pipeline import Pipeline

    pipeline = Pipeline(encoder)
    encodings = [pipeline.encode(picture, text, 0) for picture, text in samples]
    batches = {name: [encoding.inputs[name] for encoding in encodings] for name in model.programs}
    return sensitivity(model, against, batches, progress=progress)


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
