"""Quasi-random search: a scrambled Sobol sequence over the unit cube, cut into equal cells a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scipy.stats import qmc

from archgym.agents.base import GenerationalAgent, Hyperparameters
from archgym.errors import ArchGymError
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs


@dataclass(frozen=True)
class SobolHyperparameters(Hyperparameters):
    """None: the scrambling comes from the seed."""


class SobolSearch(GenerationalAgent[SobolHyperparameters]):
    """Fills the space more evenly than independent draws: among the first 2**m points every elementary interval
    holds its share (Owen-scrambled Sobol points of scipy.stats.qmc)."""

    name = "sobol"

    hyperparameters = SobolHyperparameters

    _BLOCK = 512  # a power of two, which keeps the sequence balanced

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.space.dimension > qmc.Sobol.MAXDIM:
            raise ArchGymError(
                f"the agent 'sobol' takes at most {qmc.Sobol.MAXDIM} parameters, this space has "
                f"{self.space.dimension}; take the agent 'random'"
            )
        self._points = qmc.Sobol(self.space.dimension, scramble=True, rng=self.rng)

    def propose(self) -> Designs:
        return self.space.from_unit(self._points.random(self._BLOCK))

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        pass
