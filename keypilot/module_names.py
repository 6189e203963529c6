"""One rule for naming the outputs of a module's submodules, for conversion and for comparison."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree


@contextlib.contextmanager
def name_module_outputs(module: nn.Module, fn: Callable[[str, torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """While active, every tensor that a submodule of `module` gives goes through ``fn(name, tensor) -> tensor``.

    The name is the submodule's path; for a tuple, list, dict or dataclass of tensors, the path and the key of each
    ("encoder.0", "encoder.last_hidden_state"). A name that a forward pass meets again, as when a module is called
    twice, gets "#2", "#3", and so on. `module` itself has no name: its outputs are the program's.

    A later in-place operation changes the tensor that `fn` saw, so that `fn` copies what it keeps.
    """
    counts: dict[str, int] = {}

    def unique(name: str) -> str:
        counts[name] = counts.get(name, 0) + 1
        return name if counts[name] == 1 else f"{name}#{counts[name]}"

    def hook_of(path: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            leaves, spec = pytree.tree_flatten_with_path(output)
            named = [
                fn(unique(".".join([path, *map(key_text, keys)])), leaf) if isinstance(leaf, torch.Tensor) else leaf
                for keys, leaf in leaves
            ]
            return pytree.tree_unflatten(named, spec)

        return hook

    handles = [module.register_forward_pre_hook(lambda _module, _args: counts.clear())]
    handles += [child.register_forward_hook(hook_of(path)) for path, child in module.named_modules() if path]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def key_text(entry: Any) -> str:
    """An entry of a pytree's key path as text: an index, a dict's key, or a field's name."""
    for attribute in ("idx", "key", "name"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)
