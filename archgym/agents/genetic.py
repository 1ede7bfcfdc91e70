"""A genetic algorithm on DEAP: tournament selection, uniform crossover, per-gene mutation, elites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from deap import tools

from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.agents.deap_support import OwnRandom, vary
from archgym.agents.starting import INFORMED, Fresh
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs


class _Individual:
    """What DEAP selects by: the reward of a design, which is a row of the population."""

    __slots__ = ("reward", "row")

    def __init__(self, row: int, reward: float) -> None:
        self.row, self.reward = row, reward


@dataclass(frozen=True)
class GeneticHyperparameters(Hyperparameters):
    """Of the genetic algorithm."""

    population: int = hyper(16, low=2, high=1024, log=True, doc="individuals a generation")
    elites: int = hyper(8, low=0, high=64, doc="best individuals that survive unchanged")
    tournament: int = hyper(3, low=1, high=16, doc="individuals that compete for each parent's place")
    crossover: float = hyper(0.8, low=0.0, high=1.0, doc="probability that two parents are crossed")
    mutation: float = hyper(0.1, low=0.0, high=1.0, doc="probability that a gene is drawn anew")
    informed: bool = hyper(True, choices=(True, False), doc=INFORMED)


class GeneticAlgorithm(GenerationalAgent[GeneticHyperparameters]):
    """Each generation: the ``elites`` best survive; the rest are children of tournament winners, crossed with
    probability ``crossover`` and mutated gene by gene with probability ``mutation``, once more where a child is the
    twin of another."""

    name = "ga"

    hyperparameters = GeneticHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._random = OwnRandom(self.rng)
        self._fresh = Fresh(self.space, self.rng) if self.p.informed else None
        self._parents: list[_Individual] = []
        self._population = np.empty((0, self.space.dimension), dtype=np.int64)
        self._elites = min(self.p.elites, self.p.population - 1)

    def propose(self) -> Designs:
        if not self._parents:
            if self._fresh is not None:
                return self._fresh.first(self.p.population)
            return self.space.sample(self.p.population, self.rng)
        with self._random as own:
            count = self.p.population - self._elites
            chosen = tools.selTournament(self._parents, count, tournsize=self.p.tournament, fit_attr="reward")
            self.bred_from = self._population[[parent.row for parent in chosen]]
            children, nvec = self.bred_from.tolist(), self.space.nvec
            born = vary(children, self._population, nvec, self.p.crossover, self.p.mutation, self.rng, own)
        return born if self._fresh is None else self._fresh(born, self.bred_from)

    def forget(self) -> bool:
        self._parents = []
        return True

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        elites = tools.selBest(self._parents, self._elites, fit_attr="reward")
        self._population = np.concatenate([self._population[[elite.row for elite in elites]], designs])
        for row, elite in enumerate(elites):
            elite.row = row
        self._parents = elites + [_Individual(row, reward) for row, reward in enumerate(rewards.tolist(), len(elites))]
