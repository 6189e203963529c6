"""Timing several engines on the same work, interleaved, so that a machine whose speed drifts is fair to all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Milliseconds over the runs of one engine on one piece of work."""

    minimum: float
    median: float


def interleaved(work: Mapping[str, Callable[[], object]], *, runs: int, warmup: int = 3) -> dict[str, Timing]:
    """Calls each engine in turn, `runs` times over, after `warmup` rounds that do not count.

    The order is reversed every other round, since an engine runs warmer or colder for the one before it.
    """
    samples: dict[str, list[float]] = {name: [] for name in work}
    names = list(work)
    for round_index in range(-warmup, runs):
        for name in names if round_index % 2 else reversed(names):
            start = time.perf_counter_ns()
            work[name]()
            elapsed = (time.perf_counter_ns() - start) / 1e6
            if round_index >= 0:
                samples[name].append(elapsed)
    return {name: Timing(min(times), statistics.median(times)) for name, times in samples.items()}
