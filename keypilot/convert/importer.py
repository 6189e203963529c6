"""From torch.export's graph to a `Program`, operator by operator."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from keypilot.convert import constants
from keypilot.convert.aten import LOWERINGS, public_names
from keypilot.convert.export import TAP, Exported
from keypilot.convert.graph import Array, Dim, Node, Port, Program, Shape, Value, as_shape, inverse
from keypilot.convert.views import Expand, Permute, Reshape, Slice, View
from keypilot.errors import UnsupportedError, UnsupportedOpError

_DTYPES = {
    torch.float32: "f32",
    torch.int64: "i32",
    torch.int32: "i32",
    torch.bool: "bool",
}

_NUMPY_DTYPES = {"f32": np.float32, "i32": np.int32, "bool": np.bool_}

#: Operators that read only the shape and dtype of their first argument.
_SHAPE_ONLY = frozenset(
    f"aten.{name}.default"
    for name in ("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty")
)

#: Operators whose sizes are read off their results, and not off their arguments: arange(2, T + 2) has T elements.
_SIZED_BY_RESULT = ("aten.arange", "aten.slice", "aten.narrow")

#: Operators without results that matter: what they assert was established by the export.
_CHECKS = ("aten._assert_", "aten.sym_constrain_range", "_assert_scalar")


def import_program(name: str, exported: Exported) -> Program:
    """The program, in PyTorch's terms: logical shapes, views one by one.

    Raises
    ------
    UnsupportedOpError : an operator has no counterpart; the message names it, its module, and the way out.
    """
    return Builder(name, exported).run()


class Builder:
    """The state of one import, and what a lowering (see `keypilot.convert.aten`) builds its nodes with.

    `shapes` and `dtypes` are those of the operator's results, as the export found them; `module` is the path of
    the module that it belongs to.
    """

    def __init__(self, name: str, exported: Exported) -> None:
        self.program = Program(name)
        self.exported = exported
        self.module = ""
        self.operator = ""
        self.shapes: list[Shape] = []
        self.dtypes: list[str] = []
        self._environment: dict[str, Any] = {}
        self._stored_names: set[str] = set()
        self._producers: dict[Value, Node] = {}

    # ---- what lowerings use -----------------------------------------------------------------------------------

    @property
    def shape(self) -> Shape:
        """The shape of the only result."""
        return self.shapes[0]

    def emit(
        self,
        op: str,
        inputs: Sequence[Value | None],
        shape: Shape | None = None,
        dtype: str | None = None,
        **attributes: Any,
    ) -> Value:
        """A node's output; shape and dtype are the operator's own unless given."""
        output = Value(self._label(op), self.shape if shape is None else shape, dtype or self.dtypes[0])
        self._producers[output] = node = Node(op, list(inputs), output, attributes, self.module)
        self.program.nodes.append(node)
        return output

    def producer(self, x: Value) -> Node | None:
        """The node that computes x; None for inputs and constants."""
        return self._producers.get(x)

    def view(self, x: Value, view: View, shape: Shape) -> Value:
        """The view of x, whose shape is known; x itself where nothing changes."""
        same = shape == x.shape
        if isinstance(view, Permute):
            same = view.order == tuple(range(x.rank))
        elif isinstance(view, Slice):
            same = same and view.step == 1
        return x if same else self.emit("view", [x], shape, x.dtype, view=view)

    def reshape(self, x: Value, shape: Shape) -> Value:
        return self.view(x, Reshape(shape), shape)

    def permute(self, x: Value, order: Sequence[int]) -> Value:
        return self.view(x, Permute(tuple(order)), tuple(x.shape[i] for i in order))

    def unpermute(self, x: Value, order: Sequence[int]) -> Value:
        """The inverse of `permute`."""
        return self.permute(x, inverse(order))

    def expand(self, x: Value, shape: Shape) -> Value:
        return self.view(x, Expand(shape), shape)

    def slice(self, x: Value, axis: int, start: Dim, length: Dim, step: int = 1) -> Value:
        shape = (*x.shape[:axis], length, *x.shape[axis + 1 :])
        return self.view(x, Slice(axis, start, length, step), shape)

    def constant(self, data: Array | float | int | bool, dtype: str | None = None, label: str = "constant") -> Value:
        """A constant; `dtype`, where given, is the file's, to which the data is converted."""
        array = np.asarray(data)
        if dtype is not None:
            array = array.astype({"f32": np.float32, "i32": np.int64, "bool": np.bool_}[dtype])
        kind = dtype or {"f": "f32", "i": "i32", "u": "i32", "b": "bool"}[array.dtype.kind]
        return Value(self._label(label), as_shape(array.shape), kind, array)

    def cast(self, x: Value, dtype: str) -> Value:
        """x in another dtype; constants are converted here."""
        if x.dtype == dtype:
            return x
        if x.data is not None:
            constant = self.constant(x.data, dtype)
            return Value(x.name, x.shape, dtype, constant.data)
        return self.emit("cast", [x], x.shape, dtype, to=dtype)

    def static(self, dim: Dim | int, what: str) -> int:
        """A size that must not depend on N or T."""
        if isinstance(dim, int):
            return dim
        if not dim.static:
            raise self.unsupported(f"{what} is {dim}; it must not depend on N or T")
        return dim.coefficient

    def unsupported(self, detail: str) -> UnsupportedOpError:
        return UnsupportedOpError(f"{self.operator} in {self.module or 'the module itself'}: {detail}")

    # ---- the import -------------------------------------------------------------------------------------------

    def run(self) -> Program:
        exported = self.exported.program
        signature = exported.graph_signature
        stored: dict[str, torch.Tensor] = {**exported.state_dict, **exported.constants}
        names = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        user_inputs = dict(zip(map(str, signature.user_inputs), self.exported.input_names, strict=True))
        for node in exported.graph.nodes:
            if node.op == "placeholder" and node.name in user_inputs:
                self._environment[node.name] = self._input(node, user_inputs[node.name])
            elif node.op == "placeholder":
                self._environment[node.name] = self._stored(names[node.name], stored[names[node.name]])
            elif node.op == "call_function":
                self._environment[node.name] = self._call(node)
            elif node.op == "output":
                self._outputs(node.args[0])
        return self.program

    def _input(self, node: torch.fx.Node, name: str) -> Value:
        self.operator = f"input {name!r}"
        self._describe(node)
        if node.meta["val"].dtype is torch.float64:
            raise self.unsupported("a tensor of torch.float64; expected torch.float32")
        value = Value(name, self.shape, self.dtypes[0])
        self.program.inputs.append(Port(name, value))
        return value

    def _stored(self, name: str, tensor: torch.Tensor) -> Value:
        value = self.constant(tensor.detach().contiguous().numpy())
        value.name = name
        self._stored_names.add(name)
        return value

    def _outputs(self, results: Any) -> None:
        names: list[str] = []
        for name, result in zip(self.exported.output_names, results, strict=True):
            if result is None:
                continue
            value = self._environment[result.name] if isinstance(result, torch.fx.Node) else result
            if not isinstance(value, Value):
                raise UnsupportedError(f"output {name!r}: expected a tensor, got {type(value).__name__}")
            names.append(name)
            self.program.outputs.append(Port(name, value))

    def _call(self, node: torch.fx.Node) -> Any:
        self.operator = str(node.target)
        self.module = _module_path(node)
        if node.target is operator.getitem:
            sequence, index = self._resolve(node.args)
            return sequence[index]
        if any(self.operator.startswith(check) for check in _CHECKS):
            return None
        result = node.meta.get("val")
        if result is None or isinstance(result, int | float | bool | torch.SymBool | torch.SymFloat):
            return result
        if isinstance(result, torch.SymInt):
            try:
                return self._size(result)
            except UnsupportedOpError as error:
                return error  # raised by what reads it
        self._describe(node)
        args, kwargs = self._resolve(node.args), self._resolve(node.kwargs)
        if self.operator == TAP:
            self.program.taps.append(Port(args[1], args[0]))
            return args[0]
        if self.operator in _SHAPE_ONLY:
            args = (_stand_in(args[0]), *args[1:])
        return self._folded(node, args, kwargs) or self._lowered(node, args, kwargs)

    def _folded(self, node: torch.fx.Node, args: Any, kwargs: Any) -> Any:
        if not constants.is_constant((args, kwargs)) or any(isinstance(arg, UnsupportedOpError) for arg in args):
            return None
        target: Any = node.target
        if torch.Tag.nondeterministic_seeded in target.tags:
            raise self.unsupported("a random operator; a model file gives the same result every time")
        arrays = constants.evaluate(target, args, kwargs, self.shapes, self.module or self.program.name)
        if arrays is None:
            return None
        suffix = target.__name__.split(".")[0]
        first = args[0] if args and isinstance(args[0], Value) and args[0].name in self._stored_names else None
        values = []
        for array, shape in zip(arrays, self.shapes, strict=True):
            value = self.constant(array, label=suffix)
            value.shape = shape
            if first is not None:
                value.name = f"{first.name}.{suffix}"
            values.append(value)
        return values if isinstance(node.meta["val"], list | tuple) else values[0]

    def _lowered(self, node: torch.fx.Node, args: Any, kwargs: Any) -> Any:
        lowering = LOWERINGS.get(self.operator)
        if lowering is None:
            raise self.unsupported(
                "no counterpart among KeyPilot's operators. Write it with those that have one, or compile the module "
                f"without that part and run the part in Python. Supported: {', '.join(public_names())}"
            )
        results = node.meta["val"]
        if any(
            tensor.dtype is torch.float64 for tensor in (results if isinstance(results, list | tuple) else [results])
        ):
            raise self.unsupported("a computation in torch.float64; expected torch.float32")
        schema: Any = node.target._schema  # type: ignore[union-attr]
        bound = list(args)
        for argument in schema.arguments[len(args) :]:
            bound.append(kwargs.get(argument.name, argument.default_value))
        return lowering(self, *bound)

    def _describe(self, node: torch.fx.Node) -> None:
        result = node.meta["val"]
        tensors = list(result) if isinstance(result, list | tuple) else [result]
        self.shapes = [tuple(map(self._size_or_dim, tensor.shape)) for tensor in tensors]
        self.dtypes = [self._dtype(tensor.dtype) for tensor in tensors]

    def _dtype(self, dtype: torch.dtype) -> str:
        # float64 appears only where constants are evaluated; a value of that type cannot be lowered.
        if dtype not in _DTYPES and dtype is not torch.float64:
            raise self.unsupported(f"a tensor of {dtype}; expected one of {', '.join(map(str, _DTYPES))}")
        return _DTYPES.get(dtype, "f32")

    def _size(self, size: int | torch.SymInt) -> int | Dim:
        dim = self._size_or_dim(size)
        return dim.coefficient if dim.static else dim

    def _size_or_dim(self, size: int | torch.SymInt) -> Dim:
        try:
            return self.exported.dim(size)
        except UnsupportedError as error:
            raise self.unsupported(str(error)) from error

    def _resolve(self, argument: Any) -> Any:
        if isinstance(argument, torch.fx.Node):
            value = self._environment[argument.name]
            if isinstance(value, UnsupportedOpError) and not self.operator.startswith(_SIZED_BY_RESULT):
                raise value
            return value
        if isinstance(argument, dict):
            return {key: self._resolve(item) for key, item in argument.items()}
        if isinstance(argument, list | tuple):
            items = [self._resolve(item) for item in argument]
            return tuple(items) if isinstance(argument, tuple) else items
        return argument

    def _label(self, op: str) -> str:
        return f"{self.module}.{op}" if self.module else op


def _stand_in(x: Value) -> Value:
    """A constant of x's shape and dtype, for an operator that reads nothing else of x."""
    return Value(x.name, x.shape, x.dtype, np.zeros([1] * len(x.shape), _NUMPY_DTYPES[x.dtype]))


def _module_path(node: torch.fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(entry[0]) for entry in stack.values()]
    return paths[-1] if paths else ""
