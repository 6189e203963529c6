"""Arguments that several commands have."""

from __future__ import annotations

import argparse

from keypilot.cache import PRECISIONS

#: What stands for a configuration: `keypilot.reference.config.resolve_config`.
CONFIG_HELP = "a preset, as keypilot-base, or one with changes, as keypilot-base:text=bert_tiny, or a JSON file"


def add_precision(parser: argparse.ArgumentParser) -> None:
    """``--precision``, of a configuration; a model file has its own."""
    parser.add_argument(
        "--precision", choices=PRECISIONS, help="of a configuration (default: int8); a file has its own"
    )
