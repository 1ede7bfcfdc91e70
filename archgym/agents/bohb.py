"""BOHB: Hyperband whose brackets begin with designs of a model (Falkner, Klein and Hutter, ICML 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.agents.base import hyper
from archgym.agents.hyperband import Brackets, HyperbandHyperparameters
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs, DesignSpace

MOST = 256
"""Observations of each kind that a density is made of: the best of the good, the last of the others."""


@dataclass(frozen=True)
class BOHBHyperparameters(HyperbandHyperparameters):
    """Of BOHB."""

    good: float = hyper(0.15, low=0.02, high=0.5, doc="share of the observations that are good")
    random: float = hyper(0.2, low=0.0, high=1.0, doc="share of the designs that are drawn without the model")
    candidates: int = hyper(24, low=1, high=256, log=True, doc="draws of the model of which the likeliest is taken")
    width: float = hyper(0.2, low=0.02, high=1.0, doc="width of the kernels, as a share of a parameter's range")


class Density:
    """A kernel density over a design space: the mean of a product of kernels around observed designs, and of one part that
    is uniform. Of an ordered parameter the kernel is a normal one over the value indices, cut off at the ends, of an
    unordered one that of Aitchison and Aitken (1976): the value itself or, together with ``width``, all others alike.

    Args:
        space: the design space.
        observed: int64 ``(n, d)``.
        width: of a kernel around a single design, as a share of the range; it shrinks with n^(-1 / (d + 4)) (Scott, 1992).
    """

    def __init__(self, space: DesignSpace, observed: Designs, width: float) -> None:
        self._space, self._observed = space, observed
        width *= max(len(observed), 1) ** (-1 / (space.dimension + 4))
        self._kernels = [_kernel(len(p), p.ordered, width) for p in space.parameters]
        self._uniform = -float(np.sum(np.log(space.nvec)))

    def sample(self, count: int, rng: np.random.Generator) -> Designs:
        """``count`` designs around the observed ones, int64 ``(count, d)``."""
        around = self._observed[rng.integers(0, len(self._observed), count)]
        made = np.empty_like(around)
        for j, kernel in enumerate(self._kernels):
            reached = np.cumsum(kernel, axis=1)[around[:, j]]
            made[:, j] = (rng.random(count)[:, None] * reached[:, -1:] >= reached).sum(axis=1)
        return np.minimum(made, self._space.nvec - 1)

    def log(self, designs: Designs) -> NDArray[np.float64]:
        """Logarithm of the density ``(m,)``."""
        total = np.zeros((len(self._observed), len(designs)))
        for j, kernel in enumerate(self._kernels):
            total += np.log(kernel)[self._observed[:, j][:, None], designs[:, j][None, :]]
        everything = np.concatenate([total, np.full((1, len(designs)), self._uniform)])
        return np.asarray(np.logaddexp.reduce(everything, axis=0) - np.log(len(everything)))


def _kernel(count: int, ordered: bool, width: float) -> NDArray[np.float64]:
    """The probability of each value (columns) around each (rows), ``(count, count)``."""
    if count == 1:
        return np.ones((1, 1))
    if ordered:
        steps = np.arange(count)[:, None] - np.arange(count)[None, :]
        # Half a step at least, so that neighbours stay within reach.
        weights = np.maximum(np.exp(-0.5 * (steps / max(width * (count - 1), 0.5)) ** 2), 1e-12)
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))
    other = min(width, (count - 1) / count)
    return np.where(np.eye(count, dtype=bool), 1 - other, other / (count - 1))


class BOHB(Brackets[BOHBHyperparameters]):
    """Brackets as ``hyperband`` runs them; each begins with designs that a model prefers: of ``candidates`` draws from the
    density of the good designs the one of the largest ratio of that density to the density of the others (Bergstra et al.,
    NeurIPS 2011, equation 16; here one density over all parameters, as in BOHB). Both are made of the dearest fidelity at which at
    least d + 2 designs were evaluated. A share of the designs is drawn without the model."""

    name = "bohb"

    hyperparameters = BOHBHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seen: list[list[tuple[Designs, Rewards]]] = [[] for _ in self.rungs]

    def note(self, rung: int, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        self._seen[rung].append((self.space.canonical(designs), rewards))

    def begin(self, count: int) -> Designs:
        model = self._model()
        if model is None:
            return self._fresh.first(count)
        blind = self._fresh.first(int(self.rng.binomial(count, self.p.random)))
        good, others = model
        draws = good.sample((count - len(blind)) * self.p.candidates, self.rng)
        ratio = (good.log(draws) - others.log(draws)).reshape(-1, self.p.candidates)
        chosen = draws.reshape(len(ratio), self.p.candidates, self.space.dimension)[
            np.arange(len(ratio)), ratio.argmax(axis=1)
        ]
        return np.concatenate([blind, self._fresh(chosen.copy(), chosen)])

    def _model(self) -> tuple[Density, Density] | None:
        """The densities of the good designs and of the others; None as long as no fidelity has enough."""
        for seen in reversed(self._seen):
            if sum(len(rewards) for _, rewards in seen) >= self.space.dimension + 2:
                designs = np.concatenate([part for part, _ in seen])
                rewards = np.concatenate([part for _, part in seen])
                order = np.argsort(-rewards, kind="stable")
                good = min(max(2, int(np.ceil(self.p.good * len(order)))), MOST)
                others = np.sort(order[good:])[-MOST:]
                return (
                    Density(self.space, designs[order[:good]], self.p.width),
                    Density(self.space, designs[others], self.p.width),
                )
        return None
