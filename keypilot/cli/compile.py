"""``keypilot compile``: a preset to a model file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from keypilot.cli.table import count
from keypilot.errors import ArgumentError
from keypilot.extras import torch_extra


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "compile",
        help="convert a preset's PyTorch modules to a model file",
        description="Builds a preset with seeded weights in PyTorch and converts it to a model file. "
        "Needs the extra `torch`.",
    )
    parser.add_argument("preset", metavar="PRESET", help="a preset's name, as keypilot-base")
    parser.add_argument("--out", required=True, type=Path, metavar="M.gguf", help="the model file to write")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the weights (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with torch_extra("keypilot compile"):
        from keypilot.convert.encoder import compile_encoder
        from keypilot.reference.presets import PRESETS, build
    if args.preset not in PRESETS:
        raise ArgumentError(f"preset: expected one of {', '.join(PRESETS)}, got {args.preset!r}")
    if not args.out.parent.is_dir():
        raise ArgumentError(f"--out: there is no folder {str(args.out.parent)!r}")
    encoder = build(args.preset, seed=args.seed)
    compile_encoder(encoder, args.out)
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    size = args.out.stat().st_size
    if args.json:
        print(json.dumps({"file": str(args.out), "file_bytes": size, "parameters": parameters, "preset": args.preset}))
    else:
        sizes = f"{count(parameters)} parameters, {count(size)} bytes"
        print(f"{args.out}: {args.preset}, {sizes}, float32, untrained weights")
    return 0
