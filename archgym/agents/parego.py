"""ParEGO: Bayesian optimisation of several objectives, each batch along another weighting of them (Knowles, 2006)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.agents.base import hyper
from archgym.agents.bayesian import BayesianHyperparameters, BayesianOptimization
from archgym.objective import Rewards
from archgym.pareto import non_dominated
from archgym.simulator import Evaluation
from archgym.space import Designs

Array = NDArray[np.float64]

SUM = 0.05
"""Weight of the sum of the losses beside the largest: without it, designs tie that differ in metrics of less weight only."""

REACH = "the losses that count: up to the median of the first designs, much as in suites, or to the ends of the front"


@dataclass(frozen=True)
class ParEGOHyperparameters(BayesianHyperparameters):
    """Of ParEGO."""

    surrogate: str = hyper(
        "mixed", choices=("mixed",), doc="the model: a Gaussian process with a length scale a parameter"
    )
    reach: str = hyper("median", choices=("median", "front"), doc=REACH)
    batch: int = hyper(2, low=1, high=64, log=True, doc="designs suggested a fit, by one weighting of the metrics")


class ParEGO(BayesianOptimization):
    """Searches the Pareto front of ``problem.pareto_metrics`` as ``bo`` searches one reward: for each batch weights ``w`` are
    drawn uniformly from the simplex, and the reward is minus the augmented Chebyshev loss ``max(w z) + 0.05 sum(w z)``.
    The ``z`` are the metrics from 0, the least that is known, to 1, the median of the first designs, beyond which they count
    once more in full; or (``reach="front"``) the largest on the front that is known. They are on logarithms where all values
    are positive, as hardware metrics span decades."""

    name = "parego"
    hyperparameters = ParEGOHyperparameters
    p: ParEGOHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._losses: Array = np.empty((0, len(self.problem.pareto_metrics)))

    def _remember(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        super()._remember(designs, evaluation, rewards)
        self._losses = np.concatenate([self._losses, self.problem.losses(evaluation)])

    def propose(self) -> Designs:
        if self._known().any():
            self._rewards = self._weighted(self.rng.dirichlet(np.ones(self._losses.shape[1])))
        return super().propose()

    def _known(self) -> NDArray[np.bool_]:
        """Trials ``(n,)`` that have all metrics: the others were infeasible, or failed."""
        return np.asarray(np.isfinite(self._losses).all(axis=1))

    def _weighted(self, weights: Array) -> Rewards:
        """Minus the augmented Chebyshev loss of all trials ``(n,)`` by these weights."""
        placed = self._placed()
        weighed = weights * placed
        rewards = -weighed.max(axis=1) - SUM * weighed.sum(axis=1)
        if self.p.reach == "median":
            rewards -= np.maximum(placed - 1.0, 0.0).sum(axis=1)
        return rewards

    def _placed(self) -> Array:
        """Losses of all trials ``(n, m)`` as the class says; where a trial has none, the worst that are known."""
        known = self._known()
        losses = np.where(known[:, None], self._losses, self._losses[known].max(axis=0))
        positive = (losses > 0).all(axis=0)
        losses = np.where(positive, np.log(np.where(positive, losses, 1.0)), losses)
        best = losses.min(axis=0)
        if self.p.reach == "median":
            worst = np.median(losses[known][: self.p.initial], axis=0)
        else:
            worst = non_dominated(losses).max(axis=0)
        return np.asarray((losses - best) / np.where(worst > best, worst - best, 1.0))
