"""Problems of a suite that ask for a Pareto front: what a run is worth is the hypervolume of what it evaluated.

Every loss (see :meth:`archgym.problem.Problem.losses`) is placed between two corners that the suite measured once: 0 is the
best value seen, 1 the median of uniform designs, on a logarithmic axis where all values seen are positive. The
hypervolume is the share of that box which a front dominates, between 0 and 1 (beyond the best value seen a loss counts as
0).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.problem import Problem
from archgym.simulator import Evaluation
from archgym.studies.statistics import hypervolume
from archgym.suites.suite import Corner

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Box:
    """The corners between which losses are measured, one entry a Pareto metric: best and worst value, and whether the axis
    is logarithmic."""

    best: Array
    worst: Array
    logarithmic: NDArray[np.bool_]

    def place(self, losses: Array) -> Array:
        """Losses ``(n, m)`` on the axes of the box: 0 best, 1 worst; not finite ones inf."""
        with np.errstate(invalid="ignore", divide="ignore"):
            logs = np.log(np.maximum(losses, np.finfo(float).tiny) / self.best) / np.log(self.worst / self.best)
            plain = (losses - self.best) / (self.worst - self.best)
        placed = np.where(self.logarithmic, logs, plain)
        return np.where(np.isfinite(losses), np.maximum(placed, 0.0), np.inf)


def box(problem: Problem, corners: Mapping[str, Corner]) -> Box:
    """The box that a suite's corners are.

    Raises:
        ArchGymError: they are not those of the problem's Pareto metrics.
    """
    names = [metric.name for metric in problem.pareto_metrics]
    if set(names) != set(corners):
        raise ArchGymError(
            f"{problem.name} is measured over {', '.join(corners) or 'no metric'}, its Pareto metrics are {', '.join(names)}"
        )
    found = [corners[name] for name in names]
    return Box(
        np.array([c.best for c in found]), np.array([c.worst for c in found]), np.array([c.logarithmic for c in found])
    )


def corners_of(problem: Problem, uniform: Array, found: Array) -> dict[str, Corner]:
    """Corners from the losses of uniform designs and of what searches found, both ``(n, m)``, infeasible rows inf.

    Raises:
        ArchGymError: a metric does not vary, or next to nothing is feasible.
    """
    uniform = uniform[np.isfinite(uniform).all(axis=1)]
    if len(uniform) < 2:
        raise ArchGymError(f"next to no uniform design of {problem.name} is feasible; draw more samples")
    everything = np.concatenate([uniform, found[np.isfinite(found).all(axis=1)]])
    result = {}
    for j, metric in enumerate(problem.pareto_metrics):
        best, worst = float(everything[:, j].min()), float(np.median(uniform[:, j]))
        if not worst > best:
            raise ArchGymError(f"{metric.name} of {problem.name} does not vary: there is no front to look for")
        result[metric.name] = Corner(best, worst, best > 0)
    return result


class Front:
    """A front that grows; ``volume`` is the hypervolume below 1 in every placed loss."""

    def __init__(self, dimension: int) -> None:
        self._points: Array = np.empty((0, dimension))
        self._corner = np.ones(dimension)
        self.volume = 0.0

    def add(self, point: Array) -> bool:
        """Add a placed loss ``(m,)``; whether the hypervolume grew."""
        if not (point < 1).all() or (self._points <= point).all(axis=1).any():
            return False
        # What the point adds: its box, less what the front dominates of it.
        gain = float(np.prod(1 - point)) - hypervolume(np.maximum(self._points, point), self._corner)
        self._points = np.vstack([self._points[~(self._points >= point).all(axis=1)], point])
        if not gain > 0:
            return False
        self.volume += gain
        return True


def growth(placed: Iterable[Array], dimension: int) -> Array:
    """The hypervolume after each of the placed losses, in order ``(n,)``."""
    front, result = Front(dimension), []
    for point in placed:
        front.add(point)
        result.append(front.volume)
    return np.array(result)


def volumes(problem: Problem, corners: Mapping[str, Corner], evaluation: Evaluation) -> Array:
    """The hypervolume after each trial of a run ``(n,)``."""
    placed = box(problem, corners).place(problem.losses(evaluation))
    return growth(placed, placed.shape[1])
