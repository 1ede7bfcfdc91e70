"""Simulated annealing: parallel chains of local moves under a falling temperature (Kirkpatrick et al., 1983)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.agents.kernels import annealing
from archgym.agents.moves import Mover, compiled
from archgym.agents.starting import INFORMED, Fresh, first_designs
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs, DesignSpace

STARTS = 4
"""First designs a chain of an informed search: each chain starts at one of the best."""


@dataclass(frozen=True)
class SimulatedAnnealingHyperparameters(Hyperparameters):
    """Of simulated annealing."""

    chains: int = hyper(4, low=1, high=1024, log=True, doc="chains that run side by side")
    temperature: float = hyper(
        0.5, low=0.0, high=10.0, doc="first temperature, in standard deviations of the first rewards; 0 = hill climbing"
    )
    cooling: float = hyper(0.9, low=0.5, high=1.0, doc="factor on a chain's temperature a step")
    changes: int = hyper(1, low=1, high=8, doc="parameters changed a step (at most as many as there are)")
    reach: float = hyper(0.3, low=0.01, high=1.0, doc="how far an ordered parameter moves, as a share of its range")
    patience: int = hyper(
        60, low=1, high=10000, log=True, doc="steps without a new best of its own before a chain restarts"
    )
    informed: bool = hyper(True, choices=(True, False), doc=INFORMED)
    restart: str = hyper(
        "uniform", choices=("uniform", "best"), doc="a chain restarts at a uniform design, or the best"
    )


class SimulatedAnnealing(GenerationalAgent[SimulatedAnnealingHyperparameters]):
    """Each chain changes a little of its design and keeps the change where the reward rises, or with probability
    exp(change / temperature) where it falls. The temperature is in units of the spread of the first rewards, so that
    one setting fits rewards of any scale."""

    name = "sa"

    hyperparameters = SimulatedAnnealingHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._move = Mover(self.space, self.p.reach)
        self._fresh = Fresh(self.space, self.rng) if self.p.informed else None
        self.forget()

    def forget(self) -> bool:
        n = self.p.chains
        self._at: Designs | None = None
        self._reward = np.full(n, -np.inf)
        self._own_best = np.full(n, -np.inf)
        self._temperature = np.full(n, self.p.temperature)
        self._stuck = np.zeros(n, dtype=np.int64)
        self._longest = 0  # of these
        self._spread = 0.0
        self._best: tuple[float, Designs] | None = None
        return True

    def propose(self) -> Designs:
        if self._at is None:
            if self._fresh is not None:
                return self._fresh.first(STARTS * self.p.chains)
            return self.space.sample(self.p.chains, self.rng)
        origins = self.bred_from = self._at.copy()
        if self._longest < self.p.patience and self._fresh is not None:
            return self._fresh.moved(self._move, origins, self.p.changes, self.rng)
        proposal = self._move(origins, self.p.changes, self.rng)
        if self._longest >= self.p.patience:
            self._restart(proposal, np.flatnonzero(self._stuck >= self.p.patience))
            origins = np.where(self.bred_from < 0, proposal, self.bred_from)
        return proposal if self._fresh is None else self._fresh(proposal, origins)

    def _restart(self, proposal: Designs, rows: Any) -> None:
        assert self.bred_from is not None
        if self.p.restart == "uniform" or self._best is None:
            drawn = first_designs if self.p.informed else DesignSpace.sample
            proposal[rows] = drawn(self.space, len(rows), self.rng)
            self.bred_from[rows] = -1
        else:
            self.bred_from[rows] = self._best[1]
            proposal[rows] = self._move(np.repeat(self._best[1][None], len(rows), axis=0), self.p.changes, self.rng)
        # A chain that starts anew takes whatever it gets.
        self._reward[rows] = self._own_best[rows] = -np.inf
        self._temperature[rows] = self.p.temperature
        self._stuck[rows] = 0

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        if not self._spread and evaluation.feasible.any():
            self._spread = float(np.std(rewards[evaluation.feasible]))
        if self._at is None:
            first = np.argsort(-rewards, kind="stable")[: self.p.chains]
            best = int(first[0])
            if self._fresh is None:
                first = np.arange(len(rewards))
            self._at, self._reward, self._own_best = designs[first], rewards[first], rewards[first]
        else:
            step = annealing.step_chains if (kernels := compiled()) is None else kernels.step_chains
            logs = np.log1p(-self.rng.random(len(rewards)))  # of 1 - u, which are finite
            best, self._longest = step(
                designs, rewards, logs, self._spread or 1.0, self.p.cooling, self._at, self._reward, self._own_best,
                self._temperature, self._stuck,
            )  # fmt: skip
        if self._best is None or rewards[best] > self._best[0]:
            self._best = float(rewards[best]), designs[best].copy()
