"""``keypilot digest``: a hash for every tensor, and where two machines part."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from keypilot.cli.arguments import CONFIG_HELP
from keypilot.cli.table import table
from keypilot.errors import ArgumentError

if TYPE_CHECKING:
    from keypilot.digests import Digest, Divergence


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "digest",
        help="hash every tensor, to compare machines",
        usage="keypilot digest MODEL IMAGE... [--text T] [--user N] [--out F] [--threads N] [--json]\n"
        "       keypilot digest --diff A B [--across-models] [--json]",
        description="Encodes pictures and prints a hash of every tensor on the way, in execution order. With --diff, "
        "compares two such files and names the first tensor that differs and the operator that made it. "
        "Exit code of --diff: 0 where all are equal, 1 where one differs, 2 where the two cannot be compared.",
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help=f"a model file, or {CONFIG_HELP}")
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="pictures, in any format that Pillow reads")
    parser.add_argument("--text", default="", metavar="T", help="the text being typed (default: none)")
    parser.add_argument("--user", type=int, metavar="N", help="the user's number (default: an unknown one)")
    parser.add_argument("--out", metavar="F", help="write the digest to this file")
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: KEYPILOT_THREADS, else at most 4)")
    parser.add_argument("--diff", nargs=2, metavar=("A", "B"), help="compare two digests")
    parser.add_argument(
        "--across-models", action="store_true", help="with --diff: the model files may differ in their weights"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.diff:
        if args.model is not None or args.out:
            raise ArgumentError("--diff: expected two digests and neither a model nor --out")
        return _diff(args.diff, args.across_models, args.json)
    if args.across_models:
        raise ArgumentError("--across-models: expected --diff beside it")
    if args.model is None or not args.images:
        raise ArgumentError("expected a model and at least one picture, or --diff and two digests")
    return _digest(args)


def _digest(args: argparse.Namespace) -> int:
    from keypilot.digests import digest
    from keypilot.encoder import Encoder

    encoder = Encoder.load(args.model, threads=args.threads)
    made = digest(encoder, args.images, text=args.text, user=args.user)
    if args.out:
        made.save(args.out)
    if args.json:
        print(json.dumps(made.as_dict()))
    elif args.out:
        tensors = sum(len(run.tensors) for run in made.runs)
        isa, threads = made.header["isa"], made.header["threads"]
        print(f"{args.out}: {tensors} tensors of {len(made.runs)} pictures; {isa}, {threads} threads")
    else:
        print(made.text, end="")
    return 0


def _diff(paths: list[str], across_models: bool, as_json: bool) -> int:
    from keypilot.digests import Digest

    here, there = map(Digest.load, paths)
    found = here.diff(there, same_model=not across_models)
    print(
        json.dumps(as_dict(here, there, found))
        if as_json
        else "\n".join([_machines(paths, here, there), "", _verdict(here, found)])
    )
    return 0 if found is None else 1


def as_dict(here: Digest, there: Digest, found: Divergence | None) -> dict[str, Any]:
    """What ``--diff --json`` prints."""
    first = found and {
        "run": found.run,
        "index": found.index,
        "item": found.item,
        "tensor": found.tensor.path,
        "operator": found.tensor.operator,
        "dtype": found.tensor.dtype,
        "shape": list(found.tensor.shape),
        "hashes": [found.tensor.hashes[found.item], found.other.hashes[found.item]],
        "equal_inputs": list(found.equal_inputs),
        "weights": list(found.weights),
    }
    return {
        "equal": found is None,
        "header": {key: list(pair) for key, pair in here.header_differences(there).items()},
        "tensors": sum(len(run.tensors) for run in here.runs),
        "differing": found.differing if found else 0,
        "first": first,
    }


def _machines(paths: list[str], here: Digest, there: Digest) -> str:
    """Both headers, with a mark where they differ."""
    different = here.header_differences(there)
    rows = [(key, here.header[key], there.header[key], "differs" if key in different else "") for key in here.header]
    return table(("", paths[0], paths[1], ""), rows)


def _verdict(here: Digest, found: Divergence | None) -> str:
    if found is None:
        return f"equal: {sum(len(run.tensors) for run in here.runs)} tensors of {len(here.runs)} runs"
    tensor = found.tensor
    item = f", item {found.item} of {len(tensor.hashes)}" if len(tensor.hashes) > 1 else ""
    lines = [
        f"{found.differing} of {found.total} tensors differ, first {tensor.path} (run {found.run}, "
        f"tensor {found.index}{item})",
        f"  operator  {tensor.operator}",
        f"  output    {tensor.dtype} {' x '.join(map(str, tensor.shape)) or 'scalar'}",
        f"  hashes    {tensor.hashes[found.item]}, {found.other.hashes[found.item]}",
        f"  inputs    {', '.join(found.equal_inputs) or 'none'}: equal in both",
    ]
    if found.weights:
        lines.append(f"  weights   {', '.join(found.weights)}")
    if here.header["precision"] != "int8":
        lines.append("  An fp32 model's matrix products are OpenBLAS's, and differ between machines and thread counts.")
    return "\n".join(lines)
