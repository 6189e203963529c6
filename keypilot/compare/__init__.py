"""Comparing the C core with PyTorch, tensor by tensor, and int8 with float32, layer by layer."""

from keypilot.compare.parity import encoder_parity, parity
from keypilot.compare.report import Report, TensorReport
from keypilot.compare.sensitivity import LayerCost, Sensitivity, sensitivity

__all__ = ["LayerCost", "Report", "Sensitivity", "TensorReport", "encoder_parity", "parity", "sensitivity"]
