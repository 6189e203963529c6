"""The one place that imports timm."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch


def import_timm() -> ModuleType:
    """The module `timm`, also where the installed torchvision was built for another torch.

    Such a torchvision has no compiled operators, and fails to import with "operator torchvision::nms does not
    exist" while it registers their shape functions. With their schemas declared it imports; KeyPilot calls neither
    operator.
    """
    declarations = {
        "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    }
    try:
        return importlib.import_module("timm")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name, schema in declarations.items():
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", schema)
    return importlib.import_module("timm")
