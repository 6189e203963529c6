"""A parity report as one self-contained page: a plot along the network, the worst tensors as pictures, the table."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keypilot.compare.metrics import Array, Difference
from keypilot.compare.report import Report, TensorReport

if TYPE_CHECKING:
    from keypilot.compare.sensitivity import Sensitivity

_SHOWN_AS_PICTURES = 8
_PICTURE_SIDE = 160  # pixels
_MAX_DECIBELS = 160.0  # float32 against float32 seldom passes 150

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --paper: #fff; --line: #d5dae2; --good: #2f6fde; --bad: #c8371b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --paper: #14181f; --line: #333b47; --good: #7fb0ff;
  --bad: #ff8066; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 76rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; font-family: ui-monospace, monospace; font-size: 13px;
  white-space: normal; overflow-wrap: anywhere; }
thead th { position: sticky; top: 0; background: var(--paper); }
.bad { color: var(--bad); font-weight: 600; }
.verdict { font-size: 1.15rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 11px; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(34rem, 1fr)); gap: 1.2rem; }
figure { margin: 0; } figcaption { font-size: 13px; overflow-wrap: anywhere; }
.pictures { display: flex; gap: .5rem; } .pictures div { font-size: 12px; }
img { image-rendering: pixelated; width: 8rem; border: 1px solid var(--line); display: block; }
"""


def page(report: Report) -> str:
    """The whole page as HTML text."""
    tensors = report.tensors
    int8 = report.precision == "int8"
    label = "C int8" if int8 else "C core"
    worst = "".join(_figure(tensor, label) for tensor in report.worst_first()[:_SHOWN_AS_PICTURES])
    rows = "".join(_int8_row(tensor) if int8 else _row(tensor) for tensor in tensors)
    first, *rest = report.summary().split("\n")
    verdict = "verdict" if report.ok else "verdict bad"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(report.title)}</title><style>{_STYLE}</style></head><body>
<h1>{html.escape(report.title)}</h1>
<p class="{verdict}">{html.escape(first)}</p>{"".join(f"<p>{html.escape(line)}</p>" for line in rest)}
<h2>SQNR along the network</h2>
{_plot(tensors)}
<h2>The worst tensors</h2>
<p>The two-dimensional slice with the largest difference: PyTorch, the C core, and their difference (white: none).</p>
<div class="grid">{worst}</div>
<h2>Every tensor, in execution order</h2>
<table><thead>{_INT8_HEAD if int8 else _HEAD}</thead><tbody>{rows}</tbody></table>
</body></html>
"""


_HEAD = """<tr><th>tensor</th><th>shape</th><th>max abs</th><th>max rel</th>
<th>cosine</th><th>SQNR dB</th><th></th></tr>
"""

_INT8_HEAD = """<tr><th></th><th></th><th colspan="2">PyTorch float32</th><th colspan="2">C float32</th>
<th colspan="3">C int8</th><th></th></tr>
<tr><th>tensor</th><th>shape</th><th>low</th><th>high</th><th>max rel</th><th>SQNR dB</th><th>max rel</th>
<th>cosine</th><th>SQNR dB</th><th></th></tr>
"""


def _row(tensor: TensorReport) -> str:
    d = tensor.difference
    return _cells(tensor, f"{d.max_abs:.2e}", f"{d.max_rel:.2e}", f"{d.cosine:.8f}", _decibels(d))


def _int8_row(tensor: TensorReport) -> str:
    d, f = tensor.difference, tensor.float32
    float32 = ("&ndash;", "&ndash;") if f is None else (f"{f.max_rel:.2e}", _decibels(f))
    return _cells(
        tensor,
        f"{tensor.low:.3g}",
        f"{tensor.high:.3g}",
        *float32,
        f"{d.max_rel:.2e}",
        f"{d.cosine:.7f}",
        _decibels(d),
    )


def _cells(tensor: TensorReport, *figures: str) -> str:
    """A row: name, shape, figures, verdict."""
    shape = " &times; ".join(map(str, tensor.shape)) or "scalar"
    verdict = "<td></td>" if tensor.ok else '<td class="bad">failed</td>'
    cells = "".join(f"<td>{cell}</td>" for cell in (html.escape(tensor.path), shape, *figures))
    return f"<tr>{cells}{verdict}</tr>\n"


def _decibels(d: Difference) -> str:
    return f"{d.sqnr_db:.1f}" if math.isfinite(d.sqnr_db) else "equal" if d.max_abs == 0 else "&minus;&infin;"


def _plot(tensors: Sequence[TensorReport]) -> str:
    """SQNR of each tensor in execution order, a band for each program; rings are the float32 model's."""
    if not tensors:
        return "<p>No tensors.</p>"
    width, height, left, bottom = 1100.0, 280.0, 46.0, 24.0
    series = [[_clipped(tensor.difference) for tensor in tensors]]
    series.append([_clipped(tensor.float32) for tensor in tensors if tensor.float32 is not None])
    top = max(20.0, 20.0 * math.ceil(max(max(values, default=0.0) for values in series) / 20.0))
    step = (width - left) / len(tensors)

    def y(value: float) -> float:
        return (height - bottom) * (1.0 - value / top) + 6.0

    parts = [f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="SQNR in dB by tensor">']
    for tick in range(0, int(top) + 1, 20):
        parts.append(
            f'<line x1="{left}" x2="{width}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="var(--line)"/>'
            f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick} dB</text>'
        )
    start = 0
    for index in range(1, len(tensors) + 1):
        if index == len(tensors) or tensors[index].program != tensors[start].program:
            x = left + start * step
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{height}" stroke="var(--line)"/>'
                f'<text x="{x + 4:.1f}" y="{height - 4}">{html.escape(tensors[start].program)}</text>'
            )
            start = index
    for index, tensor in enumerate(tensors):
        x = left + (index + 0.5) * step
        name = html.escape(tensor.path)
        if tensor.float32 is not None:
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y(_clipped(tensor.float32)):.1f}" r="2.5" fill="none" '
                f'stroke="var(--ink)"><title>{name}, float32: {tensor.float32.sqnr_db:.1f} dB</title></circle>'
            )
        colour = "var(--good)" if tensor.ok else "var(--bad)"
        title = f"{name}: {tensor.difference.sqnr_db:.1f} dB"
        at = y(_clipped(tensor.difference))
        parts.append(f'<circle cx="{x:.1f}" cy="{at:.1f}" r="3" fill="{colour}"><title>{title}</title></circle>')
    return "".join([*parts, "</svg>"])


