"""``keypilot compile``: a configuration to a model file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from keypilot.cli.arguments import CONFIG_HELP
from keypilot.cli.table import count
from keypilot.errors import ArgumentError
from keypilot.extras import torch_extra
from keypilot.reference.config import resolve_config

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "compile",
        help="convert a configuration's PyTorch modules to a model file",
        description="Builds a configuration with seeded weights in PyTorch and converts it to a model file. "
        "Needs the extra `torch`.",
    )
    parser.add_argument("preset", metavar="CONFIG", help=CONFIG_HELP)
    parser.add_argument("--out", required=True, type=Path, metavar="M.gguf", help="the model file to write")
    parser.add_argument("--precision", choices=("fp32", "int8"), default="fp32", help="of the model (default: fp32)")
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="DIR",
        help="for int8: a folder of screenshots (png, jpg, webp) to take ranges from (default: drawn screens)",
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
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the weights (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with torch_extra("keypilot compile"):
        from keypilot.convert.encoder import compile_encoder
        from keypilot.reference.presets import build_config
    config = resolve_config(args.preset)
    if not args.out.parent.is_dir():
        raise ArgumentError(f"--out: there is no folder {str(args.out.parent)!r}")
    if args.precision != "int8" and (args.calibrate or args.keep_float or args.max_bytes):
        raise ArgumentError("--calibrate, --keep-float and --max-bytes: are for --precision int8")
    pictures = None if args.calibrate is None else pictures_in(args.calibrate)
    encoder = build_config(config, seed=args.seed)
    compile_encoder(
        encoder,
        args.out,
        precision=args.precision,
        pictures=pictures,
        keep_float=args.keep_float,
        max_bytes=args.max_bytes,
    )
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    size = args.out.stat().st_size
    if args.json:
        facts = {"file": str(args.out), "file_bytes": size, "parameters": parameters}
        print(json.dumps({**facts, "precision": args.precision, "preset": config.name}))
    else:
        sizes = f"{count(parameters)} parameters, {count(size)} bytes"
        print(f"{args.out}: {config.name}, {sizes}, {args.precision}, untrained weights")
    return 0


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder, by name.

    Raises
    ------
    ArgumentError : it is no folder, or has none.
    """
    if not folder.is_dir():
        raise ArgumentError(f"--calibrate: there is no folder {str(folder)!r}")
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES)
    if not pictures:
        raise ArgumentError(f"--calibrate: {str(folder)!r} has no picture ({', '.join(_PICTURES)})")
    return pictures
