"""Digests: a hash for every tensor of a run, to show that two machines computed the same bytes, or where they part.

The core writes the text (docs/digest.md); this module asks for it, reads it and compares it.
"""

from __future__ import annotations

import dataclasses
import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keypilot import _core
from keypilot.errors import ArgumentError

if TYPE_CHECKING:
    from keypilot.encoder import Encoder
    from keypilot.model import Model

_FORMAT = "keypilot-digest 1"

#: Lines of the header, in their order. Those of the machine say where a digest was made.
MACHINE = ("version", "isa", "threads")
_HEADER = (*MACHINE, "model", "precision", "file")


@dataclasses.dataclass(frozen=True)
class HashedTensor:
    """One tensor of a run.

    Attributes
    ----------
    program : the program, or ``"pipeline"`` for what lies between an encoder's programs.
    name : the name of its value in the model file; that of the port, where `operator` is ``"output"``.
    operator : what made it, as ``"conv2d"``; ``"input"`` and ``"output"`` for the program's own.
    dtype : ``"f32"``, ``"i32"``, ``"bool"``, ``"u8"`` or ``"i8"``, as stored: int8 values are not dequantised.
    shape : in memory order; where `hashes` has several, of one item of the batch.
    inputs : the names of the tensors and weights that the operator read.
    hashes : of its bytes, for each item of the batch: XXH64, 16 hexadecimal digits.
    """

    program: str
    name: str
    operator: str
    dtype: str
    shape: tuple[int, ...]
    inputs: tuple[str, ...]
    hashes: tuple[str, ...]

    @property
    def path(self) -> str:
        """``"program/name"``."""
        return f"{self.program}/{self.name}"


@dataclasses.dataclass(frozen=True)
class HashedRun:
    """One run of a program, or one picture and text through an encoder.

    Attributes
    ----------
    title : ``"run <program>"``, or ``"encode ..."`` with the hashes of the picture and of the text.
    tensors : in execution order.
    """

    title: str
    tensors: tuple[HashedTensor, ...]


@dataclasses.dataclass(frozen=True)
class Divergence:
    """Where two digests part.

    Attributes
    ----------
    run : the run's position.
    index : the position, in that run, of the first tensor that differs.
    item : which item of the batch, of those that differ the first.
    tensor, other : the tensor in either digest.
    equal_inputs : those of its inputs that are tensors of the digest; all of them are equal, so that the operator
        itself, or a weight, makes the difference.
    weights : its other inputs.
    differing : how many of the tensors differ, in all runs.
    total : how many tensors there are.
    """

    run: int
    index: int
    item: int
    tensor: HashedTensor
    other: HashedTensor
    equal_inputs: tuple[str, ...]
    weights: tuple[str, ...]
    differing: int
    total: int


