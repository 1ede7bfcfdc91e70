"""The observation of ``design`` and ``edit`` episodes as one compiled pass: twenty array operations on a row of forty
numbers would cost more than most simulators do."""

from __future__ import annotations

__all__ = ()

import math

import numpy as np
from numpy.typing import NDArray

from archgym.compiling import kernel

Floats = NDArray[np.float64]

LOG_RANGE = 5.0
"""Natural logarithms of metric / reference that fill the observation's range [-1, 1] on either side."""


@kernel
def observe(
    design: NDArray[np.int64],
    unit_step: Floats,
    columns: Floats,
    references: Floats,
    feasible: NDArray[np.bool_],
    best: Floats,
    steps: NDArray[np.int64],
    length: int,
    features: Floats,
    out: NDArray[np.float32],
) -> None:
    """Fill ``out`` ``(n, d + m + 3 + f)``, float32, from designs ``(n, d)``, metrics as rows ``(m, n)`` with their
    references ``(m,)``, and feasible, best reward and step count ``(n,)``; the table is in ``DesignEnv``."""
    n, d = design.shape
    m = len(references)
    for i in range(n):
        for j in range(d):
            out[i, j] = design[i, j] * unit_step[j]
        for j in range(m):
            value = columns[j, i]
            if math.isnan(value):
                # A metric that does not exist shows as 0, one of exactly 0 as the lower end.
                out[i, d + j] = 0.0
                continue
            logarithm = math.log(max(abs(value) / references[j], 1e-300)) / LOG_RANGE
            out[i, d + j] = min(max(logarithm, -1.0), 1.0)
        out[i, d + m] = 1.0 if feasible[i] else 0.0
        # -inf, before anything was evaluated, shows as -1.
        out[i, d + m + 1] = best[i] / (1.0 + abs(best[i])) if math.isfinite(best[i]) else math.copysign(1.0, best[i])
        out[i, d + m + 2] = 1.0 - steps[i] / length
        for j in range(len(features)):
            out[i, d + m + 3 + j] = features[j]
