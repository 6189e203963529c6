"""The passes, in the order in which they run. Each changes a `Program` in place and leaves its results as they were."""

from __future__ import annotations

from collections.abc import Callable

from keypilot.convert.graph import Program
from keypilot.convert.passes.attention import find_attention
from keypilot.convert.passes.broadcast import drop_expansions
from keypilot.convert.passes.common import merge_common
from keypilot.convert.passes.dead_code import remove_dead_code
from keypilot.convert.passes.deconvolution import lower_deconvolutions
from keypilot.convert.passes.epilogue import fuse_epilogues
from keypilot.convert.passes.fold_affine import fold_affine
from keypilot.convert.passes.layout import assign_layout
from keypilot.convert.passes.matmul import constant_matmul_to_linear
from keypilot.convert.passes.names import name_values
from keypilot.convert.passes.padding import fold_padding
from keypilot.convert.passes.peepholes import apply_peepholes
from keypilot.convert.passes.ranges import lower_ranges
from keypilot.convert.passes.reshapes import delay_reshapes
from keypilot.convert.passes.strides import lower_views

PASSES: tuple[Callable[[Program], None], ...] = (
    remove_dead_code,
    merge_common,
    constant_matmul_to_linear,
    apply_peepholes,
    delay_reshapes,
    fold_affine,
    find_attention,
    drop_expansions,
    remove_dead_code,
    fuse_epilogues,
    lower_deconvolutions,
    fold_padding,
    lower_ranges,
    assign_layout,
    remove_dead_code,
    lower_views,
    name_values,
)


def run_passes(program: Program) -> None:
    for apply in PASSES:
        apply(program)
