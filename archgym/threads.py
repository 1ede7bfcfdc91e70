"""Run compiled functions in threads: the one way in which this package uses several processors.

The kernels release the interpreter lock, so plain threads are as fast as a parallel loop and compile in half the time.
Pieces of work are independent, so that results do not depend on the number of threads. No thread outlives a call:
processes may fork before and after, and any number of Python threads may call at once.
"""

from __future__ import annotations

__all__ = ()

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_LIMIT: ContextVar[int | None] = ContextVar("threads", default=None)


def thread_count() -> int:
    """Threads that a call may use: the limit set here, else ``NUMBA_NUM_THREADS``, else the processors of this process."""
    from numba import config  # asking Numba itself would start its own threads, which do not survive a fork

    limit, most = _LIMIT.get(), int(config.NUMBA_NUM_THREADS)
    return most if limit is None else min(limit, most)


@contextmanager
def limit_threads(threads: int) -> Iterator[None]:
    """Calls inside use at most ``threads`` threads."""
    token = _LIMIT.set(max(1, threads))
    try:
        yield
    finally:
        _LIMIT.reset(token)


def usable_cores() -> int:
    """Processor cores that this process may use: those it is bound to where the system can say that, else all."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_threads(task: Callable[[Any], None], work: Sequence[Any], threads: int | None = None) -> None:
    """Call ``task`` on every piece of ``work``, on at most ``threads`` threads (:func:`thread_count` by default), this one
    among them. What a task raises is raised here."""
    helpers = min(thread_count() if threads is None else threads, len(work)) - 1
    if helpers < 1:
        for piece in work:
            task(piece)
        return
    left = deque(work)

    def drain() -> None:
        while True:
            try:
                piece = left.popleft()
            except IndexError:
                return
            try:
                task(piece)
            except BaseException:
                left.clear()
                raise

    with ThreadPoolExecutor(helpers) as pool:
        helping = [pool.submit(drain) for _ in range(helpers)]
        drain()
        for helper in helping:
            helper.result()


def run_blocks(function: Callable[..., None], rows: int, block: int, *arguments: Any) -> None:
    """Call ``function(first, last, *arguments)`` on blocks of ``0..rows``, on :func:`thread_count` threads."""

    def work(first: int) -> None:
        function(first, min(first + block, rows), *arguments)

    on_threads(work, range(0, rows, block))
