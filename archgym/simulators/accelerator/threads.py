"""Run a compiled function over blocks of rows in threads.

The kernels release the interpreter lock, so plain threads are as fast as a parallel loop and compile in half the time.
Rows are independent, so that results do not depend on the number of threads or blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def run_blocks(function: Callable[..., None], rows: int, block: int, *arguments: Any) -> None:
    """Call ``function(first, last, *arguments)`` on blocks of ``0..rows``, on as many threads as Numba uses."""
    import numba

    if rows == 0:
        return
    threads = min(numba.get_num_threads(), -(-rows // block))
    if threads <= 1:
        function(0, rows, *arguments)
        return
    with ThreadPoolExecutor(threads) as pool:
        jobs = [pool.submit(function, first, min(first + block, rows), *arguments) for first in range(0, rows, block)]
        for job in jobs:
            job.result()
