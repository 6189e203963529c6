"""KeyPilot beside PyTorch, float32, same weights and inputs, interleaved in one run.

    python benchmarks/run.py [--threads 1 2] [--runs 30] [--json F] [--markdown F]

Times every program of `keypilot-base`, the texts at 12 and 64 tokens, and the whole encoder on a drawn screen; prints
milliseconds (minimum, median) and the ratio PyTorch / KeyPilot of the minima and medians: above 1, KeyPilot is faster.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import Timing, interleaved

import keypilot
from keypilot.convert.encoder import compile_encoder
from keypilot.reference.config import EMBEDDING_SIZE, REGIONS
from keypilot.reference.encoder import KeyPilotEncoder
from keypilot.reference.pipeline import Pipeline
from keypilot.reference.presets import build, drawn_screens
from keypilot.reference.text import POSITION_OFFSET

SCREEN_TEXT = "see you at the station in ten minutes"


def program_inputs(encoder: KeyPilotEncoder) -> dict[str, tuple[str, dict[str, torch.Tensor]]]:
    """The pieces of work: label -> (program, inputs)."""
    config = encoder.config
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    def text(batch: int, tokens: int) -> dict[str, torch.Tensor]:
        ids = torch.randint(5, config.text.vocab_size, (batch, tokens), generator=generator)
        positions = torch.arange(POSITION_OFFSET, POSITION_OFFSET + tokens).expand(batch, -1).contiguous()
        return {"input_ids": ids, "position_ids": positions, "attention_mask": torch.ones_like(ids)}

    side, crop = config.image_side, config.crop_side
    return {
        f"screen {side}x{side}": ("screen", {"image": noise(1, 3, side, side)}),
        f"roi 4x{crop}x{crop}": ("roi", {"crops": noise(len(REGIONS), 3, crop, crop)}),
        "text 12 tokens": ("text", text(1, 12)),
        "text 64 tokens": ("text", text(1, 64)),
        "text 16x64 tokens": ("text", text(16, 64)),
        "fusion": (
            "fusion",
            {
                "image": noise(1, EMBEDDING_SIZE),
                "rois": noise(1, len(REGIONS), EMBEDDING_SIZE),
                "text": noise(1, EMBEDDING_SIZE),
                "user": torch.zeros(1, dtype=torch.int64),
            },
        ),
    }


def measure(encoder: KeyPilotEncoder, path: Path, threads: int, runs: int) -> dict[str, dict[str, Timing]]:
    """Every piece of work at one thread count: label -> engine -> timing."""
    torch.set_num_threads(threads)
    model = keypilot.Model.load(path, threads=threads)
    modules = {name: program.module.eval() for name, program in encoder.programs().items()}
    results = {}
    for label, (program, inputs) in program_inputs(encoder).items():
        arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
        engines: dict[str, Callable[[], object]] = {
            "keypilot": lambda program=program, arrays=arrays: model.run(program, **arrays),
            "pytorch": lambda program=program, inputs=inputs: modules[program](**inputs),
        }
        with torch.inference_mode():
            results[label] = interleaved(engines, runs=runs)
    shipped = keypilot.Encoder.load(path, precision="fp32", threads=threads)
    reference = Pipeline(encoder)
    picture = np.kron(drawn_screens(1, 256, seed=1)[0], np.ones((8, 4, 1), np.uint8))  # 1024 x 2048
    engines = {
        "keypilot": lambda: shipped.encode(picture, text=SCREEN_TEXT),
        "pytorch": lambda: reference.encode(picture, SCREEN_TEXT, 0),
    }
    with torch.inference_mode():
        results["whole encoder"] = interleaved(engines, runs=runs)
    return results


def markdown(results: dict[int, dict[str, dict[str, Timing]]], cpu: str) -> str:
    lines = [
        f"{cpu}; KeyPilot {keypilot.__version__}, PyTorch {torch.__version__}, float32. "
        "Milliseconds, minimum (median).",
        "",
        "| work | threads | KeyPilot | PyTorch eager | ratio of minima | ratio of medians |",
        "|---|---|---|---|---|---|",
    ]
    for threads, rows in results.items():
        for label, row in rows.items():
            ours, theirs = row["keypilot"], row["pytorch"]
            lines.append(
                f"| {label} | {threads} | {ours.minimum:.2f} ({ours.median:.2f}) "
                f"| {theirs.minimum:.2f} ({theirs.median:.2f}) "
                f"| {theirs.minimum / ours.minimum:.2f} | {theirs.median / ours.median:.2f} |"
            )
    return "\n".join(lines)


def as_json(results: dict[int, dict[str, dict[str, Timing]]], cpu: str) -> dict[str, Any]:
    return {
        "cpu": cpu,
        "keypilot": keypilot.__version__,
        "torch": torch.__version__,
        "results": [
            {
                "work": label,
                "threads": threads,
                "engine": engine,
                "minimum_ms": timing.minimum,
                "median_ms": timing.median,
            }
            for threads, rows in results.items()
            for label, row in rows.items()
            for engine, timing in row.items()
        ],
    }


def cpu_name() -> str:
    """The processor's name, as the kernel gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main() -> int:
    parser = argparse.ArgumentParser(description="Time KeyPilot beside PyTorch, float32, interleaved.")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts (default: 1 2)")
    parser.add_argument("--runs", type=int, default=30, help="counted runs of each engine (default: 30)")
    parser.add_argument("--json", type=Path, help="also write the timings as JSON")
    parser.add_argument("--markdown", type=Path, help="also write the table as Markdown")
    options = parser.parse_args()

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keypilot-base.gguf"
        encoder = build("keypilot-base")
        compile_encoder(encoder, path)
        results = {}
        for threads in options.threads:
            print(f"measuring with {threads} thread(s) ...", file=sys.stderr, flush=True)
            results[threads] = measure(encoder, path, threads, options.runs)
    table = markdown(results, cpu_name())
    print(table)
    if options.json:
        options.json.write_text(json.dumps(as_json(results, cpu_name()), indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(table + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