@dataclasses.dataclass(frozen=True)
class Digest:
    """What a digest says.

    Attributes
    ----------
    text : the whole digest, as the core wrote it.
    header : the lines above the first run, as ``{"isa": "avx512vnni", "threads": "2", ...}``.
    runs : in the order in which they ran.
    """

    text: str
    header: dict[str, str]
    runs: tuple[HashedRun, ...]

    @classmethod
    def parse(cls, text: str, source: str = "digest") -> Digest:
        """Reads a digest's text; `source` is for messages.

        Raises
        ------
        ArgumentError : it is none, it is cut short, or its format version is unknown.
        """
        return _Parser(text, source).parse()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Digest:
        """Reads a digest from a file; see `parse`."""
        return cls.parse(Path(path).read_bytes().decode("utf-8", "replace"), os.fspath(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the digest to a file."""
        Path(path).write_bytes(self.text.encode())

    def header_differences(self, other: Digest) -> dict[str, tuple[str, str]]:
        """The lines of the header that differ: key -> (here, there)."""
        return {key: (self.header[key], other.header[key]) for key in _HEADER if self.header[key] != other.header[key]}

    def diff(self, other: Digest, *, same_model: bool = True) -> Divergence | None:
        """The first tensor, in execution order, whose bytes differ; None where all are equal.

        The lines that say where a digest was made (version, ISA, threads) are not compared; see `header_differences`.

        Parameters
        ----------
        same_model : False: model files that differ in their weights alone may be compared.

        Raises
        ------
        ArgumentError : the digests are of different models, pictures, texts or runs.
        """
        _check_comparable(self, other, same_model)
        found = [
            (i, j)
            for i, (run, there) in enumerate(zip(self.runs, other.runs, strict=True))
            for j, (tensor, twin) in enumerate(zip(run.tensors, there.tensors, strict=True))
            if tensor.hashes != twin.hashes
        ]
        if not found:
            return None
        run, index = found[0]
        tensor, twin = self.runs[run].tensors[index], other.runs[run].tensors[index]
        item = next(i for i, pair in enumerate(zip(tensor.hashes, twin.hashes, strict=True)) if pair[0] != pair[1])
        known = {t.path for t in self.runs[run].tensors[:index]}
        made = [name in known or f"{tensor.program}/{name}" in known for name in tensor.inputs]
        return Divergence(
            run,
            index,
            item,
            tensor,
            twin,
            tuple(name for name, is_made in zip(tensor.inputs, made, strict=True) if is_made),
            tuple(name for name, is_made in zip(tensor.inputs, made, strict=True) if not is_made),
            len(found),
            sum(len(run.tensors) for run in self.runs),
        )

    def as_dict(self) -> dict[str, Any]:
        """The digest as plain data."""
        return {**self.header, "runs": [dataclasses.asdict(run) for run in self.runs]}


def digest(model: Model | Encoder, /, *args: Any, **inputs: Any) -> Digest:
    """Runs a model and hashes every tensor on the way.

    Parameters
    ----------
    model : an encoder, with the arguments of `Encoder.encode`; or a model, with those of `Model.run` (first a program's
        name), or, where it has one program, of the model's own call.

    Returns
    -------
    Digest : with one run, or one for each picture of an encoder's batch. A batch of a model is one run, in which each
        tensor has a hash for each item; they are those that the item alone would have.

    Raises
    ------
    ArgumentError, ShapeError, OSError : as those calls.

    Examples
    --------
    >>> here = keypilot.digest(encoder, "screen.png", text="see you at")
    >>> there = keypilot.Digest.load("phone.digest")
    >>> here.diff(there) is None
    True
    """
    from keypilot.encoder import Encoder
    from keypilot.model import Model

    shared = model.model if isinstance(model, Encoder) else model
    session = _core.Session(shared._core, shared.threads)
    alone = Model(shared._core, threads=shared.threads)
    alone._free_sessions.append(session)  # the only one, as nobody else has `alone`
    session.start_digest()
    if isinstance(model, Encoder):
        Encoder(alone).encode(*args, **inputs)
    elif args and isinstance(args[0], str):
        alone.run(*args, **inputs)
    else:
        alone(*args, **inputs)
    return Digest.parse(session.take_digest().decode("ascii"))


def _check_comparable(here: Digest, there: Digest, same_model: bool) -> None:
    def expect(what: str, one: str, two: str) -> None:
        if one != two:
            raise ArgumentError(f"the digests are not of the same {what}: {one!r} and {two!r}")

    if same_model:
        for key in ("model", "precision", "file"):
            expect("model", here.header[key], there.header[key])
    expect("number of runs", str(len(here.runs)), str(len(there.runs)))
    for i, (run, other) in enumerate(zip(here.runs, there.runs, strict=True)):
        what = "pictures and texts" if run.title.startswith("encode") else "program"
        expect(f"{what} (run {i})", run.title, other.title)
        for tensor, twin in zip(run.tensors, other.tensors, strict=False):
            expect(f"graph (run {i})", _signature(tensor), _signature(twin))
        expect(f"number of tensors (run {i})", str(len(run.tensors)), str(len(other.tensors)))


def _signature(tensor: HashedTensor) -> str:
    """All but the hashes."""
    shape = "x".join(map(str, tensor.shape))
    return (
        f"{tensor.path}: {tensor.operator} of {', '.join(tensor.inputs)}: {tensor.dtype} {shape}, {len(tensor.hashes)}"
    )


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source
        self._lines: Sequence[str] = text.split("\n")
        self._next = 0

    def parse(self) -> Digest:
        if self._lines[0].rstrip("\r") != _FORMAT:
            raise self._error(f"{_FORMAT!r}", self._lines[0])
        self._next = 1
        header = {key: self._field(key) for key in _HEADER}
        header["model"] = _unescaped(header["model"])
        runs = []
        while self._line() == "" and self._next < len(self._lines):
            runs.append(self._run())
        if self._next < len(self._lines):
            raise self._error("an empty line between runs", self._lines[self._next - 1])
        return Digest(self._text, header, tuple(runs))

    def _line(self) -> str:
        """The next line; past the end, an empty one."""
        self._next += 1
        return self._lines[self._next - 1] if self._next <= len(self._lines) else ""

    def _field(self, key: str) -> str:
        line = self._line()
        name, _, value = line.partition(" ")
        if name != key or not value:
            raise self._error(f"'{key} ...'", line)
        return value

    def _run(self) -> HashedRun:
        title = self._line()
        if not title.startswith(("run ", "encode ")):
            raise self._error("'run ...' or 'encode ...'", title)
        tensors: list[HashedTensor] = []
        while not (line := self._line()).startswith("end "):
            if not line:
                raise ArgumentError(f"{self._source}: line {self._next}: the run '{title[:40]}' is cut short")
            tensors.append(self._tensor(line, len(tensors)))
        if line != f"end {len(tensors)}":
            raise self._error(f"'end {len(tensors)}'", line)
        return HashedRun(title, tuple(tensors))

    def _tensor(self, line: str, index: int) -> HashedTensor:
        words = line.split(" ")
        if len(words) < 8 or words[0] != str(index) or not all(map(_is_hash, words[7:])):
            raise self._error(f"tensor {index}: 'index program name operator dtype shape inputs hash ...'", line)
        _, program, name, operator, dtype, shape, inputs, *hashes = words
        try:
            sizes = () if shape == "scalar" else tuple(map(int, shape.split("x")))
        except ValueError:
            raise self._error("a shape as 1x128x128x16", shape) from None
        names = () if inputs == "-" else tuple(map(_unescaped, inputs.split(",")))
        return HashedTensor(program, _unescaped(name), operator, dtype, sizes, names, tuple(hashes))

    def _error(self, expected: str, got: str) -> ArgumentError:
        return ArgumentError(f"{self._source}: line {max(1, self._next)}: expected {expected}, got {got[:80]!r}")


def _is_hash(word: str) -> bool:
    return len(word) == 16 and set(word) <= set("0123456789abcdef")


def _unescaped(name: str) -> str:
    return urllib.parse.unquote(name)
