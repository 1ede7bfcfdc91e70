"""Test functions over finite design spaces, each with its exact optimum.

| workload | what it tests | optimum from |
| --- | --- | --- |
| ``separable`` | parameters that do not interact | the best value of each parameter |
| ``rugged`` | NK landscape: each parameter interacts with K neighbours (Kauffman, Weinberger, 1989) | dynamic programming |
| ``deceptive`` | traps whose slope leads away from the optimum (Deb, Goldberg, 1993) | construction |
| ``packing`` | a tight budget: most designs are infeasible | dynamic programming |
| ``pareto`` | two objectives that disagree (loss and effort) | the best value of each parameter |
| ``branin``, ``hartmann6`` | smooth functions on a grid | enumeration |
| ``rastrigin``, ``ackley`` | many local optima on a grid, optimum away from the centre | construction |
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial, wraps
from typing import Any, ParamSpec, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from archgym.simulator import Workload
from archgym.space import Constraint, Designs, DesignSpace, Parameter, linear_grid

Column = NDArray[np.float64]
Function = Callable[[Designs], Column]
P = ParamSpec("P")


class Landscape(Workload):
    """A test function.

    Attributes:
        space: its design space.
        loss: designs int64 ``(n, d)`` -> float64 ``(n,)``, to be minimised.
        effort: a second function to be minimised, or None.
        best: a feasible design with the least loss, ``(d,)``.
    """

    def __init__(
        self, name: str, description: str, space: DesignSpace, loss: Function, best: Any, effort: Function | None = None
    ) -> None:
        super().__init__(name, description)
        self.space, self.loss, self.effort = space, loss, effort
        self.best: Designs = np.asarray(best, dtype=np.int64)
        self._made_by: tuple[Callable[..., Landscape], tuple[Any, ...]] | None = None

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return self._made_by if self._made_by is not None else super().__reduce_ex__(protocol)

    @property
    def fingerprint(self) -> str:
        # The values on fixed draws tell functions apart, whatever they are made of.
        sample = self.space.sample(64, 0)
        parts = [self.space.nvec.tobytes(), np.round(self.loss(sample), 9).tobytes()]
        return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _picklable(maker: Callable[P, Landscape]) -> Callable[P, Landscape]:
    """Landscapes of ``maker`` pickle as its name and arguments: their functions are closures."""

    @wraps(maker)
    def make(*args: P.args, **kwargs: P.kwargs) -> Landscape:
        landscape = maker(*args, **kwargs)
        landscape._made_by = partial(make, *args, **kwargs), ()
        return landscape

    return make


def _sum(parts: Any) -> Column:
    """Row sums of ``(n, k)``, column after column: NumPy's own order depends on the shape of the batch."""
    total = np.zeros(len(parts))
    for column in np.asarray(parts, dtype=np.float64).T:
        total = total + column
    return total


@_picklable
def separable(d: int = 8, levels: int = 8, seed: int = 0) -> Landscape:
    """Loss = sum of one random cost a parameter; unordered parameters of ``levels`` values."""
    costs = np.random.default_rng(seed).random((d, levels))
    space = DesignSpace([Parameter(f"x{j}", tuple(range(levels)), ordered=False) for j in range(d)])
    columns = np.arange(d)
    return Landscape(
        "separable",
        f"sum of {d} independent random costs, {levels} values a parameter",
        space,
        lambda designs: _sum(costs[columns, designs]),
        costs.argmin(axis=1),
    )


@_picklable
def rugged(d: int = 16, levels: int = 4, k: int = 3, seed: int = 1) -> Landscape:
    """NK landscape on a ring: the share of parameter j depends on j and the ``k`` parameters after it."""
    tables = np.random.default_rng(seed).random((d, levels ** (k + 1)))
    space = DesignSpace([Parameter(f"x{j}", tuple(range(levels)), ordered=False) for j in range(d)])
    ring = (np.arange(d)[:, None] + np.arange(k + 1)) % d
    weights = levels ** np.arange(k, -1, -1)

    def loss(designs: Designs) -> Column:
        return _sum(tables[np.arange(d), (designs[:, ring] * weights).sum(axis=2)]) / d

    return Landscape(
        "rugged",
        f"NK landscape, N = {d} parameters of {levels} values, K = {k}",
        space,
        loss,
        _best_on_ring(tables, d, levels, k),
    )


