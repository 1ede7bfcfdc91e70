"""Where the runs of a study are done: in this process, in processes of this machine, or on a Ray cluster.

An executor takes runs and yields their records in whatever order they end. The driver alone writes ``results.jsonl``.
Every run is deterministic, so that a run that was lost with its process is simply done again.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from archgym.errors import ArchGymError, MissingExtraError, UnknownNameError, quote
from archgym.studies.runner import execute
from archgym.studies.spec import RunSpec
from archgym.studies.store import Study
from archgym.studies.workers import ATTEMPTS, LOST, THREAD_VARIABLES, lost_record
from archgym.threads import usable_cores


class Executor(Protocol):
    """What studies, enumerations and samples need of an executor."""

    def run(self, runs: Sequence[RunSpec], study: Study, name: str, logs: bool) -> Iterator[dict[str, Any]]:
        """Do the runs of the study called ``name``; yield each record as it ends."""

    def each(self, task: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """``task(job)`` of every job, wherever there is room: (index, result) in whatever order they end; :data:`LOST` stands
        for the result of a job whose process died each time. Task, jobs and results are pickled."""


def make_executor(text: str, workers: int | None = None, threads: int = 1) -> Executor:
    """``"serial"``, ``"processes"`` or ``"ray"``, the latter two also as ``"processes:4"`` and ``"ray:ADDRESS"``.

    Args:
        text: which one.
        workers: processes or actors; the processors where None.
        threads: threads a worker may use (BLAS, torch, Numba).
    """
    kind, _, detail = text.partition(":")
    if threads < 1:
        raise ArchGymError(f"threads is {threads}; expected a positive number")
    if kind == "serial":
        if detail:
            raise ArchGymError(f"the executor is {quote(text)}; serial takes no number, processes:N does")
        return SerialExecutor()
    if kind == "processes":
        if detail and not detail.isdigit():
            raise ArchGymError(f"the executor is {text!r}; write processes:N with a number N")
        if detail and workers is not None and int(detail) != workers:
            raise ArchGymError(f"the executor {quote(text)} and {workers} workers do not agree; give one of them")
        return ProcessExecutor(int(detail) if detail else workers, threads)
    if kind == "ray":
        try:
            from archgym.studies.ray_executor import RayExecutor
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "ray":
                raise
            raise MissingExtraError("the executor 'ray'", "ray", "ray is not installed") from None
        return RayExecutor(detail or None, workers, threads)
    raise UnknownNameError("executor", kind, ("serial", "processes", "ray"))


@contextmanager
def thread_limit(threads: int) -> Iterator[None]:
    """Child processes started inside load their numeric libraries with so many threads."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update({name: str(threads) for name in THREAD_VARIABLES})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class SerialExecutor:
    """One run after the other in this process."""

    def run(self, runs: Sequence[RunSpec], study: Study, name: str, logs: bool) -> Iterator[dict[str, Any]]:
        for run in runs:
            yield execute(run, study.shard(run) if logs else None, name)

    def each(self, task: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for i, job in enumerate(jobs):
            yield i, task(job)


class ProcessExecutor:
    """Runs in processes of this machine. A process that dies (out of memory, killed) costs only its present run, which
    goes on from its shard in a new process.

    Args:
        workers: processes; the processors of this machine where None.
        threads: threads each may use.
    """

    def __init__(self, workers: int | None = None, threads: int = 1) -> None:
        if workers is not None and workers < 1:
            raise ArchGymError(f"workers is {workers}; expected a positive number")
        self.workers = workers or max(1, usable_cores() // threads)
        self.threads = threads
        self._pool: ProcessPoolExecutor | None = None  # kept for the next batch: a process starts in seconds

    def run(self, runs: Sequence[RunSpec], study: Study, name: str, logs: bool) -> Iterator[dict[str, Any]]:
        jobs = [(run, study.shard(run) if logs else None, name) for run in runs]
        try:
            for i, record in self.each(_execute, jobs):
                yield lost_record(runs[i], name) if record is LOST else record
        finally:
            self.close()

    def close(self) -> None:
        """End the processes; the next jobs start others."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def each(self, task: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        todo = deque(range(len(jobs)))
        lost: dict[int, int] = {}
        while todo:
            with thread_limit(self.threads):
                pool = self._pool or ProcessPoolExecutor(
                    self.workers, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent
                )
                self._pool = pool
                running: dict[Future[Any], int] = {}
                try:
                    while todo or running:
                        # A short queue: what is queued when the pool breaks has to be given out again.
                        while todo and len(running) < 2 * self.workers:
                            i = todo.popleft()
                            try:
                                running[pool.submit(task, jobs[i])] = i
                            except BrokenProcessPool:
                                todo.appendleft(i)
                                raise
                        for future in wait(running, return_when=FIRST_COMPLETED).done:
                            result = future.result()
                            yield running.pop(future), result
                except BrokenProcessPool:
                    self.close()
                    for future, i in running.items():
                        if future.done() and future.exception() is None:
                            yield i, future.result()
                            continue
                        lost[i] = lost.get(i, 0) + 1
                        if lost[i] <= ATTEMPTS * self.workers:
                            todo.appendleft(i)
                        else:
                            yield i, LOST
                except BaseException:
                    self.close()
                    raise


def _execute(job: tuple[RunSpec, Path | None, str]) -> dict[str, Any]:
    return execute(*job)


def end_with_parent() -> None:
    """Let this process end within a second of its parent, even where the parent is killed: otherwise the workers of a
    killed study would go on writing."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
