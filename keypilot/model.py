"""A model file: its programs, weights and metadata, and runs with NumPy arrays in and out."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import functools
import os
import threading
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keypilot import _core, _openblas
from keypilot.errors import ArgumentError
from keypilot.settings import resolve_isa, resolve_threads

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

#: For each program, a byte for each of its taps: not 0 where the tensor is recorded.
_TapMasks = Sequence[bytes]


@dataclasses.dataclass(frozen=True)
class Port:
    """A tensor that goes in, comes out or can be tapped.

    Attributes
    ----------
    name : a parameter's name for inputs; else a PyTorch module path or an output's name.
    dtype : its NumPy dtype.
    shape : in PyTorch's order; a dimension that depends on the batch N or the number of text tokens T is text, as
        ``"4N"``.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]


@dataclasses.dataclass(frozen=True)
class Program:
    """One graph of a model: its ports."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    taps: tuple[Port, ...]


@dataclasses.dataclass(frozen=True)
class OpCost:
    """One operator of a program, in execution order.

    Attributes
    ----------
    type : as ``"conv2d"``.
    output : the name of the tensor that it computes.
    macs : multiply-accumulates.
    output_bytes : the size of that tensor.
    """

    type: str
    output: str
    macs: int
    output_bytes: int


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a run costs.

    Attributes
    ----------
    arena_bytes : tensors and scratch at their peak; weights are not counted.
    macs : multiply-accumulates of convolutions, linear layers, matmuls and attention.
    ops : the operators that run a kernel.
    """

    arena_bytes: int
    macs: int
    ops: tuple[OpCost, ...]


class Taps(Mapping[str, "Array"]):
    """Recorded tensors by PyTorch module path, in execution order; the last run's where there were several.

    ``taps["program/path"]`` always finds a tensor, ``taps["path"]`` where only one program recorded that path.
    Iteration gives the short key where it is enough.
    """

    def __init__(self, masks: _TapMasks) -> None:
        self._masks = masks
        self._records: dict[tuple[str, str], Array] = {}

    def __getitem__(self, key: str) -> Array:
        program, _, path = key.partition("/")
        if (program, path) in self._records:
            return self._records[program, path]
        found = [record for record in self._records if record[1] == key]
        if len(found) == 1:
            return self._records[found[0]]
        if found:
            raise KeyError(f"{key}: recorded by several programs, expected one of {['/'.join(f) for f in found]}")
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        programs: dict[str, int] = {}
        for _, path in self._records:
            programs[path] = programs.get(path, 0) + 1
        for program, path in self._records:
            yield path if programs[path] == 1 else f"{program}/{path}"

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"Taps({', '.join(self)})"

    def _add(self, program: str, path: str, array: Array) -> None:
        self._records.pop((program, path), None)
        self._records[program, path] = array


class Metadata(Mapping[str, Any]):
    """The key-values of a model file; a value is read when it is asked for."""

    def __init__(self, core: _core.Model) -> None:
        self._core = core

    def __getitem__(self, key: str) -> Any:
        return self._core.metadata(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._core.metadata_keys)

    def __len__(self) -> int:
        return len(self._core.metadata_keys)


