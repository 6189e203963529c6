"""``keypilot bench``: how long the C core takes on this machine."""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import numpy as np

from keypilot.cli.arguments import CONFIG_HELP, add_precision
from keypilot.cli.table import table
from keypilot.errors import ArgumentError


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "bench",
        help="time the encoder on this machine",
        description="Encodes a picture many times and prints milliseconds per stage, minimum and median. "
        "benchmarks/run.py, in the source tree, times it beside other runtimes.",
    )
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help=f"a model file, or {CONFIG_HELP} (default: keypilot-base)"
    )
    parser.add_argument("--image", metavar="F", help="a picture (default: noise, 1080 x 2340)")
    parser.add_argument("--text", default="see you at the station in ten minutes", metavar="T")
    add_precision(parser)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="thread counts (1 2)")
    parser.add_argument("--runs", type=int, default=30, metavar="N", help="counted runs (30)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from keypilot.encoder import Encoder
    from keypilot.picture import load_rgb
    from keypilot.settings import cpu_info

    if args.runs < 1:
        raise ArgumentError(f"--runs: expected a positive number, got {args.runs}")
    noise = np.random.default_rng(0).integers(0, 256, (2340, 1080, 3), np.uint8)
    picture = load_rgb(args.image) if args.image else noise
    results: dict[int, dict[str, list[float]]] = {}
    for threads in args.threads:
        encoder = Encoder.load(args.model, precision=args.precision, threads=threads)
        times: dict[str, list[float]] = {}
        for index in range(args.runs + 2):
            out = encoder.encode(picture, text=args.text)
            stages = {stage: 1e3 * float(seconds) for stage, seconds in out.timings.items()}
            if index >= 2:  # the first runs make plans
                for stage, milliseconds in {**stages, "total": sum(stages.values())}.items():
                    times.setdefault(stage, []).append(milliseconds)
        results[threads] = times
    isa = cpu_info()["isa"]
    print(json.dumps(as_dict(results, isa)) if args.json else as_text(results, isa))
    return 0


def as_dict(results: dict[int, dict[str, list[float]]], isa: str) -> dict[str, Any]:
    return {
        "isa": isa,
        "threads": {
            str(threads): {
                stage: {"minimum_ms": min(ms), "median_ms": statistics.median(ms)} for stage, ms in times.items()
            }
            for threads, times in results.items()
        },
    }


def as_text(results: dict[int, dict[str, list[float]]], isa: str) -> str:
    header = ["stage", *(f"{threads} thread{'s' * (threads > 1)}, ms" for threads in results)]
    stages = next(iter(results.values()))
    rows = [
        [stage, *(f"{min(times[stage]):.2f} ({statistics.median(times[stage]):.2f})" for times in results.values())]
        for stage in stages
    ]
    return f"{table(header, rows)}\n\nminimum (median); {isa}"
