"""Bayesian optimisation over the problem's fidelities: one Gaussian process of all of them says which is worth its cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from archgym.agents.base import hyper
from archgym.agents.bayesian import BayesianHyperparameters, BayesianOptimization
from archgym.agents.mixed_gp import ROOT5, MixedGP, matern
from archgym.agents.moves import first_seen, row_keys
from archgym.agents.starting import first_designs
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs, DesignSpace, Parameter

Array = NDArray[np.float64]

APART = 1.7
"""Costs of the fidelities that are used differ by at least this factor."""
MOST_AT_FIRST = 64
"""Designs at the cheapest fidelity before the first fit, at most."""
SHORTLIST = 50
"""The best designs that are known at cheaper fidelities only: they are candidates again."""
LEAST = 0.1
"""Share of the variance in full that an evaluation at a cheaper fidelity must take away to be asked for."""


@dataclass(frozen=True)
class MultiFidelityBayesianHyperparameters(BayesianHyperparameters):
    """Of Bayesian optimisation over fidelities."""

    surrogate: str = hyper(
        "mixed", choices=("mixed",), doc="the model: a Gaussian process with a length scale a parameter"
    )
    points: int = hyper(
        300, low=20, high=1000, log=True, doc="most trials that the model sees: the best and the latest"
    )
    rungs: int = hyper(
        16, low=1, high=16, doc="most fidelities that are used, the dearest; 1 = the problem's own alone"
    )
    first: int = hyper(3, low=1, high=64, doc="designs in full before the first at a cheaper fidelity")
    cheap: int = hyper(8, low=1, high=64, log=True, doc="designs suggested a fit at a cheaper fidelity, at most")
    worth: float = hyper(
        2.0,
        low=0.5,
        high=10.0,
        doc="how often a cheaper fidelity must be worth its cost in the variance that it takes away",
    )
    share: float = hyper(0.5, low=0.05, high=1.0, doc="share of the cost that goes to cheaper fidelities, at most")


class LevelledGP(MixedGP):
    """The model with the fidelity as one more ordered parameter, the last column of designs ``(n, d + 1)``: its length scale
    says how far the fidelities agree. Designs ``(n, d)`` are meant in full.

    Args:
        space: the design space.
        levels: fidelities, the last of which is the full one.
        rough: as of the model itself.
    """

    def __init__(self, space: DesignSpace, levels: int, rough: bool = False) -> None:
        super().__init__(DesignSpace([*space.parameters, Parameter("(fidelity)", tuple(range(levels)))]), rough)

    def features(self, designs: Designs) -> Array:
        if designs.shape[1] < len(self._nvec):
            designs = with_level(designs, int(self._nvec[-1]) - 1)
        return super().features(designs)

    def explained(self, designs: Designs, level: int) -> Array:
        """Which share of the variance of the full rewards at ``(m, d)`` an evaluation of the same designs at ``level`` would
        take away, ``(m,)``."""
        top, low = (self.features(made) * self._scales for made in (designs, with_level(designs, level)))
        apart = ROOT5 * np.sqrt(((top - low) ** 2).sum(axis=1))
        prior = self._signal * matern(apart)
        of_top, of_low = (
            solve_triangular(self._factor, self._signal * self._kernel(self._x, made), lower=True, check_finite=False)
            for made in (top, low)
        )
        full = np.maximum(self._signal - (of_top**2).sum(axis=0), 1e-12)
        cheap = np.maximum(self._signal - (of_low**2).sum(axis=0), 0.0) + self._noise
        return np.asarray((prior - (of_top * of_low).sum(axis=0)) ** 2 / (full * cheap))


def with_level(designs: Designs, level: int) -> Designs:
    """Designs ``(n, d)`` with their fidelity as the last column."""
    return np.column_stack([designs, np.full(len(designs), level, dtype=np.int64)])


class MultiFidelityBayesian(BayesianOptimization):
    """``bo`` with a model of all fidelities, in which the fidelity is one more parameter (as in Kandasamy et al., ICML 2017).
    Designs are suggested for what they promise in full. Each is then evaluated at the fidelity that takes away most of the
    variance that its full reward still has for the cost, if that is ``worth`` times what the full evaluation takes away for
    its own, and in full otherwise: a cheap fidelity is used as long as, and where, it tells something, and a design that
    keeps its promise goes up from one to the next. The first of a batch decides for all.

    Rewards of a cheaper fidelity count as the line says that fits what is known there and in full. The first designs are of
    a Latin hypercube, all at the cheapest fidelity, a few of them in full. On a problem with one fidelity it searches as ``bo`` does.
    """

    name = "mfbo"

    several_fidelities = True

    hyperparameters = MultiFidelityBayesianHyperparameters
    p: MultiFidelityBayesianHyperparameters

    def _make_model(self) -> Any:
        rungs: list[tuple[str | None, float]] = [(None, 1.0)]
        for name, cost in sorted(self.problem.cheaper.items(), key=lambda item: -item[1]):
            if len(rungs) < self.p.rungs and cost * APART <= rungs[0][1]:
                rungs.insert(0, (name, cost))
        self._rungs, self._costs = [name for name, _ in rungs], np.array([cost for _, cost in rungs])
        self._top = self._level = len(rungs) - 1
        self._levels = np.empty(0, dtype=np.int64)  # of the trials
        self._measured: Rewards = np.empty(0)  # as they came
        self._known: list[set[bytes]] = [*(set[bytes]() for _ in rungs[:-1]), self._seen]
        self._begun: Designs | None = None
        self._turns = [LevelledGP(self.space, len(rungs)), LevelledGP(self.space, len(rungs), rough=True)]
        return self._turns[0]

    def propose(self) -> Designs:
        self._level = self._top
        if not self._top:
            made = super().propose()
        elif not len(self._levels):
            count = math.ceil(self.p.initial / math.sqrt(self._costs[0]))
            self._begun = first_designs(self.space, max(min(count, MOST_AT_FIRST), self.p.first), self.rng)
            made = self._begun[: self.p.first]
        elif self._begun is not None:
            self._level, made, self._begun = 0, self._begun, None
        else:
            made = super().propose()
        self.fidelity = self._rungs[self._level]
        return made

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        canonical = self.space.canonical(designs)
        new = first_seen(row_keys(canonical), self._known[self._level])
        self._designs = np.concatenate([self._designs, canonical[new]])
        self._measured = np.concatenate([self._measured, rewards[new]])
        self._feasible = np.concatenate([self._feasible, evaluation.feasible[new]])
        self._levels = np.concatenate([self._levels, np.full(len(new), self._level, dtype=np.int64)])
        self._rewards = self._in_full()

    def _in_full(self) -> Rewards:
        """What the rewards of the trials would be in full: those of a cheaper fidelity by the line that fits what is feasible
        and known at both."""
        made, keys = self._measured.copy(), row_keys(self._designs)
        full = {keys[k]: made[k] for k in np.flatnonzero((self._levels == self._top) & self._feasible)}
        for level in range(self._top):
            rows = np.flatnonzero((self._levels == level) & self._feasible)
            both = [k for k in rows if keys[k] in full]
            if not both:
                continue
            cheap = self._measured[rows]
            spread = float(cheap.max() - np.median(cheap)) or float(np.std(cheap)) or 1.0
            x, y = self._measured[both], np.array([full[keys[k]] for k in both])
            centre, middle = float(np.median(x)), float(np.median(y))
            # What is further apart than the good from the middling is cut.
            x, y = np.clip(x - centre, -spread, spread), np.clip(y - middle, -spread, spread)
            # Least squares, with one observation of slope 1.
            slope = max((float(x @ y) + spread**2) / (float(x @ x) + spread**2), 0.1)
            made[rows] = middle + slope * (cheap - centre)
        return made

    def _fitted(self, rows: NDArray[np.int64], y: Array) -> float:
        self._model.fit(np.column_stack([self._designs, self._levels])[rows], y)
        # What counts is the best in full.
        full = self._levels[rows] == self._top
        for kept in (full & self._feasible[rows], full):
            if kept.any():
                return float(y[kept].max())
        return float(y.max())

    def _spread(self) -> Designs:
        pool = super()._spread()
        order = np.argsort(-self._rewards, kind="stable")
        known = self._designs[order[self._levels[order] < self._top]]
        known = known[first_seen(row_keys(known), set(self._seen))][:SHORTLIST]
        return np.concatenate([known, pool[first_seen(row_keys(pool), set(row_keys(known)))]])

    def _size(self) -> int:
        return max(self.p.cheap, super()._size()) if self._top else super()._size()

    def _batch(self, pool: Designs, best: float) -> Designs:
        made = super()._batch(pool, best)
        if not len(made) or not self._top:
            return made
        choice = self._worth(made).argmax(axis=0)
        self._level = int(choice[0])
        made = made[choice == self._level]
        if self._level == self._top:
            return made[: super()._size()]
        if not self._known[self._level] & self._seen:
            # Something must say how rewards there compare: the best in full.
            full = np.flatnonzero(self._levels == self._top)
            made = np.concatenate([self._designs[full[[self._rewards[full].argmax()]]], made])
        return made

    def _worth(self, designs: Designs) -> Array:
        """What the next evaluation of a design is worth at each fidelity for its cost, ``(levels, n)``; 1 in full."""
        worth = np.ones((len(self._rungs), len(designs)))
        spent, keys = self._costs[self._levels], row_keys(designs)
        afford = spent[self._levels < self._top].sum() < self.p.share * spent.sum()
        for level, cost in enumerate(self._costs[:-1]):
            share = self._model.explained(designs, level)
            new = np.array([key not in self._known[level] for key in keys])
            worth[level] = np.where(afford & new & (share >= LEAST), share / cost / self.p.worth, 0.0)
        return worth
