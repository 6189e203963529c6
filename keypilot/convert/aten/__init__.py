"""Lowerings of ATen operators to the graph, by kind. Importing a file fills the table."""

from keypilot.convert.aten import elementwise, index, matrix, picture, view
from keypilot.convert.aten.registry import LOWERINGS, public_names

__all__ = ["LOWERINGS", "elementwise", "index", "matrix", "picture", "public_names", "view"]
