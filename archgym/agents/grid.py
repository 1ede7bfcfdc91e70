"""Grid search that refines: a coarse grid in random order, then the grid of twice the resolution, to the full space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs


@dataclass(frozen=True)
class GridHyperparameters(Hyperparameters):
    """Of the grid search."""

    levels: int = hyper(2, low=1, high=64, log=True, doc="values an ordered parameter has in the first grid")
    order: str = hyper(
        "shuffled", choices=("shuffled", "lexicographic"), doc="order in which the points of a grid are visited"
    )


class GridSearch(GenerationalAgent[GridHyperparameters]):
    """Visits every point of a grid of ``levels`` evenly spaced values a parameter (unordered ones keep all their
    values), then of the grid with ``2 * levels - 1``, and so on; once the full space is visited it starts again.

    The shuffled order is the affine walk ``rank -> (a * rank + c) mod size`` with ``a`` coprime to ``size``, which
    needs no memory, however large the grid.
    """

    name = "grid"

    hyperparameters = GridHyperparameters

    _BLOCK = 256

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._levels = self.p.levels
        self._start_grid()

    def _start_grid(self) -> None:
        self._axes: list[NDArray[np.int64]] = []
        for parameter in self.space.parameters:
            count = len(parameter)
            kept = min(self._levels, count) if parameter.ordered else count
            # One level stands in the middle; more include both ends.
            axis = np.array([(count - 1) // 2]) if kept == 1 else np.linspace(0, count - 1, kept).round()
            self._axes.append(np.unique(axis.astype(np.int64)))
        self._size = math.prod(len(axis) for axis in self._axes)
        self._visited = 0
        self._factor, self._offset = 1, 0
        if self.p.order == "shuffled":
            self._offset = self._integer(self._size)
            self._factor = self._integer(self._size) | 1
            while math.gcd(self._factor, self._size) != 1:
                self._factor += 1

    def _integer(self, below: int) -> int:
        """A random whole number in [0, below), of any size."""
        words = (below.bit_length() + 31) // 32 + 1
        return int.from_bytes(self.rng.bytes(4 * words), "little") % below

    @property
    def _complete(self) -> bool:
        return self._size == self.space.size

    def propose(self) -> Designs:
        if self._visited >= self._size:
            if not self._complete:
                self._levels = 2 * self._levels - 1 if self._levels > 1 else 2
            self._start_grid()
        count = min(self._BLOCK, self._size - self._visited)
        designs = np.empty((count, self.space.dimension), dtype=np.int64)
        ranks = [
            (self._factor * rank + self._offset) % self._size for rank in range(self._visited, self._visited + count)
        ]
        rest: NDArray[Any] = np.array(ranks, dtype=np.int64 if self._size < 2**63 else object)
        for j in range(self.space.dimension - 1, -1, -1):
            axis = self._axes[j]
            designs[:, j] = axis[(rest % len(axis)).astype(np.int64)]
            rest = rest // len(axis)
        self._visited += count
        return designs

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        pass
