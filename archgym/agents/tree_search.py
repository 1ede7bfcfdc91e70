"""Monte Carlo tree search over any space: a design is built parameter by parameter, ordered values by halves (DeepArchitect,
Negrinho & Gordon, 2017; all-moves-as-first statistics as in RAVE, Gelly & Silver, 2011)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.agents.base import GenerationalAgent, Hyperparameters, hyper
from archgym.agents.moves import row_keys
from archgym.objective import Rewards
from archgym.simulator import Evaluation
from archgym.space import Designs

FLAT = 4
"""An ordered parameter with more values than these is halved, one with fewer branches over all of them."""

DRAWS = 20
"""Designs drawn in search of a new one before a uniform one is taken."""


@dataclass(frozen=True)
class TreeSearchHyperparameters(Hyperparameters):
    """Of Monte Carlo tree search."""

    explore: float = hyper(0.4, low=0.0, high=2.0, doc="weight of the confidence term; rewards count by their quantile")
    best: float = hyper(0.5, low=0.0, high=1.0, doc="weight of a branch's best trial against its mean")
    greed: float = hyper(4.0, low=0.0, high=16.0, doc="roll-outs draw a value by exp(greed x its mean quantile)")
    batch: int = hyper(8, low=1, high=64, log=True, doc="designs asked for between two updates of the tree")
    initial: int = hyper(32, low=1, high=1000, log=True, doc="uniform designs before the tree is begun")
    order: str = hyper(
        "given",
        choices=("given", "variance"),
        doc="order of the parameters from the root: as given, or by how much their values' means differ at first",
    )
    restructure: bool = hyper(
        True, choices=(True, False), doc="halve ordered parameters, so that near values share a branch"
    )


class _Node:
    """A prefix of decisions whose next one is among intervals of values of one parameter.

    Attributes:
        place: position in the order of parameters.
        low, high: the intervals of value indices, half open, one a child.
        visits, total, best: of the trials below each child: number asked for, sum and maximum of their quantiles.
        spent: children below which every design is known.
        children: the nodes below, None where there is none yet.
    """

    __slots__ = ("best", "children", "high", "low", "place", "spent", "total", "visits")

    def __init__(self, place: int, intervals: list[tuple[int, int]]) -> None:
        self.place = place
        self.low = np.array([low for low, _ in intervals])
        self.high = np.array([high for _, high in intervals])
        self.visits, self.total, self.best = np.zeros((3, len(intervals)))
        self.spent = np.zeros(len(intervals), dtype=bool)
        self.children: list[_Node | None] = [None] * len(intervals)


Path = list[tuple[_Node, int]]


class TreeSearch(GenerationalAgent[TreeSearchHyperparameters]):
    """Each design walks down a tree of decisions by an upper confidence bound, leaves it at the first branch that nobody
    took, and draws what is left by the mean quantiles of single values. The bound of a branch mixes the mean and the best of
    the trials below it, both together with the mean of *all* trials that hold its values (all moves as first), and rewards
    count by their quantile among all told so far, so that neither scale nor penalties matter."""

    name = "mcts"

    hyperparameters = TreeSearchHyperparameters

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._root: _Node | None = None
        self._order: list[int] = list(range(self.space.dimension))
        # Quantiles by parameter and value: sums and numbers of trials.
        self._sums = [np.zeros(count) for count in self.space.nvec]
        self._counts = [np.zeros(count) for count in self.space.nvec]
        self._sorted: list[float] = []
        self._known: set[bytes] = set()
        self._paths: list[Path] = []

    def propose(self) -> Designs:
        if self._root is None:
            self._paths = [[] for _ in range(self.p.initial)]
            return self.space.sample(self.p.initial, self.rng)
        self._paths, rows = [], []
        for _ in range(self.p.batch):
            path, row = self._new()
            self._paths.append(path)
            rows.append(row)
        return np.stack(rows)

    def learn(self, designs: Designs, evaluation: Evaluation, rewards: Rewards) -> None:
        for row, key, reward, path in zip(designs, self._keys(designs), rewards.tolist(), self._paths, strict=True):
            insort(self._sorted, reward)
            below = bisect_left(self._sorted, reward) + bisect_right(self._sorted, reward) - 1
            quantile = below / max(2 * len(self._sorted) - 2, 1)
            self._known.add(key)
            for node, child in path:
                node.total[child] += quantile
                node.best[child] = max(node.best[child], quantile)
            for j, value in enumerate(row):
                self._sums[j][value] += quantile
                self._counts[j][value] += 1
        if self._root is None:
            if self.p.order == "variance":
                self._order = sorted(self._order, key=lambda j: -float(np.var(self._means(j))))
            self._root = self._node(0, None)

    def _keys(self, designs: Designs) -> list[bytes]:
        return row_keys(self.space.canonical(designs))

    def _means(self, j: int) -> NDArray[np.float64]:
        """Mean quantile of the trials with each value of parameter ``j``, drawn to a half where there are few."""
        return (self._sums[j] + 0.5) / (self._counts[j] + 1.0)

    # --- the tree ----------------------------------------------------------------------------------------------

    def _node(self, place: int, interval: tuple[int, int] | None) -> _Node:
        """The node that decides on the parameter at ``place``, of which ``interval`` is left (None: all)."""
        parameter = self.space.parameters[self._order[place]]
        low, high = interval or (0, len(parameter))
        if self.p.restructure and parameter.ordered and high - low > FLAT:
            middle = (low + high) // 2
            return _Node(place, [(low, middle), (middle, high)])
        return _Node(place, [(value, value + 1) for value in range(low, high)])

    def _below(self, node: _Node, child: int) -> _Node | None:
        """The node below a child, made where there is none; None where the design is complete."""
        if node.children[child] is None:
            low, high = int(node.low[child]), int(node.high[child])
            if high - low > 1:
                node.children[child] = self._node(node.place, (low, high))
            elif node.place + 1 < self.space.dimension:
                node.children[child] = self._node(node.place + 1, None)
        return node.children[child]

    def _bounds(self, node: _Node) -> NDArray[np.float64]:
        j = self._order[node.place]
        sums, counts = (np.concatenate(([0.0], np.cumsum(part[j]))) for part in (self._sums, self._counts))
        first = (sums[node.high] - sums[node.low] + 0.5) / (counts[node.high] - counts[node.low] + 1.0)
        mean = (node.total + first) / (node.visits + 1.0)
        bonus = np.sqrt(np.log(node.visits.sum() + 1.0) / (node.visits + 1.0))
        bounds = (1 - self.p.best) * mean + self.p.best * np.maximum(node.best, first) + self.p.explore * bonus
        return np.where(node.spent, -np.inf, bounds)

    def _new(self) -> tuple[Path, NDArray[np.int64]]:
        """A path and a design below it that was not asked for before, while there is one to be found."""
        for _ in range(DRAWS):
            path, complete = self._descend()
            if not path:
                break
            row = self._roll_out(path)
            key = self._keys(row[None])[0]
            if key not in self._known:
                self._known.add(key)
                return path, row
            if complete:
                self._spend(path)
        return [], self.space.sample(1, self.rng)[0]

    def _descend(self) -> tuple[Path, bool]:
        """The way down to the first child that nobody visited, each of its steps counted as a visit, and whether it
        decides everything; an empty one where all is known."""
        path: Path = []
        node = self._root
        while node is not None and not node.spent.all():
            bounds = self._bounds(node)
            # Equal bounds are frequent at first; the first of them would favour low values.
            child = int(self.rng.choice(np.flatnonzero(bounds == bounds.max())))
            path.append((node, child))
            node.visits[child] += 1
            if node.visits[child] == 1:
                return path, self._complete(node, child)
            node = self._below(node, child)
        return path, node is None

    def _complete(self, node: _Node, child: int) -> bool:
        return node.place + 1 == self.space.dimension and node.high[child] - node.low[child] == 1

    def _spend(self, path: Path) -> None:
        """The design at the end of the path is known: no walk ends there again, nor where all children are such."""
        for node, child in reversed(path):
            node.spent[child] = True
            if not node.spent.all():
                return

    # --- what the tree does not decide ---------------------------------------------------------------------------

    def _roll_out(self, path: Path) -> NDArray[np.int64]:
        row = np.zeros(self.space.dimension, dtype=np.int64)
        free = {j: (0, int(self.space.nvec[j])) for j in self._order[path[-1][0].place :]}
        for node, child in path:
            interval = int(node.low[child]), int(node.high[child])
            row[self._order[node.place]] = interval[0]
            if self._order[node.place] in free:
                free[self._order[node.place]] = interval
        for j, (low, high) in free.items():
            weights = np.exp(self.p.greed * self._means(j)[low:high])
            row[j] = low + self.rng.choice(high - low, p=weights / weights.sum())
        if self.space.constraints and self.space.violations(row)[0]:
            return self._mended(row, free)
        return row

    def _mended(self, row: NDArray[np.int64], free: dict[int, tuple[int, int]]) -> NDArray[np.int64]:
        """The design with one undecided parameter changed such that it breaks no constraint, or itself where none is."""
        others = np.stack(list(_changed(row, free)) or [row])
        good = np.flatnonzero(self.space.violations(others) == "")
        return others[self.rng.choice(good)] if len(good) else row


def _changed(row: NDArray[np.int64], free: dict[int, tuple[int, int]]) -> Iterator[NDArray[np.int64]]:
    for j, (low, high) in free.items():
        for value in range(low, high):
            if value != row[j]:
                other = row.copy()
                other[j] = value
                yield other
