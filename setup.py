"""Builds the extension `keypilot._core` with CMake; everything else is in pyproject.toml."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
CSRC = ROOT / "csrc"


def version() -> str:
    """The version in csrc/CMakeLists.txt, the only place that has it."""
    match = re.search(r"project\(keypilot VERSION ([0-9.]+)", (CSRC / "CMakeLists.txt").read_text())
    assert match is not None
    return match[1]


class CMakeBuild(build_ext):
    """Runs CMake with this Python, its NumPy and its OpenBLAS, and puts the module where setuptools wants it."""

    def build_extension(self, ext: Extension) -> None:
        import numpy
        import scipy_openblas32

        library = next(Path(scipy_openblas32.get_lib_dir()).glob("libscipy_openblas.*"))
        build = (Path(self.build_temp) / "cmake").resolve()
        cmake = self._tool("cmake")
        configure = [
            cmake, "-S", CSRC, "-B", build, "-G", "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={self._tool('ninja')}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            "-DKP_BUILD_PYTHON=ON",
            "-DKP_WARNINGS_AS_ERRORS=OFF",
            f"-DKP_OPENBLAS_LIB={library}",
            f"-DKP_OPENBLAS_INCLUDE={scipy_openblas32.get_include_dir()}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DPython_NumPy_INCLUDE_DIR={numpy.get_include()}",
        ]  # fmt: skip
        subprocess.run([str(part) for part in configure], check=True)
        jobs = str(self.parallel or os.cpu_count() or 1)
        subprocess.run([cmake, "--build", str(build), "--target", "kp_python", "--parallel", jobs], check=True)
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        built = next(build.glob("_core*.so"))
        shutil.copyfile(built, target)
        target.chmod(0o755)

    @staticmethod
    def _tool(name: str) -> str:
        """A program that a build requirement installed: first among this Python's scripts, then on PATH."""
        found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
        if found is None:
            raise SystemExit(f"{name} is needed to build keypilot: pip install {name}")
        return found


setup(version=version(), ext_modules=[Extension("keypilot._core", sources=[])], cmdclass={"build_ext": CMakeBuild})
