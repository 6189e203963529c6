"""From a PyTorch module to a model file: torch.export, a graph, passes over it, GGUF. Needs the extra `torch`."""

from keypilot.convert.compile import ProgramSource, compile, compile_programs

__all__ = ["ProgramSource", "compile", "compile_programs"]
