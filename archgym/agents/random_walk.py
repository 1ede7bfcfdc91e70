"""Random walks: many walkers, each changing some parameters of its own design a step, whatever comes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from archgym.agents.base import Agent, Hyperparameters, hyper
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs


@dataclass(frozen=True)
class RandomWalkHyperparameters(Hyperparameters):
    """Of the random walk."""

    walkers: int = hyper(8, low=1, high=1024, log=True, doc="walkers that move side by side")
    changes: int = hyper(1, low=1, high=16, doc="parameters changed a step (at most as many as there are)")
    restart: float = hyper(0.01, low=0.0, high=1.0, doc="probability of a jump to a uniform design a step")


class RandomWalk(Agent):
    """A walk over the neighbourhood graph. It remembers nothing of the rewards (ArchGym's baseline); with
    ``restart`` a walker sometimes jumps to a uniform design."""

    name = "walk"

    hyperparameters = RandomWalkHyperparameters

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._at: Designs | None = None
        # A parameter with one value cannot change.
        self._free = np.flatnonzero(self.space.nvec > 1)

    def ask(self, n: int) -> Designs:
        m = min(n, self.p.walkers)
        if self._at is None:
            self._at = self.space.sample(self.p.walkers, self.rng)
            return self._at[:m]
        if not len(self._free):
            return self._at[:m]
        at, rng, nvec = self._at.copy(), self.rng, self.space.nvec
        rows = np.arange(len(at))
        changes = min(self.p.changes, len(self._free))
        order = np.argsort(rng.random((len(at), len(self._free))), axis=1)[:, :changes]
        for k in range(changes):
            columns = self._free[order[:, k]]
            step = rng.integers(1, nvec[columns])
            at[rows, columns] = (at[rows, columns] + step) % nvec[columns]
        jump = rng.random(len(at)) < self.p.restart
        at[jump] = self.space.sample(int(jump.sum()), rng)
        self._at = at
        return at[:m]

    def tell(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        pass
