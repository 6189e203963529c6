"""Gives every value a name of its own: the tap's where there is one, else the module and the operator."""

from __future__ import annotations

from keypilot.convert.graph import Program, Value


def name_values(program: Program) -> None:
    """Constants keep theirs (several may share one: the writer tells them apart by content), and so do inputs."""
    tapped: dict[Value, str] = {}
    for tap in program.taps:
        tapped.setdefault(tap.value, tap.name)
    taken = {port.name for port in program.inputs}
    taken |= {value.name for value in program.values() if value.data is not None}
    for node in program.nodes:
        wanted = tapped.get(node.output, node.output.name)
        name, count = wanted, 1
        while name in taken:
            count += 1
            name = f"{wanted}:{count}"
        taken.add(name)
        node.output.name = name
