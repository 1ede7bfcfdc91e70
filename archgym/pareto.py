"""Pareto fronts of losses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def non_dominated(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rows ``(k, m)`` of ``losses`` ``(n, m)``, to be minimised, that no other row dominates; each once, sorted."""
    rows = np.unique(losses, axis=0)  # sorted by the first column: only earlier rows can dominate
    if rows.shape[1] == 2:
        least = np.minimum.accumulate(rows[:, 1])
        return rows[rows[:, 1] < np.concatenate([[np.inf], least[:-1]])]
    kept: list[NDArray[np.float64]] = []
    while len(rows):
        first, rows = rows[0], rows[1:]
        kept.append(first)
        rows = rows[(rows < first).any(axis=1)]
    return np.array(kept).reshape(-1, losses.shape[1])
