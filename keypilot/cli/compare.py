"""``keypilot compare``: configurations of the encoder, side by side."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keypilot.cli.arguments import CONFIG_HELP
from keypilot.cli.table import count, table
from keypilot.errors import ArgumentError
from keypilot.extras import torch_extra

if TYPE_CHECKING:
    from keypilot.compare.configs import Measured

_BASE = "keypilot-base"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "compare",
        help="compare what configurations cost",
        description="Builds each configuration with seeded weights, converts it to int8 with nothing in four bits, and "
        "prints parameters, multiply-accumulates, bytes, memory, times, and how far the context vectors are from "
        "PyTorch's in float32. Minutes for each configuration, once. Needs the extra `torch`. Exit code 1 if one "
        "cannot be measured.",
    )
    parser.add_argument("configs", nargs="*", metavar="CONFIG", help=CONFIG_HELP)
    parser.add_argument(
        "--swap",
        action="append",
        default=[],
        metavar="FIELD=NAME",
        help=f"add {_BASE} with this component, as global_image=mobileclip_s0; may be repeated",
    )
    parser.add_argument("--swaps", action="store_true", help=f"add {_BASE} with every other component, one at a time")
    parser.add_argument("--presets", action="store_true", help="add every preset")
    parser.add_argument("--images", type=Path, metavar="DIR", help="screenshots to compare on (default: drawn screens)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="thread counts (1 2)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with torch_extra("keypilot compare"):
        from keypilot.compare.configs import compare_configs
    from tqdm import tqdm

    from keypilot.cli.parity import picture_paths

    configs = _configs(args)
    pictures = None if args.images is None else picture_paths([args.images])
    with tqdm(total=2 * len(configs), file=sys.stderr, leave=False) as progress:

        def notify(step: str) -> None:
            progress.set_description(step)
            progress.update()

        rows = compare_configs(configs, pictures, threads=args.threads, notify=notify)
    print(json.dumps([_as_dict(row) for row in rows]) if args.json else as_text(rows, args.threads))
    return 0 if all(row.error is None for row in rows) else 1


def _configs(args: argparse.Namespace) -> list[str]:
    from keypilot.compare.configs import swaps
    from keypilot.reference.config import PRESETS

    configs = list(args.configs)
    if args.swap:
        configs += [_BASE, *(f"{_BASE}:{change}" for change in args.swap)]
    if args.swaps:
        configs += swaps(_BASE)
    if args.presets:
        configs += PRESETS
    if not configs:
        raise ArgumentError("expected a configuration, or --swap, --swaps or --presets, got none")
    return list(dict.fromkeys(configs))


def _as_dict(row: Measured) -> dict[str, Any]:
    """A row without what is NaN."""
    fields = dataclasses.asdict(row)
    return {name: value for name, value in fields.items() if not (isinstance(value, float) and math.isnan(value))}


def as_text(rows: Sequence[Measured], threads: Sequence[int]) -> str:
    """The table, and what each further row costs beside the first."""
    measured = [row for row in rows if row.error is None]
    times = [f"ms, {n} thread{'s' * (n > 1)}" for n in threads]
    parts = [
        table(
            ("configuration", "parameters", "MACs", "MB", "arena MB", *times, "SQNR dB", "cosine"),
            [
                (
                    row.config,
                    count(row.parameters),
                    count(row.macs),
                    f"{row.file_bytes / 1e6:.2f}",
                    f"{row.arena_bytes / 1e6:.2f}",
                    *(f"{row.milliseconds[n]:.2f}" for n in threads),
                    f"{row.sqnr_db:.1f}",
                    f"{row.cosine:.5f}",
                )
                for row in measured
            ],
        )
    ]
    if len(measured) > 1:
        first = measured[0]
        parts.append(
            table(
                (f"beside {first.config}", *times, "MB", "dB"),
                [
                    (
                        row.config,
                        *(f"{row.milliseconds[n] - first.milliseconds[n]:+.2f}" for n in threads),
                        f"{(row.file_bytes - first.file_bytes) / 1e6:+.2f}",
                        f"{row.sqnr_db - first.sqnr_db:+.1f}",
                    )
                    for row in measured[1:]
                ],
            )
        )
    parts += [f"{row.config}: {row.error}" for row in rows if row.error is not None]
    return "\n\n".join(parts)
