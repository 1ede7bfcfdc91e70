"""Hyperband: many designs at a cheap fidelity, fewer at a dearer one, the best at the full one (Li et al., JMLR 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.agents.starting import Fresh
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs


@dataclass(frozen=True)
class HyperbandHyperparameters(Hyperparameters):
    """Of Hyperband."""

    eta: float = hyper(3.0, low=1.5, high=10.0, doc="of how many designs one goes on to the next fidelity, at least")
    rungs: int = hyper(
        16, low=1, high=16, doc="most fidelities that are used, the dearest; 1 = the problem's own alone"
    )


H = TypeVar("H", bound=HyperbandHyperparameters)


class Brackets(GenerationalAgent[H]):
    """Brackets of successive halving over the problem's fidelities; a bracket's first designs are :meth:`begin`'s.

    The rungs are the problem's fidelities, those left out whose cost is less than sqrt(eta) away from the next. With K rungs
    of the costs c_0 < ... < c_{K-1} = 1, the brackets begin at the rungs 0, 1, ..., K-1 and then at 0 again. From rung i on to
    the next goes one design of e_i, which is c_{i+1} / c_i, so that rungs cost the same, but within eta and eta cubed. The
    bracket of rung j begins with K / (K - j) e_j ... e_{K-2} designs, rounded up. Where the costs are powers of eta these are
    the numbers of the paper. Where the problem has one fidelity there is one bracket, of one design. Before all of them one
    design is evaluated in full: the smallest budget has a result.
    """

    several_fidelities = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fresh = Fresh(self.space, self.rng)
        rungs: list[tuple[str | None, float]] = [(None, 1.0)]
        for name, cost in sorted(self.problem.cheaper.items(), key=lambda item: -item[1]):
            if len(rungs) < self.p.rungs and cost * math.sqrt(self.p.eta) <= rungs[0][1]:
                rungs.insert(0, (name, cost))
        self.rungs = [name for name, _ in rungs]
        ratios = [dearer[1] / rung[1] for rung, dearer in zip(rungs, rungs[1:], strict=False)]
        self._cut = [min(max(ratio, self.p.eta), self.p.eta**3) for ratio in ratios]
        self._bracket = -2
        self._rung = 0
        self._survivors: Designs | None = None

    def begin(self, count: int) -> Designs:
        """The designs of a new bracket, int64 ``(count, d)``."""
        return self._fresh.first(count)

    def note(self, rung: int, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        """Learn what became of the designs of a rung."""

    def propose(self) -> Designs:
        if self._survivors is None:
            self._bracket += 1
            if self._bracket < 0:
                self._rung, self.fidelity = len(self.rungs) - 1, None
                return self._fresh.first(1)
            self._bracket %= len(self.rungs)
            self._rung = self._bracket
            share = len(self.rungs) / (len(self.rungs) - self._rung)
            # Rounding must not make four designs of three.
            made = self.begin(math.ceil(share * math.prod(self._cut[self._rung :]) - 1e-9))
        else:
            made, self._rung = self._survivors, self._rung + 1
        self.fidelity = self.rungs[self._rung]
        return made

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        self.note(self._rung, designs, evaluation, rewards)
        self._survivors = None
        if self._rung + 1 < len(self.rungs):
            kept = max(1, int(len(designs) / self._cut[self._rung] + 1e-9))
            # Stable: equal rewards go on in the order in which they were made.
            self._survivors = designs[np.sort(np.argsort(-rewards, kind="stable")[:kept])]


class Hyperband(Brackets[HyperbandHyperparameters]):
    """Brackets of successive halving, each of which begins with designs of a Latin hypercube that keep the declared
    constraints: the first with many at the cheapest fidelity, the last with a few at the full one, and again. What a cheap
    fidelity tells is worth more on some problems than on others, and no one knows before: hence the several brackets."""

    name = "hyperband"

    hyperparameters = HyperbandHyperparameters
