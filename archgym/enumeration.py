"""Exhaustive enumeration: every design of a space, in resumable shards, for the optimum and the reward's quantiles.

Equivalent designs (equal canonical form) are evaluated once and counted as often as they occur, so that quantiles
are over the whole space.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from archgym.errors import ArchGymError
from archgym.objective import Objective, make_objective
from archgym.problem import Optimum, Problem, optimum_key
from archgym.reading import read_json
from archgym.simulator import Evaluation
from archgym.writing import replacing, unwritable, write_json

LARGEST = 200_000_000
"""Designs of the largest space that is enumerated."""
QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0)


def classes(problem: Problem, block: int = 1 << 18) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ranks of the canonical designs of the space, ascending, and how many designs each stands for."""
    space = problem.space
    if space.size > LARGEST:
        raise ArchGymError(
            f"{problem.name} has {space.size:.3g} designs; enumerate spaces of at most {LARGEST:,} "
            "(choose a smaller space with --space)"
        )
    parts, counts = [], []
    for designs in space.batches(block):
        ranks, count = np.unique(space.rank(space.canonical(designs)), return_counts=True)
        parts.append(ranks)
        counts.append(count)
    ranks, inverse = np.unique(np.concatenate(parts), return_inverse=True)
    return ranks, np.bincount(inverse, weights=np.concatenate(counts)).astype(np.int64)


def enumerate_problem(
    problem: Problem,
    objectives: Sequence[str],
    out: Path,
    *,
    shard: int = 16384,
    command: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Evaluate every design of a problem and return one row of the optima table an objective.

    Args:
        problem: what is enumerated; its own objective does not matter.
        objectives: objective texts to evaluate (the simulation is shared).
        out: folder for the shards; those of an interrupted run are kept and used.
        shard: canonical designs a shard.
        command: the command line, for the record.
        progress: called with designs done and designs in all.
    """
    made: list[Objective] = [make_objective(text, problem.simulator, problem.workload) for text in objectives]
    ranks, counts = classes(problem)
    folder = Path(out)
    key = {**optimum_key(problem), "objective": None, "shard": shard}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        manifest = folder / "enumeration.json"
        if manifest.exists():
            if read_json(manifest, "enumeration") != json.loads(json.dumps(key)):
                raise ArchGymError(f"{folder} holds shards of another problem or version; choose another folder")
        else:
            write_json(manifest, key)
    except OSError as error:
        raise unwritable(folder, error) from None
    best: list[tuple[float, int] | None] = [None] * len(made)
    rewards: list[NDArray[np.float64]] = [np.empty(len(ranks)) for _ in made]
    total = int(problem.space.size)
    done = 0
    for number, start in enumerate(range(0, len(ranks), shard)):
        rows = slice(start, min(start + shard, len(ranks)))
        evaluation = _shard(problem, ranks[rows], folder / f"shard-{number:05d}.parquet")
        for k, objective in enumerate(made):
            values = objective(evaluation)
            rewards[k][rows] = values
            i = int(np.argmax(values))
            reached = best[k]
            if reached is None or values[i] > reached[0]:
                best[k] = (float(values[i]), int(ranks[start + i]))
        done += int(counts[rows].sum())
        if progress is not None:
            progress(done, total)
    table = []
    for k, objective in enumerate(made):
        found = best[k]
        assert found is not None
        order = np.argsort(rewards[k], kind="stable")
        shares = np.cumsum(counts[order]) / total
        # The smallest reward that at least this share of the space does not exceed.
        at = np.minimum(np.searchsorted(shares, np.array(QUANTILES) - 1e-15), len(order) - 1)
        quantiles = {f"{q:g}": float(rewards[k][order[i]]) for q, i in zip(QUANTILES, at, strict=True)}
        optimum = Optimum(
            found[0], problem.space.decode(problem.space.unrank(found[1]))[0], True, total, quantiles, command
        )
        table.append({**optimum_key(problem), "objective": objective.name, **vars(optimum)})
    return table


def _shard(problem: Problem, ranks: NDArray[np.int64], path: Path) -> Evaluation:
    """One shard's evaluation: read where it is complete, else simulated and written under its final name last."""
    if path.exists():
        try:
            stored = pq.read_table(path)
        except (pa.ArrowException, OSError):
            stored = None
        if stored is not None and np.array_equal(stored.column("rank").to_numpy(), ranks):
            violation = np.empty(len(stored), dtype=object)
            violation[:] = stored.column("violation").to_pylist()
            metrics = {m.name: stored.column(m.name).to_numpy() for m in problem.metrics}
            return Evaluation(metrics, stored.column("feasible").to_numpy(), violation)
    evaluation, _ = problem.evaluate(problem.space.unrank(ranks), seed=0)
    table = pa.table(
        {
            "rank": ranks,
            **dict(evaluation.metrics),
            "feasible": evaluation.feasible,
            "violation": pa.array(evaluation.violation.tolist(), pa.string()),
        }
    )
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return evaluation


def update_optima(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Put rows into an optima table, in place of those of the same :func:`~archgym.problem.optimum_key`."""
    keys = ("problem", "objective", "space", "fidelity", "version", "workload", "settings")
    old = read_json(path, "table of optima") if path.exists() else []
    new = {json.dumps([row.get(k) or None for k in keys], sort_keys=True): row for row in [*old, *rows]}
    ordered = [new[k] for k in sorted(new)]
    write_json(path, ordered)
