"""A portfolio: Bayesian optimisation, a genetic algorithm and regularised evolution on one budget, picked by success."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.agents.bayesian import BayesianOptimization
from archgym.agents.genetic import GeneticAlgorithm
from archgym.agents.regularized_evolution import RegularizedEvolution
from archgym.agents.starting import Fresh
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs

CREDIT = 16.0
"""What Bayesian optimisation, the best member at small budgets on nearly every problem, is believed to have won before."""
FULL = 0.01
"""Share of the distance between the median and the best reward that is a whole success."""


@dataclass(frozen=True)
class PortfolioHyperparameters(Hyperparameters):
    """Of the portfolio."""

    initial: int = hyper(16, low=2, high=1024, log=True, doc="designs of Latin hypercubes from which all members start")
    memory: float = hyper(
        0.9, low=0.0, high=1.0, doc="factor on what is known of a member's success each time that it is picked"
    )
    least: float = hyper(0.04, low=0.0, high=0.33, doc="probability with which a member is picked whatever its success")


class Portfolio(GenerationalAgent[PortfolioHyperparameters]):
    """The members are ``bo``, ``ga`` and ``re`` with their defaults. Each generation is one member's: it is picked by a draw
    from what is believed of the chance that a design of its next generation is a new best (Thompson sampling on Beta
    distributions, older successes counting less and less), or with probability ``least`` uniformly. A new best counts by
    how much it gains, fully from a hundredth of the way from the median to the best. Every member learns from
    every generation, whose ever it was, and none proposes what another has had evaluated."""

    name = "portfolio"
    exact = False
    hyperparameters = PortfolioHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fresh = Fresh(self.space, self.rng)
        bo = BayesianOptimization(self.problem, self.seed)
        ga, re = GeneticAlgorithm(self.problem, self.seed), RegularizedEvolution(self.problem, self.seed)
        ga._fresh = re._fresh = self._fresh
        self._members: list[GenerationalAgent[Any]] = [bo, ga, re]
        self._won, self._lost = np.array([CREDIT, 1.0, 1.0]), np.ones(3)
        self._picked: int | None = None
        self._best = -np.inf
        self._rewards: Rewards = np.empty(0)

    def propose(self) -> Designs:
        if self._picked is None:
            return self._fresh.first(self.p.initial)
        drawn = self.rng.beta(self._won, self._lost)
        uniform = self.rng.random() < self.p.least * len(self._members)
        self._picked = int(self.rng.integers(len(self._members)) if uniform else np.argmax(drawn))
        member = self._members[self._picked]
        designs = member.propose()
        self.bred_from = member.bred_from
        return self._fresh.noted(designs)

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        gain = max(0.0, float(rewards.max()) - self._best)
        self._best = max(self._best, float(rewards.max()))
        if self._picked is None:
            self._picked = 0
        else:
            k, known = self._picked, self._rewards
            whole = FULL * (self._best - float(np.median(known))) if len(known) else 0.0
            # (Where nothing was feasible, or all rewards were equal, whatever is better is a success.)
            better = min(1.0, gain / whole) if whole > 0 else float(gain > 0)
            self._won[k] = 1.0 + self.p.memory * (self._won[k] - 1.0) + better
            # A generation of eight has eight tries.
            self._lost[k] = 1.0 + self.p.memory * (self._lost[k] - 1.0) + len(rewards) / 4.0 - better
        self._rewards = np.concatenate([self._rewards, rewards[evaluation.feasible]])
        for member in self._members:
            member.learn(designs, evaluation, rewards)
