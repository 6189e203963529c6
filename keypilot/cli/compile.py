"""``keypilot compile``: a configuration, or a network with weights that somebody has, to a model file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from keypilot.cli.arguments import CONFIG_HELP
from keypilot.cli.table import count
from keypilot.errors import ArgumentError
from keypilot.extras import torch_extra
from keypilot.picture import pictures_in
from keypilot.reference.config import resolve_config

if TYPE_CHECKING:
    from keypilot.importers.imported import Imported

_T = TypeVar("_T")

_TIMM = "timm:"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "compile",
        help="convert a configuration, or a network with its weights, to a model file",
        description="Converts PyTorch modules to a model file: an encoder of a configuration, with seeded weights or "
        "those of a file; a folder in Hugging Face's form; or a timm network with a file of weights. Nothing is "
        "downloaded. Needs the extra `torch`.",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help=f"{CONFIG_HELP}; a folder with config.json and weights; timm:NAME; or an encoder's checkpoint with its "
        "configuration",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="M.gguf", help="the model file to write")
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="[COMPONENT=]FILE",
        help="a state dict (safetensors, pt, pth, bin) of the whole network, or of a component of an encoder, as "
        "text=./all-MiniLM-L6-v2 or regions=mobile_sam.pt; may be repeated for components",
    )
    parser.add_argument("--precision", choices=("fp32", "int8"), default="fp32", help="of the model (default: fp32)")
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="PATH",
        help="for int8: what to take ranges from: a folder of pictures (png, jpg, webp); for a text encoder a text "
        "file, one text a line, or a folder of .txt files (default: drawn screens, built-in texts)",
    )
    parser.add_argument(
        "--keep-float",
        action="append",
        default=[],
        metavar="PATTERN",
        help="for int8: keep the modules or tensors that the pattern names, as 'neck.*', in float32; may be repeated",
    )
    parser.add_argument(
        "--max-bytes",
        type=int,
        metavar="N",
        help="for int8: the largest that the file may be; weights are stored in four bits until it is "
        "(default: the configuration's int8_bytes)",
    )
    parser.add_argument("--tokenizer", type=Path, metavar="F.json", help="the tokenizer.json of an encoder's texts")
    parser.add_argument("--part", choices=("text", "image"), help="of a folder of CLIP or SigLIP (default: all)")
    parser.add_argument("--pooling", choices=("mean", "cls"), help="of a folder's text encoder (default: the folder's)")
    parser.add_argument("--features", action="store_true", help="of a timm network: without its classifier")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of weights that are not given (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if not args.out.parent.is_dir():
        raise ArgumentError(f"--out: there is no folder {str(args.out.parent)!r}")
    if args.precision != "int8" and (args.calibrate or args.keep_float or args.max_bytes):
        raise ArgumentError("--calibrate, --keep-float and --max-bytes: are for --precision int8")
    is_timm, is_folder = args.source.startswith(_TIMM), Path(args.source).is_dir()
    for option, given, allowed in (
        ("--tokenizer", args.tokenizer, not is_timm and not is_folder),
        ("--part", args.part, is_folder),
        ("--pooling", args.pooling, is_folder),
        ("--features", args.features, is_timm),
    ):
        if given and not allowed:
            raise ArgumentError(f"{option}: is not for {args.source!r}; see keypilot compile --help")
    if is_timm or is_folder:
        name, parameters, trained, notes = _compile_imported(args, _imported_timm if is_timm else _imported_folder)
    else:
        name, parameters, trained, notes = _compile_encoder(args)
    size = args.out.stat().st_size
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if args.json:
        facts = {"file": str(args.out), "file_bytes": size, "parameters": parameters, "precision": args.precision}
        print(json.dumps({**facts, "source": args.source, "name": name, "weights": trained, "notes": notes}))
    else:
        sizes = f"{count(parameters)} parameters, {count(size)} bytes"
        print(f"{args.out}: {name}, {sizes}, {args.precision}, {trained} weights")
    return 0


def _imported_timm(args: argparse.Namespace) -> Imported:
    with torch_extra("keypilot compile"):
        from keypilot.importers.timm_models import load_timm
    name = args.source.removeprefix(_TIMM)
    if len(args.weights) != 1:
        raise ArgumentError(f"--weights: expected one file with the weights of {name!r}, got {len(args.weights)}")
    return load_timm(name, args.weights[0], features=args.features)


def _imported_folder(args: argparse.Namespace) -> Imported:
    with torch_extra("keypilot compile"):
        from keypilot.importers.huggingface import load_folder
    if args.weights:
        raise ArgumentError("--weights: a folder has its own; expected none beside it")
    return load_folder(args.source, part=args.part, pooling=args.pooling)


def _compile_imported(
    args: argparse.Namespace, load: Callable[[argparse.Namespace], Imported]
) -> tuple[str, int, str, list[str]]:
    """(name, parameters, what the weights are, notes)."""
    imported = _step("reading the weights", lambda: load(args))
    _step(
        f"converting to {args.precision}",
        lambda: imported.compile(
            args.out,
            precision=args.precision,
            calibrate=args.calibrate,
            keep_float=args.keep_float,
            max_bytes=args.max_bytes,
        ),
    )
    notes = list(imported.notes)
    if args.precision == "int8" and args.calibrate is None:
        kinds = {"text": "built-in texts", "image": "drawn screens"}
        used = " and ".join(kinds[program] for program in imported.programs)
        notes.append(f"ranges are from {used}; --calibrate takes them from your own")
    return imported.name, imported.parameters, "its own", notes


def _compile_encoder(args: argparse.Namespace) -> tuple[str, int, str, list[str]]:
    with torch_extra("keypilot compile"):
        from keypilot.convert.encoder import compile_encoder
        from keypilot.importers.components import (
            checkpoint_config,
            load_component,
            load_encoder_weights,
            set_tokenizer,
        )
        from keypilot.importers.weights import ENDINGS
        from keypilot.reference.presets import build_config
    components = dict(_component(text) for text in args.weights)
    if len(components) < len(args.weights) or ("" in components and len(components) > 1):
        raise ArgumentError("--weights: expected one file for the whole encoder, or one for each of several components")
    if Path(args.source).suffix in ENDINGS and Path(args.source).is_file():
        if args.weights:
            raise ArgumentError("--weights: a checkpoint has its own; expected none beside it")
        config, components = checkpoint_config(args.source), {"": args.source}
    else:
        config = resolve_config(args.source)
    for file in components.values():
        Path(file).stat()  # building takes a while: FileNotFoundError, with the path, before it
    pictures = None if args.calibrate is None else pictures_in(args.calibrate)
    encoder = _step("building", lambda: build_config(config, seed=args.seed))
    notes = []
    for component, file in components.items():
        if component:
            notes += load_component(encoder, component, file)
        else:
            load_encoder_weights(encoder, file)
    if args.tokenizer is not None:
        set_tokenizer(encoder, args.tokenizer)
    trained = "" in components
    _step(
        f"converting to {args.precision}",
        lambda: compile_encoder(
            encoder,
            args.out,
            trained=trained,
            precision=args.precision,
            pictures=pictures,
            keep_float=args.keep_float,
            max_bytes=args.max_bytes,
        ),
    )
    kind = (
        "its own"
        if trained
        else f"{' and '.join(components)} of its own, else untrained"
        if components
        else "untrained"
    )
    return config.name, sum(parameter.numel() for parameter in encoder.parameters()), kind, notes


def _component(text: str) -> tuple[str, str]:
    """(component, file) of ``COMPONENT=FILE``; the component of a file alone is empty."""
    from keypilot.importers.components import ATTRIBUTES

    name, equals, file = text.partition("=")
    if not equals or Path(text).exists():
        return "", text
    if name not in ATTRIBUTES or not file:
        raise ArgumentError(f"--weights: expected FILE or COMPONENT=FILE of {', '.join(ATTRIBUTES)}, got {text!r}")
    return name, file


def _step(what: str, work: Callable[[], _T]) -> _T:
    """Runs a step that takes seconds, and says so on a terminal."""
    if sys.stderr.isatty():
        print(f"{what}...", file=sys.stderr, flush=True)
    return work()
