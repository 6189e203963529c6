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
    max_rel : `max_abs` divided by the reference's range, its maximum less its minimum (for a constant tensor: by its largest
        magnitude; for zeros: by 1).
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
    r = reference.astype(np.float64).ravel()
    a = actual.astype(np.float64).ravel()
    same = r == a  # covers equal infinities, whose difference is NaN
    if not np.all(np.isfinite(a[~same])):
        return Difference(math.inf, math.inf, 0.0, -math.inf)
    r, a = np.where(same & ~np.isfinite(r), 0.0, r), np.where(same & ~np.isfinite(a), 0.0, a)
    error = r - a
    max_abs = float(np.max(np.abs(error)))
    spread = float(np.max(r) - np.min(r)) or float(np.max(np.abs(r))) or 1.0
    noise, signal = float(error @ error), float(r @ r)
    norms = math.sqrt(signal) * float(np.linalg.norm(a))
    return Difference(
        max_abs,
        max_abs / spread,
        float(r @ a) / norms if norms else float(noise == 0.0),
        math.inf if noise == 0.0 else 10.0 * math.log10(signal / noise) if signal else -math.inf,
    )
