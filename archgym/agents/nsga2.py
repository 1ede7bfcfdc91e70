"""NSGA-II on DEAP: non-dominated sorting and crowding over the problem's metrics (Deb et al., 2002)."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from deap import base, tools
from numpy.typing import NDArray

from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.agents.deap_support import OwnRandom, vary
from archgym.agents.starting import INFORMED, Fresh
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs


@dataclass(frozen=True)
class NSGA2Hyperparameters(Hyperparameters):
    """Of NSGA-II."""

    population: int = hyper(20, low=4, high=1024, log=True, doc="parents, and children a generation")
    crossover: float = hyper(0.9, low=0.0, high=1.0, doc="probability that two parents are crossed")
    mutation: float = hyper(0.1, low=0.0, high=1.0, doc="probability that a gene is drawn anew")
    informed: bool = hyper(True, choices=(True, False), doc=INFORMED)
    reward: str = hyper(
        "also", choices=("also", "never", "only"), doc="whether the reward is an objective beside the Pareto metrics"
    )


class NSGA2(GenerationalAgent[NSGA2Hyperparameters]):
    """Searches the Pareto front of ``problem.pareto_metrics``; with ``reward="also"`` minus the reward is one more
    column to minimise, so that the front holds the problem's own best design too. Infeasible designs are dominated
    by all feasible ones. No design stands twice among the parents, which keeps them diverse."""

    name = "nsga2"

    hyperparameters = NSGA2Hyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._random = OwnRandom(self.rng)
        self._fresh = Fresh(self.space, self.rng) if self.p.informed else None
        self._parents: list[Any] = []
        self._columns = 0

    def _losses(self, evaluation: Evaluation, rewards: Rewards) -> NDArray[np.float64]:
        metrics = self.problem.pareto_metrics if self.p.reward != "only" else ()
        losses = self.problem.losses(evaluation) if metrics else np.empty((len(rewards), 0))
        # One metric that is the reward in other words needs no second column.
        same = len(metrics) == 1 and self.problem.objective.needs == (metrics[0].name,)
        if not metrics or (self.p.reward != "never" and not same):
            losses = np.column_stack([losses, -rewards])
        # Crowding distances need finite numbers; a failure is worse than anything a simulator returns.
        return np.where(np.isfinite(losses) & evaluation.feasible[:, None], losses, FAILED)

    def propose(self) -> Designs:
        if not self._parents:
            if self._fresh is not None:
                return self._fresh.first(self.p.population)
            return self.space.sample(self.p.population, self.rng)
        with self._random as own:
            children = [list(parent) for parent in self._mated()]
            parents, known = np.array(children, dtype=np.int64), np.array(self._parents, dtype=np.int64)
            born = vary(children, known, self.space.nvec, self.p.crossover, self.p.mutation, self.rng, own)
        return born if self._fresh is None else self._fresh(born, parents)

    def _mated(self) -> list[Any]:
        """Parents of the next generation, the two of a pair one after the other."""
        return list(tools.selTournamentDCD(self._parents, len(self._parents) // 4 * 4))

    def _survivors(self, individuals: list[Any], count: int) -> list[Any]:
        """The individuals that live on."""
        return _select(individuals, count)

    def forget(self) -> bool:
        self._parents = []
        return True

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        losses = self._losses(evaluation, rewards)
        known = {tuple(parent) for parent in self._parents}
        for genes, row in zip(designs.tolist(), losses.tolist(), strict=True):
            key = tuple(genes)
            if key not in known:
                known.add(key)
                self._parents.append(_Individual(genes, row))
        # DEAP's tournament takes individuals in fours.
        while len(self._parents) % 4 and len(self._parents) < self.p.population:
            self._parents.append(self._parents[-1])
        self._parents = self._survivors(self._parents, max(4, self.p.population // 4 * 4))


FAILED = 1e30


class _Fitness(base.Fitness):
    """DEAP's fitness of any number of losses."""

    def __init__(self, losses: list[float]) -> None:
        # (DEAP's own checks of the two take longer than all the rest.)
        self.weights, self.wvalues = (-1.0,) * len(losses), tuple(-loss for loss in losses)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Fitness:
        made = copy(self)  # DEAP's own copy loses the crowding distance
        memo[id(self)] = made
        return made


class _Individual(list[int]):
    """A design as DEAP wants it: a list of value indices with a fitness."""

    def __init__(self, genes: list[int], losses: list[float]) -> None:
        super().__init__(genes)
        self.fitness = _Fitness(losses)
        self.losses = losses


def _select(individuals: list[Any], count: int) -> list[Any]:
    """The ``count`` best by front, then by crowding distance within the last front that fits partly.

    ``tools.selNSGA2`` compares pair by pair in Python; ranks come from one NumPy comparison here, distances from DEAP.
    """
    losses = np.array([individual.losses for individual in individuals])
    if losses.shape[1] == 1:
        # With one objective every front is one value: the order is that of the values.
        for member in individuals:
            member.fitness.crowding_dist = 0.0
        return [individuals[i] for i in np.argsort(losses[:, 0], kind="stable")[:count]]
    kept: list[Any] = []
    for front in fronts(losses, count):
        members = [individuals[i] for i in front]
        tools.emo.assignCrowdingDist(members)
        room = count - len(kept)
        if len(members) > room:
            members = sorted(members, key=lambda member: -member.fitness.crowding_dist)[:room]
        kept += members
    return kept


def fronts(losses: NDArray[np.float64], count: int) -> list[NDArray[np.int64]]:
    """Rows of the non-dominated front, then of that of the others, and so on until they hold ``count``."""
    if losses.shape[1] == 1:
        # With one loss every front is one value.
        order = np.argsort(losses[:, 0], kind="stable")
        ordered = losses[order, 0]
        ends = [*(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist(), len(order)]
        needed = next((k for k, end in enumerate(ends) if end >= count), len(ends) - 1)
        return np.split(order[: ends[needed]], ends[:needed])
    # dominates[i, j]: i is nowhere worse than j and somewhere better.
    no_worse = np.ones((len(losses), len(losses)), dtype=bool)
    better = np.zeros_like(no_worse)
    for column in losses.T:
        no_worse &= column[:, None] <= column
        better |= column[:, None] < column
    dominates = no_worse & better
    dominators = dominates.sum(axis=0)  # those left that dominate each
    found: list[NDArray[np.int64]] = []
    have = 0
    while have < min(count, len(losses)):
        front = np.flatnonzero(dominators == 0)
        found.append(front)
        have += len(front)
        dominators -= dominates[front].sum(axis=0)
        dominators[front] = -1
    return found
