"""Ways to choose the designs of a dataset. Each returns int64 designs ``(n, d)`` and is fixed by its seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from archgym.errors import ArchGymError, UnknownNameError
from archgym.space import Designs, DesignSpace


def uniform(space: DesignSpace, count: int, seed: int) -> Designs:
    """Independent uniform draws."""
    return space.sample(count, np.random.default_rng([seed, 1]))


def sobol(space: DesignSpace, count: int, seed: int) -> Designs:
    """A scrambled Sobol sequence cut to the grid (Owen, 1998): even in every low-dimensional projection."""
    from scipy.stats import qmc

    # A power of two keeps the sequence balanced; its first ``count`` points are used.
    points = qmc.Sobol(space.dimension, scramble=True, rng=np.random.default_rng([seed, 2])).random_base2(
        max(int(count - 1).bit_length(), 0)
    )
    return space.from_unit(points[:count])


def latin_hypercube(space: DesignSpace, count: int, seed: int) -> Designs:
    """A Latin hypercube: every level of every parameter equally often, up to rounding."""
    from scipy.stats import qmc

    return space.from_unit(qmc.LatinHypercube(space.dimension, rng=np.random.default_rng([seed, 3])).random(count))


def perturbations(space: DesignSpace, centres: ArrayLike, count: int, seed: int, changes: int = 3) -> Designs:
    """Known designs with 1..``changes`` parameters set to another value; centres are taken in turn."""
    known = space.check(centres)
    if not len(known):
        raise ArchGymError("there is no design to perturb; give a dataset with at least one feasible trial")
    rng = np.random.default_rng([seed, 4])
    result = known[np.arange(count) % len(known)].copy()
    free = np.flatnonzero(space.nvec > 1)
    how_many = rng.integers(1, min(changes, len(free)) + 1, size=count)
    order = rng.permuted(np.tile(free, (count, 1)), axis=1)
    for k in range(int(how_many.max(initial=0))):
        rows = np.flatnonzero(how_many > k)
        column = order[rows, k]
        # A step of 1..levels-1 around the circle of values is always another value, each equally likely.
        step = rng.integers(1, space.nvec[column])
        result[rows, column] = (result[rows, column] + step) % space.nvec[column]
    return result


METHODS: dict[str, Callable[[DesignSpace, int, int], Designs]] = {
    "uniform": uniform,
    "sobol": sobol,
    "lhs": latin_hypercube,
}


def draw(space: DesignSpace, method: str, count: int, seed: int) -> Designs:
    """Designs by one of METHODS."""
    if method not in METHODS:
        raise UnknownNameError("sampling method", method, METHODS)
    if count < 1:
        raise ArchGymError(f"the count is {count}; expected a positive number of designs")
    return METHODS[method](space, count, seed)


def distinct(space: DesignSpace, count: int, seed: int, method: str = "uniform") -> Designs:
    """Like :func:`draw`, without equivalent designs: ``count`` canonical forms, or as many as the space has (as far
    as 20 draws a design find them)."""
    kept: dict[bytes, None] = {}
    rows: list[Designs] = []
    size, tried = count, 0
    while len(kept) < count and tried < 20 * count + 4096:
        # A longer sequence of the same seed starts with the shorter one for uniform draws only; new seeds for others.
        designs = draw(space, method, size, seed + 1_000_003 * tried)
        tried += size
        for row, key in zip(designs, space.canonical(designs), strict=True):
            token = key.tobytes()
            if token not in kept and len(kept) < count:
                kept[token] = None
                rows.append(row)
        size = max(count - len(kept), 1024)
    return np.array(rows, dtype=np.int64).reshape(-1, space.dimension)
