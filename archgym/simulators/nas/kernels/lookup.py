"""Compiled look-up of large batches: validation, code and all metrics of a cell in one pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archgym.compiling import kernel
from archgym.threads import run_blocks

BLOCK = 65536
"""Designs that a thread looks up at a time."""


def gather(designs: NDArray[np.int64], table: NDArray[np.float64], out: NDArray[np.float64]) -> bool:
    """Write ``out[m, i] = table[code of designs[i], m]``.

    Args:
        designs: int64 ``(n, 6)``; table: float64 ``(15625, metrics)``; out: float64 ``(metrics, n or more)``, written.
    Returns False where an index lies outside 0..4 (then ``out`` is incomplete).
    """
    n = len(designs)
    bad = np.zeros(-(-n // BLOCK), dtype=np.bool_)
    run_blocks(_gather, n, BLOCK, designs, table, out, bad)
    return not bad.any()


@kernel
def _gather(first, last, designs, table, out, bad):
    metrics = table.shape[1]
    for i in range(first, last):
        code = 0
        good = True
        for e in range(6):
            op = designs[i, e]
            good = good and 0 <= op < 5
            code = code * 5 + op
        if good:
            for m in range(metrics):
                out[m, i] = table[code, m]
        else:
            bad[first // BLOCK] = True
