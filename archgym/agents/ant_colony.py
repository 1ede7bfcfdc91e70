"""Ant colony optimisation with one pheromone a choice, as ArchGym searches (ant colony system; Dorigo, Gambardella, 1997)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.agents.moves import Stagnation, compiled
from archgym.agents.starting import INFORMED, Fresh
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs


@dataclass(frozen=True)
class AntColonyHyperparameters(Hyperparameters):
    """Of the ant colony."""

    ants: int = hyper(16, low=1, high=1024, log=True, doc="ants (designs) an iteration")
    evaporation: float = hyper(
        0.1, low=0.001, high=0.9, log=True, doc="share of the pheromone that is lost an iteration"
    )
    greediness: float = hyper(
        0.1, low=0.0, high=0.95, doc="probability that an ant takes the choice with the most pheromone"
    )
    elite: int = hyper(4, low=1, high=64, doc="best ants of an iteration that leave pheromone, by rank")
    memory: float = hyper(
        0.3, low=0.0, high=1.0, doc="share of the pheromone that the best ant of all iterations leaves"
    )
    patience: int = hyper(
        3, low=1, high=1000, log=True, doc="iterations without new designs after which a new colony starts"
    )
    informed: bool = hyper(True, choices=(True, False), doc=INFORMED)
    floor: float = hyper(
        0.02, low=0.0001, high=1.0, log=True, doc="least pheromone of a choice, as a share of an even spread"
    )


class AntColony(GenerationalAgent[AntColonyHyperparameters]):
    """An ant is a walk through the parameters that takes one choice at each: the one with the most pheromone with
    probability ``greediness``, else one drawn in proportion to the pheromone. After each iteration pheromone
    evaporates, and the best ants of the iteration (by rank) and of the whole run leave theirs on their choices.

    Only the order of rewards counts, so that one setting fits rewards of any scale. The pheromone of a parameter
    sums to one and has a floor, as in max-min ant systems, so that no choice dies out. After ``patience`` iterations
    in which nearly all ants (three of four) took ways met before, the pheromone is spread evenly again, and the best
    design so far is forgotten: another colony starts.
    """

    name = "aco"

    hyperparameters = AntColonyHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        nvec = self.space.nvec
        self._exists = np.arange(int(nvec.max())) < nvec[:, None]
        self._even = np.where(self._exists, 1.0 / nvec[:, None], 0.0)
        self.pheromone = self._even.copy()
        self._best: tuple[float, Designs] | None = None
        self._stagnates = Stagnation(self.p.patience)
        self._fresh = Fresh(self.space, self.rng) if self.p.informed else None

    def propose(self) -> Designs:
        shape = self.p.ants, self.space.dimension
        uniform, greedy = self.rng.random(shape), self.rng.random(shape)
        self._ways = self._walked(uniform, greedy)
        return self._ways if self._fresh is None else self._fresh(self._ways.copy(), self._ways)

    def _walked(self, uniform: NDArray[np.float64], greedy: NDArray[np.float64]) -> Designs:
        """The choices of ants that draw these numbers ``(n, d)``."""
        ways = np.empty(uniform.shape, dtype=np.int64)
        if (kernels := compiled()) is not None:
            shares = np.empty(self.pheromone.shape[1])
            kernels.walk(self.pheromone, uniform, greedy, self.p.greediness, self.space.nvec, shares, ways)
            return ways
        cumulative = np.cumsum(self.pheromone, axis=1)
        cumulative /= cumulative[:, -1:]
        for j, shares in enumerate(cumulative):
            ways[:, j] = shares.searchsorted(uniform[:, j], side="right")
        np.minimum(ways, self.space.nvec - 1, out=ways)
        return np.where(greedy < self.p.greediness, self.pheromone.argmax(axis=1), ways)

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        if self._stagnates(self._ways):
            self.pheromone, self._best = self._even.copy(), None
            return
        order = np.argsort(-rewards, kind="stable")[: self.p.elite]
        if self._best is None or rewards[order[0]] > self._best[0]:
            self._best = float(rewards[order[0]]), designs[order[0]].copy()
        share = np.arange(len(order), 0, -1, dtype=np.float64)
        share *= (1.0 - self.p.memory) / share.sum()
        deposit = np.zeros_like(self.pheromone)
        columns = np.arange(self.space.dimension)
        np.add.at(deposit, (columns, designs[order]), share[:, None])
        deposit[columns, self._best[1]] += self.p.memory
        rho = self.p.evaporation
        pheromone = np.maximum((1.0 - rho) * self.pheromone + rho * deposit, self.p.floor * self._even)
        self.pheromone = pheromone / pheromone.sum(axis=1, keepdims=True)
