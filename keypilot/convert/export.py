"""torch.export with what conversion needs: a functional graph, symbolic axes, and the names of module outputs."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from keypilot.convert.aten import LOWERINGS
from keypilot.convert.graph import Dim
from keypilot.errors import ArgumentError, UnsupportedError
from keypilot.module_names import key_text, name_module_outputs

#: Marks a module's output in the exported graph; the identity.
TAP = "keypilot.tap.default"

torch.library.define("keypilot::tap", "(Tensor x, str name) -> Tensor")
torch.library.impl("keypilot::tap", "default", lambda x, name: x.clone())
torch.library.register_fake("keypilot::tap", lambda x, name: torch.empty_like(x))

#: The largest N and T (KP_MAX_SYMBOL of the C core).
MAX_SYMBOL = 4096

#: (N, T) at which a symbolic size is read off: the first three give the powers and the constant, the others
#: confirm them.
_SAMPLES = ((2, 3), (4, 3), (2, 6), (5, 7), (7, 4), (11, 13))

#: What torch.export says of a size that is too large for a module.
_SUGGESTED = re.compile(r"([NT]) = Dim\('[NT]', max=(\d+)\)")

_EXPORT_ERRORS = (
    torch._dynamo.exc.UserError,
    torch._dynamo.exc.InternalTorchDynamoError,
    torch.fx.experimental.symbolic_shapes.GuardOnDataDependentSymNode,
)

Dynamic = Mapping[str, Mapping[int, str]]


@dataclasses.dataclass
class Exported:
    """A module's graph. `input_names` are forward's parameters; `output_names` name the tensors that it returns."""

    program: torch.export.ExportedProgram
    input_names: list[str]
    output_names: list[str]
    symbols: dict[Any, str]
    _dims: dict[Any, Dim] = dataclasses.field(default_factory=dict, repr=False)

    def dim(self, size: int | torch.SymInt) -> Dim:
        """A size as a constant times powers of N and T; `UnsupportedError` where it is something else."""
        if isinstance(size, int):
            return Dim(size)
        expression = size.node.expr
        if not expression.free_symbols <= self.symbols.keys():
            raise UnsupportedError(f"the size {self._readable(expression)} depends on the tensors' contents")
        if expression not in self._dims:
            self._dims[expression] = self._monomial(expression)
        return self._dims[expression]

    def _monomial(self, expression: Any) -> Dim:
        def at(n: int, t: int) -> int:
            return int(expression.subs({s: n if name == "N" else t for s, name in self.symbols.items()}))

        values = [at(n, t) for n, t in _SAMPLES]
        n, t = (_power_of_two(value, values[0]) for value in values[1:3])
        dim = Dim(values[0] // (2**n * 3**t), n, t)
        if any(dim.evaluate(*sample) != value for sample, value in zip(_SAMPLES, values, strict=True)):
            raise UnsupportedError(f"the size {self._readable(expression)} is not a constant times powers of N and T")
        return dim

    def _readable(self, expression: Any) -> str:
        text = str(expression)
        for symbol, name in self.symbols.items():
            text = text.replace(str(symbol), name)
        return text


def export_module(module: nn.Module, example_inputs: Mapping[str, torch.Tensor], dynamic: Dynamic) -> Exported:
    """Exports ``module(**example_inputs)`` in eval mode.

    Parameters
    ----------
    module : left as it was: its training flags and gradients are restored.
    example_inputs : a tensor for every parameter of `forward` that has no default; dynamic axes of size 1 are
        repeated to 2, since torch.export would take 1 for a constant.
    dynamic : symbols "N" or "T" by axis, by input.
    """
    name = type(module).__name__
    _check_float32(module)
    _check_symbols(example_inputs, dynamic)
    examples = {
        key: _without_ones(example_inputs[key], dynamic.get(key, {}))
        for key in _parameter_order(module, example_inputs)
    }
    with _frozen(module), _quiet(), name_module_outputs(module, lambda path, x: torch.ops.keypilot.tap(x, path)):
        try:
            program = _exported(module, examples, dynamic)
        except _EXPORT_ERRORS as error:
            reason = str(error).strip().split("\n\n")[0]  # then comes advice on PyTorch's logs
            raise UnsupportedError(f"{name}: torch.export failed: {reason}") from error
        program = _decomposed(program)
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    symbols = {}
    for placeholder, key in zip(program.graph_signature.user_inputs, examples, strict=True):
        shape = placeholders[str(placeholder)].meta["val"].shape
        for axis, symbol in dynamic.get(key, {}).items():
            symbols[shape[axis].node.expr] = symbol
    return Exported(program, list(examples), _output_names(program), symbols)


def _exported(module: nn.Module, examples: dict[str, torch.Tensor], dynamic: Dynamic) -> torch.export.ExportedProgram:
    """The module's graph for all N and T, or for those up to the most that it can take: as many tokens as it has
    positions. The C core finds out for itself that a larger size reads past a constant's end."""
    largest = {"N": MAX_SYMBOL, "T": MAX_SYMBOL}

    def export() -> torch.export.ExportedProgram:
        dims = {symbol: torch.export.Dim(symbol, min=1, max=most) for symbol, most in largest.items()}
        shapes = {key: {axis: dims[s] for axis, s in dynamic.get(key, {}).items()} for key in examples}
        return torch.export.export(module, (), examples, dynamic_shapes=shapes, strict=False)

    try:
        return export()
    except torch._dynamo.exc.UserError as error:
        suggested = {symbol: int(most) for symbol, most in _SUGGESTED.findall(str(error))}
        if not suggested:
            raise
        largest.update(suggested)
    return export()


