"""Constrained iterative optimisation: evolve designs on a predictor, evaluate the best of them, fit anew (FBNetV3, Dai et al.,
CVPR 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.agents.moves import Mover, first_seen
from archgym.agents.perceptron import Perceptron, one_thread
from archgym.agents.starting import allowed, first_designs
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs

Array = NDArray[np.float64]

TAIL = 3.0
"""Spreads from the median at which a metric is cut before it is learnt: how bad the bad are teaches nothing."""
RIDGE = 1.0
"""Strength of the linear part's ridge, on standardised features."""


@dataclass(frozen=True)
class ConstrainedIterativeHyperparameters(Hyperparameters):
    """Of constrained iterative optimisation."""

    initial: int = hyper(50, low=4, high=10_000, log=True, doc="designs of Latin hypercubes before the first fit")
    batch: int = hyper(25, low=1, high=1024, log=True, doc="designs evaluated a round, the best that evolution finds")
    candidates: int = hyper(5000, low=100, high=1_000_000, log=True, doc="designs that the predictor judges a round")
    population: int = hyper(100, low=4, high=10_000, log=True, doc="survivors of a generation on the predictor")
    members: int = hyper(3, low=1, high=16, doc="networks whose mean is the prediction")
    width: int = hyper(64, low=4, high=1024, log=True, doc="of the two hidden layers")
    steps: int = hyper(200, low=1, high=10_000, log=True, doc="training steps of a network a round")


