"""Element by element: activations, arithmetic, comparisons, casts; and reductions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keypilot.convert.aten.registry import LOWERINGS, lowers
from keypilot.convert.graph import ONE, Dim, Value, product

if TYPE_CHECKING:
    from keypilot.convert.importer import Builder

Operand = Value | float | int | bool


def _operand(b: Builder, x: Operand, dtype: str) -> Value:
    return b.cast(x, dtype) if isinstance(x, Value) else b.constant(x, dtype)


def arithmetic(b: Builder, fn: str, x: Operand, y: Operand) -> Value:
    """A binary operator in the result's dtype; numbers become constants."""
    dtype = b.dtypes[0]
    if dtype == "bool":
        raise b.unsupported(f"{fn} of booleans; cast them first")
    return b.emit("binary", [_operand(b, x, dtype), _operand(b, y, dtype)], fn=fn)


# ---- Activations and other functions of one tensor --------------------------------------------------------------

_UNARY = {
    "relu": "relu",
    "relu6": "relu6",
    "hardswish": "hardswish",
    "hardsigmoid": "hardsigmoid",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "tanh": "tanh",
    "exp": "exp",
    "sqrt": "sqrt",
    "sin": "sin",
    "cos": "cos",
    "log": "log",
}


def _unary(fn: str) -> Callable[[Builder, Value], Value]:
    return lambda b, x: b.emit("unary", [b.cast(x, "f32")], fn=fn)


for _name, _fn in _UNARY.items():
    LOWERINGS[f"aten.{_name}.default"] = _unary(_fn)


@lowers("gelu.default")
def gelu(b: Builder, x: Value, approximate: str) -> Value:
    return b.emit("unary", [x], fn="gelu" if approximate == "none" else "gelu_tanh")


@lowers("clamp.default", "hardtanh.default", "clip.default")
def clamp(b: Builder, x: Value, low: float | None, high: float | None) -> Value:
    if x.dtype == "f32" and (low, high) == (0, 6):
        return b.emit("unary", [x], fn="relu6")
    if x.dtype == "f32" and (low, high) == (0, None):
        return b.emit("unary", [x], fn="relu")
    if low is not None:
        x = arithmetic(b, "max", x, low)
    return x if high is None else arithmetic(b, "min", x, high)


@lowers("clamp_min.default", "clamp_min.Tensor", "maximum.default")
def maximum(b: Builder, x: Operand, y: Operand) -> Value:
    return arithmetic(b, "max", x, y)


@lowers("clamp_max.default", "clamp_max.Tensor", "minimum.default")
def minimum(b: Builder, x: Operand, y: Operand) -> Value:
    return arithmetic(b, "min", x, y)


@lowers("neg.default")
def negative(b: Builder, x: Value) -> Value:
    return arithmetic(b, "mul", x, -1)


@lowers("abs.default")
def absolute(b: Builder, x: Value) -> Value:
    return arithmetic(b, "max", x, arithmetic(b, "mul", x, -1))


@lowers("reciprocal.default")
def reciprocal(b: Builder, x: Value) -> Value:
    return arithmetic(b, "div", 1, x)


@lowers("rsqrt.default")
def rsqrt(b: Builder, x: Value) -> Value:
    return arithmetic(b, "div", 1, b.emit("unary", [x], fn="sqrt"))


@lowers("square.default")
def square(b: Builder, x: Value) -> Value:
    return arithmetic(b, "mul", x, x)


@lowers("pow.Tensor_Scalar")
def power(b: Builder, x: Value, exponent: float) -> Value:
    if exponent == 0.5:
        return b.emit("unary", [x], fn="sqrt")
    if exponent not in (1, 2, 3, 4):
        raise b.unsupported(f"the exponent {exponent}; supported are 0.5, 1, 2, 3 and 4")
    if exponent == 1:
        return x
    squared = square(b, x)
    if exponent == 2:
        return squared
    return arithmetic(b, "mul", squared, x if exponent == 3 else squared)


@lowers("leaky_relu.default")
def leaky_relu(b: Builder, x: Value, slope: float) -> Value:
    if not 0 <= slope <= 1:
        raise b.unsupported(f"a negative slope of {slope}; supported are 0 to 1")
    return arithmetic(b, "max", x, arithmetic(b, "mul", x, slope))


