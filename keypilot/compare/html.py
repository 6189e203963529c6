"""A parity report as one self-contained page: a plot along the network, the worst tensors as pictures, the table."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence

import numpy as np

from keypilot.compare.metrics import Array
from keypilot.compare.report import Report, TensorReport

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
.triple { display: flex; gap: .5rem; } .triple div { font-size: 12px; }
img { image-rendering: pixelated; width: 10rem; border: 1px solid var(--line); display: block; }
"""


def page(report: Report) -> str:
    """The whole page as HTML text."""
    tensors = report.tensors
    worst = "".join(_figure(tensor) for tensor in report.worst_first()[:_SHOWN_AS_PICTURES])
    rows = "".join(_row(tensor) for tensor in tensors)
    first, _, second = report.summary().partition("\n")
    verdict = "verdict" if report.ok else "verdict bad"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(report.title)}</title><style>{_STYLE}</style></head><body>
<h1>{html.escape(report.title)}</h1>
<p class="{verdict}">{html.escape(first)}</p><p>{html.escape(second)}</p>
<h2>SQNR along the network</h2>
{_plot(tensors)}
<h2>The worst tensors</h2>
<p>The two-dimensional slice with the largest difference: reference, C core, and their difference (white: none).</p>
<div class="grid">{worst}</div>
<h2>Every tensor, in execution order</h2>
<table><thead><tr><th>tensor</th><th>shape</th><th>max abs</th><th>max rel</th><th>cosine</th><th>SQNR dB</th><th></th>
</tr></thead><tbody>{rows}</tbody></table>
</body></html>
"""


def _row(tensor: TensorReport) -> str:
    d = tensor.difference
    shape = " &times; ".join(map(str, tensor.shape)) or "scalar"
    decibels = f"{d.sqnr_db:.1f}" if math.isfinite(d.sqnr_db) else "equal" if d.max_abs == 0 else "&minus;&infin;"
    verdict = "<td></td>" if tensor.ok else '<td class="bad">failed</td>'
    name = html.escape(f"{tensor.program}/{tensor.name}")
    return (
        f"<tr><td>{name}</td><td>{shape}</td><td>{d.max_abs:.2e}</td><td>{d.max_rel:.2e}</td>"
        f"<td>{d.cosine:.8f}</td><td>{decibels}</td>{verdict}</tr>\n"
    )


def _plot(tensors: Sequence[TensorReport]) -> str:
    """SQNR of each tensor in execution order, a band for each program."""
    if not tensors:
        return "<p>No tensors.</p>"
    width, height, left, bottom = 1100.0, 280.0, 46.0, 24.0
    decibels = [min(_MAX_DECIBELS, max(0.0, tensor.difference.sqnr_db)) for tensor in tensors]
    top = max(20.0, 20.0 * math.ceil(max(decibels) / 20.0))
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
    for index, (tensor, value) in enumerate(zip(tensors, decibels, strict=True)):
        colour = "var(--good)" if tensor.ok else "var(--bad)"
        title = html.escape(f"{tensor.program}/{tensor.name}: {tensor.difference.sqnr_db:.1f} dB")
        x = left + (index + 0.5) * step
        parts.append(f'<circle cx="{x:.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"><title>{title}</title></circle>')
    return "".join([*parts, "</svg>"])


def _figure(tensor: TensorReport) -> str:
    worst = tensor.worst
    error = worst.actual - worst.reference
    low, high = float(worst.reference.min()), float(worst.reference.max())
    reach = float(np.abs(error).max())
    pictures = (
        ("reference", _grey(worst.reference, low, high)),
        ("C core", _grey(worst.actual, low, high)),
        (f"difference, &plusmn;{reach:.1e}", _signed(error, reach)),
    )
    images = "".join(f'<div><img alt="" src="{_data_url(pixels)}">{label}</div>' for label, pixels in pictures)
    index = "".join(f"[{i}]" for i in worst.index)
    name = html.escape(f"{tensor.program}/{tensor.name}{index}")
    figures = f"{name}: max rel {tensor.difference.max_rel:.2e}, {tensor.difference.sqnr_db:.1f} dB"
    return f'<figure><div class="triple">{images}</div><figcaption>{figures}</figcaption></figure>\n'


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
