"""``keypilot encode``: a picture and a text to a context vector."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from keypilot.cli.arguments import CONFIG_HELP, add_precision
from keypilot.cli.table import table
from keypilot.reference.config import REGIONS

if TYPE_CHECKING:
    from keypilot.encoder import EncoderOutput


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "encode",
        help="encode a screenshot and a text",
        description="Encodes a picture and a text. Prints the regions, the vectors' norms and the time of each stage.",
    )
    parser.add_argument("image", metavar="IMAGE", help="a picture, in any format that Pillow reads")
    parser.add_argument("--text", default="", metavar="T", help="the text being typed (default: none)")
    parser.add_argument("--user", type=int, metavar="N", help="the user's number (default: an unknown one)")
    parser.add_argument("--out", metavar="F.npz", help="write every array to this file")
    parser.add_argument("--overlay", metavar="F.png", help="draw the regions on the picture and write it to this file")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--model", metavar="M", help=f"a model file, or {CONFIG_HELP} (default: keypilot-base)")
    add_precision(parser)
    parser.add_argument("--threads", type=int, metavar="N", help="threads (default: KEYPILOT_THREADS, else at most 4)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from keypilot.encoder import Encoder
    from keypilot.picture import load_rgb

    encoder = Encoder.load(args.model, precision=args.precision, threads=args.threads)
    picture = load_rgb(args.image)
    out = encoder.encode(picture, text=args.text, user=args.user)
    if args.out:
        with open(args.out, "wb") as file:
            np.savez(file, **out.arrays())  # type: ignore[arg-type]  # (NumPy's stub puts allow_pickle among the arrays)
    if args.overlay:
        from keypilot.overlay import draw_regions

        draw_regions(picture, out, encoder.regions_side).save(args.overlay)
    print(json.dumps(as_dict(out)) if args.json else as_text(out))
    return 0


def as_dict(out: EncoderOutput) -> dict[str, Any]:
    """What ``--json`` prints: everything but the masks."""
    return {
        "context": out.context.tolist(),
        "image": out.image.tolist(),
        "text": out.text.tolist(),
        "regions": [
            {
                "name": name,
                "box": out.boxes[i].tolist(),
                "valid": bool(out.roi_valid[i]),
                "mask_pixels": int(out.masks[i].sum()),
                "embedding": out.rois[i].tolist(),
            }
            for i, name in enumerate(REGIONS)
        ],
        "tokens": int(out.tokens),
        "seconds": {stage: float(seconds) for stage, seconds in out.timings.items()},
        "trained": out.trained,
    }


def as_text(out: EncoderOutput) -> str:
    regions = table(
        ("region", "box (x0 y0 x1 y1)", "from", "norm"),
        [
            (
                name,
                " ".join(f"{edge:5d}" for edge in out.boxes[i]),
                "mask" if out.roi_valid[i] else "fixed grid",
                f"{np.linalg.norm(out.rois[i]):.3f}",
            )
            for i, name in enumerate(REGIONS)
        ],
    )
    vectors = table(
        ("vector", "size", "norm", "first values"),
        [
            (name, str(vector.size), f"{np.linalg.norm(vector):.3f}", " ".join(f"{x:+.4f}" for x in vector[:4]))
            for name, vector in (("context", out.context), ("image", out.image), ("text", out.text))
        ],
    )
    total = sum(float(seconds) for seconds in out.timings.values())
    stages = table(
        ("stage", "ms"),
        [(stage, f"{1e3 * float(seconds):.2f}") for stage, seconds in (*out.timings.items(), ("total", total))],
    )
    weights = (
        ""
        if out.trained
        else "\n\nThe weights are untrained: seeded, to test the engine. Regions and vectors mean nothing yet."
    )
    return f"{regions}\n\n{vectors}\n\n{stages}\n\n{int(out.tokens)} tokens{weights}"
