"""What an installed package is: quick to import, without PyTorch; OpenBLAS is found where a model needs it."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import textwrap
import venv
import zipfile
from pathlib import Path

import pytest

import keypilot
from keypilot import _core

ROOT = Path(__file__).parent.parent


def python(code: str, executable: str = sys.executable, cwd: Path | None = None) -> str:
    """Runs code in a fresh interpreter and returns what it prints."""
    result = subprocess.run(
        [executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=cwd, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_version_is_one() -> None:
    project = re.search(r"project\(keypilot VERSION (\S+)", (ROOT / "csrc" / "CMakeLists.txt").read_text())
    assert project is not None
    assert keypilot.__version__ == _core.version() == project[1]


def test_import_loads_nothing_that_it_does_not_need() -> None:
    loaded = python("import sys, keypilot; print(*sys.modules)").split()
    heavy = {
        "torch",
        "timm",
        "transformers",
        "tokenizers",
        "gguf",
        "PIL",
        "tqdm",
        "keypilot.convert",
        "keypilot.compare",
    }
    assert not heavy & set(loaded)


def test_import_is_quick() -> None:
    code = "import time, numpy; start = time.perf_counter(); import keypilot; print(time.perf_counter() - start)"
    assert min(float(python(code)) for _ in range(5)) < 0.3


def test_public_names_exist_and_are_listed() -> None:
    assert keypilot.__all__ == sorted(keypilot.__all__)
    for name in keypilot.__all__:
        assert getattr(keypilot, name).__doc__
    with pytest.raises(AttributeError, match="absent"):
        keypilot.absent  # noqa: B018


def test_without_openblas_an_fp32_model_says_what_to_install(encoder_file: Path) -> None:
    message = python(f"""
        import importlib.util
        find_spec = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *rest: None if name == "scipy_openblas32" else find_spec(name, *rest)
        import keypilot
        try:
            keypilot.Model.load({str(encoder_file)!r})
        except ImportError as error:
            print(error)
    """)
    assert "pip install scipy-openblas32" in message


def test_without_torch_compile_says_what_to_install() -> None:
    message = python("""
        import sys, keypilot
        sys.modules["torch"] = None
        try:
            keypilot.compile
        except keypilot.MissingDependencyError as error:
            print(error)
    """)
    assert "pip install 'keypilot[torch]'" in message


def test_the_extension_holds_no_path_of_the_machine_that_built_it() -> None:
    extension = Path(_core.__file__).read_bytes()
    for path in (str(ROOT), str(Path.home()), sys.prefix):
        assert path.encode() not in extension


@pytest.fixture(scope="module")
def source_distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    code = f"from setuptools import build_meta; print(build_meta.build_sdist({str(folder)!r}))"
    return folder / python(code, cwd=ROOT).split()[-1]


def test_a_source_distribution_holds_what_a_build_needs(source_distribution: Path) -> None:
    with tarfile.open(source_distribution) as archive:
        files = {member.partition("/")[2] for member in archive.getnames()}
    needed = {str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*") if path.suffix in {".c", ".h", ".txt"}}
    needed |= {str(path.relative_to(ROOT)) for path in (ROOT / "keypilot").rglob("*.py")}
    assert needed | {"setup.py", "pyproject.toml", "keypilot/py.typed", "keypilot/_core.pyi"} <= files
    assert not [file for file in files if file.endswith((".so", ".pyc"))]


@pytest.mark.slow
def test_a_wheel_runs_in_an_empty_environment_without_the_checkout(source_distribution: Path, tmp_path: Path) -> None:
    pip_wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path)]
    subprocess.run([*pip_wheel, str(source_distribution)], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("keypilot-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith((".c", ".h", ".a", ".o"))]
    venv.create(tmp_path / "venv", with_pip=True)
    interpreter = str(tmp_path / "venv" / "bin" / "python")
    subprocess.run([interpreter, "-m", "pip", "install", "-q", wheel], check=True)
    code = "import keypilot; print(keypilot.__file__, *keypilot.cpu_info()['detected'])"
    file, *levels = python(code, interpreter, tmp_path).split()
    assert Path(file).is_relative_to(tmp_path / "venv")
    assert tuple(levels) == _core.cpu_isa()
