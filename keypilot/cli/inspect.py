"""``keypilot inspect``: what a model file holds and costs."""

from __future__ import annotations

import argparse
import json
import math
from typing import TYPE_CHECKING, Any

from keypilot.cli.arguments import CONFIG_HELP, add_precision
from keypilot.cli.table import count, table
from keypilot.errors import ArgumentError, ModelFileError
from keypilot.reference.config import REGIONS

if TYPE_CHECKING:
    from keypilot.model import Model, Port

#: Parameters that KeyPilot's original design states for a preset and its variants, by component. Where it has several
#: figures for one module, all are given.
_DESIGN = {
    "keypilot-base": {
        "backbone": "1.3M",
        "regions": "0.6M",
        "image": "0.3M, 0.05M",
        "text": "4.5M",
        "fusion": "0.8M",
        "user": "0.01M, 0.02M",
        "all": "7.5M, 7.6M",
    }
}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "inspect",
        help="show what a model file holds and costs",
        description="Prints a model's parameters, bytes, multiply-accumulates and memory, by component and by program.",
    )
    parser.add_argument(
        "model", nargs="?", metavar="MODEL|CONFIG", help=f"a model file, or {CONFIG_HELP} (default: keypilot-base)"
    )
    parser.add_argument(
        "--quantization", action="store_true", help="print how each tensor of an int8 model is quantised, instead"
    )
    add_precision(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from keypilot.encoder import model_path
    from keypilot.model import Model

    facts = inspect(Model.load(model_path(args.model, args.precision), threads=1))
    if args.quantization and facts["quantization"] is None:
        raise ArgumentError(f"--quantization: expected an int8 model, got one of precision {facts['precision']}")
    if args.json:
        print(json.dumps(facts))
    else:
        print(quantization_text(facts["quantization"]) if args.quantization else as_text(facts))
    return 0


def inspect(model: Model) -> dict[str, Any]:
    """What ``--json`` prints.

    `macs` and `arena_bytes` are of one whole result: an encoder's is one picture, four regions and the longest text;
    another model's is each program on a batch of one.
    """
    metadata = model.metadata
    components: dict[str, dict[str, Any]] = {}

    def component(path: str) -> dict[str, Any]:
        return components.setdefault(path.partition(".")[0], {"parameters": 0, "bytes": 0, "macs": 0})

    quantization = _quantization(model)
    for name, tensor in model.weights.items():
        component(name)["bytes"] += tensor.nbytes
    for name, size in _parameters(model, quantization).items():
        component(name)["parameters"] += size
    programs: dict[str, dict[str, Any]] = {}
    for name, program in model.programs.items():
        batch = len(REGIONS) if name == "roi" and metadata.get("keypilot.encoder.roi_features") == "reencode" else 1
        cost = model.cost(name, batch)
        for op in cost.ops:
            if op.macs > 0:
                component(op.output)["macs"] += op.macs
        programs[name] = {
            "batch": batch,
            "ops": len(cost.ops),
            "macs": cost.macs,
            "arena_bytes": cost.arena_bytes,
            "inputs": [_port(port) for port in program.inputs],
            "outputs": [_port(port) for port in program.outputs],
            "taps": len(program.taps),
        }
    return {
        "name": metadata.get("general.name"),
        "precision": metadata.get("keypilot.precision"),
        "trained": metadata.get("keypilot.trained"),
        "file_bytes": model.file_bytes,
        "parameters": sum(entry["parameters"] for entry in components.values()),
        "macs": sum(entry["macs"] for entry in programs.values()),
        "arena_bytes": max((entry["arena_bytes"] for entry in programs.values()), default=0),
        "components": components,
        "programs": programs,
        "quantization": quantization,
        "tokenizer": _tokenizer(model),
        "encoder": {
            key.removeprefix("keypilot.encoder."): metadata[key]
            for key in metadata
            if key.startswith("keypilot.encoder.")
        },
        "config": json.loads(metadata.get("keypilot.config", "{}")),
        "design_parameters": _design(metadata.get("general.name", "")),
    }


def as_text(facts: dict[str, Any]) -> str:
    """Tables for people."""
    weights = {True: "trained", False: "untrained, seeded weights", None: "weights of unknown origin"}[facts["trained"]]
    design = facts["design_parameters"]
    whole = {key: facts[key] for key in ("parameters", "macs")}
    whole["bytes"] = sum(entry["bytes"] for entry in facts["components"].values())
    components = table(
        ("component", "parameters", *(("original design",) if design else ()), "weights", "MACs"),
        [
            (
                name,
                count(entry["parameters"]),
                *((design.get(name, "-"),) if design else ()),
                _bytes(entry["bytes"]),
                count(entry["macs"]),
            )
            for name, entry in (*facts["components"].items(), ("all", whole))
        ],
    )
    programs = table(
        ("program", "batch", "operators", "MACs", "arena", "tensors to tap"),
        [
            (
                name,
                str(entry["batch"]),
                str(entry["ops"]),
                count(entry["macs"]),
                _bytes(entry["arena_bytes"]),
                str(entry["taps"]),
            )
            for name, entry in facts["programs"].items()
        ],
    )
    ports = [
        f"{name}: {_signature(entry['inputs'])} -> {_signature(entry['outputs'])}"
        for name, entry in facts["programs"].items()
    ]
    settings = [f"{key}: {_plain(value)}" for key, value in facts["encoder"].items()]
    if facts["tokenizer"]:
        settings.append(
            "tokenizer: {vocabulary} tokens, {max_tokens} at most, normalizer {normalizer}".format(**facts["tokenizer"])
        )
    if facts["quantization"]:
        settings.append(_summary(facts["quantization"]))
    title = f"{facts['name'] or 'unnamed'}: {facts['precision']}, {weights}, {_bytes(facts['file_bytes'])} on disk"
    return "\n\n".join(part for part in (title, components, programs, "\n".join(ports), "\n".join(settings)) if part)


def quantization_text(quantization: dict[str, Any]) -> str:
    """How each tensor is quantised, as tables for people."""
    values = table(
        ("tensor", "range by", "share of the bounds", "evenness"),
        [
            (name, entry["range"], f"{entry['share']:.3f}", f"{entry['evenness']:g}")
            for name, entry in quantization["values"].items()
        ],
    )
    weights = table(
        ("weight", "bits", "rounding", "bias corrected", "SQNR (dB)"),
        [
            (
                name,
                str(entry["bits"]),
                entry["rounding"],
                "yes" if entry["bias_corrected"] else "no",
                f"{entry['sqnr_db']:.1f}",
            )
            for name, entry in quantization["weights"].items()
        ],
    )
    return "\n\n".join((_summary(quantization), values, weights))


def _summary(quantization: dict[str, Any]) -> str:
    bits = [entry["bits"] for entry in quantization["weights"].values()]
    counts = [f"{bits.count(width)} of {width} bits" for width in sorted(set(bits), reverse=True)]
    kept = f"\nkept in float32: {', '.join(quantization['kept'])}" if quantization["kept"] else ""
    return (
        f"quantised weights: {', '.join(counts)}; {quantization['float_weights']} float32 tensors; "
        f"{len(quantization['values'])} int8 tensors between operators\n"
        f"calibrated on: {quantization['calibration']}{kept}"
    )


def _quantization(model: Model) -> dict[str, Any] | None:
    """The file's record of its quantisation (docs/model-file.md), with names for its fields; None where it has none."""
    text = model.metadata.get("keypilot.quantization")
    if text is None:
        return None
    try:
        record = json.loads(text)
        return {
            **{field: record[field] for field in ("calibration", "batches", "kept", "centred")},
            "float_weights": len(_parameters(model, None).keys() - record["weights"].keys()),
            "values": _named(record["values"], ("range", "share", "evenness")),
            "weights": _named(record["weights"], ("bits", "rounding", "bias_corrected", "sqnr_db")),
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelFileError(
            f"keypilot.quantization: not the record that docs/model-file.md describes: {error}"
        ) from error


def _named(entries: dict[str, list[Any]], fields: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    return {name: dict(zip(fields, entry, strict=True)) for name, entry in entries.items()}


def _parameters(model: Model, quantization: dict[str, Any] | None) -> dict[str, int]:
    """Elements of each weight; the second half of a table of twelve bits is none of its own."""
    sizes: dict[str, int] = {}
    for program in model.programs:
        key = f"keypilot.{program}"
        names, shapes = (model.metadata[f"{key}.values.{field}"] for field in ("name", "shape"))
        for index in model.metadata.get(f"{key}.weights", ()):
            sizes[names[index]] = math.prod(int(dim) for dim in shapes[index].split(",") if dim)
    halves = {
        f"{name}.fine" for name, entry in (quantization or {"weights": {}})["weights"].items() if entry["bits"] == 12
    }
    return {name: size for name, size in sizes.items() if name not in halves}


def _design(name: str) -> dict[str, str]:
    """The original design's parameters of the preset that `name` is, or is a variant of."""
    for preset, parameters in _DESIGN.items():
        if name == preset or (name.startswith(f"{preset}-") and ":" not in name):
            return parameters
    return {}


def _tokenizer(model: Model) -> dict[str, Any] | None:
    metadata = model.metadata
    if "tokenizer.ggml.tokens" not in metadata:
        return None
    return {
        "model": metadata.get("tokenizer.ggml.model"),
        "vocabulary": len(metadata["tokenizer.ggml.tokens"]),
        "max_tokens": metadata.get("keypilot.tokenizer.max_tokens"),
        "normalizer": metadata.get("keypilot.tokenizer.normalizer"),
    }


def _port(port: Port) -> dict[str, Any]:
    return {"name": port.name, "dtype": port.dtype.name, "shape": list(port.shape)}


def _signature(ports: list[dict[str, Any]]) -> str:
    return ", ".join(f"{port['name']} {port['dtype']} ({', '.join(map(str, port['shape']))})" for port in ports)


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _bytes(number: int) -> str:
    return f"{number / 1e6:.2f} MB" if number >= 1e5 else f"{number / 1e3:.1f} kB"
