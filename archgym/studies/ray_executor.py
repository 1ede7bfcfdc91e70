"""Runs on a Ray cluster: a pool of actors that take batches of runs (extra ``ray``).

The nodes need not share a file system: an actor writes its shard to a folder of its own and sends it back with the
record; the driver puts it in place. A batch whose actor or node dies is given to another actor.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from archgym.errors import ArchGymError
from archgym.studies.runner import execute
from archgym.studies.spec import RunSpec
from archgym.studies.store import Study
from archgym.studies.workers import ATTEMPTS, THREAD_VARIABLES, lost_record
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

    def run(self, runs: Sequence[RunSpec], study: Study, name: str, logs: bool) -> Iterator[dict[str, Any]]:
        started = not ray.is_initialized()
        if started:
            # A study needs no dashboard and must not phone home.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            try:
                ray.init(
                    address=self.address, log_to_driver=False, include_dashboard=False if not self.address else None
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                sentence = str(error).splitlines()[0]
                raise ArchGymError(f"no Ray cluster at {self.address or 'this machine'}: {sentence}") from None
        try:
            yield from self._work(runs, study, name, logs)
        finally:
            if started:
                ray.shutdown()

    def _actor(self) -> Any:
        variables = {variable: str(self.threads) for variable in THREAD_VARIABLES}
        return (
            ray.remote(_Worker)
            .options(num_cpus=self.threads, runtime_env={"env_vars": variables}, max_restarts=0)
            .remote()
        )

    def _start(self, starting: dict[Any, Any]) -> None:
        actor = self._actor()
        starting[actor.ping.remote()] = actor

    def _work(self, runs: Sequence[RunSpec], study: Study, name: str, logs: bool) -> Iterator[dict[str, Any]]:
        processors = int(ray.cluster_resources().get("CPU", 1)) // self.threads
        count = max(1, min(self.workers or processors, len(runs)))
        # Batches amortise the message; small ones keep all actors busy to the end and little is lost with a node.
        size = max(1, min(16, len(runs) // (8 * count)))
        todo = deque(list(runs[i : i + size]) for i in range(0, len(runs), size))
        lost: dict[str, int] = {}
        idle: list[Any] = []
        busy: dict[Any, tuple[Any, list[RunSpec]]] = {}
        # An actor gets work only once it runs: the place of a lost one may be gone with its node for good.
        starting = {actor.ping.remote(): actor for actor in (self._actor() for _ in range(count))}
        while todo or busy:
            while todo and idle:
                actor, batch = idle.pop(), todo.popleft()
                busy[actor.work.remote([run.as_dict() for run in batch], name, logs)] = actor, batch
            ready, _ = ray.wait([*busy, *starting], num_returns=1)
            if ready[0] in starting:
                actor = starting.pop(ready[0])
                try:
                    ray.get(ready[0])
                    idle.append(actor)
                except ray.exceptions.RayError:
                    self._start(starting)
                continue
            actor, batch = busy.pop(ready[0])
            try:
                done = ray.get(ready[0])
            except ray.exceptions.RayError:
                # The actor or its node is gone. Its runs go to a new actor, one by one so that a run that kills its
                # actor takes no others along.
                for run in reversed(batch):
                    lost[run.id] = lost.get(run.id, 0) + 1
                    if lost[run.id] <= ATTEMPTS:
                        todo.appendleft([run])
                    else:
                        yield lost_record(run, name)
                self._start(starting)
                continue
            idle.append(actor)
            for run, (record, data) in zip(batch, done, strict=True):
                if data is not None:
                    _put(study.shard(run), data)
                yield record
        for actor in (*idle, *starting.values()):
            ray.kill(actor)


def _put(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
