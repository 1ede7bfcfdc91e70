"""Diversity-guided shrinking of the cell space for ensembles (NEAS, Chen et al., CVPR 2021).

A supernet is trained for half of its steps; then, piece by piece of the other half, the worst operation of an edge is dropped,
until enough are. An operation is good where the cells with it have a low loss and answer differently:

    merit(edge, op) = - mean loss of the sampled cells with it + diversity * mean KL(p_i || p_j) over their ordered pairs

in nats, p_i being the probabilities that cell i gives the classes of a sample. Both members of an ensemble are cells of the
space that is left. The simulator is not asked.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.nas import cells
from archgym.simulators.nas.supernet.engine import KernelEngine
from archgym.simulators.nas.supernet.store import Leaf, live_codes
from archgym.simulators.nas.supernet.training import Supernet, SupernetRecipe

SAMPLES = 1000
"""Validation samples on which the cells answer: those of the tables' checkpoints before the last."""


@dataclass(frozen=True)
class ShrinkRecipe:
    """How a space is shrunk.

    Attributes:
        supernet: how the supernet is trained: half of the steps before the first drop, the rest in equal pieces before the others.
        drops: operations dropped in all.
        cells: cells drawn before every drop, the open operations of an edge equally often.
        diversity: weight of the divergence between the answers of cells that share an operation.
    """

    supernet: SupernetRecipe = field(default_factory=SupernetRecipe)
    drops: int = 12
    cells: int = 40
    diversity: float = 0.1


@dataclass(frozen=True)
class Shrunk:
    """A space that is left.

    Attributes:
        allowed: its operations, bool ``(6, 5)``.
        dropped: (edge, operation), in the order in which they went.
        seconds: processor seconds of the training and of the cells' answers.
    """

    allowed: NDArray[np.bool_]
    dropped: tuple[tuple[int, int], ...]
    seconds: float


def shrink(recipe: ShrinkRecipe, seed: int = 0) -> Shrunk:
    """Shrink the whole space of cells; a function of recipe and seed."""
    begin = time.process_time()
    supernet = Supernet(recipe.supernet, seed)
    engine = KernelEngine(supernet.data, recipe.supernet.macro, recipe.supernet.batch)
    allowed, dropped = np.ones((6, 5), dtype=bool), []
    updates = recipe.supernet.updates
    for number in range(recipe.drops):
        supernet.train(engine, updates // (2 * recipe.drops) if number else updates // 2)
        rows = balanced_cells(allowed, recipe.cells, np.random.default_rng([seed, 13, number]))
        answers = _answers(supernet, engine, rows)
        found = worst(merits(rows, answers, supernet.data.y_valid[:SAMPLES], recipe.diversity), allowed)
        if found is None:
            break
        allowed[found] = False
        dropped.append(found)
        leaf = supernet.leaves[0]
        supernet.leaves = [Leaf(allowed.copy(), leaf.weights, leaf.velocity)]
    return Shrunk(allowed, tuple(dropped), time.process_time() - begin)


def balanced_cells(allowed: NDArray[np.bool_], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Live cells ``(n, 6)``, n near ``count``: every edge has its allowed operations equally often, but for dead cells,
    which are left out."""
    columns = []
    for row in allowed:
        ops = np.flatnonzero(row)
        columns.append(rng.permutation(np.tile(ops, -(-count // len(ops)))[:count]))
    rows = np.stack(columns, axis=1).astype(np.int64)
    return rows[~cells.is_dead(rows)]


def merits(
    rows: NDArray[np.int64], logits: NDArray[np.float32], labels: NDArray[np.int64], diversity: float
) -> NDArray[np.float64]:
    """Merit of every operation on every edge ``(6, 5)``, NaN where fewer than two cells have it.

    Args:
        rows: cells ``(n, 6)``; logits: their answers ``(n, samples, classes)``; labels: ``(samples,)``.
    """
    z = logits.astype(np.float64)
    log_p = z - z.max(axis=2, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=2, keepdims=True))
    loss = -log_p[:, np.arange(len(labels)), labels].mean(axis=1)
    p, flat = np.exp(log_p).reshape(len(rows), -1), log_p.reshape(len(rows), -1)
    divergence = ((p * flat).sum(axis=1)[:, None] - p @ flat.T) / len(labels)  # KL(p_i || p_j), mean over samples
    result = np.full((6, 5), np.nan)
    for edge, op in np.ndindex(6, 5):
        own = np.flatnonzero(rows[:, edge] == op)
        if len(own) > 1:
            pairs = divergence[np.ix_(own, own)].sum() / (len(own) * (len(own) - 1))
            result[edge, op] = diversity * pairs - loss[own].mean()
    return result


def worst(merit: NDArray[np.float64], allowed: NDArray[np.bool_]) -> tuple[int, int] | None:
    """The operation of the lowest merit that can go: its edge keeps another one, the space a live cell. None where there
    is none."""
    for place in np.argsort(np.where(allowed, merit, np.nan), axis=None, kind="stable"):
        edge, op = divmod(int(place), 5)
        if not allowed[edge, op] or np.isnan(merit[edge, op]) or allowed[edge].sum() < 2:
            continue
        left = allowed.copy()
        left[edge, op] = False
        if len(live_codes(left)):
            return edge, op
    return None


def _answers(supernet: Supernet, engine: KernelEngine, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Logits ``(n, samples, classes)`` of cells with the supernet's weights on the first ``SAMPLES`` validation samples."""
    data, leaf, batches = supernet.data, supernet.leaves[0], supernet.moment_batches()
    x, y = data.x_valid[:SAMPLES], data.y_valid[:SAMPLES]
    return np.stack(
        [
            engine.logits(code, leaf.weights[supernet.store.index(code)], batches, x, y)
            for code in cells.codes(rows).tolist()
        ]
    )
