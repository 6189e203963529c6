"""Results as Markdown tables and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from timing import Start, Timing

OURS = "keypilot"


@dataclasses.dataclass
class Result:
    """One network in one variant of one engine.

    Attributes
    ----------
    error : why it did not run; nothing else is set then but what was found before.
    timings : by number of threads.
    thread_errors : reasons, by number of threads, where only that failed.
    sqnr_db : against float32 PyTorch, for each output, over the test inputs together.
    """

    network: str
    peer: str
    engine: str
    variant: str
    error: str | None = None
    file_bytes: int | None = None
    timings: dict[int, Timing] = dataclasses.field(default_factory=dict)
    thread_errors: dict[int, str] = dataclasses.field(default_factory=dict)
    sqnr_db: list[float] | None = None
    start: Start | None = None

    @property
    def label(self) -> str:
        return f"{self.engine} {self.variant}"

    @property
    def precision(self) -> str:
        """``"fp32"`` or ``"int8"``."""
        return self.variant[:4]


@dataclasses.dataclass
class Report:
    """A run: its results, and what they were measured with.

    Attributes
    ----------
    clock : ``"wall"`` or ``"cpu"``.
    titles : network -> what it is, in the tables' order.
    parts : the networks that make up `whole`.
    """

    cpu: str
    versions: dict[str, str]
    clock: str
    pictures: str
    titles: dict[str, str]
    parts: tuple[str, ...]
    whole: str
    results: list[Result] = dataclasses.field(default_factory=list)

    def best_peer(self, network: str, precision: str, threads: int) -> Result | None:
        """The fastest of the others, by the minimum."""
        candidates = [
            result
            for result in self.results
            if result.network == network
            and result.peer != OURS
            and result.precision == precision
            and threads in result.timings
        ]
        return min(candidates, key=lambda result: result.timings[threads].minimum, default=None)

    def ours(self, network: str, precision: str) -> Result | None:
        for result in self.results:
            if (result.network, result.peer, result.variant) == (network, OURS, precision):
                return result
        return None

    def to_json(self) -> str:
        return json.dumps(
            {
                "cpu": self.cpu,
                "versions": self.versions,
                "clock": self.clock,
                "pictures": self.pictures,
                "networks": self.titles,
                "results": [_finite(dataclasses.asdict(result)) for result in self.results],
            },
            indent=1,
        )

    def to_markdown(self) -> str:
        versions = ", ".join(f"{engine} {version}" for engine, version in self.versions.items())
        measured = {threads for result in self.results for threads in result.timings}
        host = f"{self.cpu}; {platform.system()}, Python {platform.python_version()}"
        sections = [f"{host}. {versions}. {self.pictures}."]
        sections += [_table(("network", "is"), self.titles.items())]
        for threads in sorted(measured):
            plural = "s" if threads > 1 else ""
            sections += [f"## {threads} thread{plural}: KeyPilot against the best peer", self._ratios(threads)]
            sections += [
                f"## {threads} thread{plural}: milliseconds ({self.clock} time), minimum (median)",
                self._grid(lambda r, threads=threads: _milliseconds(r.timings.get(threads))),  # type: ignore[misc]
            ]
        sections += [
            "## SQNR against float32 PyTorch, dB, each output",
            self._grid(lambda r: " / ".join(f"{x:.1f}" for x in r.sqnr_db) if r.sqnr_db else ""),
            "## Files, KB",
            self._grid(lambda r: f"{r.file_bytes / 1e3:,.0f}" if r.file_bytes else ""),
            f"## Import, load and first result beyond Python with NumPy: ms ({self.clock} time)",
            self._grid(lambda r: f"{r.start.milliseconds:,.0f}" if r.start else ""),
            "## Peak memory by then beyond Python with NumPy: MiB",
            self._grid(lambda r: f"{r.start.peak_kib / 1024:.0f}" if r.start else ""),
        ]
        if failures := self._failures():
            sections += ["## What did not run", _table(("engine", "network", "reason"), failures)]
        return "\n\n".join(sections) + "\n"

    def _ratios(self, threads: int) -> str:
        rows = []
        for network in self.titles:
            for precision in ("int8", "fp32"):
                ours = self.ours(network, precision)
                mine = ours.timings.get(threads) if ours else None
                peer = self._sum_of_parts(precision, threads) if network == self.whole else None
                if peer is None:
                    best = self.best_peer(network, precision, threads)
                    peer = (best.label, best.timings[threads]) if best else None
                if mine is None and peer is None:
                    continue
                rows.append(
                    (
                        network,
                        precision,
                        _milliseconds(mine),
                        _milliseconds(peer[1] if peer else None),
                        peer[0] if peer else "",
                        f"{peer[1].minimum / mine.minimum:.2f}" if peer and mine else "",
                        f"{peer[1].median / mine.median:.2f}" if peer and mine else "",
                    )
                )
        head = ("network", "precision", "KeyPilot", "best peer", "which", "ratio of minima", "ratio of medians")
        return _table(head, rows)

    def _sum_of_parts(self, precision: str, threads: int) -> tuple[str, Timing] | None:
        """The best peer for each part of the whole encoder, added up."""
        best = [self.best_peer(part, precision, threads) for part in self.parts]
        timings = [result.timings[threads] for result in best if result]
        if len(timings) < len(self.parts):
            return None
        return "sum of the best for each part", Timing(sum(t.minimum for t in timings), sum(t.median for t in timings))

    def _grid(self, cell: Callable[[Result], str]) -> str:
        """A row for each engine and variant, a column for each network."""
        rows: dict[str, dict[str, str]] = {}
        for result in self.results:
            if not result.error and (text := cell(result)):
                rows.setdefault(result.label, {})[result.network] = text
        networks = [network for network in self.titles if any(network in row for row in rows.values())]
        return _table(("", *networks), ((label, *(row.get(n, "") for n in networks)) for label, row in rows.items()))

    def _failures(self) -> list[tuple[str, str, str]]:
        found: dict[tuple[str, str], list[str]] = {}
        for result in self.results:
            reasons = [result.error] if result.error else []
            reasons += [f"{threads} threads: {text}" for threads, text in result.thread_errors.items()]
            for reason in reasons:
                found.setdefault((result.label.strip(), reason), []).append(result.network)
        return [(label, ", ".join(networks), reason) for (label, reason), networks in found.items()]


def _milliseconds(timing: Timing | None) -> str:
    return f"{timing.minimum:.3g} ({timing.median:.3g})" if timing else ""


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _finite(value: Any) -> Any:
    """JSON has no infinity: null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def cpu_name() -> str:
    """The processor's name, as the kernel gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
