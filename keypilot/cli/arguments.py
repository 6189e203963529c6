"""Arguments that several commands have."""

from __future__ import annotations

import argparse

from keypilot.cache import PRECISIONS


def add_precision(parser: argparse.ArgumentParser) -> None:
    """``--precision``, of a preset; a model file has its own."""
    parser.add_argument("--precision", choices=PRECISIONS, help="of a preset (default: int8); a file has its own")
