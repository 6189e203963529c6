"""The parent's side of prepare.py and runner.py: one process each, orders and answers over pipes.

A runner is stopped (SIGSTOP) except in its turn, so that threads which spin after a run take nothing from the next.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

_HERE = Path(__file__).resolve().parent


class EngineError(Exception):
    """What an engine's process said went wrong, or how it died."""


class Process:
    """A child that answers each line with a line of JSON. Its standard error goes to a file of its own."""

    def __init__(self, python: str, script: str, *arguments: str, environment: Mapping[str, str]) -> None:
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed with the process)
        self._child = subprocess.Popen(
            [python, str(_HERE / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            bufsize=1,
            env={**os.environ, **environment},
        )

    def send(self, order: str) -> None:
        assert self._child.stdin is not None
        try:
            print(order, file=self._child.stdin, flush=True)
        except BrokenPipeError:
            raise EngineError(self._death()) from None

    def answer(self, timeout: float) -> dict[str, Any]:
        """The next answer, within so many seconds.

        Raises
        ------
        EngineError : the engine failed, its process died, or it took too long, and is killed.
        """
        assert self._child.stdout is not None
        if not select.select([self._child.stdout], [], [], timeout)[0]:
            self.close()
            raise EngineError(f"no answer in {timeout:.0f} s")
        line = self._child.stdout.readline()
        if not line:
            raise EngineError(self._death())
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise EngineError(message["error"])
        return message

    def pause(self) -> None:
        self._child.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._child.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends the process; nothing where it has ended."""
        self._child.kill()
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._child.wait()
        self._log.close()

    def _death(self) -> str:
        code = self._child.wait()
        self._log.seek(0)
        lines = [line.strip() for line in self._log if line.strip()]
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return f"process died ({how}): {lines[-1][:200] if lines else 'it said nothing'}"

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def prepare_process(python: str, peer: str) -> Process:
    """prepare.py for an engine. NNCF and OpenVINO send no telemetry from what says that it is CI."""
    return Process(python, "prepare.py", peer, environment={"CI": "true", "NNCF_CI": "1"})


def runner_process(peer: str, folder: Path, threads: int, arrays: Path, compiled: Path) -> Process:
    """runner.py for an engine's files; TorchInductor keeps its code in `compiled`."""
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(compiled)}
    return Process(sys.executable, "runner.py", peer, str(folder), str(threads), str(arrays), environment=environment)
