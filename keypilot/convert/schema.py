"""Checks a finished program against the C core's own table of operators, before it is written."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from keypilot.convert.graph import Dim, Node, Program, Value
from keypilot.errors import UnsupportedOpError

if TYPE_CHECKING:
    from keypilot._core import AttributeSchema, OpSchema

_KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "dim": (int, Dim), "float": (float,), "word": (str,)}


def verify_program(program: Program) -> None:
    """Every value is an input, a constant, or the output of one earlier node; every node fits its operator's schema.

    Raises
    ------
    UnsupportedOpError : the message names the node, its module and what does not fit.
    """
    known: set[Value] = {port.value for port in program.inputs}
    for node in program.nodes:
        for value in node.inputs:
            if value is not None and value.data is None and value not in known:
                raise _misfit(program, node, f"reads {value.name!r}, which no earlier operator computes")
        problem = _problem(node)
        if problem is not None:
            raise _misfit(program, node, problem)
        known.add(node.output)


@functools.cache
def _schemas() -> dict[str, OpSchema]:
    from keypilot import _core

    return {schema["name"]: schema for schema in _core.op_schemas()}


def _problem(node: Node) -> str | None:
    schema = _schemas().get(node.op)
    if schema is None:
        return f"is not an operator of the C core; there are {', '.join(sorted(_schemas()))}"
    if not schema["min_inputs"] <= len(node.inputs) <= schema["max_inputs"]:
        return f"has {len(node.inputs)} inputs; expected {schema['min_inputs']} to {schema['max_inputs']}"
    attributes = {attribute["name"]: attribute for attribute in schema["attributes"]}
    for name, value in node.attributes.items():
        if name not in attributes:
            return f"has the attribute {name!r}; expected some of {', '.join(attributes)}"
        if not _fits(attributes[name], value):
            return f"has {name} = {value}; expected {_described(attributes[name])}"
    missing = [name for name, attribute in attributes.items() if attribute["required"] and name not in node.attributes]
    return f"lacks the attribute {missing[0]!r}" if missing else None


def _fits(schema: AttributeSchema, value: Any) -> bool:
    values = value if isinstance(value, tuple) else (value,)
    if not schema["min_count"] <= len(values) <= schema["max_count"]:
        return False
    if schema["kind"] == "word":
        return all(word in schema["words"] for word in values)
    return all(isinstance(item, _KINDS[schema["kind"]]) for item in values)


def _described(schema: AttributeSchema) -> str:
    if schema["kind"] == "word":
        return f"one of {', '.join(schema['words'])}"
    low, high = schema["min_count"], schema["max_count"]
    return f"{low if low == high else f'{low} to {high}'} values of kind {schema['kind']}"


def _misfit(program: Program, node: Node, problem: str) -> UnsupportedOpError:
    return UnsupportedOpError(f"{program.name}: {node.op} in {node.module or 'the module itself'} {problem}")
