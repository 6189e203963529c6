"""Whole networks in KeyPilot and in its peers: same weights, same inputs, in turns, in one run.

    python benchmarks/run.py [--networks bb256 ...] [--peers openvino ...] [--threads 1 2] [--json F] [--markdown F]

README.md says how to install the peers, and what is measured.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from networks import ENCODER_PARTS, SPECS, Screens, create
from peers import PEERS
from processes import EngineError, Process, prepare_process, runner_process
from report import Report, Result, cpu_name
from timing import LOAD_TIMEOUT, TURN_TIMEOUT, cold_start, interleaved

from keypilot.compare.metrics import Array, difference

#: Seconds for an engine to convert and calibrate a network.
PREPARE_TIMEOUT = 900.0

_SCREENS = Path(__file__).resolve().parent.parent.parent / "shared" / "screens"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ends the stopped children as well
    if options.work:
        return _run(options, options.work)
    with tempfile.TemporaryDirectory(prefix="keypilot-benchmarks-") as folder:
        return _run(options, Path(folder))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time KeyPilot beside other engines, in turns, in one run.")
    networks, peers = ", ".join(SPECS), ", ".join(PEERS)
    parser.add_argument("--networks", nargs="+", choices=SPECS, default=list(SPECS), metavar="N", help=networks)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="P", help=peers)
    parser.add_argument("--skip", nargs="+", default=[], metavar="P:V", help="variants to leave out, as pytorch:fp32")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="T", help="counts (default: 1 2)")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each engine (default: 10)")
    parser.add_argument("--budget", type=float, default=60, metavar="MS", help="of each turn (default: 60)")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time of all threads, for one thread on a machine that others use (default: wall)",
    )
    parser.add_argument("--starts", type=int, default=3, help="fresh processes per engine; 0: none (default: 3)")
    parser.add_argument(
        "--screens",
        type=Path,
        default=_SCREENS if _SCREENS.is_dir() else None,
        metavar="DIR",
        help="pictures for calibration, statistics and errors (default: ../shared/screens, else drawn ones)",
    )
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        type=_peer_python,
        metavar="P=PATH",
        help="the Python that makes a peer's files (also KEYPILOT_BENCH_PYTHON_P in the environment)",
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep files here, and reuse those that are here")
    parser.add_argument("--json", type=Path, metavar="F", help="also write the results as JSON")
    parser.add_argument("--markdown", type=Path, metavar="F", help="also write the tables as Markdown")
    return parser.parse_args(arguments)


def _peer_python(text: str) -> tuple[str, str]:
    peer, equals, path = text.partition("=")
    if peer not in PEERS or not equals:
        raise argparse.ArgumentTypeError(f"expected PEER=PATH, with a peer of {', '.join(PEERS)}, got {text!r}")
    return peer, path


def _run(options: argparse.Namespace, work: Path) -> int:
    screens = Screens.of(options.screens)
    for name in options.networks:
        if not (work / name / "timed.npz").exists():
            _say(f"{name}: weights, inputs and float32 results")
            create(name, screens, work / name)
    counts = f"{len(screens.calibration)} for calibration, {len(screens.test)} others for errors"
    report = Report(
        cpu=cpu_name(),
        versions={},
        clock=options.clock,
        pictures=f"{'Screenshots' if options.screens else 'Drawn screens'}: {counts}",
        titles={name: SPECS[name].title for name in options.networks},
        parts=ENCODER_PARTS,
        whole="encoder",
    )
    pythons = {
        peer: os.environ.get(f"KEYPILOT_BENCH_PYTHON_{peer.upper()}", sys.executable) for peer in options.peers
    } | dict(options.python)
    prepared = [row for peer in options.peers for row in _prepare(peer, pythons[peer], options, work, report)]
    for name in options.networks:
        rows = [row for row in prepared if row.network == name]
        report.results += rows
        _measure(name, rows, options, work)
        _write(options, report)
    report.results += [row for row in prepared if row.network not in options.networks]
    _write(options, report)
    print(report.to_markdown())
    return 0


def _prepare(peer: str, python: str, options: argparse.Namespace, work: Path, report: Report) -> list[Result]:
    """Makes an engine's files for every network: a row for each variant, with an error where that failed."""
    process = prepare_process(python, peer)
    try:
        about = process.answer(LOAD_TIMEOUT)
    except EngineError as error:
        process.close()
        return [Result("all", peer, peer, "", str(error))]
    report.versions[about["title"]] = about["version"]
    rows = []
    for name in options.networks:
        for variant in about["variants"][SPECS[name].kind]:
            if f"{peer}:{variant}" in options.skip:
                continue
            row = Result(name, peer, about["title"], variant)
            rows.append(row)
            folder = work / name / f"{peer}-{variant}"
            if not folder.exists():
                _say(f"{name}: {row.label}")
                try:
                    _make(process, work / name, variant, folder)
                except EngineError as error:
                    row.error = f"conversion: {error}"
                    process.close()
                    process = prepare_process(python, peer)
                    process.answer(LOAD_TIMEOUT)
                    continue
            row.file_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    process.close()
    return rows


