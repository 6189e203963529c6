"""Real sentences: what the docstrings of the standard library say."""

from __future__ import annotations

import ast
import re
import sysconfig
from pathlib import Path

_MODULES = (
    "argparse", "ast", "calendar", "collections/__init__", "configparser", "contextlib", "csv", "datetime",
    "decimal", "difflib", "email/message", "enum", "fractions", "functools", "gzip", "heapq", "http/client",
    "inspect", "ipaddress", "locale", "logging/__init__", "mailbox", "os", "pathlib", "pickle", "platform",
    "random", "shutil", "smtplib", "socket", "statistics", "string", "subprocess", "tarfile", "tempfile",
    "textwrap", "threading", "tokenize", "typing", "unittest/case", "urllib/request", "uuid", "wave", "weakref",
    "xml/dom/minidom", "zipfile",
)  # fmt: skip


def sentences(count: int) -> list[str]:
    """The first sentence of docstrings, of 4 to 40 words, each once, from as many modules as it takes."""
    library = Path(sysconfig.get_paths()["stdlib"])
    found: dict[str, None] = {}
    for name in _MODULES:
        path = library / f"{name}.py"
        if not path.is_file():  # a package in some versions of Python
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                text = " ".join((ast.get_docstring(node) or "").split())
                first = re.split(r"(?<=[.!?]) ", text)[0]
                if 4 <= len(first.split()) <= 40:
                    found[first] = None
    chosen = list(found)
    assert len(chosen) >= count, f"the standard library has {len(chosen)} sentences"
    step = len(chosen) / count
    return [chosen[int(index * step)] for index in range(count)]
