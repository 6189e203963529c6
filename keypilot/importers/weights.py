"""State dicts from files, and into modules, with every tensor accounted for."""

from __future__ import annotations

import fnmatch
import json
import os
import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from keypilot.errors import ArgumentError

State = Mapping[str, torch.Tensor]

#: Endings of the files that are read.
ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")

#: Names of the file of weights in a folder, the one to use first.
_FOLDER_WEIGHTS = ("model.safetensors", "pytorch_model.bin")

#: Where training scripts put the state dict, the one to use first.
_WRAPPERS = ("state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model", "weights")

#: What parallel and compiled training puts before every key.
_PREFIXES = ("module.", "_orig_mod.")

#: Buffers that are made anew, or that only training counts.
_DERIVED = ("position_ids", "*.position_ids", "*.num_batches_tracked")

#: How many keys of a kind a message lists.
_LISTED = 12


class Checkpoint(NamedTuple):
    """A file's tensors, and the encoder's configuration as JSON where the file has one."""

    state: dict[str, torch.Tensor]
    config: str | None = None


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Reads a state dict; nothing in the file is executed.

    Parameters
    ----------
    path : a `.safetensors` file, or one that `torch.save` wrote, of tensors by name, or of a dict with these under
        one of the usual names (``state_dict``, ``model``, ``state_dict_ema``...); averaged weights are taken first.

    Raises
    ------
    OSError : the file cannot be read.
    ArgumentError : it holds no tensors by name, or other Python objects.
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise ArgumentError(f"{path}: expected weights in a file that ends in {', '.join(ENDINGS)}")
    content, config = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    wrapper = next((name for name in _WRAPPERS if isinstance(content.get(name), Mapping)), None)
    tensors = content if wrapper is None else content[wrapper]
    state = {_bare(key): value for key, value in tensors.items() if isinstance(value, torch.Tensor)}
    if not state:
        shown = ", ".join(map(str, list(content)[:_LISTED])) or "nothing"
        raise ArgumentError(
            f"{path}: expected tensors by name, or a dict of them under one of {', '.join(_WRAPPERS)}; got {shown}"
        )
    return Checkpoint(state, config)


def _safetensors(path: Path) -> tuple[dict[str, Any], str | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, (file.metadata() or {}).get("config")  # noqa: SIM118
    except SafetensorError as error:
        raise ArgumentError(f"{path}: expected a safetensors file: {error}") from error


def _pickled(path: Path) -> tuple[dict[str, Any], str | None]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ArgumentError(
            f"{path}: expected a state dict of tensors alone, as torch.save(model.state_dict(), ...) writes; the file "
            "is damaged, or holds other Python objects, which are not loaded since they could run code"
        ) from error
    except (RuntimeError, EOFError) as error:
        raise ArgumentError(f"{path}: expected a file of torch.save: {str(error).splitlines()[0]}") from error
    if not isinstance(content, Mapping):
        raise ArgumentError(f"{path}: expected a dict of tensors by name, got {type(content).__name__}")
    config = content.get("config")
    if isinstance(config, Mapping):
        config = json.dumps(config)
    return dict(content), config if isinstance(config, str) else None


def weights_in(folder: Path) -> Path:
    """The file of weights in a folder of Hugging Face's hub.

    Raises
    ------
    ArgumentError : there is none.
    """
    found = [folder / name for name in _FOLDER_WEIGHTS if (folder / name).is_file()]
    if not found:
        raise ArgumentError(f"{folder}: expected weights in {' or '.join(_FOLDER_WEIGHTS)}, got none")
    return found[0]


def _bare(key: str) -> str:
    while prefix := next((prefix for prefix in _PREFIXES if key.startswith(prefix)), None):
        key = key.removeprefix(prefix)
    return key


def below(state: State, prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose keys start with `prefix`, under the rest of their keys."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def load_state(
    module: nn.Module,
    state: State,
    *,
    source: str,
    network: str,
    kept: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> list[str]:
    """Copies `state` into `module`.

    Parameters
    ----------
    source : where the state comes from, for messages.
    network : what the module is, for messages.
    kept : shell-style patterns of the module's tensors that stay as they are where the state lacks them.
    left_out : patterns of the state's tensors that the module may lack.

    Returns
    -------
    list : the state's tensors that the module lacks.

    Raises
    ------
    ArgumentError : a tensor is missing, is unexpected or has another shape; the message lists them.
    """
    own = module.state_dict()
    wrong = {key: value for key, value in state.items() if key in own and own[key].shape != value.shape}
    missing = [key for key in own if key not in state and not _matches(key, (*kept, *_DERIVED))]
    extra = [key for key in state if key not in own and not _matches(key, _DERIVED)]
    unexpected = [key for key in extra if not _matches(key, left_out)]
    if missing or unexpected or wrong:
        shapes = [f"{key} (expected {_shape(own[key])}, got {_shape(value)})" for key, value in wrong.items()]
        found = counted({"missing": missing, "unexpected": unexpected, "of another shape": shapes})
        raise ArgumentError(f"{source}: not the weights of {network}, which has {len(own)} tensors; {found}")
    with torch.no_grad():
        for key in own.keys() & state.keys():
            own[key].copy_(state[key])
    return extra


def _matches(key: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def listed(keys: Sequence[str]) -> str:
    """The first keys, and how many more there are."""
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return ", ".join(keys[:_LISTED]) + more


def counted(kinds: Mapping[str, Sequence[str]]) -> str:
    """How many keys there are of each kind, and the first of them; of kinds that have any."""
    return "; ".join(f"{len(keys)} {kind}: {listed(keys)}" for kind, keys in kinds.items() if keys)
