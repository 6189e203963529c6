"""Estimates the speed of the Arm kernels without an Arm machine.

    python tools/mca.py [--model MODEL.gguf] [--llvm-mca PROGRAM] [--out TABLE.md]

Compiles the int8 kernels with a cross compiler as csrc/CMakeLists.txt does, finds their inner loops in the disassembly,
and has LLVM's machine code analyser (https://llvm.org/docs/CommandGuide/llvm-mca.html) say how many cycles a core needs
for an iteration. Prints, as Markdown, the cycles per multiply-accumulate, output and element of every loop on every
core, then what they make of a model's list of operators: milliseconds on one such core at the clock that the table
states.

Needs ``aarch64-linux-gnu-gcc`` and its binutils, and an ``llvm-mca`` that knows the cores (22 does).

Assumptions, all of which the table repeats:

- Every load hits the first-level cache, no branch is mispredicted, and LLVM's scheduling model of the core is right.
  Where LLVM has none of its own for a core, that of its closest relative stands in.
- Matrix products and depthwise convolutions cost `EDGES` times what their inner loops cost: starts and ends of tiles,
  depths that 16 does not divide, columns that 8 does not divide. (Whole calls traced under qemu and given to llvm-mca
  took 1.85 times as long at depth 16, 1.3 at depth 32, 1.15 at depth 64; depthwise 3x3, 1.3.)
- Convolutions work from int8 to int8. Linear layers quantise the rows that they read, and write float32; attention
  quantises what it reads, but in the programs `FLOAT_ATTENTION` its products are in float32.
- Activations cost what SiLU does, or GELU after a linear layer.
- Operators that only move data, or add, write `MOVED_PER_CYCLE` elements per cycle. An operator costs
  `CYCLES_PER_OPERATOR` cycles besides.
- The picture's resampling and the text's tokenisation are left out; the text is of the greatest length.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from keypilot.encoder import model_path
from keypilot.model import Model
from keypilot.reference.config import REGIONS

SOURCES = Path(__file__).resolve().parent.parent / "csrc"
ITERATIONS = 200

EDGES = 1.25
FLOAT_ATTENTION = ("text", "fusion")
MOVED_PER_CYCLE = 4
CYCLES_PER_OPERATOR = 2000
TARGET_MS = 19.0

#: Options that csrc/CMakeLists.txt compiles every file with, and those of each level.
OPTIONS = ("-O2", "-std=gnu11", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden")
LEVEL_OPTIONS = {
    "neon": (),
    "dotprod": ("-march=armv8.2-a+dotprod",),
    "i8mm": ("-march=armv8.2-a+dotprod+i8mm",),
}


@dataclasses.dataclass(frozen=True)
class Core:
    """A core as LLVM names it.

    Attributes
    ----------
    name : what people call it.
    cpu : the argument of ``-mcpu``.
    ghz : the clock of a common chip that has it.
    level : the best level of kernels that it runs.
    note : where the model comes from.
    """

    name: str
    cpu: str
    ghz: float
    level: str
    note: str = ""


CORES = (
    Core("Cortex-A55", "cortex-a55", 1.8, "dotprod"),
    Core("Cortex-A76", "neoverse-n1", 2.84, "dotprod", "model of Neoverse N1, its server twin"),
    Core(
        "Cortex-A78", "neoverse-n2", 2.84, "dotprod", "model of Neoverse N2, its successor: the same two vector pipes"
    ),
    Core("Cortex-A710", "cortex-a710", 2.5, "i8mm"),
    Core("Cortex-X1", "cortex-x1", 2.84, "dotprod"),
    Core("Cortex-X2", "cortex-x2", 3.0, "i8mm"),
    Core("Apple M1", "apple-m1", 3.2, "dotprod", "model of the older Cyclone: three of M1's four vector pipes"),
)


@dataclasses.dataclass(frozen=True)
class Loop:
    """An inner loop and what one iteration of it does.

    Attributes
    ----------
    key : its name in the tables.
    level : of its kernel.
    source : a file in csrc, or C code.
    marker : a pattern; of the object's innermost loops, the one with most instructions that match is meant.
    work : units of work per iteration.
    unit : what a unit is.
    function : the function that has the loop; empty: any.
    """

    key: str
    level: str
    source: str
    marker: str
    work: int
    unit: str
    function: str = ""


def _epilogue(act: str, fields: Sequence[str]) -> str:
    """The epilogue with the choices that its arguments make at run time made by the compiler."""
    chosen = ", ".join(f".{field} = e.{field}" for field in ("scale", "bias", "residual_stride", "dst_stride", *fields))
    return f"""
