"""The README's Python examples run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra `torch`")

ROOT = Path(__file__).parents[1]


def test_the_python_examples_run_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(examples) >= 2
    names: dict[str, Any] = {}
    for example in examples:
        exec(compile(example, "README.md", "exec"), names)
    assert names["out"].context.shape == (256,)
    assert names["report"].ok
    assert names["report"].first_divergence is None
    assert names["taps"]["1"].shape == (1, 8, 6, 6)


def test_every_preset_of_the_readme_exists() -> None:
    from keypilot.reference.config import PRESETS

    named = set(re.findall(r"`(keypilot-[a-z-]+)`", (ROOT / "README.md").read_text()))
    assert named == set(PRESETS)