class ConstrainedIterative(GenerationalAgent[ConstrainedIterativeHyperparameters]):
    """The predictor says the metrics that the objective needs, not the reward, and the objective is applied to what it says: a
    budget on a metric is then a budget on its prediction. Each metric is a ridge regression on the space's features, which has
    counts such as multiply-accumulates nearly exactly, and networks for what that leaves. All metrics of an evaluation
    are learnt by one body, so that those which are easy to learn shape it for the others.
    """

    name = "cio"
    exact = False

    hyperparameters = ConstrainedIterativeHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._designs: Designs = np.empty((0, self.space.dimension), dtype=np.int64)
        self._rewards: Rewards = np.empty(0)
        self._values: Array = np.empty((0, len(self.problem.metrics)))
        self._feasible = np.empty(0, dtype=bool)
        self._seen: set[bytes] = set()
        self._one, self._near = Mover(self.space), Mover(self.space, reach=0.2)

    def propose(self) -> Designs:
        if not len(self._rewards):
            return first_designs(self.space, self.p.initial, self.rng)
        found = self._evolved() if self._feasible.sum() >= 2 else self.space.sample(self.p.batch, self.rng)
        return found if len(found) else self.space.sample(self.p.batch, self.rng)

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        canonical = self.space.canonical(designs)
        new = first_seen([row.tobytes() for row in canonical], self._seen)
        values = np.stack([evaluation.metrics[metric.name] for metric in self.problem.metrics], axis=1)
        self._designs = np.concatenate([self._designs, canonical[new]])
        self._rewards = np.concatenate([self._rewards, rewards[new]])
        self._values = np.concatenate([self._values, values[new]])
        self._feasible = np.concatenate([self._feasible, evaluation.feasible[new]])

    @one_thread
    def _evolved(self) -> Designs:
        """The ``batch`` unseen designs of the highest predicted reward that evolution from the best trials finds."""
        predictor = self._fitted()
        generations = max(self.p.candidates // (5 * self.p.population), 1)
        order = np.argsort(-self._rewards, kind="stable")[: self.p.population]
        pool = np.concatenate([self._designs[order], first_designs(self.space, self.p.population, self.rng)])
        score = predictor(pool)
        known: set[bytes] = set()
        first_seen([row.tobytes() for row in pool], known)
        for _ in range(generations):
            children = self._children(pool, score, 5 * self.p.population)
            children = children[first_seen([row.tobytes() for row in children], known)]
            if len(children):
                pool, score = np.concatenate([pool, children]), np.concatenate([score, predictor(children)])
        unseen = np.array([row.tobytes() not in self._seen for row in pool], dtype=bool)
        pool, score = pool[unseen], score[unseen]
        return pool[np.argsort(-score, kind="stable")[: self.p.batch]]

    def _children(self, pool: Designs, score: Array, count: int) -> Designs:
        """Canonical children of the best of the pool that keep the declared constraints: two parents mixed, then changed."""
        best = pool[np.argsort(-score, kind="stable")[: self.p.population]]
        parents = self.rng.integers(0, len(best), (2, count))
        mixed = np.where(self.rng.random((count, self.space.dimension)) < 0.25, best[parents[1]], best[parents[0]])
        near = self.rng.random(count) < 0.5
        mixed[near] = self._near(mixed[near], 1, self.rng)
        mixed[~near] = self._one(mixed[~near], 1, self.rng)
        made = self.space.canonical(mixed)
        return made[allowed(self.space, made)]

    def _fitted(self) -> Any:
        """Fits the predictor; returns designs -> predicted rewards, where infeasibility that no constraint declares is
        expected, the objective's penalty."""
        kept = np.flatnonzero(self._feasible)
        values = self._values[kept]
        learnt = np.flatnonzero(np.isfinite(values).all(axis=0))
        y, decode = _standardised(values[:, learnt])
        features = self.space.features(self._designs)
        center, spread = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)

        def rows(designs: Designs) -> Array:
            return np.asarray((self.space.features(designs) - center) / spread)

        x = (features - center) / spread
        linear = _ridge(x[kept], y)
        left = y - linear(x[kept])
        networks = []
        for _ in range(self.p.members):
            network = Perceptron([x.shape[1], self.p.width, self.p.width, len(learnt)], self.rng)
            network.layers[-1][0] *= 0.1
            network.train(x[kept], left, self.p.steps, self.rng, batch=128, decay=1e-2)
            networks.append(network)
        chance = None if self._feasible.all() else _ridge(x, self._feasible[:, None].astype(np.float64))
        names = [self.problem.metrics[k].name for k in learnt]
        residual = float(np.mean((left - sum(network(x[kept]) for network in networks) / len(networks)) ** 2))
        self.measured({"cio/training_error": residual})

        def rewards(designs: Designs) -> Rewards:
            inputs = rows(designs)
            said = decode(linear(inputs) + sum(network(inputs) for network in networks) / len(networks))
            metrics = {metric.name: np.full(len(designs), np.nan) for metric in self.problem.metrics}
            metrics |= {name: said[:, k] for k, name in enumerate(names)}
            good = np.ones(len(designs), dtype=bool) if chance is None else chance(inputs)[:, 0] >= 0.5
            violation = np.where(good, "", "predicted").astype(object)
            return self.problem.objective(Evaluation(metrics, good, violation))

        return rewards


def _standardised(values: Array) -> tuple[Array, Any]:
    """Metrics ``(n, m)`` in spreads from their medians, cut at ``TAIL``, positive ones of a wide range as logarithms; and the
    way back."""
    low, high = values.min(axis=0), values.max(axis=0)
    log = (low > 0) & (high > 10 * np.maximum(low, 1e-300))
    plain = np.where(log, np.log(np.maximum(values, 1e-300)), values)
    middle = np.median(plain, axis=0)
    spread = (np.quantile(plain, 0.84, axis=0) - np.quantile(plain, 0.16, axis=0)) / 2
    spread = np.where(spread > 0, spread, np.maximum(plain.std(axis=0), 1e-12))

    def decode(said: Array) -> Array:
        back = middle + spread * said
        return np.where(log, np.exp(np.clip(np.where(log, back, 0.0), -700.0, 700.0)), back)

    return np.clip((plain - middle) / spread, -TAIL, TAIL), decode


def _ridge(x: Array, y: Array) -> Any:
    """Rows ``(n, f)`` -> predictions ``(n, m)`` of a ridge regression."""
    mean = y.mean(axis=0)
    middle = x.mean(axis=0)
    centred = x - middle
    weights = np.linalg.solve(centred.T @ centred + RIDGE * np.eye(x.shape[1]), centred.T @ (y - mean))
    return lambda rows: (rows - middle) @ weights + mean
