"""Timing several engines on the same work, taking turns, so that a machine whose speed drifts is fair to all."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from processes import EngineError, Process, runner_process

#: Seconds for an engine to load and give its first result; TorchInductor calls a C++ compiler.
LOAD_TIMEOUT = 600.0
TURN_TIMEOUT = 120.0


@dataclass(frozen=True)
class Timing:
    """Milliseconds over the runs of one engine on one piece of work."""

    minimum: float
    median: float


@dataclass(frozen=True)
class Start:
    """What a fresh process pays beyond Python, NumPy and reading the inputs.

    Attributes
    ----------
    milliseconds : import, load and the first result.
    peak_kib : the largest resident size by then.
    """

    milliseconds: float
    peak_kib: int


def interleaved(
    runners: Mapping[str, Process], *, rounds: int, budget: float, clock: str
) -> tuple[dict[str, Timing], dict[str, str]]:
    """Gives each engine a turn of about `budget` milliseconds by `clock`, ``"wall"`` or ``"cpu"``, `rounds` times over.

    The order is reversed every other round, since an engine runs warmer or colder for the one before it. The processes
    come paused, and are left so.

    Returns
    -------
    Timings, and for engines that failed the reason; by the runners' names.
    """
    samples: dict[str, list[float]] = {name: [] for name in runners}
    failures: dict[str, str] = {}
    names = list(runners)
    for index in range(rounds):
        for name in names if index % 2 else reversed(names):
            if name in failures:
                continue
            runner = runners[name]
            runner.resume()
            try:
                runner.send(f"{clock} {budget}")
                samples[name] += runner.answer(TURN_TIMEOUT)["ms"]
            except EngineError as error:
                failures[name] = str(error)
                continue
            runner.pause()
    timings = {n: Timing(min(t), statistics.median(t)) for n, t in samples.items() if n not in failures}
    return timings, failures


def cold_start(peer: str, folder: Path, timed: Path, *, repeats: int, clock: str) -> Start:
    """Starts fresh processes for an engine, in turns with ones that only read the inputs; the least of each."""
    starts, floors = [], []
    for _ in range(repeats):
        starts.append(_start(peer, folder, timed, clock))
        floors.append(_start("none", folder, timed, clock))
    return Start(
        min(start.milliseconds for start in starts) - min(floor.milliseconds for floor in floors),
        min(start.peak_kib for start in starts) - min(floor.peak_kib for floor in floors),
    )


def _start(peer: str, folder: Path, timed: Path, clock: str) -> Start:
    with tempfile.TemporaryDirectory() as compiled:  # empty: TorchInductor has to work
        start = time.perf_counter_ns()
        with runner_process(peer, folder, 1, timed, Path(compiled)) as process:
            process.answer(LOAD_TIMEOUT)
            elapsed = (time.perf_counter_ns() - start) / 1e6
            process.send("spent")
            spent = process.answer(TURN_TIMEOUT)
            return Start(elapsed if clock == "wall" else spent["cpu_ms"], spent["peak_kib"])