def _clipped(d: Difference) -> float:
    return min(_MAX_DECIBELS, max(0.0, d.sqnr_db))


def _figure(tensor: TensorReport, label: str) -> str:
    worst = tensor.worst
    error = worst.actual - worst.reference
    low, high = float(worst.reference.min()), float(worst.reference.max())
    reach = float(np.abs(error).max())
    pictures = [
        ("PyTorch", _grey(worst.reference, low, high)),
        *([] if worst.float32 is None else [("C float32", _grey(worst.float32, low, high))]),
        (label, _grey(worst.actual, low, high)),
        (f"difference, &plusmn;{reach:.1e}", _signed(error, reach)),
    ]
    images = "".join(f'<div><img alt="" src="{_data_url(pixels)}">{label}</div>' for label, pixels in pictures)
    index = "".join(f"[{i}]" for i in worst.index)
    name = html.escape(f"{tensor.path}{index}")
    figures = f"{name}: max rel {tensor.difference.max_rel:.2e}, {tensor.difference.sqnr_db:.1f} dB"
    return f'<figure><div class="pictures">{images}</div><figcaption>{figures}</figcaption></figure>\n'


def _grey(values: Array, low: float, high: float) -> Array:
    scaled = np.clip((values - low) / ((high - low) or 1.0), 0.0, 1.0)
    return np.repeat((scaled * 255.0).astype(np.uint8)[..., None], 3, axis=2)


def _signed(values: Array, reach: float) -> Array:
    """Blue below zero, red above, white at zero."""
    scaled = np.clip(values / (reach or 1.0), -1.0, 1.0)
    fade = ((1.0 - np.abs(scaled)) * 255.0).astype(np.uint8)
    full = np.full_like(fade, 255)
    return np.stack([np.where(scaled < 0, fade, full), fade, np.where(scaled > 0, fade, full)], axis=-1)


def _data_url(pixels: Array) -> str:
    from PIL import Image

    picture = Image.fromarray(pixels)
    if max(picture.size) > _PICTURE_SIDE:
        picture.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def sensitivity_page(found: Sensitivity) -> str:
    """A sensitivity table as HTML text, each layer with a bar for its share of the noise."""
    rows = "".join(
        f"<tr><td>{html.escape(f'{row.program}/{row.layer}')}</td><td>{row.operator}</td><td>{row.sqnr_db:.1f}</td>"
        f'<td>{row.share:.1%}</td><td><meter min="0" max="1" value="{row.share:.4f}"></meter></td>'
        f"<td>{html.escape(row.output)}</td></tr>\n"
        for row in found.layers
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(found.title)}</title><style>{_STYLE}</style></head><body>
<h1>{html.escape(found.title)}</h1>
<p>{html.escape(found.summary())}</p>
<table><thead><tr><th>layer</th><th>operator</th><th>SQNR dB</th><th colspan="2">share of the program's noise</th>
<th>output</th></tr></thead><tbody>{rows}</tbody></table>
</body></html>
"""
