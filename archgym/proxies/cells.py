"""What costs nothing to know of a neural cell, as learning features: its operations, statistics of its graph, and the ranks
of its zero-cost scores. The model ``cells`` learns from them."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError

EDGES, OPERATIONS = 6, 5
Matrix = NDArray[np.float64]


def width(features: int) -> int:
    """Columns of :func:`cell_features` for feature rows of ``features`` columns."""
    return _of_every_cell().shape[1] + max(features - EDGES * OPERATIONS, 0)


def cell_features(rows: Matrix) -> tuple[Matrix, NDArray[np.bool_]]:
    """Features ``(n, f)`` of cells whose feature rows begin with their one-hot operations, what follows (numbers of the
    workload) kept; and which cells ``(n,)`` are dead: no path leads to their output.

    Raises:
        ArchGymError: for rows that are no cells.
    """
    from archgym.simulators.nas import cells

    codes = cell_codes(rows)
    return np.concatenate([_of_every_cell()[codes], rows[:, EDGES * OPERATIONS :]], axis=1), cells.is_dead(
        cells.rows(codes)
    )


def cell_codes(rows: Matrix, model: str = "cells", *, alone: bool = False) -> NDArray[np.int64]:
    """Codes ``(n,)`` of cells whose feature rows begin with their one-hot operations.

    Raises:
        ArchGymError: for rows that are no cells, or (``alone``) of more than one workload.
    """
    own = EDGES * OPERATIONS
    choices = rows[:, :own].reshape(len(rows), EDGES, -1) if rows.shape[1] >= own else np.empty((0, 0, 0))
    if choices.shape[2] != OPERATIONS or not (np.isin(choices, (0, 1)).all() and (choices.sum(axis=2) == 1).all()):
        raise ArchGymError(
            f"the model {model!r} learns cells of NAS-Bench-201; choose another one for this design space"
        )
    if alone and rows.shape[1] > own:
        raise ArchGymError(f"the networks of the model {model!r} learn one workload; give trials of one")
    from archgym.simulators.nas import cells

    return cells.codes(choices.argmax(axis=2))


@cache
def _of_every_cell() -> Matrix:
    """Standardised features of all cells in code order."""
    from scipy.stats import rankdata

    from archgym.simulators.nas import cells, zerocost

    table = cells.all_rows()
    operations = (table[:, :, None] == np.arange(OPERATIONS)).reshape(len(table), -1)
    scores = [rankdata(score) / len(table) for score, _ in zerocost.own_scores().values()]
    x = np.column_stack([operations, *cells.free_statistics(table).values(), *scores]).astype(np.float64)
    return np.asarray((x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-9))