#include "kernels/neon/epilogue_i8.c"

void probe(kp_epilogue_i8 e, const int32_t *acc, size_t rows);
void probe(kp_epilogue_i8 e, const int32_t *acc, size_t rows) {{
  const kp_epilogue_i8 known = {{{chosen}}};
  const tile t = {{&known, acc, 0, 0, rows, KP_TILE_COLUMNS}};
  if (e.dst_f32 && e.dst_i8 && e.row_scale && e.residual_f32 && e.residual_i8) finish(&t, 0, 4, KP_TILE_COLUMNS, {act});
}}
"""


_TO_I8 = ("dst_i8", "quantizer")
_TO_F32 = ("row_scale", "row_zero", "column_sum", "dst_f32")
_RESIDUAL_I8 = ("residual_i8", "residual_zero", "residual_scale")
_EPILOGUES = {
    "int8": _epilogue("KP_ACT_NONE", _TO_I8),
    "int8, SiLU": _epilogue("KP_ACT(KP_SILU)", _TO_I8),
    "int8, residual": _epilogue("KP_ACT_NONE", (*_TO_I8, *_RESIDUAL_I8)),
    "float32": _epilogue("KP_ACT_NONE", _TO_F32),
    "float32, GELU": _epilogue("KP_ACT(KP_GELU)", _TO_F32),
    "float32, residual": _epilogue("KP_ACT_NONE", (*_TO_F32, "residual_f32")),
}

# What attention does to a score before the exponential: scale it, keep the maximum.
_SCORE = """
#include <arm_neon.h>
#include <stddef.h>

void probe(float *scores, const int32_t *acc, float scale, float32x4_t *largest, size_t n);
void probe(float *scores, const int32_t *acc, float scale, float32x4_t *largest, size_t n) {
  float32x4_t m[4] = {largest[0], largest[1], largest[2], largest[3]};
  for (size_t i = 0; i < n; i++, acc += 16, scores += 16) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
      const float32x4_t y = vmulq_n_f32(vcvtq_f32_s32(vld1q_s32(acc + 4 * v)), scale);
      m[v] = vmaxnmq_f32(y, m[v]);
      vst1q_f32(scores + 4 * v, y);
    }
  }
  for (int v = 0; v < 4; v++) largest[v] = m[v];
}
"""

# The last pass of layer norm; its kernel tests for gamma and beta within the loop.
_NORMALIZE = """
#include "kernels/neon/layer_norm_f32.c"

void probe(float *y, const float *x, const float *gamma, const float *beta, float mean, float scale, size_t n);
void probe(float *y, const float *x, const float *gamma, const float *beta, float mean, float scale, size_t n) {
  for (size_t c = 0; c + 4 <= n; c += 4) {
    const float32x4_t normal = vmulq_f32(vsubq_f32(vld1q_f32(x + c), vdupq_n_f32(mean)), vdupq_n_f32(scale));
    vst1q_f32(y + c, vfmaq_f32(vld1q_f32(beta + c), normal, vld1q_f32(gamma + c)));
  }
}
"""

LOOPS = (
    Loop("gemm, neon", "neon", "kernels/neon/gemm_i8.c", "sadalp", 4 * 16 * 8, "MAC", "tile_4x16"),
    Loop("gemm, dotprod", "dotprod", "kernels/dotprod/gemm_i8.c", "sdot", 8 * 8 * 16, "MAC", "tile_8x8"),
    Loop("gemm, i8mm", "i8mm", "kernels/i8mm/gemm_i8.c", "smmla", 4 * 16 * 16, "MAC", "tile_4x16"),
    Loop("depthwise", "neon", "kernels/neon/depthwise_i8.c", "smlal", 2 * 16 * 2, "MAC"),
    *(Loop(f"epilogue, {key}", "neon", code, "fmla", 16, "output", "probe") for key, code in _EPILOGUES.items()),
    Loop("quantize rows, bounds", "neon", "kernels/neon/quantize_i8.c", "fminnm", 16, "element"),
    Loop(
        "quantize rows, rounding",
        "neon",
        "kernels/neon/quantize_i8.c",
        "fmla",
        16,
        "element",
        "kp_quantize_rows_i8_neon",
    ),
    Loop("layer norm, sum", "neon", "kernels/neon/sum_f32.c", "fadd", 16, "element", "kp_sum_f32_neon"),
    Loop("layer norm, variance", "neon", "kernels/neon/layer_norm_f32.c", "fadd", 16, "element"),
    Loop("layer norm, rest", "neon", _NORMALIZE, "fmla", 4, "element", "probe"),
    Loop("attention, product", "dotprod", "kernels/dotprod/attention_i8.c", "sdot", 4 * 4 * 16, "MAC"),
    Loop("attention, score", "neon", _SCORE, "fmaxnm", 16, "score", "probe"),
    Loop("attention, exponential", "dotprod", "kernels/dotprod/attention_i8.c", r"shl\b.*#23$", 4 * 16, "score"),
    Loop("gemm, float32", "neon", "kernels/neon/gemm_f32.c", "fmla", 4 * 16 * 4, "MAC"),
)

_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\t(\S+)(?:\t([^/]*?))?(?:\s*//.*)?$")
_FUNCTION = re.compile(r"^[0-9a-f]+ <([^>]+)>:$")
_BRANCH = re.compile(r"^(b|b\.\w+|cbn?z|tbn?z|bl|blr|br|ret)$")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a disassembly; `target` is where a branch within the function goes."""

    address: int
    mnemonic: str
    operands: str
    target: int | None

    @property
    def text(self) -> str:
        return f"{self.mnemonic} {self.operands}".strip()


