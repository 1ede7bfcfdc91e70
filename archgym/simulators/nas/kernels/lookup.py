"""Compiled look-up of large batches: validation, code and all metrics of a cell in one pass."""

from __future__ import annotations

from numba import njit, prange


@njit(cache=True, parallel=True)
def gather(designs, table, out):
    """Write ``out[m, i] = table[code of designs[i], m]``.

    Args:
        designs: int64 ``(n, 6)``; table: float64 ``(15625, metrics)``; out: float64 ``(metrics, n)``, written.
    Returns False where an index lies outside 0..4 (then ``out`` is incomplete).
    """
    n, metrics = designs.shape[0], table.shape[1]
    bad = 0
    for i in prange(n):
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
            bad += 1
    return bad == 0