@lowers("elu.default")
def elu(b: Builder, x: Value, alpha: float, scale: float, input_scale: float) -> Value:
    """scale * (x where x > 0, else alpha * (exp(input_scale * x) - 1))."""
    low = arithmetic(b, "min", x, 0)
    grown = b.emit("unary", [low if input_scale == 1 else arithmetic(b, "mul", low, input_scale)], fn="exp")
    low = arithmetic(b, "mul", arithmetic(b, "sub", grown, 1), alpha)
    result = arithmetic(b, "add", arithmetic(b, "max", x, 0), low)
    return result if scale == 1 else arithmetic(b, "mul", result, scale)


@lowers("expm1.default")
def exp_less_one(b: Builder, x: Value) -> Value:
    return arithmetic(b, "sub", b.emit("unary", [x], fn="exp"), 1)


@lowers("log1p.default")
def log_of_one_more(b: Builder, x: Value) -> Value:
    return b.emit("unary", [arithmetic(b, "add", x, 1)], fn="log")


@lowers("softplus.default")
def softplus(b: Builder, x: Value, beta: float, _threshold: float) -> Value:
    """log(1 + exp(beta * x)) / beta, whose exponential never overflows."""
    scaled = x if beta == 1 else arithmetic(b, "mul", x, beta)
    decay = b.emit("unary", [arithmetic(b, "mul", absolute(b, scaled), -1)], fn="exp")
    rest = b.emit("unary", [arithmetic(b, "add", decay, 1)], fn="log")
    result = arithmetic(b, "add", arithmetic(b, "max", scaled, 0), rest)
    return result if beta == 1 else arithmetic(b, "div", result, beta)


@lowers("mish.default")
def mish(b: Builder, x: Value) -> Value:
    """x * tanh(softplus(x))."""
    return arithmetic(b, "mul", x, b.emit("unary", [softplus(b, x, 1, 20)], fn="tanh"))


@lowers("log_softmax.int", "_log_softmax.default")
def log_softmax(b: Builder, x: Value, dim: int, _options: Any) -> Value:
    axis, shape = dim % x.rank, b.shape
    largest = (*shape[:axis], ONE, *shape[axis + 1 :])
    most = b.emit("reduce", [x], largest, fn="max", axes=(axis,), keepdim=1)
    centred = arithmetic(b, "sub", x, most)
    total = b.emit("reduce", [b.emit("unary", [centred], fn="exp")], largest, fn="sum", axes=(axis,), keepdim=1)
    return arithmetic(b, "sub", centred, b.emit("unary", [total], largest, fn="log"))


# ---- Arithmetic -------------------------------------------------------------------------------------------------


@lowers("add.Tensor", "add.Scalar")
def add(b: Builder, x: Operand, y: Operand, alpha: float) -> Value:
    return arithmetic(b, "add", x, y if alpha == 1 else arithmetic(b, "mul", y, alpha))


@lowers("sub.Tensor", "sub.Scalar")
def subtract(b: Builder, x: Operand, y: Operand, alpha: float) -> Value:
    return arithmetic(b, "sub", x, y if alpha == 1 else arithmetic(b, "mul", y, alpha))


@lowers("rsub.Tensor", "rsub.Scalar")
def reverse_subtract(b: Builder, x: Operand, y: Operand, alpha: float) -> Value:
    return subtract(b, y, x, alpha)


@lowers("mul.Tensor", "mul.Scalar")
def multiply(b: Builder, x: Operand, y: Operand) -> Value:
    if b.dtypes[0] == "bool":
        return logical_and(b, x, y)
    return arithmetic(b, "mul", x, y)


@lowers("div.Tensor", "div.Scalar", "true_divide.Tensor")
def divide(b: Builder, x: Operand, y: Operand) -> Value:
    return arithmetic(b, "div", x, y)


# ---- Booleans ---------------------------------------------------------------------------------------------------


def _comparison(fn: str) -> Callable[[Builder, Value, Operand], Value]:
    def compare(b: Builder, x: Value, y: Operand) -> Value:
        floating = "f32" in (x.dtype, y.dtype if isinstance(y, Value) else ("f32" if isinstance(y, float) else "i32"))
        dtype = "f32" if floating else "i32"
        return b.emit("compare", [b.cast(x, dtype), _operand(b, y, dtype)], fn=fn)

    return compare


for _fn in ("eq", "ne", "gt", "lt", "ge", "le"):
    LOWERINGS[f"aten.{_fn}.Tensor"] = LOWERINGS[f"aten.{_fn}.Scalar"] = _comparison(_fn)


