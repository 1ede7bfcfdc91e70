"""What a supernet says of cells: inherited accuracy and cross-entropy, and how well they rank the cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.reading import quote_path, read_arrays
from archgym.simulators.nas import cells
from archgym.simulators.nas.parquet import read_parquet
from archgym.simulators.nas.supernet.engine import make_engine
from archgym.simulators.nas.supernet.training import Supernet
from archgym.writing import replacing

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
    batches = supernet.moment_batches()
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


# --- files -------------------------------------------------------------------------------------------------------------


def evaluate_file(
    supernet: Supernet,
    output: Path,
    classes: int | None = None,
    threads: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, NDArray[Any]]:
    """Judge live function classes (all, or the first ``classes`` of the table's random order) into an ``.npz`` with
    ``code``, ``accuracy_percent`` and ``cross_entropy``. The file is written every 64 classes and gone on with."""
    from archgym.simulators.nas.build_table import plan

    wanted = np.array([code for shard in plan((0,)) for code in shard.codes], dtype=np.int64)[:classes]
    made = np.array(supernet.fingerprint)
    parts: dict[str, Any] = {"code": wanted[:0], "accuracy_percent": np.empty(0), "cross_entropy": np.empty(0)}
    if output.exists():
        stored = read_arrays(output, "file of scores")
        if set(stored) != {*parts, "supernet"} or str(stored["supernet"]) != supernet.fingerprint:
            raise ArchGymError(
                f"{quote_path(output)} holds something else than scores of this supernet; choose another"
            )
        parts = {name: stored[name] for name in parts}
        if not np.array_equal(parts["code"], wanted[: len(parts["code"])]):
            raise ArchGymError(f"{quote_path(output)} holds the scores of more classes than asked for; choose another")
    while len(parts["code"]) < len(wanted):
        block = wanted[len(parts["code"]) : len(parts["code"]) + 64]
        accuracy, entropy = inherited_scores(supernet, block, threads=threads)
        for name, column in zip(parts, (block, accuracy, entropy), strict=True):
            parts[name] = np.concatenate([parts[name], column])
        with replacing(output) as temporary, open(temporary, "wb") as file:
            np.savez(file, supernet=made, **parts)
        if on_progress is not None:
            on_progress(len(parts["code"]), len(wanted))
    return parts


def shipped_path(workload: str) -> Path:
    """Where the shipped scores of a workload lie in the package."""
    file = f"{workload.replace('-', '_')}_supernet.parquet"
    return Path(str(resources.files(__package__) / "data" / file))


@cache
def shipped_scores(workload: str) -> Mapping[tuple[str, int], Mapping[int, Scores]]:
    """Shipped scores of a workload: (policy, steps) -> seed -> (accuracy in percent, cross-entropy in nats) of every
    cell in code order, ``(15625,)`` each, NaN for dead cells; empty where none ship."""
    path = shipped_path(workload)
    if not path.is_file():
        return {}
    stored, _ = read_parquet(path)
    number = cells.classes("function")
    result: dict[tuple[str, int], dict[int, Scores]] = {}
    for name in stored:
        if not name.endswith("_accuracy_percent"):
            continue
        stem = name.removesuffix("_accuracy_percent")
        policy, steps, seed = stem.rsplit("_", 2)
        columns = []
        for column in (name, f"{stem}_cross_entropy"):
            by_class = np.full(number.max() + 1, np.nan)
            by_class[number[stored["code"].astype(np.int64)]] = stored[column]
            columns.append(by_class[number])
        result.setdefault((policy.replace("_", "-"), int(steps)), {})[int(seed.removeprefix("s"))] = (
            columns[0], columns[1],
        )  # fmt: skip
    return result


def write_shipped(output: Path, supernets: Sequence[Path], scores: Sequence[Path]) -> int:
    """Gather the scores of trained supernets, all live classes of each, in the Parquet file that ships; returns the
    number of classes."""
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, NDArray[Any]] = {}
    about = []
    for path, judged in zip(supernets, scores, strict=True):
        supernet = Supernet.load(path)
        if not supernet.finished:
            raise ArchGymError(f"the supernet {quote_path(path)} is not trained to its end; go on with train")
        stored = evaluate_file(supernet, judged)
        order = np.argsort(stored["code"])
        recipe = supernet.recipe
        stem = f"{recipe.policy.replace('-', '_')}_{recipe.steps}_s{supernet.seed}"
        columns["code"] = stored["code"][order].astype(np.uint16)
        columns[f"{stem}_accuracy_percent"] = stored["accuracy_percent"][order].astype(np.float32)
        columns[f"{stem}_cross_entropy"] = stored["cross_entropy"][order].astype(np.float32)
        about.append(
            {"recipe": recipe.as_dict(), "seed": supernet.seed, "splits": supernet.splits,
             "train_cpu_seconds": round(supernet.seconds, 2), "data_fingerprint": supernet.data.fingerprint}
        )  # fmt: skip
    table = pa.table(columns).replace_schema_metadata({"archgym": json.dumps({"supernets": about}, sort_keys=True)})
    with replacing(output) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=15)
    return len(table)


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