def compile_object(loop: Loop, compiler: str, folder: Path) -> Path:
    """Compiles a loop's source for its level, as the build does."""
    source = SOURCES / loop.source
    if "\n" in loop.source:
        source = folder / "probe.c"
        source.write_text(loop.source)
    output = folder / "kernel.o"
    include = (f"-I{SOURCES}", f"-I{SOURCES / 'include'}")
    _run([compiler, *OPTIONS, *LEVEL_OPTIONS[loop.level], *include, "-c", str(source), "-o", str(output)])
    return output


def disassemble(path: Path, objdump: str) -> dict[str, list[Instruction]]:
    """The instructions of every function of an object."""
    functions: dict[str, list[Instruction]] = {}
    body: list[Instruction] = []
    for line in _run([objdump, "-d", "--no-show-raw-insn", str(path)]).splitlines():
        if header := _FUNCTION.match(line):
            body = functions.setdefault(header[1], [])
        elif found := _INSTRUCTION.match(line):
            operands = (found[3] or "").strip()
            target = re.search(r"\b([0-9a-f]+) <", operands) if _BRANCH.match(found[2]) else None
            body.append(Instruction(int(found[1], 16), found[2], operands, int(target[1], 16) if target else None))
    return functions


def inner_loops(body: Sequence[Instruction]) -> Iterable[list[Instruction]]:
    """The loops of a function without another branch in them: from the target of a backward branch to it."""
    for end, branch in enumerate(body):
        if branch.target is None or branch.mnemonic == "bl" or branch.target > branch.address:
            continue
        loop = [instruction for instruction in body[: end + 1] if instruction.address >= branch.target]
        if not any(_BRANCH.match(instruction.mnemonic) for instruction in loop[:-1]):
            yield loop


def find_loop(loop: Loop, functions: dict[str, list[Instruction]]) -> list[Instruction]:
    """The innermost loop with most instructions that match the marker."""
    bodies = [functions[loop.function]] if loop.function else list(functions.values())
    pattern = re.compile(loop.marker)
    best = max(
        (candidate for body in bodies for candidate in inner_loops(body)),
        key=lambda candidate: sum(bool(pattern.match(instruction.text)) for instruction in candidate),
        default=[],
    )
    if not any(pattern.match(instruction.text) for instruction in best):
        where = loop.function or "any function"
        raise SystemExit(f"mca.py: {loop.key}: expected an inner loop with {loop.marker!r} in {where}, found none")
    return best


def cycles_per_iteration(instructions: Sequence[Instruction], cpu: str, llvm_mca: str) -> float:
    """What LLVM's model of a core makes of a loop, warmed up."""
    *straight, branch = instructions
    operand = branch.operands.rpartition(",")[0]
    jump = f"{branch.mnemonic} {operand + ', ' if operand else ''}loop"
    text = "\n".join(["loop:", *(instruction.text for instruction in straight), jump, ""])
    options = ["-mtriple=aarch64", f"-mcpu={cpu}", "-mattr=+dotprod,+i8mm", f"-iterations={ITERATIONS}", "-json"]
    report = json.loads(_run([llvm_mca, *options], text))
    return float(report["CodeRegions"][0]["SummaryView"]["TotalCycles"]) / ITERATIONS


