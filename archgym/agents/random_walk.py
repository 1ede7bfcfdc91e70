"""Random walks: many walkers, each changing some parameters of its own design a step, whatever comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.agents.moves import Mover
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs


@dataclass(frozen=True)
class RandomWalkHyperparameters(Hyperparameters):
    """Of the random walk."""

    walkers: int = hyper(16, low=1, high=1024, log=True, doc="walkers that move side by side")
    changes: int = hyper(1, low=1, high=16, doc="parameters changed a step (at most as many as there are)")
    restart: float = hyper(0.01, low=0.0, high=1.0, doc="probability of a jump to a uniform design a step")


class RandomWalk(GenerationalAgent[RandomWalkHyperparameters]):
    """A walk over the neighbourhood graph. It remembers nothing of the rewards (ArchGym's baseline); with
    ``restart`` a walker sometimes jumps to a uniform design."""

    name = "walk"

    hyperparameters = RandomWalkHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._at: Designs | None = None
        self._move = Mover(self.space)

    def propose(self) -> Designs:
        if self._at is None:
            self._at = self.space.sample(self.p.walkers, self.rng)
            return self._at
        at = self._move(self._at, self.p.changes, self.rng)
        jump = np.flatnonzero(self.rng.random(len(at)) < self.p.restart)
        if len(jump):
            at[jump] = self.space.sample(len(jump), self.rng)
        self._at = at
        return at

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        pass
