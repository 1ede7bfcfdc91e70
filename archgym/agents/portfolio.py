"""A portfolio: Bayesian optimisation first, then with a genetic algorithm and regularised evolution, picked by success."""

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
"""What Bayesian optimisation is believed to have won when the others join it."""
TURN = 4
"""Designs that a member proposes at least before another may: some propose one by one."""
FULL = 0.01
"""Share of the distance between the median and the best reward that is a whole success."""


@dataclass(frozen=True)
class PortfolioHyperparameters(Hyperparameters):
    """Of the portfolio."""

    alone: int = hyper(
        100,
        low=0,
        high=10000,
        doc="designs that Bayesian optimisation proposes alone, first ones included, before the others join",
    )
    initial: int = hyper(16, low=2, high=1024, log=True, doc="best trials of these from which the others start")
    memory: float = hyper(
        0.9, low=0.0, high=1.0, doc="factor on what is known of a member's success with each of its turns"
    )
    least: float = hyper(0.04, low=0.0, high=0.33, doc="probability with which a member is picked whatever its success")


class Portfolio(GenerationalAgent[PortfolioHyperparameters]):
    """The members are ``bo``, ``ga`` and ``re`` with their defaults. The first ``alone`` designs are ``bo``'s, which at such
    budgets is the best member on nearly every problem: up to there the run is that of ``bo``. From then on members take turns of
    four designs or a generation, whichever is more. One is picked by a draw from what is believed of the chance that a design
    of its turn is a new best (Thompson sampling on Beta distributions, older successes counting less and less), or with
    probability ``least`` uniformly. A new best counts by how much it gains, fully from a hundredth of the way from the median to
    the best. Every member learns from every generation, whose ever it was, and none proposes what another has had evaluated."""

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
        self._picked, self._joined = 0, False
        self._count = 0  # designs of the run
        self._parts: list[tuple[Designs, Evaluation, Rewards]] = []  # of the turn; until the others join, of the run
        self._gain = 0.0  # of the turn
        self._best = -np.inf
        self._rewards: Rewards = np.empty(0)

    def propose(self) -> Designs:
        if self._joined and not self._parts:
            drawn = self.rng.beta(self._won, self._lost)
            uniform = self.rng.random() < self.p.least * len(self._members)
            self._picked = int(self.rng.integers(len(self._members)) if uniform else np.argmax(drawn))
        member = self._members[self._picked]
        designs = member.propose()
        self.bred_from = member.bred_from
        return self._fresh.noted(designs)

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        self._parts.append((designs, evaluation, rewards))
        self._members[0].learn(designs, evaluation, rewards)
        if self._joined:
            self._account(rewards)
        self._count += len(rewards)
        self._best = max(self._best, float(rewards.max()))
        self._rewards = np.concatenate([self._rewards, rewards[evaluation.feasible]])
        if not self._joined and self._count >= self.p.alone:
            self._joined = True
            self._tell_others(self.p.initial)

    def _account(self, rewards: Rewards) -> None:
        """Count a generation of the picked member, and at the end of its turn what it won."""
        known = self._rewards
        gain = max(0.0, float(rewards.max()) - self._best)
        whole = FULL * (self._best - float(np.median(known))) if len(known) else 0.0
        # (Where nothing was feasible, or all rewards were equal, whatever is better is a success.)
        self._gain = min(1.0, self._gain + (gain / whole if whole > 0 else float(gain > 0)))
        size = sum(len(part) for _, _, part in self._parts)
        if size >= TURN:
            k = self._picked
            self._won[k] = 1.0 + self.p.memory * (self._won[k] - 1.0) + self._gain
            # A turn of eight has two tries.
            self._lost[k] = 1.0 + self.p.memory * (self._lost[k] - 1.0) + size / TURN - self._gain
            self._gain = 0.0
            self._tell_others()

    def _tell_others(self, most: int | None = None) -> None:
        """Tell the others of the turn that has ended, or of the best of it: generations of one would wear them out."""
        designs, rewards = (np.concatenate([part[i] for part in self._parts]) for i in (0, 2))
        evaluation = Evaluation.concatenate([part for _, part, _ in self._parts])
        if most is not None:
            best = np.argsort(-rewards, kind="stable")[:most]
            designs, evaluation, rewards = designs[best], evaluation.take(best), rewards[best]
        for member in self._members[1:]:
            member.learn(designs, evaluation, rewards)
        self._parts = []