@dataclasses.dataclass(frozen=True)
class Costs:
    """Cycles per unit of work of each loop, by its key."""

    cycles: dict[str, float]

    def of(self, *keys: str) -> float:
        return sum(self.cycles[key] for key in keys)


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator of a program with what its cost depends on; sizes in elements."""

    type: str
    attributes: dict[str, str]
    macs: int
    outputs: int
    inputs: tuple[int, ...]

    @property
    def epilogue(self) -> str:
        """What comes after the activation, or it, behind a comma; a residual is the fourth input."""
        if self.attributes.get("act", "none") != "none":
            return ", SiLU" if self.type == "conv2d" else ", GELU"
        return ", residual" if len(self.inputs) > 3 else ""


def operators(model: Model, program: str, batch: int) -> Iterable[Operator]:
    """The operators of a program that run a kernel, as docs/model-file.md describes them."""
    metadata = model.metadata
    tokens = metadata.get("keypilot.tokenizer.max_tokens", 1)

    def elements(shape: str) -> int:
        sizes = (re.fullmatch(r"(\d*)(N?)(T?)", dimension) for dimension in shape.split(",") if dimension)
        return math.prod(
            int(size[1] or 1) * (batch if size[2] else 1) * (tokens if size[3] else 1) for size in sizes if size
        )

    prefix = f"keypilot.{program}"
    sizes = [elements(shape) for shape in metadata[f"{prefix}.values.shape"]]
    names = metadata[f"{prefix}.values.name"]
    macs = {op.output: op.macs for op in model.cost(program, batch).ops}
    columns = (metadata[f"{prefix}.ops.{key}"] for key in ("type", "attributes", "inputs", "output"))
    for kind, attributes, inputs, output in zip(*columns, strict=True):
        if names[output] in macs:
            indices = [int(index) for index in inputs.split(",") if index]
            yield Operator(
                kind,
                dict(pair.split("=", 1) for pair in attributes.split()),
                macs[names[output]],
                sizes[output],
                tuple(sizes[index] for index in indices if index >= 0),
            )


def operator_cycles(op: Operator, program: str, level: str, costs: Costs) -> dict[str, float]:
    """Estimated cycles of an operator by kind of work."""
    parts = {"operators' overhead": float(CYCLES_PER_OPERATOR)}
    quantized = costs.of("quantize rows, bounds", "quantize rows, rounding")
    if op.type == "conv2d":
        depthwise = int(op.attributes.get("groups", "1")) > 1
        parts["depthwise" if depthwise else "matrix products"] = (
            EDGES * op.macs * costs.of("depthwise" if depthwise else f"gemm, {level}")
        )
        parts["epilogues"] = op.outputs * costs.of(f"epilogue, int8{op.epilogue}")
    elif op.type == "matmul":
        parts["matrix products"] = EDGES * op.macs * costs.of("gemm, float32")
    elif op.type == "linear":
        parts["matrix products"] = EDGES * op.macs * costs.of(f"gemm, {level}")
        parts["epilogues"] = op.outputs * costs.of(f"epilogue, float32{op.epilogue}")
        parts["rows quantised, layer norm"] = op.inputs[0] * quantized
    elif op.type == "attention":
        scores = op.macs / (2 * int(op.attributes["head_dim"]))
        products = costs.of("gemm, float32" if program in FLOAT_ATTENTION else "attention, product")
        parts["attention"] = (
            op.macs * products
            + scores * costs.of("attention, score", "attention, exponential")
            + sum(op.inputs[:3]) * quantized
        )
    elif op.type == "layer_norm":
        keys = ("layer norm, sum", "layer norm, variance", "layer norm, rest")
        parts["rows quantised, layer norm"] = op.outputs * costs.of(*keys)
    else:
        parts["moves, sums"] = op.outputs / MOVED_PER_CYCLE
    return parts


def estimate(model: Model, core: Core, costs: Costs) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds of an encoder's programs on a core, by program and by kind of work."""
    programs: dict[str, float] = {}
    kinds: dict[str, float] = {}
    for name in model.programs:
        reencodes = name == "roi" and model.metadata.get("keypilot.encoder.roi_features") == "reencode"
        for op in operators(model, name, len(REGIONS) if reencodes else 1):
            for kind, cycles in operator_cycles(op, name, core.level, costs).items():
                milliseconds = cycles / (core.ghz * 1e6)
                programs[name] = programs.get(name, 0.0) + milliseconds
                kinds[kind] = kinds.get(kind, 0.0) + milliseconds
    return programs, kinds


