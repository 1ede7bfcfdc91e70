"""REINFORCE over the product distribution of the parameters, in plain NumPy (Williams, 1992)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.agents.moves import Stagnation
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs


@dataclass(frozen=True)
class ReinforceHyperparameters(Hyperparameters):
    """Of REINFORCE."""

    batch: int = hyper(16, low=1, high=1024, log=True, doc="designs a gradient step")
    learning_rate: float = hyper(0.1, low=0.001, high=1.0, log=True, doc="step of Adam on the logits")
    entropy: float = hyper(0.01, low=0.0, high=1.0, doc="weight of the entropy bonus")
    baseline: float = hyper(
        0.9, low=0.0, high=0.999, doc="decay of the moving mean and variance that normalise rewards"
    )
    patience: int = hyper(
        20, low=1, high=1000, log=True, doc="batches without new designs after which a new policy starts"
    )


class Reinforce(GenerationalAgent[ReinforceHyperparameters]):
    """One softmax a parameter, all independent; the gradient of the expected reward is estimated from ``batch``
    samples, with rewards normalised by a moving mean and deviation, and an entropy bonus against early collapse. A policy that
    has collapsed (nearly all its designs met before, for ``patience`` batches) makes room for a new one."""

    name = "reinforce"

    hyperparameters = ReinforceHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        nvec = self.space.nvec
        self._exists = np.arange(int(nvec.max())) < nvec[:, None]
        self._stagnates = Stagnation(self.p.patience)
        self._start()

    def _start(self) -> None:
        self._logits = np.zeros(self._exists.shape)
        # Adam's moments (Kingma, Ba, 2015).
        self._first, self._second, self._steps = np.zeros_like(self._logits), np.zeros_like(self._logits), 0
        self._mean, self._square, self._weight = 0.0, 0.0, 0.0

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Probability of each value of each parameter, ``(d, most values)``; zero where there is no such value."""
        logits = np.where(self._exists, self._logits, -np.inf)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def propose(self) -> Designs:
        n, d = self.p.batch, self.space.dimension
        cumulative = np.cumsum(self.probabilities, axis=1)
        draw = self.rng.random((n, d))
        designs = np.empty((n, d), dtype=np.int64)
        for j in range(d):
            designs[:, j] = np.searchsorted(cumulative[j], draw[:, j], side="right")
        return np.minimum(designs, self.space.nvec - 1)

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        if self._stagnates(designs):
            self._start()
            return
        # Rewards of infeasible designs are far below the rest; the clip keeps them from deciding the scale alone.
        keep = self.p.baseline
        self._mean = keep * self._mean + (1 - keep) * float(rewards.mean())
        self._square = keep * self._square + (1 - keep) * float((rewards**2).mean())
        self._weight = keep * self._weight + (1 - keep)
        mean = self._mean / self._weight
        deviation = np.sqrt(max(self._square / self._weight - mean**2, 0.0))
        advantage = np.clip((rewards - mean) / (deviation + 1e-8), -3.0, 3.0) if deviation > 1e-12 else 0.0 * rewards
        p = self.probabilities
        # d log p(design) / d logits = one-hot(design) - p, averaged with the advantages as weights.
        gradient = -advantage.mean() * p
        columns = np.arange(self.space.dimension)
        np.add.at(gradient, (np.broadcast_to(columns, designs.shape), designs), advantage[:, None] / len(designs))
        log_p = np.log(np.maximum(p, 1e-300))
        entropy = -(p * log_p).sum(axis=1, keepdims=True)
        gradient += self.p.entropy * -p * (log_p + entropy)
        self.measured(
            {
                "rollout/reward_mean": mean,
                "rollout/reward_std": float(deviation),
                "train/entropy": float(entropy.mean()),
            }
        )
        self._steps += 1
        self._first = 0.9 * self._first + 0.1 * gradient
        self._second = 0.999 * self._second + 0.001 * gradient**2
        first = self._first / (1 - 0.9**self._steps)
        second = self._second / (1 - 0.999**self._steps)
        self._logits = np.where(
            self._exists, self._logits + self.p.learning_rate * first / (np.sqrt(second) + 1e-8), 0.0
        )
