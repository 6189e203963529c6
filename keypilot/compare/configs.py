"""What configurations of the encoder cost, and how far their int8 results are from float32, side by side."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keypilot import cache
from keypilot.compare.metrics import difference
from keypilot.errors import KeyPilotError
from keypilot.reference.config import COMPONENTS, PRESETS, REGIONS, EncoderConfig, resolve_config
from keypilot.reference.image import as_rgb
from keypilot.reference.pipeline import Pipeline
from keypilot.reference.presets import build_config, drawn_screens

if TYPE_CHECKING:
    from keypilot.encoder import Picture
    from keypilot.model import Model

#: Drawn screens, where no pictures are given, and their side.
_DRAWN, _DRAWN_SIDE = 6, 512

#: One for each picture in turn.
_TEXTS = ("see you at", "Running about ten minutes late, sorry", "haha yes", "")

#: Tokens of the text that is timed.
_TIMED_TOKENS = 12

#: Of timing: turns of every configuration, and the least time of a turn in seconds, which is one run at least.
_TURNS, _TURN_SECONDS = 5, 0.1


@dataclasses.dataclass(frozen=True)
class Measured:
    """One configuration's row.

    Attributes
    ----------
    parameters : of PyTorch's modules.
    macs, arena_bytes : of one whole result, as `keypilot inspect`; bytes are of the int8 file.
    sqnr_db, cosine : of the context vectors, the int8 programs' against PyTorch's in float32, over all pictures; masks
        and crops are each one's own.
    milliseconds : threads -> the least time that the programs of one picture took, without the work on pixels.
    error : why the configuration could not be measured; the figures are then NaN.
    """

    config: str
    parameters: float = math.nan
    macs: float = math.nan
    file_bytes: float = math.nan
    arena_bytes: float = math.nan
    sqnr_db: float = math.nan
    cosine: float = math.nan
    milliseconds: Mapping[int, float] = dataclasses.field(default_factory=dict)
    error: str | None = None


def swaps(preset: str = "keypilot-base") -> list[str]:
    """The preset, and all that differ from it in one component."""
    base = PRESETS[preset]
    found = [preset]
    for field, names in COMPONENTS.items():
        found += [f"{preset}:{field}={name}" for name in names if name != getattr(base, field)]
    return found


def compare_configs(
    configs: Sequence[str],
    pictures: Sequence[Picture] | None = None,
    *,
    threads: Sequence[int] = (1, 2),
    notify: Callable[[str], None] = lambda _step: None,
) -> list[Measured]:
    """Measures every configuration in int8.

    Nothing is stored in four bits, so that bytes and decibels are those of the components, and not of a limit on the
    file. Model files and accuracies are kept in the user's cache; times are taken anew, the configurations in turns.

    Parameters
    ----------
    configs : as `keypilot.reference.config.resolve_config` takes them.
    pictures : what accuracy is measured on; None: drawn screens. Calibration has other drawn ones.
    notify : called with what comes next, twice for each configuration.

    Raises
    ------
    ArgumentError, OSError : a configuration that there is not, or a picture that cannot be read.
    """
    resolved = [_without_limit(text) for text in configs]
    samples = list(drawn_screens(_DRAWN, _DRAWN_SIDE, seed=7)) if pictures is None else list(pictures)
    pixels = _hash_of(samples)
    rows: list[Measured] = []
    models: list[Model | None] = []
    for text, config in zip(configs, resolved, strict=True):
        try:
            row, model = _measured(text, config, samples, pixels, notify)
        except KeyPilotError as error:
            notify(f"{text}: cannot be measured")
            row, model = Measured(text, error=" ".join(str(error).split())), None
        rows.append(row)
        models.append(model)
    times = _timed(models, threads)
    return [dataclasses.replace(row, milliseconds=found) for row, found in zip(rows, times, strict=True)]


def _without_limit(text: str) -> str:
    """The same configuration, as a text, but for a limit on the bytes of its file."""
    config = resolve_config(text)
    if not config.int8_bytes:
        return text
    return f"{text}{',' if ':' in text else ':'}int8_bytes=0"


def _measured(
    text: str, config: str, pictures: Sequence[Picture], pixels: str, notify: Callable[[str], None]
) -> tuple[Measured, Model]:
    from keypilot.cli.inspect import inspect
    from keypilot.model import Model

    notify(f"{text}: model")
    path = cache.preset_model(config, "int8")
    model = Model.load(path, threads=1)
    notify(f"{text}: accuracy")
    kept = path.with_name(f"{path.stem}-{pixels}.json")
    if kept.exists():
        accuracy = json.loads(kept.read_text(encoding="utf-8"))
    else:
        accuracy = _accuracy(resolve_config(config), model, pictures)
        kept.write_text(json.dumps(accuracy), encoding="utf-8")
    facts = inspect(model)
    return Measured(text, **{key: facts[key] for key in ("macs", "file_bytes", "arena_bytes")}, **accuracy), model


def _accuracy(config: EncoderConfig, model: Model, pictures: Sequence[Picture]) -> dict[str, Any]:
    encoder = build_config(config)
    pipelines = Pipeline(encoder), _CorePipeline(encoder, model)
    samples = [(picture, _TEXTS[i % len(_TEXTS)]) for i, picture in enumerate(pictures)]
    expected, actual = (
        np.stack([pipeline.encode(picture, text, 0).context for picture, text in samples]) for pipeline in pipelines
    )
    found = difference(expected, actual)
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    return {"parameters": float(parameters), "sqnr_db": found.sqnr_db, "cosine": found.cosine}


class _CorePipeline(Pipeline):
    """The reference pipeline with the programs of a model file."""

    def __init__(self, encoder: Any, model: Model) -> None:
        super().__init__(encoder)
        self._model = model

    def run(self, program: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return self._model.run(program, **inputs)


def _timed(models: Sequence[Model | None], threads: Sequence[int]) -> list[dict[int, float]]:
    """The least milliseconds of each model by threads."""
    best: list[dict[int, float]] = [{} for _ in models]
    runs = [
        (best[i], count, model.with_threads(count), _timed_inputs(model))
        for i, model in enumerate(models)
        if model is not None
        for count in threads
    ]
    for _turn in range(_TURNS):
        for times, count, model, inputs in runs:
            fastest = min(_seconds(model, inputs))
            times[count] = min(times.get(count, math.inf), 1e3 * fastest)
    return best


def _seconds(model: Model, inputs: Mapping[str, Mapping[str, Any]]) -> Iterator[float]:
    """Of one run of every program after the other, for as long as a turn is."""
    end = time.perf_counter() + _TURN_SECONDS
    while True:
        start = time.perf_counter()
        for program, arrays in inputs.items():
            model.run(program, **arrays)
        now = time.perf_counter()
        yield now - start
        if now > end:
            return


def _timed_inputs(model: Model) -> dict[str, dict[str, Any]]:
    """Inputs of one picture: noise, and a text of `_TIMED_TOKENS`."""
    rng = np.random.default_rng(0)
    crops = len(REGIONS) if model.metadata.get("keypilot.encoder.roi_features") == "reencode" else 1
    inputs: dict[str, dict[str, Any]] = {}
    for name, program in model.programs.items():
        sizes = {"N": crops if name == "roi" else 1, "T": _TIMED_TOKENS}
        inputs[name] = {}
        for port in program.inputs:
            shape = [sizes[dim] if isinstance(dim, str) else dim for dim in port.shape]
            noise = rng.random(shape, np.float32) if port.dtype == np.float32 else np.ones(shape)
            inputs[name][port.name] = noise.astype(port.dtype)
    return inputs


def _hash_of(pictures: Sequence[Picture]) -> str:
    digest = hashlib.sha256()
    for picture in pictures:
        pixels = np.ascontiguousarray(as_rgb(picture))
        digest.update(repr(pixels.shape).encode())
        digest.update(pixels.tobytes())
    return digest.hexdigest()[:12]
