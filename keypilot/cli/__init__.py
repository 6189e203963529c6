"""The command line, one module a command.

A command's module has ``add_parser(commands)``, which adds its arguments, and ``run(args) -> int``, which gives the
exit code: 0, or 1 where a check failed. Wrong usage, and input that cannot be used, exit with 2 and one line on
standard error.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from keypilot.errors import KeyPilotError

#: Modules of this package, in the order of ``keypilot --help``.
COMMANDS = ("encode", "compile", "inspect", "parity", "compare", "digest", "bench")

USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    args = _parser().parse_args(arguments)
    try:
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyPilotError, OSError) as error:
        print(f"keypilot {args.command}: error: {_one_line(error)}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return 130


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return " ".join(str(error).split())


class _Parser(argparse.ArgumentParser):
    """An error is one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message}\n")


def _parser() -> argparse.ArgumentParser:
    from keypilot import __version__

    parser = _Parser(
        prog="keypilot",
        description="The KeyPilot vision-language encoder.",
        epilog="Exit codes: 0, 1 (a check failed), 2 (usage).",
    )
    parser.add_argument("--version", action="version", version=f"keypilot {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"keypilot.cli.{name}")
        module.add_parser(commands)
    return parser
