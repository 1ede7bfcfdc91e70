"""A genetic algorithm that climbs the problem's fidelities: evolves at the cheapest, and goes up where that no longer helps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from archgym.agents.base import hyper
from archgym.agents.genetic import GeneticAlgorithm, GeneticHyperparameters
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs


@dataclass(frozen=True)
class MultiFidelityGeneticHyperparameters(GeneticHyperparameters):
    """Of the climbing genetic algorithm."""

    share: float = hyper(
        0.5, low=0.05, high=0.95, doc="share of the cost that goes to designs in full, until it is at the top"
    )
    cheapest: float = hyper(0.1, low=0.0, high=1.0, doc="cheaper fidelities are left out, where another one remains")
    patience: int = hyper(3, low=1, high=64, log=True, doc="designs in full of which none is better, then it goes up")


class MultiFidelityGenetic(GeneticAlgorithm):
    """``ga`` at a cheap fidelity, whose best design that was not evaluated in full yet is so whenever the generations since the
    last one cost enough for it. After ``patience`` of these in a row that brought nothing better, the next dearer fidelity is
    taken (those left out that cost more than two thirds of a dearer one), and the best designs so far are its first
    generation. At the problem's own fidelity it is ``ga``. The first design is evaluated in full before all others."""

    name = "mfga"

    several_fidelities = True

    hyperparameters = MultiFidelityGeneticHyperparameters
    p: MultiFidelityGeneticHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rungs: list[tuple[str | None, float]] = [(None, 1.0)]
        for name, cost in sorted(self.problem.cheaper.items(), key=lambda item: -item[1]):
            last = self._rungs[0][1]
            if cost <= last * 2 / 3 and (last == 1 or cost >= self.p.cheapest):
                self._rungs.insert(0, (name, cost))
        self._carried: Designs | None = None  # the first generation of a fidelity
        self._candidate: Designs | None = None  # is to be evaluated in full
        self._tried: set[bytes] = set()  # in full
        self._seen: list[tuple[Designs, Rewards]] = []  # at the present fidelity
        self._saved, self._best, self._stale = 0.0, -math.inf, 0
        if len(self._rungs) > 1:
            self._carried = super().propose()
            self._candidate = self._carried[:1]

    def propose(self) -> Designs:
        if self._candidate is not None:
            self.fidelity, self.bred_from = None, None
            self._tried.add(self._candidate.tobytes())
            return self._candidate
        self.fidelity = self._rungs[0][0]
        return super().propose() if self._carried is None else self._carried

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        if self._candidate is not None:
            self._candidate = None
            self._note(float(rewards[0]))
            return
        self._carried = None
        super().learn(designs, evaluation, rewards)
        if len(self._rungs) == 1:
            return
        self._seen.append((designs, rewards))
        self._saved += len(designs) * self._rungs[0][1] * self.p.share / (1 - self.p.share)
        if self._saved >= 1:
            left = [row for row in self._ranked() if row.tobytes() not in self._tried]
            self._saved = min(self._saved - 1, 1.0)
            if left:
                self._candidate = left[0][None, :]

    def _ranked(self) -> Designs:
        """The designs of the present fidelity, the best first."""
        designs = np.concatenate([part for part, _ in self._seen])
        return designs[np.argsort(-np.concatenate([part for _, part in self._seen]), kind="stable")]

    def _note(self, reward: float) -> None:
        """What the last design in full brought; goes up where the last ones brought nothing better."""
        self._stale = 0 if reward > self._best else self._stale + 1
        self._best = max(self._best, reward)
        if self._stale >= self.p.patience:
            self._carried = self._ranked()[: self.p.population]
            self._parents, self._seen, self._saved, self._stale = [], [], 0.0, 0
            del self._rungs[0]
