"""A process that makes one engine's files: `python prepare.py PEER`, a request and an answer a line, as JSON.

Request: ``{"network": FOLDER, "variant": V, "folder": F}``. Answer: ``{}``, or ``{"error": REASON}``. The first line
that it writes is ``{"variants": {KIND: [...]}, "version": V}``, or an error where the engine is not installed.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    # Engines print to standard output what they please: only answers go there.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    import peers

    peer = peers.peer(sys.argv[1])
    try:
        version = peer.version()
    except ImportError as error:
        answer({"error": f"not installed: {error}"})
        return 0
    kinds = ("picture", "tokens", "pipeline")
    answer({"title": peer.TITLE, "version": version, "variants": {kind: peer.variants(kind) for kind in kinds}})

    import torch
    from networks import open_network

    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        folder = Path(request["folder"])
        try:
            with contextlib.redirect_stdout(sys.stderr):
                peer.prepare(open_network(Path(request["network"])), request["variant"], folder)
            answer({})
        except Exception as error:  # whatever goes wrong in an engine is a result
            answer({"error": describe(error)})
    return 0


def describe(error: BaseException) -> str:
    """An exception in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


if __name__ == "__main__":
    sys.exit(main())