def measure(compiler: str, objdump: str, llvm_mca: str) -> dict[Core, Costs]:
    """Cycles per unit of work of every loop on every core."""
    cycles: dict[Core, dict[str, float]] = {core: {} for core in CORES}
    with tempfile.TemporaryDirectory() as folder:
        for loop in LOOPS:
            path = compile_object(loop, compiler, Path(folder))
            instructions = find_loop(loop, disassemble(path, objdump))
            for core in CORES:
                cycles[core][loop.key] = cycles_per_iteration(instructions, core.cpu, llvm_mca) / loop.work
    return {core: Costs(figures) for core, figures in cycles.items()}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose first column is text and whose others are numbers."""
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(costs: dict[Core, Costs], model: Model, version: str) -> str:
    """The whole answer, in Markdown."""
    names = [core.name for core in CORES]

    def runs(core: Core, loop: Loop) -> bool:
        return loop.level != "i8mm" or core.level == "i8mm"

    loops = [
        (loop.key, *(f"{costs[core].of(loop.key):.4f}" if runs(core, loop) else "-" for core in CORES), loop.unit)
        for loop in LOOPS
    ]
    estimates = [estimate(model, core, costs[core]) for core in CORES]
    by_program = [(name, *(f"{programs[name]:.2f}" for programs, _ in estimates)) for name in estimates[0][0]]
    by_kind = [(kind, *(f"{kinds[kind]:.2f}" for _, kinds in estimates)) for kind in estimates[0][1]]
    whole = ("**whole encoder**", *(f"**{sum(programs.values()):.1f}**" for programs, _ in estimates))
    clocks = [("clock, GHz", *(f"{core.ghz}" for core in CORES)), ("kernels", *(core.level for core in CORES))]
    assumptions = (__doc__ or "").partition("repeats:\n\n")[2].strip().replace("\n  ", " ")
    constants = {
        "EDGES": EDGES,
        "FLOAT_ATTENTION": " and ".join(FLOAT_ATTENTION),
        "MOVED_PER_CYCLE": MOVED_PER_CYCLE,
        "CYCLES_PER_OPERATOR": CYCLES_PER_OPERATOR,
    }
    for name, value in constants.items():
        assumptions = assumptions.replace(f"`{name}`", str(value))
    notes = [f"- {core.name}: {core.note}." for core in CORES if core.note]
    return "\n\n".join(
        (
            "# Arm kernels on paper",
            f"{version}, inner loops alone. Cycles per unit of work:",
            table(("loop", *names, "per"), loops),
            f"Milliseconds of one core, one thread (target on a big core: {TARGET_MS:g}):",
            table(("program", *names), [*clocks, *by_program, whole]),
            "The same by kind of work:",
            table(("work", *names), by_kind),
            "Assumptions:",
            "\n".join([assumptions, *notes]) + "\n",
        )
    )


def _run(command: Sequence[str], text: str | None = None) -> str:
    if not shutil.which(command[0]):
        raise SystemExit(f"mca.py: expected the program {command[0]} on the path, found none")
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"mca.py: {' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", help="a model file, or a preset's name (default: keypilot-base)")
    newest = next((name for name in ("llvm-mca-22", "llvm-mca-19", "llvm-mca") if shutil.which(name)), "llvm-mca")
    parser.add_argument("--llvm-mca", default=newest, metavar="PROGRAM")
    parser.add_argument("--compiler", default="aarch64-linux-gnu-gcc", metavar="PROGRAM")
    parser.add_argument("--objdump", default="aarch64-linux-gnu-objdump", metavar="PROGRAM")
    parser.add_argument("--out", type=Path, metavar="TABLE.md", help="write there rather than to standard output")
    args = parser.parse_args()
    model = Model.load(model_path(args.model), threads=1)
    costs = measure(args.compiler, args.objdump, args.llvm_mca)
    version = next(line.strip() for line in _run([args.llvm_mca, "--version"]).splitlines() if "version" in line)
    text = report(costs, model, f"llvm-mca, {version}")
    if args.out:
        args.out.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
