"""A process that runs one network in one engine: `python runner.py PEER FOLDER THREADS ARRAYS`, one order a line.

Before the first order it loads the network, runs it once on the first test input, and answers ``{}``, or ``{"error":
REASON}`` and ends. Orders:

wall MS       run for about so many milliseconds, once uncounted and at least twice counted: ``{"ms": [...]}``
cpu MS        the same in processor time, of all threads together
results FILE  run on every test input and write the results: ``{}``
spent         ``{"peak_kib": N, "cpu_ms": T}`` since the process began

At the end of its input it ends. Beside NumPy it imports nothing that the engine does not. PEER ``none`` loads and runs
nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import peers

CLOCKS = {"wall": time.perf_counter_ns, "cpu": time.process_time_ns}


def main() -> int:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    name, folder, threads, arrays = sys.argv[1:]
    tests = read_tests(Path(arrays))
    try:
        import peers

        runner: peers.Runner = _Nothing() if name == "none" else peers.peer(name).load(Path(folder), int(threads))
        runner.bind(tests[0])
        runner.run()
        runner.outputs()
    except Exception as error:  # whatever goes wrong in an engine is a result
        answer({"error": f"{type(error).__name__}: {str(error).strip()}"[:300]})
        return 0
    answer({})
    for line in sys.stdin:
        order, _, argument = line.strip().partition(" ")
        if order in CLOCKS:
            answer({"ms": timed(runner, CLOCKS[order], float(argument))})
        elif order == "results":
            results = {}
            for index, inputs in enumerate(tests):
                runner.bind(inputs)
                runner.run()
                results.update({f"{index}/{i}": np.array(array) for i, array in enumerate(runner.outputs())})
            runner.bind(tests[0])
            np.savez(argument, **results)  # type: ignore[arg-type]  # its stub wants allow_pickle here
            answer({})
        elif order == "spent":
            answer({"peak_kib": peak_kib(), "cpu_ms": time.process_time_ns() / 1e6})
    return 0


class _Nothing:
    """What every process pays."""

    def bind(self, inputs: Mapping[str, Any]) -> None:
        pass

    def run(self) -> None:
        pass

    def outputs(self) -> list[Any]:
        return []


def timed(runner: peers.Runner, clock: Callable[[], int], budget: float) -> list[float]:
    """Milliseconds of each run, by a clock in nanoseconds."""
    runner.run()
    samples: list[float] = []
    while len(samples) < 2 or sum(samples) < budget:
        start = clock()
        runner.run()
        samples.append((clock() - start) / 1e6)
    return samples


def read_tests(path: Path) -> list[dict[str, Any]]:
    """The test inputs of a network, by name, in order; see networks.py."""
    tests: dict[str, dict[str, Any]] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            kind, index, name = key.split("/")
            if kind == "test":
                tests.setdefault(index, {})[name] = arrays[key]
    return list(tests.values())


def peak_kib() -> int:
    """This process's largest resident size so far (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
