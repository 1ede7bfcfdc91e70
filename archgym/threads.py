"""Run compiled functions in threads.

The kernels release the interpreter lock, so plain threads are as fast as a parallel loop and compile in half the time.
Pieces of work are independent, so that results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def on_threads(task: Callable[[Any], None], work: Sequence[Any], threads: int | None = None) -> None:
    """Call ``task`` on every piece of ``work``, on at most ``threads`` threads (as many as Numba uses by default). A
    single piece needs no other thread; what a task raises is raised here."""
    if threads is None:
        import numba

        threads = numba.get_num_threads()
    threads = min(threads, len(work))
    if threads <= 1:
        for piece in work:
            task(piece)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(task, work):
            pass


def run_blocks(function: Callable[..., None], rows: int, block: int, *arguments: Any) -> None:
    """Call ``function(first, last, *arguments)`` on blocks of ``0..rows``, on as many threads as Numba uses."""

    def work(first: int) -> None:
        function(first, min(first + block, rows), *arguments)

    on_threads(work, range(0, rows, block))