def _decomposed(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Writes operators without a lowering in terms of simpler ones, as PyTorch defines them, where it does."""
    table: Any = torch.export.default_decompositions()
    functional = False  # until the first run, which writes operators in place as functions
    while True:
        unknown = {target for target in _computing(program) if str(target) not in LOWERINGS and target in table}
        if functional and not unknown:
            return program
        program = program.run_decompositions({target: table.pop(target) for target in unknown})
        functional = True


def _computing(program: torch.export.ExportedProgram) -> set[Any]:
    """The operators whose tensors depend on the module's inputs."""
    inputs = set(map(str, program.graph_signature.user_inputs))
    dependent: set[torch.fx.Node] = set()
    for node in program.graph.nodes:
        if node.name in inputs or any(argument in dependent for argument in node.all_input_nodes):
            dependent.add(node)
    return {node.target for node in dependent if isinstance(node.target, torch._ops.OpOverload)}


def bind_inputs(module: nn.Module, inputs: Any) -> dict[str, torch.Tensor]:
    """Example inputs (a tensor, a sequence of them in forward's order, or a mapping) by forward's parameter names."""
    if isinstance(inputs, torch.Tensor):
        inputs = (inputs,)
    if isinstance(inputs, Mapping):
        named = dict(inputs)
    else:
        names = list(inspect.signature(module.forward).parameters)
        if len(inputs) > len(names):
            raise ArgumentError(f"example_inputs: forward takes {len(names)} inputs, got {len(inputs)}")
        named = dict(zip(names, inputs, strict=False))
    for name, tensor in named.items():
        if not isinstance(tensor, torch.Tensor):
            raise ArgumentError(f"example_inputs[{name!r}]: expected a torch.Tensor, got {type(tensor).__name__}")
    return named


def _parameter_order(module: nn.Module, inputs: Mapping[str, torch.Tensor]) -> list[str]:
    parameters = inspect.signature(module.forward).parameters
    needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    if not set(needed) <= inputs.keys() <= parameters.keys():
        raise ArgumentError(
            f"example_inputs: {type(module).__name__}.forward takes {', '.join(parameters)}, got {', '.join(inputs)}"
        )
    return [name for name in parameters if name in inputs]


def _check_symbols(inputs: Mapping[str, torch.Tensor], dynamic: Dynamic) -> None:
    """Symbols are N and T, of inputs that there are, and each has one size."""
    sizes: dict[str, tuple[str, int]] = {}
    for key, axes in dynamic.items():
        if key not in inputs:
            raise ArgumentError(f"dynamic: expected names of inputs ({', '.join(inputs)}), got {key!r}")
        for axis, symbol in axes.items():
            if symbol not in ("N", "T"):
                raise ArgumentError(f"dynamic[{key!r}]: expected the symbols 'N' or 'T', got {symbol!r}")
            shape = tuple(inputs[key].shape)
            if not 0 <= axis < len(shape):
                raise ArgumentError(f"dynamic: {key!r}, of shape {shape}, has no axis {axis}")
            other, size = sizes.setdefault(symbol, (key, shape[axis]))
            if size != shape[axis]:
                raise ArgumentError(
                    f"example_inputs: {symbol} is {size} in {other!r} and {shape[axis]} in {key!r}; expected one size"
                )


def _power_of_two(doubled: int, value: int) -> int:
    """k where doubling one symbol multiplied a size by 2^k (0 where it did not: the caller checks)."""
    ratio = doubled // value if value else 1
    return max(ratio.bit_length() - 1, 0)


def _check_float32(module: nn.Module) -> None:
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise ArgumentError(
                f"{name}: expected torch.float32 weights, got {tensor.dtype}; call module.float() first"
            )
        if tensor.device.type != "cpu":
            raise ArgumentError(f"{name}: expected weights on the CPU, got {tensor.device}; call module.cpu() first")


def _without_ones(tensor: torch.Tensor, axes: Mapping[int, str]) -> torch.Tensor:
    for axis in axes:
        if tensor.shape[axis] == 1:
            tensor = torch.cat([tensor, tensor], dim=axis)
    return tensor


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without PyTorch's warning of its own use of a name that it deprecates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        yield


@contextlib.contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients, and no fused transformer layers, whose inside torch.export cannot see."""
    training = {child: child.training for child in module.modules()}
    requiring = [p for p in module.parameters() if p.requires_grad]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    module.eval().requires_grad_(False)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for parameter in requiring:
            parameter.requires_grad_(True)
        for child, flag in training.items():
            child.training = flag


def _output_names(program: torch.export.ExportedProgram) -> list[str]:
    """ "output" for a lone tensor, a dict's keys, "output.0" and on for a tuple."""
    spec = program.call_spec.out_spec
    assert spec is not None
    paths = pytree.tree_leaves_with_path(pytree.tree_unflatten(list(range(spec.num_leaves)), spec))
    names = [".".join(key_text(key) for key in path) for path, _leaf in paths]
    return [f"output.{name}" if name[:1].isdigit() else name or "output" for name in names]
