"""How far two tensors are apart."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Difference:
    """Distances of a tensor from its reference.

    max_abs : the largest absolute difference.
    max_rel : `max_abs` divided by the reference's range, its maximum less its minimum (for a constant tensor: by its
        largest magnitude; for zeros: by 1).
    cosine : of the flattened tensors; 1 where both are zero.
    sqnr_db : signal to quantisation noise, ``10 log10(sum r^2 / sum (r - a)^2)``; infinite where equal.
    """

    max_abs: float
    max_rel: float
    cosine: float
    sqnr_db: float

    def worse(self, other: Difference) -> Difference:
        """The worse of each figure."""
        return Difference(
            max(self.max_abs, other.max_abs),
            max(self.max_rel, other.max_rel),
            min(self.cosine, other.cosine),
            min(self.sqnr_db, other.sqnr_db),
        )


def difference(reference: Array, actual: Array) -> Difference:
    """The distances of `actual` from `reference`, computed in float64.

    A value that is not finite in `actual` where the reference is makes them infinite (cosine 0); equal infinities are
    equal.

    Raises
    ------
    ValueError : the shapes differ.
    """
    if reference.shape != actual.shape:
        raise ValueError(f"shapes differ: reference {reference.shape}, actual {actual.shape}")
    if reference.size == 0:
        return Difference(0.0, 0.0, 1.0, math.inf)
    r = reference.ravel().astype(np.float64)
    a = actual.ravel().astype(np.float64)
    with np.errstate(invalid="ignore"):  # equal infinities
        error = r - a
    if not math.isfinite(signal := float(r @ r)) or not math.isfinite(noise := float(error @ error)):
        same = r == a  # also where both are the same infinity, whose difference is NaN
        if not np.all(np.isfinite(a[~same])):
            return Difference(math.inf, math.inf, 0.0, -math.inf)
        kept = np.isfinite(r)
        r, a, error = r[kept], a[kept], error[kept]
        signal, noise = float(r @ r), float(error @ error)
    max_abs = float(max(error.max(initial=0.0), -error.min(initial=0.0)))
    high, low = float(r.max(initial=-math.inf)), float(r.min(initial=math.inf))
    spread = (high - low if high > low else abs(high)) or 1.0
    norms = math.sqrt(signal) * math.sqrt(float(a @ a))
    return Difference(
        max_abs,
        max_abs / spread,
        float(r @ a) / norms if norms else float(noise == 0.0),
        math.inf if noise == 0.0 else 10.0 * math.log10(signal / noise) if signal else -math.inf,
    )
