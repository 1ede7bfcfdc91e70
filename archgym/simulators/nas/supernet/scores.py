"""What a supernet says of cells: inherited accuracy and cross-entropy, and how well they rank the cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.simulators.nas import cells
from archgym.simulators.nas.supernet.engine import make_engine
from archgym.simulators.nas.supernet.training import Supernet

Scores = tuple[NDArray[np.float64], NDArray[np.float64]]


def inherited_scores(
    supernet: Supernet,
    codes: Sequence[int] | NDArray[np.int64],
    split: str = "valid",
    *,
    threads: int = 1,
    on_cell: Callable[[], None] | None = None,
) -> Scores:
    """Accuracy in percent and cross-entropy in nats of live cells with the supernet's weights, both ``(n,)``.

    The normalisation of every cell takes the moments of its own activations, over the recipe's training batches: the
    cells share weights, and no moments. A result depends on the cell alone, not on the batch or the threads.
    """
    recipe, data = supernet.recipe, supernet.data
    count = min(recipe.recalibration, recipe.data.train // recipe.batch)
    batches = np.arange(count * recipe.batch).reshape(count, recipe.batch)
    x, y = (data.x_valid, data.y_valid) if split == "valid" else (data.x_test, data.y_test)

    def judge(part: NDArray[np.int64]) -> list[tuple[float, float]]:
        engine = make_engine(data, recipe.macro, recipe.batch)
        result = []
        for code in part.tolist():
            result.append(engine.judge(code, supernet.leaf_of(code).weights[supernet.store.index(code)], batches, x, y))
            if on_cell is not None:
                on_cell()
        return result

    wanted = np.asarray(codes, dtype=np.int64)
    if cells.is_dead(cells.rows(wanted)).any():
        raise ArchGymError("dead cells have no inherited accuracy; leave them out")
    if threads <= 1 or len(wanted) < 2:
        found = judge(wanted)
    else:
        with ThreadPoolExecutor(threads) as pool:
            found = [pair for part in pool.map(judge, np.array_split(wanted, threads)) for pair in part]
    table = np.array(found, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def ranking_statistics(
    accuracy: NDArray[np.float64],
    cross_entropy: NDArray[np.float64],
    truth: NDArray[np.float64],
    macs: NDArray[np.float64],
) -> dict[str, Any]:
    """How scores order cells, against the table's accuracies ``truth``; all arrays ``(n,)``, one row a class.

    tau = Kendall's tau-b, rho = Spearman's; ``top_20``: share of the table's best 5 % among the 20 best by the score;
    ``best_of_top_20_percent``: the highest table accuracy among them.
    """
    from scipy.stats import kendalltau, rankdata, spearmanr

    score = -cross_entropy
    upper = truth >= np.median(truth)
    order = np.argsort(-score, kind="stable")[:20]
    best = truth >= np.quantile(truth, 0.95)
    together = rankdata(score) + rankdata(macs)
    return {
        "cells": len(truth),
        "mean_inherited_accuracy_percent": float(accuracy.mean()),
        "tau_accuracy": float(kendalltau(accuracy, truth)[0]),
        "tau_cross_entropy": float(kendalltau(score, truth)[0]),
        "rho_cross_entropy": float(spearmanr(score, truth)[0]),
        "tau_cross_entropy_upper_half": float(kendalltau(score[upper], truth[upper])[0]),
        "tau_macs": float(kendalltau(macs, truth)[0]),
        "tau_ranks_of_both": float(kendalltau(together, truth)[0]),
        "top_20_in_best_5_percent": float(best[order].mean()),
        "best_of_top_20_percent": float(truth[order].max()),
    }