def _best_on_ring(tables: NDArray[np.float64], d: int, levels: int, k: int) -> Designs:
    """Exact minimum of an NK ring: dynamic programming over windows of k values, for every start of the ring."""
    windows = levels**k
    digits = (np.arange(windows)[:, None] // levels ** np.arange(k - 1, -1, -1)) % levels
    best, design = np.inf, np.zeros(d, dtype=np.int64)
    # share[j][window, next]: the share of parameter j where it and its successors hold `window`, then `next`.
    share = [table.reshape(windows, levels) for table in tables]
    for start in range(windows):
        cost = np.full(windows, np.inf)
        cost[start] = 0.0
        choices = []
        for j in range(d):
            total = cost[:, None] + share[j]
            # Windows that differ in their oldest value merge: (oldest, rest) + next -> (rest, next).
            merged = total.reshape(levels, windows)
            choices.append(merged.argmin(axis=0))
            cost = merged.min(axis=0)
        if cost[start] < best:
            best = float(cost[start])
            window, values = start, []
            for j in range(d - 1, -1, -1):
                oldest = int(choices[j][window])
                values.append(oldest)
                window = oldest * levels ** (k - 1) + window // levels
            design = np.array(values[::-1], dtype=np.int64)
            assert (design[:k] == digits[start]).all()
    return design


@_picklable
def deceptive(blocks: int = 6, size: int = 4, seed: int = 2) -> Landscape:
    """Traps of ``size`` binary parameters each: loss 0 with all bits at their hidden value, else 1/4 + 3/4 of the share
    of bits that are; every single change for the better leads away from the optimum. The order of bits is hidden."""
    d = blocks * size
    rng = np.random.default_rng(seed)
    order, target = rng.permutation(d), rng.integers(0, 2, d)
    space = DesignSpace([Parameter(f"x{j}", (0, 1), ordered=False) for j in range(d)])

    def loss(designs: Designs) -> Column:
        hits = (designs == target)[:, order].reshape(len(designs), blocks, size).sum(axis=2)
        return _sum(np.where(hits == size, 0.0, 0.25 + 0.75 * hits / (size - 1))) / blocks

    return Landscape("deceptive", f"{blocks} deceptive traps of {size} bits in hidden order", space, loss, target)


@_picklable
def packing(d: int = 10, levels: int = 6, seed: int = 3) -> Landscape:
    """Every parameter buys gain with weight, and the weights must fit a capacity (a multiple-choice knapsack). The
    loss is the gain missed."""
    rng = np.random.default_rng(seed)
    weights = np.cumsum(rng.integers(1, 8, (d, levels)), axis=1) - 1
    gains = np.sqrt(weights) * rng.uniform(0.5, 1.5, (d, 1)) + rng.uniform(0.0, 0.5, (d, levels))
    capacity = int(0.7 * weights.mean() * d)
    columns = np.arange(d)
    fits = Constraint(
        "capacity",
        f"the weights of the chosen values sum to at most {capacity}",
        lambda designs: weights[columns, designs].sum(axis=1) <= capacity,
    )
    space = DesignSpace([Parameter(f"x{j}", tuple(range(levels))) for j in range(d)], [fits])
    most = float(gains.max(axis=1).sum())

    # table[c]: the best gain of the parameters so far with weight at most c.
    table = np.zeros(capacity + 1)
    picks = []
    for j in range(d):
        options = np.full((levels, capacity + 1), -np.inf)
        for i in range(levels):
            room = capacity + 1 - int(weights[j, i])
            if room > 0:
                options[i, int(weights[j, i]) :] = table[:room] + gains[j, i]
        picks.append(options.argmax(axis=0))
        table = options.max(axis=0)
    best, left = np.zeros(d, dtype=np.int64), capacity
    for j in range(d - 1, -1, -1):
        best[j] = picks[j][left]
        left -= int(weights[j, best[j]])
    return Landscape(
        "packing",
        f"multiple-choice knapsack of {d} parameters with {levels} values and capacity {capacity}",
        space,
        lambda designs: most - _sum(gains[columns, designs]),
        best,
    )


@_picklable
def pareto(d: int = 8, levels: int = 8, seed: int = 4) -> Landscape:
    """Two separable sums that disagree: what lowers the loss costs effort. The exact front is the Minkowski sum of the
    parameters' own fronts (see :func:`exact_front`)."""
    rng = np.random.default_rng(seed)
    loss = np.sort(rng.random((d, levels)), axis=1)[:, ::-1].copy()
    effort = np.sort(rng.random((d, levels)), axis=1)
    space = DesignSpace([Parameter(f"x{j}", tuple(range(levels))) for j in range(d)])
    columns = np.arange(d)
    return Landscape(
        "pareto",
        f"two opposed sums of {d} costs, {levels} values a parameter",
        space,
        lambda designs: _sum(loss[columns, designs]),
        loss.argmin(axis=1),
        effort=lambda designs: _sum(effort[columns, designs]),
    )


def exact_front(landscape: Landscape) -> NDArray[np.float64]:
    """The Pareto front of a landscape with two separable functions, as rows (loss, effort), sorted by loss."""
    assert landscape.effort is not None
    space = landscape.space
    base = np.zeros((1, space.dimension), dtype=np.int64)
    offset = np.array([landscape.loss(base)[0], landscape.effort(base)[0]])
    front = offset[None, :]
    for j, count in enumerate(space.nvec):
        rows = np.repeat(base, count, axis=0)
        rows[:, j] = np.arange(count)
        own = np.stack([landscape.loss(rows), landscape.effort(rows)], axis=1) - offset
        points = (front[:, None, :] + own[None, :, :]).reshape(-1, 2)
        points = points[np.lexsort((points[:, 1], points[:, 0]))]
        front = points[points[:, 1] < np.concatenate([[np.inf], np.minimum.accumulate(points[:, 1])[:-1]])]
    return front


def _continuous(
    name: str,
    description: str,
    bounds: list[tuple[float, float]],
    count: int,
    function: Callable[[Any], Column],
    best: Any,
) -> Landscape:
    space = DesignSpace([linear_grid(f"x{j}", low, high, count) for j, (low, high) in enumerate(bounds)])
    values = np.array([parameter.values for parameter in space.parameters])
    columns = np.arange(space.dimension)

    def loss(designs: Designs) -> Column:
        return function(values[columns, designs])

    if best is None:
        best = min(
            ((float(v.min()), rows[int(v.argmin())]) for rows in space.batches() for v in [loss(rows)]),
            key=lambda t: t[0],
        )[1]
    return Landscape(name, description, space, loss, best)


@_picklable
def branin() -> Landscape:
    """Branin's function on [-5, 10] x [0, 15], 101 values an axis (Dixon, Szegö, 1978)."""

    def function(x: Any) -> Column:
        a, b = x[:, 0], x[:, 1]
        bowl = (b - 5.1 / (4 * np.pi**2) * a**2 + 5 / np.pi * a - 6) ** 2
        return np.asarray(bowl + 10 * (1 - 1 / (8 * np.pi)) * np.cos(a) + 10)

    return _continuous("branin", "Branin's function on a 101 x 101 grid", [(-5, 10), (0, 15)], 101, function, None)


_HARTMANN_A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_HARTMANN_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
_HARTMANN_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])