class Model:
    """A compiled model. Immutable; several threads may run one model at once, and each gets what it would get alone."""

    def __init__(self, core: _core.Model, *, threads: int | None = None) -> None:
        if core.metadata("keypilot.precision") == "fp32":
            _openblas.load()
        self._core = core
        self.threads = resolve_threads(threads)
        self._free_sessions: list[_core.Session] = []
        self._local = threading.local()

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int | None = None, isa: str | None = None) -> Model:
        """Opens a model file.

        Parameters
        ----------
        path : a file that `keypilot.compile` wrote.
        threads : threads of one run; None: ``KEYPILOT_THREADS``, else the processors at hand, at most 4.
        isa : the highest instruction-set level to use, as ``"avx2"``; None: ``KEYPILOT_ISA``, else the processor's.

        Raises
        ------
        OSError : the file cannot be read.
        ModelFileError : it is damaged, or is not a KeyPilot model; `VersionError` where its version is unknown.
        ArgumentError : `threads` or `isa` is outside its domain.
        """
        os.stat(path)  # FileNotFoundError, with the path
        return cls(_core.Model.open(os.fspath(path), isa=resolve_isa(isa)), threads=threads)

    @classmethod
    def from_bytes(cls, data: bytes, *, threads: int | None = None, isa: str | None = None) -> Model:
        """As `load`, from a model file's content, which is copied."""
        return cls(_core.Model.from_bytes(data, isa=resolve_isa(isa)), threads=threads)

    def with_threads(self, threads: int) -> Model:
        """The same model, sharing its memory, for runs with another number of threads."""
        return Model(self._core, threads=threads)

    def __repr__(self) -> str:
        name = self.metadata.get("general.name", "unnamed")
        return f"<keypilot.Model {name}: {', '.join(self.programs)}; {self.isa}, {self.threads} threads>"

    # ---- What the file holds ----

    @property
    def isa(self) -> str:
        """The highest instruction-set level in use."""
        return self._core.isa

    @property
    def file_bytes(self) -> int:
        """The size of the model file."""
        return self._core.file_bytes

    @functools.cached_property
    def programs(self) -> Mapping[str, Program]:
        """Name -> `Program`, in the file's order."""
        return types.MappingProxyType(
            {
                name: Program(
                    name,
                    *(tuple(Port(*port) for port in self._core.ports(i, kind)) for kind in ("input", "output", "tap")),
                )
                for i, name in enumerate(self._core.programs)
            }
        )

    @functools.cached_property
    def weights(self) -> Mapping[str, Array]:
        """PyTorch module path -> read-only view of the weight, as stored (see docs/model-file.md).

        A view keeps the model's memory alive.
        """
        return types.MappingProxyType(self._core.weights())

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The file's key-values, as ``model.metadata["general.name"]``."""
        return Metadata(self._core)

    # ---- Runs ----

    def run(self, program: str, /, **inputs: npt.ArrayLike) -> dict[str, Array]:
        """Runs a program.

        Parameters
        ----------
        program : its name.
        inputs : each of its inputs, by name, in PyTorch's shapes. Real numbers become float32, and integers int32
            where they fit; an array that lies in memory as the program reads it is not copied.

        Returns
        -------
        dict : output name -> a fresh array in PyTorch's shape.

        Raises
        ------
        ArgumentError : no such program, wrong input names, a number that is not finite or an integer that does not fit.
        ShapeError : an input's shape or dtype is not what the program takes.
        """
        index = self._program_index(program)
        with self._session() as session:
            outputs, record = session.run(index, inputs, self._tap_masks())
        self._deliver(record)
        return outputs

    def __call__(self, *args: npt.ArrayLike, **inputs: npt.ArrayLike) -> Array | dict[str, Array]:
        """Runs the program of a model that has one, with inputs in order or by name.

        Returns the output where there is one, and else a dict by name; see `run` for the rest.
        """
        if len(self.programs) != 1:
            raise ArgumentError(
                f"a model with several programs is run with run(program, ...): {', '.join(self.programs)}"
            )
        (program,) = self.programs.values()
        names = [port.name for port in program.inputs]
        if len(args) > len(names):
            raise ArgumentError(
                f"program '{program.name}': expected {len(names)} inputs ({', '.join(names)}), got {len(args)}"
            )
        given = dict(zip(names, args))  # noqa: B905 (fewer args than names: the rest come by name)
        if twice := given.keys() & inputs.keys():
            raise ArgumentError(f"program '{program.name}': got the input '{min(twice)}' twice")
        outputs = self.run(program.name, **given, **inputs)
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    @contextlib.contextmanager
    def tap(self, *patterns: str) -> Iterator[Taps]:
        """Records tensors inside the runs that this thread makes on this model within the block.

        Parameters
        ----------
        patterns : shell-style patterns of PyTorch module paths, as ``"stages.2.*"``, or of ``"program/path"``. None:
            every tensor that the file keeps the name of.

        Yields
        ------
        Taps : a mapping that is filled by the runs.

        Raises
        ------
        ArgumentError : a pattern matches no tensor of the model.

        Examples
        --------
        >>> with model.tap("backbone.stages_2.*") as taps:
        ...     model.run("screen", image=image)
        >>> taps["backbone.stages_2.0"].shape
        """
        taps = Taps(self._masks_of(patterns or ("*",)))
        active = self._active_taps()
        active.append(taps)
        try:
            yield taps
        finally:
            active.pop()

    def tokenize(self, text: str | bytes) -> npt.NDArray[np.int32]:
        """Token ids, with special tokens and truncation, of text or UTF-8 bytes; what is not UTF-8 becomes U+FFFD.

        Raises
        ------
        UnsupportedError : the model has no tokenizer.
        """
        return self._core.tokenize(utf8(text))

    def cost(self, program: str, n: int = 1, t: int | None = None) -> Cost:
        """What a run of `program` on a batch of `n` with `t` text tokens costs; None: the longest text."""
        if t is None:
            t = self.metadata.get("keypilot.tokenizer.max_tokens", 1)
        with self._session() as session:
            arena_bytes, macs, ops = session.cost(self._program_index(program), n, t)
        return Cost(arena_bytes, macs, tuple(OpCost(*op) for op in ops))

    # ---- Sessions and taps ----

    @contextlib.contextmanager
    def _session(self) -> Iterator[_core.Session]:
        """A session that nobody else has until the block ends. List operations are atomic: no lock is shared."""
        try:
            session = self._free_sessions.pop()
        except IndexError:
            session = _core.Session(self._core, self.threads)
        try:
            yield session
        finally:
            self._free_sessions.append(session)

    def _encode(self, image: Array, text: bytes, user: int | Array | None) -> dict[str, Any]:
        """The encoder's pipeline on one picture; see `keypilot.Encoder`."""
        with self._session() as session:
            fields, record = session.encode(image, text, user, self._tap_masks())
        self._deliver(record)
        return fields

    def _program_index(self, program: str) -> int:
        try:
            return self._core.programs.index(program)
        except ValueError:
            raise ArgumentError(f"program: expected one of {', '.join(self.programs)}, got {program!r}") from None

    def _active_taps(self) -> list[Taps]:
        """This thread's, outermost first."""
        if not hasattr(self._local, "taps"):
            self._local.taps = []
        active: list[Taps] = self._local.taps
        return active

    def _masks_of(self, patterns: Sequence[str]) -> list[bytes]:
        matched: set[str] = set()
        masks = []
        for program in self.programs.values():
            mask = bytearray(len(program.taps))
            for i, port in enumerate(program.taps):
                for pattern in patterns:
                    if fnmatch.fnmatchcase(port.name, pattern) or fnmatch.fnmatchcase(
                        f"{program.name}/{port.name}", pattern
                    ):
                        matched.add(pattern)
                        mask[i] = 1
            masks.append(bytes(mask))
        for pattern in patterns:
            if pattern not in matched and pattern != "*":
                raise ArgumentError(f"tap: no tensor of the model matches {pattern!r}{self._tap_examples()}")
        return masks

    def _tap_examples(self) -> str:
        names = [port.name for program in self.programs.values() for port in program.taps]
        return f"; there are {len(names)}, as {', '.join(map(repr, names[:3]))}" if names else "; it keeps no names"

    def _tap_masks(self) -> _TapMasks | None:
        """What every active tap wants, together."""
        active = self._active_taps()
        if not active:
            return None
        return [
            bytes(map(max, zip(*masks, strict=True))) for masks in zip(*(taps._masks for taps in active), strict=True)
        ]

    def _deliver(self, record: Sequence[tuple[int, int, Array]]) -> None:
        programs = list(self.programs.values())
        for program, tap, array in record:
            for taps in self._active_taps():
                if taps._masks[program][tap]:
                    taps._add(programs[program].name, programs[program].taps[tap].name, array)


def utf8(text: str | bytes) -> bytes:
    """UTF-8 bytes of text; a lone surrogate becomes bytes that are not UTF-8, and so U+FFFD in the core."""
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)
