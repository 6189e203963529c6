"""Fixtures that several files share."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_files import write_encoder


@pytest.fixture(scope="session")
def encoder_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small encoder's model file, made without PyTorch."""
    return write_encoder(tmp_path_factory.mktemp("encoder") / "encoder.gguf")


@pytest.fixture(scope="session")
def base_file() -> Path:
    """The model file of `keypilot-base`, from the user's cache, where it is made if need be."""
    from keypilot.cache import preset_model

    return preset_model("keypilot-base")
