"""Runs on a Ray cluster: a pool of actors that take batches of runs (extra ``ray``).

The nodes need not share a file system: an actor writes its shard to a folder of its own and sends it back with the
record; the driver puts it in place. A batch whose actor or node dies is given to another actor.
"""

from __future__ import annotations

__all__ = ()

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray._private.worker

from archgym.announcing import say_once
from archgym.errors import ArchGymError
from archgym.store.stored import VARIABLE
from archgym.studies.runner import execute
from archgym.studies.spec import RunSpec
from archgym.studies.store import Study
from archgym.studies.workers import ATTEMPTS, LOST, THREAD_VARIABLES, lost_record
from archgym.writing import replacing


class _Worker:
    """The actor: does runs, returns (record, shard) pairs."""

    def work(
        self, runs: Sequence[Mapping[str, Any]], name: str, logs: bool
    ) -> list[tuple[dict[str, Any], bytes | None]]:
        done = []
        with tempfile.TemporaryDirectory(prefix="archgym-") as folder:
            for given in runs:
                shard = Path(folder) / "run.arrows" if logs else None
                record = execute(RunSpec(**given), shard, name)
                data = shard.read_bytes() if shard is not None and shard.exists() else None
                done.append((record, data))
                if shard is not None:
                    shard.unlink(missing_ok=True)
        return done

    def each(self, task: Callable[[Any], Any], jobs: Sequence[Any]) -> list[Any]:
        return [task(job) for job in jobs]

    def ping(self) -> bool:
        return True


class RayExecutor:
    """An actor pool.

    Args:
        address: of a running cluster (``auto`` finds the one of this machine); a local one is started where None.
        workers: actors; as many as the cluster has processors for where None.
        threads: threads an actor may use; it also reserves so many processors.
    """

    def __init__(self, address: str | None = None, workers: int | None = None, threads: int = 1) -> None:
        self.address, self.workers, self.threads = address, workers, threads
        self._kept: list[Any] = []  # actors that wait for the next jobs

    def run(self, runs: Sequence[RunSpec], study: Study, name: str, logs: bool) -> Iterator[dict[str, Any]]:
        def work(actor: Any, some: list[int]) -> Any:
            return actor.work.remote([runs[i].as_dict() for i in some], name, logs)

        with self._cluster():
            for i, done in self._work(len(runs), work):
                if done is LOST:
                    yield lost_record(runs[i], name)
                    continue
                record, data = done
                if data is not None:
                    _put(study.shard(runs[i]), data)
                yield record

    def each(self, task: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        def work(actor: Any, some: list[int]) -> Any:
            return actor.each.remote(task, [jobs[i] for i in some])

        if not ray.is_initialized():
            self._connect()
        yield from self._work(len(jobs), work, keep=True)

    @contextmanager
    def _cluster(self) -> Iterator[None]:
        """Connected to the cluster; what was connected before stays so."""
        started = not ray.is_initialized()
        if started:
            self._connect()
        try:
            yield
        finally:
            if started:
                ray.shutdown()

    def _connect(self) -> None:
        # A study needs no dashboard and must not phone home.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(address=self.address, log_to_driver=False, include_dashboard=False if not self.address else None)
        except (ConnectionError, ValueError, RuntimeError) as error:
            sentence = str(error).splitlines()[0]
            raise ArchGymError(f"no Ray cluster at {self.address or 'this machine'}: {sentence}") from None
        # Ray prints what it has to say of a lost node into this process's output, in the middle of what is asked for with
        # --json; it has no public switch for that.
        ray._private.worker._worker_logs_enabled = False

    def _actor(self) -> Any:
        variables = {variable: str(self.threads) for variable in THREAD_VARIABLES}
        if VARIABLE in os.environ:  # of use where the nodes share a file system
            variables[VARIABLE] = os.environ[VARIABLE]
        return (
            ray.remote(_Worker)
            .options(num_cpus=self.threads, runtime_env={"env_vars": variables}, max_restarts=0)
            .remote()
        )

    def _start(self, starting: dict[Any, Any]) -> None:
        actor = self._actor()
        starting[actor.ping.remote()] = actor

    def _work(self, count: int, work: Callable[[Any, list[int]], Any], keep: bool = False) -> Iterator[tuple[int, Any]]:
        """Give the jobs 0..count to actors by ``work(actor, some)``; yield (index, result) as they end. With ``keep`` the
        actors stay for the next jobs, and what a job raises is raised."""
        processors = int(ray.cluster_resources().get("CPU", 1)) // self.threads
        actors = max(1, min(self.workers or processors, count))
        # Batches amortise the message; small ones keep all actors busy to the end and little is lost with a node.
        size = max(1, min(16, count // (8 * actors)))
        todo = deque(list(range(i, min(i + size, count))) for i in range(0, count, size))
        lost: dict[int, int] = {}
        idle, self._kept = self._kept[:actors], self._kept[actors:]
        busy: dict[Any, tuple[Any, list[int]]] = {}
        # An actor gets work only once it runs: the place of a lost one may be gone with its node for good.
        starting = {actor.ping.remote(): actor for actor in (self._actor() for _ in range(actors - len(idle)))}
        try:
            while todo or busy:
                while todo and idle:
                    actor, some = idle.pop(), todo.popleft()
                    busy[work(actor, some)] = actor, some
                ready, _ = ray.wait([*busy, *starting], num_returns=1)
                if ready[0] in starting:
                    actor = starting.pop(ready[0])
                    try:
                        ray.get(ready[0])
                        idle.append(actor)
                    except ray.exceptions.RayError:
                        self._start(starting)
                    continue
                actor, some = busy.pop(ready[0])
                try:
                    done = ray.get(ready[0])
                except ray.exceptions.RayError as error:
                    if keep and isinstance(error, ray.exceptions.RayTaskError):
                        raise error.cause from None
                    # The actor or its node is gone. Its jobs go to a new actor, one by one so that one that kills its
                    # actor takes no others along.
                    say_once("a Ray worker was lost with its process or node; what it was doing is done again")
                    for i in reversed(some):
                        lost[i] = lost.get(i, 0) + 1
                        if lost[i] <= ATTEMPTS:
                            todo.appendleft([i])
                        else:
                            yield i, LOST
                    self._start(starting)
                    continue
                idle.append(actor)
                yield from zip(some, done, strict=True)
            if keep:
                self._kept += idle
                idle = []
        finally:
            for actor in (*idle, *starting.values(), *(actor for actor, _ in busy.values())):
                ray.kill(actor)


def _put(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
