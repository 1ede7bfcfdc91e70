"""NSGA-III on DEAP: non-dominated sorting and niches along reference directions (Deb and Jain, 2014)."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
from deap import tools
from deap.tools import emo
from numpy.typing import NDArray

from archgym.agents.base import hyper
from archgym.agents.nsga2 import FAILED, NSGA2, NSGA2Hyperparameters, fronts

Array = NDArray[np.float64]


@dataclass(frozen=True)
class NSGA3Hyperparameters(NSGA2Hyperparameters):
    """Of NSGA-III."""

    reward: str = hyper(
        "never", choices=("also", "never", "only"), doc="whether the reward is an objective beside the Pareto metrics"
    )


class NSGA3(NSGA2):
    """Searches the Pareto front of ``problem.pareto_metrics`` as ``nsga2`` does, and keeps designs along directions that
    divide the space of the metrics evenly (Das and Dennis), where crowding distances of many metrics say little. There are
    as many directions as the population has room for. Distances are measured on logarithms where all values of a metric
    are positive, as hardware metrics span decades."""

    name = "nsga3"

    hyperparameters = NSGA3Hyperparameters

    def _mated(self) -> list[Any]:
        # Of two drawn, the one of the better front: a small population holds several fronts for long.
        rank = np.empty(len(self._parents), dtype=np.int64)
        for k, front in enumerate(fronts(np.array([parent.losses for parent in self._parents]), len(self._parents))):
            rank[front] = k
        pairs = self.rng.integers(0, len(rank), (len(rank) // 4 * 4, 2))
        return [self._parents[a if rank[a] <= rank[b] else b] for a, b in pairs.tolist()]

    def _survivors(self, individuals: list[Any], count: int) -> list[Any]:
        losses = np.array([individual.losses for individual in individuals])
        ranked = fronts(losses, count)
        kept = np.concatenate([np.empty(0, dtype=np.int64), *ranked[:-1]])
        last, room = ranked[-1], count - len(kept)
        if len(last) > room:
            niches = losses.shape[1] > 1 and (losses[last] < FAILED).all()
            last = self._spread(losses, kept, last, room) if niches else last[:room]
        return [individuals[i] for i in np.concatenate([kept, last])]

    def _spread(self, losses: Array, kept: NDArray[np.int64], last: NDArray[np.int64], room: int) -> NDArray[np.int64]:
        """The ``room`` members of the last front that belong to directions with the fewest members."""
        rows = np.concatenate([kept, last])
        values = losses[rows]
        positive = (values > 0).all(axis=0)
        values = np.where(positive, np.log(np.where(positive, values, 1.0)), values)
        best, worst = values.min(axis=0), values.max(axis=0)
        corners = emo.find_extreme_points(values, best)
        intercepts = emo.find_intercepts(corners, best, worst, worst)
        niche, distance = emo.associate_to_niche(
            values, _directions(losses.shape[1], self.p.population), best, intercepts
        )
        members = np.bincount(niche[: len(kept)], minlength=int(niche.max()) + 1)
        left = list(range(len(kept), len(rows)))
        chosen: list[int] = []
        while len(chosen) < room:
            there = np.unique(niche[left])
            fewest = there[members[there] == members[there].min()]
            direction = int(self.rng.choice(fewest))
            own = [i for i in left if niche[i] == direction]
            # The first of a direction is the nearest to it, the others are any.
            picked = min(own, key=lambda i: distance[i]) if not members[direction] else int(self.rng.choice(own))
            members[direction] += 1
            left.remove(picked)
            chosen.append(picked)
        return rows[chosen]


def _directions(losses: int, population: int) -> Array:
    """At most ``population`` reference directions, evenly spread ``(n, losses)``; at least one a loss."""
    divisions = 1
    while comb(divisions + losses, losses - 1) <= population:
        divisions += 1
    return np.asarray(tools.uniform_reference_points(losses, divisions))
