"""First generations that fill a space, and designs that keep its declared constraints, for agents that use what they know."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from archgym.space import Designs, DesignSpace

TRIES = 40
"""Times that designs which break a constraint are made anew; what then still breaks one is proposed as it is."""


def allowed(space: DesignSpace, designs: Designs) -> NDArray[np.bool_]:
    """Which designs keep every declared constraint; shape ``(n,)``."""
    if not space.constraints:
        return np.ones(len(designs), dtype=bool)
    return np.asarray(space.violations(designs) == "", dtype=bool)


def made_allowed(space: DesignSpace, designs: Designs, make: Callable[[NDArray[np.int64]], Designs]) -> Designs:
    """``designs`` with the rows that break a constraint made anew, by ``make`` (rows -> designs), some times over."""
    if space.constraints:
        rows = np.flatnonzero(~allowed(space, designs))
        for _ in range(TRIES):
            if not len(rows):
                break
            designs[rows] = make(rows)
            rows = rows[~allowed(space, designs[rows])]
    return designs


def first_designs(space: DesignSpace, count: int, rng: np.random.Generator, start: str = "filling") -> Designs:
    """``count`` designs to begin with: ``uniform`` draws, or ``filling``: Latin hypercubes, in which every parameter takes
    all of its values as evenly as it can, of the designs that keep the declared constraints."""
    if start == "uniform":
        return space.sample(count, rng)

    def hypercube(n: int) -> Designs:
        cells = rng.permuted(np.tile(np.arange(n)[:, None], (1, space.dimension)), axis=0)
        return space.from_unit((cells + rng.random(cells.shape)) / n)

    made = hypercube(count)
    kept = made[allowed(space, made)]
    for _ in range(TRIES):
        if len(kept) == count:
            break
        more = hypercube(max(count, 256))
        kept = np.concatenate([kept, more[allowed(space, more)]])[:count]
    return np.concatenate([kept, made[: count - len(kept)]])