@lowers("logical_and.default", "bitwise_and.Tensor", "__and__.Tensor")
def logical_and(b: Builder, x: Operand, y: Operand) -> Value:
    first = _boolean(b, x)
    return b.emit("select", [first, _boolean(b, y), first])


@lowers("logical_or.default", "bitwise_or.Tensor", "__or__.Tensor")
def logical_or(b: Builder, x: Operand, y: Operand) -> Value:
    first = _boolean(b, x)
    return b.emit("select", [first, first, _boolean(b, y)])


@lowers("logical_not.default", "bitwise_not.default")
def logical_not(b: Builder, x: Value) -> Value:
    number = b.cast(_boolean(b, x), "i32")
    return b.emit("compare", [number, b.constant(0, "i32")], fn="eq")


def _boolean(b: Builder, x: Operand) -> Value:
    if b.operator.startswith("aten.bitwise") and isinstance(x, Value) and x.dtype != "bool":
        raise b.unsupported(f"bits of a tensor of {x.dtype}; only booleans are supported")
    return _operand(b, x, "bool")


@lowers("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def where(b: Builder, condition: Value, x: Operand, y: Operand) -> Value:
    dtype = b.dtypes[0]
    return b.emit("select", [b.cast(condition, "bool"), _operand(b, x, dtype), _operand(b, y, dtype)])


@lowers("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(b: Builder, x: Value, mask: Value, value: Operand) -> Value:
    return where(b, mask, value, x)


# ---- Casts ------------------------------------------------------------------------------------------------------


@lowers(
    "to.dtype",
    "to.dtype_layout",
    "to.other",
    "to.device",
    "_to_copy.default",
    "type_as.default",
    "float.default",
    "int.default",
    "long.default",
    "bool.default",
)
def cast(b: Builder, x: Value, *_options: Any) -> Value:
    return b.cast(x, b.dtypes[0])


# ---- Reductions -------------------------------------------------------------------------------------------------


def reduction(b: Builder, fn: str, x: Value, dim: int | Sequence[int] | None, keepdim: bool) -> Value:
    dims = range(x.rank) if dim is None or dim == [] else [dim] if isinstance(dim, int) else dim
    axes = tuple(sorted(d % x.rank for d in dims))
    return b.emit("reduce", [b.cast(x, b.dtypes[0])], fn=fn, axes=axes, keepdim=int(keepdim))


@lowers("mean.dim")
def mean(b: Builder, x: Value, dim: Any, keepdim: bool, _dtype: Any) -> Value:
    return reduction(b, "mean", x, dim, keepdim)


@lowers("mean.default")
def mean_of_all(b: Builder, x: Value, _dtype: Any) -> Value:
    return reduction(b, "mean", x, None, False)


@lowers("sum.dim_IntList")
def sum_(b: Builder, x: Value, dim: Any, keepdim: bool, _dtype: Any) -> Value:
    return reduction(b, "sum", x, dim, keepdim)


@lowers("sum.default")
def sum_of_all(b: Builder, x: Value, _dtype: Any) -> Value:
    return sum_(b, x, None, False, None)


@lowers("amax.default", "amin.default", "max.default", "min.default")
def extreme(b: Builder, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    if b.dtypes[0] == "bool":
        raise b.unsupported("an extreme of booleans; cast them first")
    return reduction(b, "max" if "max" in b.operator else "min", x, dim, keepdim)


@lowers("any.default", "any.dim", "any.dims", "all.default", "all.dim", "all.dims")
def any_or_all(b: Builder, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    fn = "max" if b.operator.startswith("aten.any") else "min"
    numbers = b.cast(b.cast(x, "bool"), "i32")
    b.dtypes = ["i32"]
    return b.cast(reduction(b, fn, numbers, dim, keepdim), "bool")


@lowers("linalg_vector_norm.default")
def vector_norm(b: Builder, x: Value, ord_: float, dim: Any, keepdim: bool, _dtype: Any) -> Value:
    return norm(b, x, ord_, dim, keepdim)


@lowers("norm.ScalarOpt_dim")
def norm(b: Builder, x: Value, p: float | None, dim: Any, keepdim: bool) -> Value:
    if p not in (None, 2):
        raise b.unsupported(f"a norm of order {p}; supported is 2")
    return reduction(b, "l2norm", x, dim, keepdim)


@lowers("softmax.int", "_softmax.default")
def softmax(b: Builder, x: Value, dim: int, _dtype: Any) -> Value:
    return b.emit("softmax", [b.cast(x, "f32")], axis=dim % x.rank)


@lowers("var.correction", "var_mean.correction")
def variance(b: Builder, x: Value, dim: Any, correction: float | None, keepdim: bool) -> Value | list[Value]:
    shapes = b.shapes
    axes = sorted(d % x.rank for d in (range(x.rank) if dim is None else dim))
    count = b.static(product(x.shape[d] for d in axes), "the number of elements of a variance")
    kept = tuple(ONE if i in axes else size for i, size in enumerate(x.shape))
    mean = b.emit("reduce", [x], kept, fn="mean", axes=tuple(axes), keepdim=1)
    centred = b.emit("binary", [x, mean], x.shape, fn="sub")
    squared = b.emit("binary", [centred, centred], x.shape, fn="mul")
    total = b.emit("reduce", [squared], kept, fn="mean", axes=tuple(axes), keepdim=1)
    degrees = count - (1 if correction is None else correction)
    if degrees <= 0:
        raise b.unsupported(f"a variance of {count} elements with a correction of {correction}")
    if degrees != count:
        total = b.emit("binary", [total, b.constant(count / degrees, "f32")], kept, fn="mul")
    if "var_mean" not in b.operator:
        return b.reshape(total, shapes[0])
    return [b.reshape(total, shapes[0]), b.reshape(mean, shapes[1])]


@lowers("std.correction")
def deviation(b: Builder, x: Value, dim: Any, correction: float | None, keepdim: bool) -> Value:
    result = variance(b, x, dim, correction, keepdim)
    assert isinstance(result, Value)
    return b.emit("unary", [result], fn="sqrt")


@lowers("_native_batch_norm_legit.no_stats")
def instance_norm(
    b: Builder, x: Value, weight: Value | None, bias: Value | None, _training: bool, _momentum: float, eps: float
) -> list[Value | None]:
    """Statistics of a batch of one: PyTorch writes instance norm as a batch norm of (1, N * C) channels."""
    if x.shape[0] != ONE or weight is not None or bias is not None:
        raise b.unsupported("batch statistics; compile in eval mode, with running statistics")
    rows = b.reshape(x, (x.shape[1], product(x.shape[2:])))
    return [b.reshape(b.emit("layer_norm", [rows, None, None], rows.shape, eps=float(eps)), x.shape), None, None]


@lowers("group_norm.default", "native_group_norm.default")
def group_norm(b: Builder, x: Value, *arguments: Any) -> Any:
    """A layer norm of each group's rows without parameters; those are by channel."""
    native = b.operator.startswith("aten.native")
    weight, bias, eps = (arguments[i] for i in ((0, 1, 6) if native else (1, 2, 3)))
    groups = arguments[5] if native else arguments[0]
    width = product(x.shape[1:]) // Dim(groups)
    rows = b.reshape(x, (x.shape[0], Dim(groups), width))
    normalised = b.reshape(b.emit("layer_norm", [rows, None, None], rows.shape, eps=float(eps)), x.shape)
    if weight is not None or bias is not None:
        scale = weight if weight is not None else b.constant(np.ones(x.shape[1].coefficient, np.float32))
        shift = bias if bias is not None else b.constant(np.zeros(x.shape[1].coefficient, np.float32))
        normalised = b.emit("channel_affine", [normalised, scale, shift], x.shape, axis=1)
    return [normalised, None, None] if native else normalised


@lowers("layer_norm.default", "native_layer_norm.default")
def layer_norm(
    b: Builder, x: Value, size: Sequence[int], weight: Value | None, bias: Value | None, eps: float, *_options: Any
) -> Any:
    rows = x
    if len(size) > 1:
        width = product(x.shape[-len(size) :])
        rows = b.reshape(x, (*x.shape[: -len(size)], width))
        weight, bias = (_flat(b, parameter) for parameter in (weight, bias))
    result = b.reshape(b.emit("layer_norm", [rows, weight, bias], rows.shape, eps=float(eps)), x.shape)
    return [result, None, None] if b.operator.startswith("aten.native") else result


def _flat(b: Builder, parameter: Value | None) -> Value | None:
    if parameter is None or parameter.data is None:
        return parameter
    flat = b.constant(parameter.data.reshape(-1))
    flat.name = parameter.name
    return flat
