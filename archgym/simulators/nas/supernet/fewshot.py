"""Few-shot supernets: split a supernet where its operations pull the shared weights apart.

Gradient matching (Hu et al., "Generalizing Few-Shot NAS with Gradient Matching", ICLR 2022): for an edge, the distance
of two operations is one minus the cosine of the gradients that they give, in turn, to all weights but the edge's own.
The operations are split in two and three so that those of a group agree; the edge whose split separates most is split.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.nas import cells
from archgym.simulators.nas.supernet.store import Leaf, draw_cell

if TYPE_CHECKING:
    from archgym.simulators.nas.supernet.engine import Engine
    from archgym.simulators.nas.supernet.training import Supernet


def matching_distances(
    supernet: Supernet, leaf: Leaf, engine: Engine, edge: int, key: tuple[int, ...] = ()
) -> NDArray[np.float64]:
    """Distances of the operations of an edge, ``(5, 5)``: the mean over batches of 1 - cos(g_o, g_p), where g_o is the
    gradient with operation o on the edge, over all weights but the edge's own. The other edges are drawn anew for
    every batch, so that the cell lives whatever the edge carries."""
    recipe, store = supernet.recipe, supernet.store
    others = store.edge != edge
    total = np.zeros((5, 5))
    for batch in range(recipe.matching_batches):
        rng = np.random.default_rng([supernet.seed, 6, edge, batch, *key])
        rows = rng.permutation(recipe.data.train)[: recipe.batch].astype(np.int64)
        without = [ops if e != edge else [cells.NONE] for e, ops in enumerate(leaf.choices)]
        row = cells.rows(draw_cell(without, rng))
        gradients = np.zeros((5, store.size))
        for op in range(5):
            row[edge] = op
            code = int(cells.codes(row))
            where = store.index(code)
            gradients[op, where] = engine.gradient(code, leaf.weights[where], rows)[0]
        gradients = gradients[:, others]
        gradients /= np.linalg.norm(gradients, axis=1, keepdims=True)
        total += 1.0 - gradients @ gradients.T
    return total / recipe.matching_batches


def bipartition(distance: NDArray[np.float64]) -> tuple[tuple[int, ...], float]:
    """The split of five operations in two and three with the smallest sum of distances inside the groups.

    Returns the group of two and what the split separates: the sum of all distances minus those inside the groups.
    """
    pairs = np.triu(distance, 1)
    best: tuple[float, tuple[int, ...]] | None = None
    for two in combinations(range(5), 2):
        three = [op for op in range(5) if op not in two]
        inside = float(pairs[np.ix_(two, two)].sum() + pairs[np.ix_(three, three)].sum())
        if best is None or inside < best[0]:
            best = inside, two
    assert best is not None
    return best[1], float(pairs.sum()) - best[0]


def split_leaves(supernet: Supernet, engine: Engine) -> None:
    """Split every sub-supernet in two, by gradient matching or at random; the children inherit its weights."""
    children: list[Leaf] = []
    for number, leaf in enumerate(supernet.leaves):
        whole = [edge for edge in range(6) if leaf.allowed[edge].all()]
        key = (supernet.update, number)
        if supernet.recipe.policy == "fewshot-random":
            rng = np.random.default_rng([supernet.seed, 7, *key])
            edge = int(rng.choice(whole))
            two: tuple[int, ...] = tuple(sorted(rng.permutation(5)[:2].tolist()))
        else:
            found = {e: bipartition(matching_distances(supernet, leaf, engine, e, key)) for e in whole}
            edge = max(found, key=lambda e: found[e][1])
            two = found[edge][0]
        names = [" ".join(cells.OPERATIONS[op] for op in range(5) if (op in two) == inside) for inside in (True, False)]
        supernet.splits.append(f"{cells.EDGE_NAMES[edge]}: {names[0]} | {names[1]}")
        for inside in (True, False):
            allowed = leaf.allowed.copy()
            allowed[edge] = [(op in two) == inside for op in range(5)]
            children.append(Leaf(allowed, leaf.weights.copy(), leaf.velocity.copy()))
    supernet.leaves = children
