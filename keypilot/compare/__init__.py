"""Comparing the C core with PyTorch, tensor by tensor."""

from keypilot.compare.parity import encoder_parity, parity
from keypilot.compare.report import Report, TensorReport

__all__ = ["Report", "TensorReport", "encoder_parity", "parity"]
