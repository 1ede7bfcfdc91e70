"""Iterated local search: climb by the best neighbour to a local optimum, kick, climb again (Lourenço et al., 2003)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.agents.moves import Mover
from archgym.agents.starting import INFORMED, Fresh, allowed
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs


@dataclass(frozen=True)
class LocalSearchHyperparameters(Hyperparameters):
    """Of iterated local search."""

    start: int = hyper(16, low=1, high=1024, log=True, doc="uniform designs, the best of which is the first start")
    neighbours: int = hyper(32, low=1, high=1024, log=True, doc="neighbours tried before the best of them is taken")
    kick: int = hyper(3, low=1, high=32, doc="parameters changed at once where a local optimum is reached")
    reach: float = hyper(1.0, low=0.01, high=1.0, doc="how far an ordered parameter moves, as a share of its range")
    informed: bool = hyper(True, choices=(True, False), doc=INFORMED)
    restart: float = hyper(0.1, low=0.0, high=1.0, doc="probability of a uniform start in place of a kick")


class LocalSearch(GenerationalAgent[LocalSearchHyperparameters]):
    """Goes through the neighbourhood (all designs that differ in one parameter) in random order, ``neighbours`` at a
    time, and moves to the best of them if it is better. A design all of whose neighbours were tried in vain is a
    local optimum: the search goes on from a kick of the best local optimum so far, or from a uniform design."""

    name = "local"

    hyperparameters = LocalSearchHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kick = Mover(self.space)
        self._fresh = Fresh(self.space, self.rng) if self.p.informed else None
        # Every value of every parameter, and how far from it a neighbour takes it.
        nvec, reach = self.space.nvec, self.p.reach
        self._columns = np.repeat(np.arange(len(nvec)), nvec)
        self._values = np.concatenate([np.arange(count) for count in nvec])
        self._near = np.array(
            [max(1, round(reach * (len(p) - 1))) if p.ordered else len(p) for p in self.space.parameters]
        )[self._columns]
        self._untried: Designs | None = None  # neighbours of the present design, None before the first start
        self._at: Designs = np.empty(0, dtype=np.int64)
        self._reward = -np.inf
        self._optimum, self._optimum_reward = self._at, -np.inf
        self._starting = True

    def propose(self) -> Designs:
        if self._untried is None:
            return (
                self._fresh.first(self.p.start)
                if self._fresh is not None
                else self.space.sample(self.p.start, self.rng)
            )
        if len(self._untried):
            self.bred_from = np.repeat(self._at[None], min(self.p.neighbours, len(self._untried)), axis=0)
            return self._untried[: self.p.neighbours]
        if self._reward >= self._optimum_reward:
            self._optimum, self._optimum_reward = self._at, self._reward
        self._starting = True
        if self.rng.random() < self.p.restart:
            return self._fresh.first(1) if self._fresh is not None else self.space.sample(1, self.rng)
        self.bred_from = self._optimum[None]
        if self._fresh is not None:
            return self._fresh.moved(self._kick, self.bred_from, self.p.kick, self.rng)
        return self._kick(self.bred_from, self.p.kick, self.rng)

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        best = int(np.argmax(rewards))
        if self._starting or rewards[best] > self._reward:
            self._at, self._reward, self._starting = designs[best].copy(), float(rewards[best]), False
            self._untried = self._neighbours()
        else:
            assert self._untried is not None
            self._untried = self._untried[len(designs) :]

    def _neighbours(self) -> Designs:
        """Neighbours of the present design in random order."""
        distance = np.abs(self._values - self._at[self._columns])
        near = np.flatnonzero((distance > 0) & (distance <= self._near))
        near = near[self.rng.permutation(len(near))]
        result = np.repeat(self._at[None], len(near), axis=0)
        result[np.arange(len(near)), self._columns[near]] = self._values[near]
        return result[allowed(self.space, result)] if self.p.informed else result
