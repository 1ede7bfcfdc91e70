"""A genetic algorithm on DEAP: tournament selection, uniform crossover, per-gene mutation, elites."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from deap import base, tools

from archgym.agents.base import Agent, Hyperparameters, hyper
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs


class _Fitness(base.Fitness):  # type: ignore[misc]
    weights = (1.0,)


class _Individual(list[int]):
    """A design as DEAP wants it: a list of value indices with a fitness."""

    def __init__(self, genes: Any = ()) -> None:
        super().__init__(genes)
        self.fitness = _Fitness()


@dataclass(frozen=True)
class GeneticHyperparameters(Hyperparameters):
    """Of the genetic algorithm."""

    population: int = hyper(32, low=2, high=1024, log=True, doc="individuals a generation")
    elites: int = hyper(2, low=0, high=64, doc="best individuals that survive unchanged")
    tournament: int = hyper(3, low=1, high=16, doc="individuals that compete for each parent's place")
    crossover: float = hyper(0.8, low=0.0, high=1.0, doc="probability that two parents are crossed")
    mutation: float = hyper(0.1, low=0.0, high=1.0, doc="probability that a gene is drawn anew")


class GeneticAlgorithm(Agent):
    """Each generation: the ``elites`` best survive; the rest are children of tournament winners, crossed with
    probability ``crossover`` and mutated gene by gene with probability ``mutation``."""

    name = "ga"

    hyperparameters = GeneticHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # DEAP's operators draw from Python's global generator; they get one of our own for the time of a call.
        self._python_rng = random.Random(int(self.rng.integers(2**63)))
        self._parents: list[_Individual] = []
        self._generation: list[_Individual] = []
        self._pending: list[_Individual] = []
        self._high = [int(count) - 1 for count in self.space.nvec]

    def ask(self, n: int) -> Designs:
        if not self._pending:
            self._pending = self._children() if self._parents else self._first()
        return np.array(self._pending[:n], dtype=np.int64)

    def tell(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        done, self._pending = self._pending[: len(rewards)], self._pending[len(rewards) :]
        for individual, reward in zip(done, rewards.tolist(), strict=True):
            individual.fitness.values = (reward,)
        self._generation += done
        if not self._pending:
            elites = tools.selBest(self._parents, min(self.p.elites, self.p.population - 1))
            self._parents, self._generation = elites + self._generation, []

    def _first(self) -> list[_Individual]:
        return [_Individual(row) for row in self.space.sample(self.p.population, self.rng).tolist()]

    def _children(self) -> list[_Individual]:
        state = random.getstate()
        random.setstate(self._python_rng.getstate())
        try:
            count = self.p.population - min(self.p.elites, self.p.population - 1)
            size = min(self.p.tournament, len(self._parents))
            chosen = tools.selTournament(self._parents, count, tournsize=size)
            children = [_Individual(parent) for parent in chosen]
            for left, right in zip(children[::2], children[1::2], strict=False):
                if random.random() < self.p.crossover:
                    tools.cxUniform(left, right, 0.5)
            for child in children:
                tools.mutUniformInt(child, 0, self._high, self.p.mutation)
            return children
        finally:
            self._python_rng.setstate(random.getstate())
            random.setstate(state)
