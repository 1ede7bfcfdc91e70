"""Batches of designs evaluated by an executor: in processes of this machine or on a Ray cluster, with the same bits as here."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError
from archgym.problem import Problem
from archgym.simulator import Evaluation, Live, Simulator, Workload
from archgym.space import Designs
from archgym.studies.executors import Executor, make_executor
from archgym.studies.workers import LOST
from archgym.threads import usable_cores
from archgym.wrapping import Wrapped

LARGEST = 1024
"""Designs that a worker gets at a time, at most."""
PIECES = 8
"""Pieces a worker that a batch is cut into, so that all are busy to its end and little is lost with one."""


class Spread(Wrapped):
    """A simulator whose batches are cut in pieces that an executor evaluates. A piece that is lost with its process or node is
    evaluated again; a simulator gives the same bits for a design whatever it is evaluated with.

    Args:
        whole: the simulator.
        executor: see :func:`archgym.studies.executors.make_executor`.
    """

    def __init__(self, whole: Simulator, executor: Executor) -> None:
        super().__init__(whole)
        self.executor = executor
        self._sent: dict[int, tuple[Workload, bytes]] = {}

    @property
    def _workers(self) -> int:
        return int(getattr(self.executor, "workers", None) or usable_cores())

    @property
    def workers(self) -> int:
        """Designs that are simulated at a time: those of every worker together."""
        return self._workers * max(1, int(getattr(self.whole, "workers", 1)))

    def live(self, workload: Workload, fidelity: str | None = None) -> Live | None:
        found = self.whole.live(workload, fidelity)
        return None if found is None else replace(found, piece=found.piece * PIECES * self._workers)

    def evaluate(
        self,
        designs: ArrayLike,
        workload: Workload,
        *,
        fidelity: str | None = None,
        seed: int | None = None,
        **further: Any,
    ) -> Evaluation:
        array = self.space(workload).check(designs)
        if further or not len(array):
            return self.whole.evaluate(array, workload, fidelity=fidelity, seed=seed, **further)
        parts = sorted(
            self.evaluate_parts(array, workload, fidelity=fidelity, seed=seed), key=lambda part: int(part[0][0])
        )
        return Evaluation.concatenate([evaluation for _, evaluation in parts])

    def evaluate_parts(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Iterator[tuple[NDArray[np.int64], Evaluation]]:
        array = self.space(workload).check(designs)
        most = LARGEST
        if self.starts_programs or self.whole.live(workload, fidelity) is not None:
            most = max(1, int(getattr(self.whole, "workers", 1)))
        size = max(1, min(most, -(-len(array) // (PIECES * self._workers))))
        rows = [np.arange(i, min(i + size, len(array))) for i in range(0, len(array), size)]
        if id(workload) not in self._sent:
            self._sent[id(workload)] = workload, pickle.dumps((self.whole, workload))
        sent = self._sent[id(workload)][1]
        for i, evaluation in self.executor.each(_evaluate, [(sent, array[part], fidelity, seed) for part in rows]):
            if evaluation is LOST:
                raise ArchGymError(
                    f"the process that evaluated designs of {self.name}/{workload.name} died each time (out of memory?)"
                )
            yield rows[i], evaluation


def _evaluate(job: tuple[bytes, Designs, str | None, int | None]) -> Evaluation:
    sent, designs, fidelity, seed = job
    simulator, workload = _opened(sent)
    return simulator.evaluate(designs, workload, fidelity=fidelity, seed=seed)


@lru_cache(maxsize=16)
def _opened(sent: bytes) -> tuple[Simulator, Workload]:
    made: tuple[Simulator, Workload] = pickle.loads(sent)  # this process's driver made it
    return made


def spread(problem: Problem, executor: Executor) -> Problem:
    """The same problem, its designs evaluated by ``executor``; a store stays with this process."""
    simulator = _spread(problem.simulator, executor)
    return Problem(problem.name, simulator, problem.workload, problem.objective, problem.fidelity, problem.options)


def spread_by(executor: str, problem: Problem) -> Problem:
    """As :func:`spread`, by an executor named as on the command line."""
    return spread(problem, make_executor(executor))


def _spread(simulator: Simulator, executor: Executor) -> Simulator:
    if not isinstance(simulator, Wrapped):
        return Spread(simulator, executor)
    (_, *others), options = simulator._arguments
    return type(simulator)(_spread(simulator.whole, executor), *others, **options)
