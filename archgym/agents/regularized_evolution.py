"""Regularised evolution: tournament parents, one mutation, the oldest dies (Real et al., AAAI 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.agents.moves import Mover, tournament
from archgym.agents.starting import INFORMED, Fresh
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs


@dataclass(frozen=True)
class RegularizedEvolutionHyperparameters(Hyperparameters):
    """Of regularised evolution."""

    population: int = hyper(16, low=2, high=1024, log=True, doc="individuals that live at a time")
    sample: int = hyper(8, low=1, high=256, log=True, doc="individuals drawn, the best of which is the parent")
    mutations: int = hyper(1, low=1, high=8, doc="parameters changed in a child (at most as many as there are)")
    reach: float = hyper(1.0, low=0.01, high=1.0, doc="how far an ordered parameter moves, as a share of its range")
    workers: int = hyper(
        4, low=1, high=256, log=True, doc="children made from one state of the population; 1 = sequential"
    )
    informed: bool = hyper(True, choices=(True, False), doc=INFORMED)


class RegularizedEvolution(GenerationalAgent[RegularizedEvolutionHyperparameters]):
    """A queue of ``population`` individuals. A child is the best of ``sample`` individuals (drawn with replacement)
    with ``mutations`` parameters changed; it enters the queue and the oldest leaves, however good it was.
    ``workers`` children are made at once, as by the asynchronous workers of the paper."""

    name = "re"

    hyperparameters = RegularizedEvolutionHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._mutate = Mover(self.space, self.p.reach)
        self._fresh = Fresh(self.space, self.rng) if self.p.informed else None
        self._population: Designs | None = None
        self._rewards = np.empty(0)
        self._oldest = 0

    def propose(self) -> Designs:
        if self._population is None:
            if self._fresh is not None:
                return self._fresh.first(self.p.population)
            return self.space.sample(self.p.population, self.rng)
        children = min(self.p.workers, self.p.population)
        parents = tournament(self._rewards, children, self.p.sample, self.rng)
        self.bred_from = self._population[parents]
        if self._fresh is not None:
            return self._fresh.moved(self._mutate, self.bred_from, self.p.mutations, self.rng)
        return self._mutate(self.bred_from, self.p.mutations, self.rng)

    def forget(self) -> bool:
        self._population, self._oldest = None, 0
        return True

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        if self._population is None:
            self._population, self._rewards = designs.copy(), rewards.copy()
            return
        # The queue is a ring: children overwrite the oldest.
        start, end, size = self._oldest, self._oldest + len(designs), len(self._population)
        places = slice(start, end) if end <= size else np.arange(start, end) % size
        self._population[places], self._rewards[places] = designs, rewards
        self._oldest = end % size
