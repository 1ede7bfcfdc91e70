"""NEAS (Chen et al., CVPR 2021) for pairs of cells: the space is shrunk first, to operations whose cells have a low loss and
answer differently, by a supernet; what is left is searched by regularised evolution.

The shrinking is in :mod:`archgym.simulators.nas.supernet.shrinking`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.agents.regularized_evolution import RegularizedEvolution, RegularizedEvolutionHyperparameters
from archgym.announcing import duration, say
from archgym.errors import ArchGymError
from archgym.narrowing import Narrowed
from archgym.objective import Rewards
from archgym.problem import Problem
from archgym.simulator import Evaluation
from archgym.simulators.nas import cells
from archgym.simulators.nas.pair import MEMBERS, PairWorkload
from archgym.space import Designs


@dataclass(frozen=True)
class EnsembleShrinkingHyperparameters(Hyperparameters):
    """Of neas; ``population`` and ``sample`` are those of ``re``."""

    steps: int = hyper(3000, low=100, high=1_000_000, log=True, doc="cells that the supernet trains in all")
    drops: int = hyper(12, low=0, high=24, doc="operations dropped, of thirty; 0 = no supernet, which is re")
    cells: int = hyper(40, low=10, high=1000, log=True, doc="cells whose answers judge the operations before a drop")
    diversity: float = hyper(0.1, low=0.0, high=100.0, doc="weight of the divergence between answers, beside the loss")
    population: int = hyper(16, low=2, high=1024, log=True, doc="individuals that live at a time")
    sample: int = hyper(8, low=1, high=256, log=True, doc="individuals drawn, the best of which is the parent")


class EnsembleShrinking(GenerationalAgent[EnsembleShrinkingHyperparameters]):
    """Diversity-guided shrinking of the space of ``nas/nb201-pair``, then ``re`` in what is left. The supernet is trained on the
    workload's data beyond the budget, which is said with its seconds, and given to the run's log as
    ``shrinking/cpu_seconds``."""

    name = "neas"
    exact = False

    hyperparameters = EnsembleShrinkingHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        workload = self.problem.workload
        if not isinstance(workload, PairWorkload) or self.space.size < workload.design_space.size:
            raise ArchGymError(
                f"{self.name} shrinks the whole space of nas/nb201-pair by a supernet of its own; {self.problem.name} "
                "is another problem or a part of that space"
            )
        self._workload = workload
        self._search: RegularizedEvolution | None = None
        self._narrowed: Narrowed | None = None
        self._inner: Designs = np.empty((0, self.space.dimension), dtype=np.int64)

    def propose(self) -> Designs:
        if self._search is None:
            self._begin()
        assert self._search is not None
        self._search.bred_from = None
        self._inner = self._search.propose()
        if self._search.bred_from is not None:
            self.bred_from = self._lifted(self._search.bred_from)
        return self._lifted(self._inner)

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        assert self._search is not None
        self._search.learn(self._inner, evaluation, rewards)

    def forget(self) -> bool:
        return self._search is not None and self._search.forget()

    def _lifted(self, designs: Designs) -> Designs:
        assert self._narrowed is not None
        return self._narrowed.lift(designs, self._workload)

    def _begin(self) -> None:
        """Shrink the space, and set the search up in what is left."""
        only: dict[str, tuple[str, ...]] = {}
        if self.p.drops:
            only = self._shrunk()
        self._narrowed = Narrowed(self.problem.simulator, only=only)
        problem = self.problem
        inside = Problem(problem.name, self._narrowed, self._workload, problem.objective, problem.fidelity)
        settings = RegularizedEvolutionHyperparameters(population=self.p.population, sample=self.p.sample)
        self._search = RegularizedEvolution(inside, self.seed, settings)

    def _shrunk(self) -> dict[str, tuple[str, ...]]:
        """Parameter -> the operations that are left, the same for both members."""
        from archgym.simulators.nas.supernet.shrinking import ShrinkRecipe, shrink
        from archgym.simulators.nas.supernet.training import SupernetRecipe

        base = self._workload.base
        supernet = SupernetRecipe(data=base.data, macro=base.macro, steps=self.p.steps)
        found = shrink(ShrinkRecipe(supernet, self.p.drops, self.p.cells, self.p.diversity), self.seed)
        said = "; ".join(f"{cells.EDGE_NAMES[edge]} {cells.OPERATIONS[op]}" for edge, op in found.dropped)
        say(f"{self.name} trained a supernet for {duration(found.seconds)} beyond the budget and dropped {said}")
        self.measured({"shrinking/cpu_seconds": found.seconds})
        return {
            f"{member}_{name}": tuple(cells.OPERATIONS[op] for op in np.flatnonzero(found.allowed[edge]))
            for member in MEMBERS
            for edge, name in enumerate(cells.EDGE_NAMES)
        }
