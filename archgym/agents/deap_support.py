"""What the agents on DEAP share: DEAP's operators under a random generator of the run's own."""

from __future__ import annotations

__all__ = ()

import random

import numpy as np
from deap import tools
from numpy.typing import NDArray

from archgym.agents.moves import seen_before


class OwnRandom:
    """Context in which Python's global generator, from which DEAP's operators draw, is one of our own.

    Args:
        rng: gives the seed.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._state = random.Random(int(rng.integers(2**63))).getstate()
        self._outside = self._state

    def __enter__(self) -> None:
        self._outside = random.getstate()
        random.setstate(self._state)

    def __exit__(self, *exc: object) -> None:
        self._state = random.getstate()
        random.setstate(self._outside)


def vary(
    children: list[list[int]],
    nvec: NDArray[np.int64],
    crossover: float,
    mutation: float,
    known: set[tuple[int, ...]],
    rng: np.random.Generator,
) -> None:
    """Cross neighbours in the list (uniform crossover) with probability ``crossover``, then draw each gene anew, to
    another value, with probability ``mutation``; a child that is in ``known`` or has an older twin gets one more
    mutation, so that a converged population still moves. In place."""
    for left, right in zip(children[::2], children[1::2], strict=False):
        if random.random() < crossover:
            tools.cxUniform(left, right, 0.5)
    # tools.mutUniformInt draws gene by gene in Python; one draw for the whole generation is the same.
    chosen = (rng.random((len(children), len(nvec))) < mutation) & (nvec > 1)
    rows, columns = np.nonzero(chosen)
    _mutate(children, rows, columns, nvec, rng)
    free = np.flatnonzero(nvec > 1)
    if not len(free):
        return
    born = set(known)
    twins = seen_before(map(tuple, children), born)
    _mutate(children, np.array(twins, dtype=np.int64), free[rng.integers(0, len(free), len(twins))], nvec, rng)


def _mutate(
    children: list[list[int]],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    nvec: NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    counts = nvec[columns]
    steps = rng.integers(1, counts) if len(counts) else counts
    for i, j, step, count in zip(rows.tolist(), columns.tolist(), steps.tolist(), counts.tolist(), strict=True):
        children[i][j] = (children[i][j] + step) % count
