"""Uniform random search: the baseline every other agent has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from archgym.agents.base import Agent, Hyperparameters
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs


@dataclass(frozen=True)
class RandomSearchHyperparameters(Hyperparameters):
    """None."""


class RandomSearch(Agent[RandomSearchHyperparameters]):
    """Draws every parameter uniformly and independently; has nothing to tune."""

    name = "random"

    hyperparameters = RandomSearchHyperparameters

    def ask(self, n: int) -> Designs:
        return self.space.sample(n, self.rng)

    def tell(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        pass