def _make(process: Process, network: Path, variant: str, folder: Path) -> None:
    """Has the engine write to `folder`, which exists only where that went well."""
    import json

    with tempfile.TemporaryDirectory(dir=network) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        process.send(json.dumps({"network": str(network), "variant": variant, "folder": str(made)}))
        process.answer(PREPARE_TIMEOUT)
        shutil.move(made, folder)


def _measure(name: str, rows: list[Result], options: argparse.Namespace, work: Path) -> None:
    """Fills in the rows of one network."""
    rows = [row for row in rows if not row.error]
    for threads in options.threads:
        _say(f"{name}: {threads} thread(s)")
        runners: dict[str, Process] = {}
        by_label = {row.label: row for row in rows}
        try:
            for label, row in by_label.items():
                runner = runner_process(
                    row.peer, _folder(work, row), threads, work / name / "arrays.npz", work / "inductor"
                )
                try:
                    runner.answer(LOAD_TIMEOUT)
                    if row.sqnr_db is None:
                        row.sqnr_db = _sqnr(runner, work / name)
                except EngineError as error:
                    row.thread_errors[threads] = str(error)
                    runner.close()
                    continue
                runner.pause()
                runners[label] = runner
            timings, failures = interleaved(runners, rounds=options.rounds, budget=options.budget, clock=options.clock)
            for label, timing in timings.items():
                by_label[label].timings[threads] = timing
            for label, reason in failures.items():
                by_label[label].thread_errors[threads] = reason
        finally:
            for runner in runners.values():
                runner.close()
    for row in rows:
        if options.starts and row.timings:
            _say(f"{name}: start of {row.label}")
            repeats = 1 if row.variant == "fp32-compiled" else options.starts
            try:
                row.start = cold_start(
                    row.peer, _folder(work, row), work / name / "timed.npz", repeats=repeats, clock=options.clock
                )
            except EngineError as error:
                row.thread_errors[1] = f"cold start: {error}"


def _folder(work: Path, row: Result) -> Path:
    return work / row.network / f"{row.peer}-{row.variant}"


def _sqnr(runner: Process, network: Path) -> list[float]:
    """Of each output, over all test inputs."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "results.npz"
        runner.send(f"results {path}")
        runner.answer(TURN_TIMEOUT)
        expected: dict[str, list[Array]] = {}
        got: dict[str, list[Array]] = {}
        with np.load(network / "arrays.npz") as arrays, np.load(path) as results:
            for key in arrays.files:
                kind, index, output = key.split("/")
                if kind != "reference":
                    continue
                if f"{index}/{output}" not in results or results[f"{index}/{output}"].size != arrays[key].size:
                    raise EngineError(f"output {output}: expected {arrays[key].shape}")
                expected.setdefault(output, []).append(arrays[key].ravel())
                got.setdefault(output, []).append(results[f"{index}/{output}"].ravel())
    return [difference(np.concatenate(expected[i]), np.concatenate(got[i])).sqnr_db for i in expected]


def _write(options: argparse.Namespace, report: Report) -> None:
    if options.json:
        options.json.write_text(report.to_json() + "\n")
    if options.markdown:
        options.markdown.write_text(report.to_markdown())


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