@_picklable
def hartmann6() -> Landscape:
    """Hartmann's function of six variables on the unit cube, 11 values an axis (Hartmann, 1973)."""

    def function(x: Any) -> Column:
        terms = _HARTMANN_A * (x[:, None, :] - _HARTMANN_P) ** 2
        inner = np.stack([_sum(terms[:, i]) for i in range(4)], axis=1)
        return -_sum(np.exp(-inner) * _HARTMANN_ALPHA)

    # From an enumeration of all 11**6 points; tests/synthetic repeats it.
    best = (2, 2, 5, 3, 3, 7)
    return _continuous(
        "hartmann6", "Hartmann's function of six variables, 11 values each", [(0, 1)] * 6, 11, function, best
    )


@_picklable
def rastrigin(d: int = 8, count: int = 41, seed: int = 5) -> Landscape:
    """Rastrigin's function with its optimum at a hidden point of the grid over [-4, 4]."""
    best = np.random.default_rng(seed).integers(count // 5, count - count // 5, d)
    shift = np.linspace(-4, 4, count)[best]

    def function(x: Any) -> Column:
        z = x - shift
        return _sum(z**2 - 10 * np.cos(2 * np.pi * z) + 10)

    return _continuous(
        "rastrigin", f"Rastrigin's function of {d} variables, shifted", [(-4, 4)] * d, count, function, best
    )


@_picklable
def ackley(d: int = 10, count: int = 33, seed: int = 6) -> Landscape:
    """Ackley's function with its optimum at a hidden point of the grid over [-16, 16]."""
    best = np.random.default_rng(seed).integers(count // 5, count - count // 5, d)
    shift = np.linspace(-16, 16, count)[best]

    def function(x: Any) -> Column:
        z = x - shift
        far = 20 - 20 * np.exp(-0.2 * np.sqrt(_sum(z**2) / d))
        return np.asarray(far + np.e - np.exp(_sum(np.cos(2 * np.pi * z / 4)) / d))

    return _continuous("ackley", f"Ackley's function of {d} variables, shifted", [(-16, 16)] * d, count, function, best)


class _Landscapes(Mapping[str, Landscape]):
    """The landscapes by name, made when first asked for."""

    def __init__(self, makers: Mapping[str, Callable[[], Landscape]]) -> None:
        self._makers, self._made = dict(makers), dict[str, Landscape]()

    def __getitem__(self, name: str) -> Landscape:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __contains__(self, name: object) -> bool:
        return name in self._makers


LANDSCAPES = _Landscapes(
    {
        "separable": separable,
        "rugged": rugged,
        "deceptive": deceptive,
        "packing": packing,
        "pareto": pareto,
        "branin": branin,
        "hartmann6": hartmann6,
        "rastrigin": rastrigin,
        "ackley": ackley,
    }
)
