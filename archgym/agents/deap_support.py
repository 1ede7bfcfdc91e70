"""What the agents on DEAP share: DEAP's operators under a random generator of the run's own."""

from __future__ import annotations

__all__ = ()

import random
import threading

import numpy as np
from deap import tools
from deap.tools import crossover as deap_crossover
from deap.tools import emo, selection
from numpy.typing import NDArray

from archgym.agents.moves import below, compiled, seen_before
from archgym.space import Designs

_turn = threading.RLock()
"""Of the thread whose generator DEAP's operators draw from."""


class OwnRandom:
    """Context in which DEAP's operators draw from a generator of our own, which it gives, in place of Python's global one.
    (Giving that one our state for as long takes a tenth of a millisecond.) All of the process draw from it meanwhile, so that
    agents in other threads wait.

    Args:
        rng: gives the seed.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._own = random.Random(int(rng.integers(2**63)))

    def __enter__(self) -> random.Random:
        _turn.acquire()
        for module in (selection, deap_crossover, emo):
            module.random = self._own
        return self._own

    def __exit__(self, *exc: object) -> None:
        for module in (selection, deap_crossover, emo):
            module.random = random
        _turn.release()


def vary(
    children: list[list[int]],
    parents: Designs,
    nvec: NDArray[np.int64],
    crossover: float,
    mutation: float,
    rng: np.random.Generator,
    own: random.Random,
) -> Designs:
    """Cross neighbours in the list (uniform crossover, in place) with probability ``crossover``, by draws of ``own``, the
    generator of the context; then draw each gene anew, to another value, with probability ``mutation``; a child that is one
    of ``parents`` ``(m, d)`` or has an older twin gets one more mutation, so that a converged population still moves."""
    for left, right in zip(children[::2], children[1::2], strict=False):
        if own.random() < crossover:
            tools.cxUniform(left, right, 0.5)
    # tools.mutUniformInt draws gene by gene in Python; one draw for the whole generation is the same.
    uniform, free = rng.random((len(children), len(nvec))), np.flatnonzero(nvec > 1)
    if (kernels := compiled()) is not None:
        family = np.concatenate([parents, np.array(children, dtype=np.int64)])
        slots = np.zeros(2 << len(family).bit_length(), dtype=np.int32)
        scratch = np.empty((2, len(children)), dtype=np.int64)
        kernels.mutate(family, len(parents), uniform, mutation, nvec, free, slots, scratch, *kernels.draws(rng))
        return family[len(parents) :]
    rows, columns = ((uniform < mutation) & (nvec > 1)).nonzero()
    _mutate(children, rows.tolist(), columns, nvec, rng)
    twins = seen_before(map(tuple, children), set(map(tuple, parents.tolist())))
    if len(free) and twins:
        _mutate(children, twins, free[rng.integers(0, len(free), len(twins))], nvec, rng)
    return np.array(children, dtype=np.int64)


def _mutate(
    children: list[list[int]],
    rows: list[int],
    columns: NDArray[np.int64],
    nvec: NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    counts = nvec[columns].tolist()
    steps = below([count - 1 for count in counts], rng)
    for i, j, step, count in zip(rows, columns.tolist(), steps, counts, strict=True):
        children[i][j] = (children[i][j] + 1 + step) % count
