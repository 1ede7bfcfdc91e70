"""What a dataset holds (:func:`info`) and whether it can be relied on (:func:`verify`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from archgym.datasets.dataset import Dataset
from archgym.datasets.merge import find_duplicates
from archgym.datasets.problems import ProblemInfo, ProblemKey
from archgym.datasets.schema import TrialSchema, hyperparameter_hash, words_and_positions
from archgym.hashing import hash_rows
from archgym.problem import Problem
from archgym.store import simulating_anew

SAMPLE = 256
"""Trials a problem that are simulated again unless something else is asked for."""


def info(paths: Path | str | Sequence[Path | str]) -> dict[str, Any]:
    """Counts, problems, columns with units and ranges; one pass, JSON-able."""
    dataset = Dataset(paths)
    agents: Counter[str] = Counter()
    problems: Counter[ProblemKey] = Counter()
    runs: set[tuple[str, str, str, int]] = set()
    feasible = cached = 0
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    numeric = [
        f.name
        for f in dataset.schema
        if ((f.metadata or {}).get(b"role") in (b"parameter", b"metric") and pa.types.is_floating(f.type))
        or (pa.types.is_integer(f.type) and (f.metadata or {}).get(b"role") == b"parameter")
    ]
    columns = [*numeric, "agent", "study", "run", "seed", "feasible", "cached"]
    for problem, batch, _ in dataset.groups(columns):
        problems[problem.key] += batch.num_rows
        feasible += _true(batch.column("feasible"))
        cached += _true(batch.column("cached"))
        for row in (
            pa.table(
                [batch.column(name) for name in ("agent", "study", "run", "seed")],
                names=["agent", "study", "run", "seed"],
            )
            .group_by(["agent", "study", "run", "seed"])
            .aggregate([([], "count_all")])
            .to_pylist()
        ):
            agents[row["agent"]] += row["count_all"]
            runs.add((row["agent"], row["study"], row["run"], row["seed"]))
        for name in numeric:
            values = batch.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
            values = values[np.isfinite(values)]
            if len(values):
                low[name] = min(low.get(name, np.inf), float(values.min()))
                high[name] = max(high.get(name, -np.inf), float(values.max()))
    return {
        "paths": [str(path) for path in dataset.paths],
        "files": len(dataset.files),
        "bytes": sum(file.path.stat().st_size for file in dataset.files),
        "rows": dataset.rows,
        "runs": len(runs),
        "feasible": feasible,
        "cached": cached,
        "agents": dict(sorted(agents.items())),
        "problems": [{**dataset.problems[key].as_json(), "rows": count} for key, count in problems.items()],
        "columns": [
            {
                "name": f.name,
                "type": "string" if pa.types.is_dictionary(f.type) else str(f.type),
                "role": (f.metadata or {}).get(b"role", b"trial").decode(),
                "unit": (f.metadata or {}).get(b"unit", b"").decode(),
                **({"low": low[f.name], "high": high[f.name]} if f.name in low else {}),
            }
            for f in dataset.schema
        ],
        "torn_files": [f"{file.path}: {file.note}" for file in dataset.files if file.note],
    }


def _true(column: pa.Array) -> int:
    return int(column.true_count)


@dataclass
class Check:
    """One thing that was checked.

    Attributes:
        name: of the check.
        holds: whether it holds.
        detail: a sentence with the numbers.
    """

    name: str
    holds: bool
    detail: str


@dataclass
class _Reservoir:
    """The rows with the smallest hashes of their position: a uniform sample that does not depend on batches."""

    size: int
    seed: int
    rank: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    batches: list[pa.RecordBatch] = field(default_factory=list)

    def offer(self, batch: pa.RecordBatch, rows: NDArray[np.int64]) -> None:
        rank = hash_rows([rows], 101 + self.seed)
        worst = self.rank.max() if len(self.rank) >= self.size else np.uint64(2**64 - 1)
        near = np.flatnonzero(rank < worst)
        if not len(near):
            return
        near = near[np.argsort(rank[near])[: self.size]]
        table = pa.Table.from_batches([*self.batches, batch.take(pa.array(near))]).unify_dictionaries().combine_chunks()
        self.rank = np.concatenate([self.rank, rank[near]])
        order = np.argsort(self.rank, kind="stable")[: self.size]
        self.rank = self.rank[order]
        self.batches = table.take(pa.array(order)).combine_chunks().to_batches()


def verify(
    paths: Path | str | Sequence[Path | str],
    *,
    sample: int | None = None,
    seed: int = 0,
    tolerance: float = 0.0,
    trust: bool = False,
) -> dict[str, Any]:
    """Check a dataset: files, schema, units, values, duplicates, and a sample simulated again.

    Args:
        paths: files or folders.
        sample: trials a problem to simulate again; 0 for none. Where None, 256, or none where that would start programs.
            They are simulated in any case: no store answers.
        seed: of the sample.
        tolerance: largest relative difference that counts as equal; 0 for bit by bit.
        trust: see :meth:`ProblemInfo.make`.

    Returns:
        ``{"rows", "checks": [{"name", "holds", "detail"}], "problems": [...], "holds"}``.

    Raises:
        ArchGymError: for files that cannot be read at all.
    """
    dataset = Dataset(paths)
    state = _Counts()
    reservoirs: dict[ProblemKey, _Reservoir] = {}
    hashes: dict[tuple[str, str], bool] = {}

    def each(problem: ProblemInfo, batch: pa.RecordBatch, rows: NDArray[np.int64]) -> None:
        state.look(problem, batch)
        _look_at_hashes(batch, hashes)
        if sample != 0:
            reservoirs.setdefault(problem.key, _Reservoir(SAMPLE if sample is None else sample, seed)).offer(
                batch, rows
            )

    columns = [
        "index",
        "violation",
        "reward",
        "cached",
        "agent",
        "run",
        "seed",
        "hyperparameters",
        "hyperparameter_hash",
    ]
    found = find_duplicates(dataset, trust=trust, each=each, columns=columns)
    checks = [
        Check("files", True, f"{len(dataset.files)} files, {dataset.rows:,} trials, each of format 1"),
        *[Check("file end", False, f"{file.path}: {file.note}") for file in dataset.files if file.note],
        Check("reward", not state.bad_reward, f"{state.bad_reward} rewards are missing or not finite"),
        Check(
            "infeasible",
            not state.bad_infeasible,
            f"{state.bad_infeasible} infeasible trials have metrics or no violation",
        ),
        Check(
            "feasible",
            not state.bad_feasible,
            f"{state.bad_feasible} feasible trials lack every metric or name a violation",
        ),
        Check(
            "duplicates",
            True,
            f"{found.distinct:,} distinct designs, {found.duplicates:,} trials repeat an earlier one "
            f"({state.cached:,} of all were answered from a run's cache)",
        ),
        Check("conflicts", not found.conflicts, f"{found.conflicts} designs have several results"),
        Check(
            "hyperparameters",
            all(hashes.values()),
            f"{len(hashes)} settings, {sum(not ok for ok in hashes.values())} with a hash of something else",
        ),
    ]
    problems = []
    for key, about in dataset.problems.items():
        batches = reservoirs[key].batches if key in reservoirs else []
        entry, found_out = _verify_problem(dataset, about, batches, tolerance, trust, sample is not None)
        problems.append(entry)
        checks += found_out
    return {
        "rows": dataset.rows,
        "distinct_designs": found.distinct,
        "duplicates": found.duplicates,
        "conflicts": found.conflicts,
        "problems": problems,
        "checks": [vars(check) for check in checks],
        "notes": found.notes,
        "holds": all(check.holds for check in checks),
    }


def _verify_problem(
    dataset: Dataset, about: ProblemInfo, batches: list[pa.RecordBatch], tolerance: float, trust: bool, asked: bool
) -> tuple[dict[str, Any], list[Check]]:
    """Units, and the sampled trials ``batches`` simulated again, programs only where ``asked``: the report's entry of a problem,
    and its checks."""
    key = about.key
    entry: dict[str, Any] = {"problem": about.problem, "objective": key[2], "version": key[3], "note": ""}
    try:
        problem = about.make(trust=trust)
    except ValueError as error:
        entry |= {"simulated": 0, "note": str(error)}
        return entry, [Check("simulate again", True, f"{about.problem}: not done, {error}")]
    wrong = _units(dataset.schema, problem)
    right = "types, units and directions as the simulator gives them"
    checks = [Check("units", not wrong, f"{about.problem}: {wrong or right}")]
    if batches and problem.simulator.starts_programs and not asked:
        entry |= {"simulated": 0, "note": "each trial would start a program; --sample N simulates N of them again"}
        checks.append(Check("simulate again", True, f"{about.problem}: not done, {entry['note']}"))
    elif batches:
        lacking = [metric.name for metric in problem.metrics if metric.name not in batches[0].schema.names]
        if lacking:
            entry |= {"simulated": 0, "note": f"the trials have no metric {lacking[0]!r}"}
            checks.append(Check("simulate again", False, f"{about.problem}: not done, {entry['note']}"))
            return entry, checks
        again = _again(problem, batches, tolerance)
        entry |= again
        checks.append(
            Check(
                "simulate again",
                again["equal"] == again["simulated"],
                f"{about.problem}: {again['equal']} of {again['simulated']} equal, worst relative error "
                f"{again['worst_error']:.3g}",
            )
        )
    return entry, checks


@dataclass
class _Counts:
    bad_reward: int = 0
    bad_infeasible: int = 0
    bad_feasible: int = 0
    cached: int = 0

    def look(self, problem: ProblemInfo, batch: pa.RecordBatch) -> None:
        reward = batch.column("reward").to_numpy(zero_copy_only=False).astype(np.float64)
        self.bad_reward += int((~np.isfinite(reward)).sum())
        self.cached += int(batch.column("cached").true_count)
        feasible = batch.column("feasible").fill_null(False).to_numpy(zero_copy_only=False)
        words, positions = words_and_positions(batch.column("violation"))
        unnamed = np.array([word in ("", None) for word in words])[positions]
        some = np.zeros(batch.num_rows, dtype=bool)
        for name in problem.metrics:
            some |= np.isfinite(batch.column(name).to_numpy(zero_copy_only=False).astype(np.float64))
        self.bad_infeasible += int((~feasible & (some | unnamed)).sum())
        self.bad_feasible += int((feasible & (~some | ~unnamed)).sum())


def _look_at_hashes(batch: pa.RecordBatch, known: dict[tuple[str, str], bool]) -> None:
    pairs = pa.table([batch.column("hyperparameters"), batch.column("hyperparameter_hash")], names=["p", "h"])
    for row in pairs.group_by(["p", "h"]).aggregate([]).to_pylist():
        pair = (row["p"], row["h"])
        if pair not in known:
            try:
                known[pair] = hyperparameter_hash(json.loads(row["p"])) == row["h"]
            except (ValueError, TypeError):
                known[pair] = False


def _units(schema: pa.Schema, problem: Problem) -> str:
    """What differs between the dataset's columns and the installed simulator's, empty where nothing does."""
    expected = TrialSchema(problem, {}).schema
    for wanted in expected:
        if not (wanted.metadata or {}).get(b"role"):
            continue
        if wanted.name not in schema.names:
            return f"the trials have no column {wanted.name!r}, the simulator has one"
        have = schema.field(wanted.name)
        for what in (b"role", b"unit", b"direction"):
            old, new = (have.metadata or {}).get(what, b""), (wanted.metadata or {}).get(what, b"")
            if old != new:
                return f"{wanted.name} has the {what.decode()} {old.decode()!r}, the simulator says {new.decode()!r}"
        old_type, new_type = (t.value_type if pa.types.is_dictionary(t) else t for t in (have.type, wanted.type))
        if old_type != new_type and not (pa.types.is_floating(old_type) and pa.types.is_integer(new_type)):
            return f"{wanted.name} is {have.type}, the simulator says {wanted.type}"
    return ""


def _again(problem: Problem, batches: list[pa.RecordBatch], tolerance: float) -> dict[str, Any]:
    """Simulate the trials again and compare metrics, feasibility and reward."""
    table = pa.Table.from_batches(batches)
    schema = TrialSchema(problem, {})
    designs = schema.designs(table)
    seeds = np.array(table.column("seed").to_pylist(), dtype=np.int64)
    reward = np.array(table.column("reward").to_pylist(), dtype=np.float64)
    feasible = np.array(table.column("feasible").to_pylist(), dtype=bool)
    equal = np.ones(len(designs), dtype=bool)
    worst = 0.0
    for seed in np.unique(seeds):
        rows = np.flatnonzero(seeds == seed)
        with simulating_anew():
            evaluation, rewards = problem.evaluate(designs[rows], seed=int(seed))
        equal[rows] &= evaluation.feasible == feasible[rows]
        pairs = [(rewards, reward[rows])]
        for metric in problem.metrics:
            stored = table.column(metric.name).to_numpy()[rows].astype(np.float64)
            pairs.append((evaluation.metrics[metric.name], stored))
        for ours, stored in pairs:
            with np.errstate(invalid="ignore", divide="ignore"):
                error = np.abs(ours - stored) / np.where(stored == 0, 1.0, np.abs(stored))
            error = np.where((ours == stored) | (np.isnan(ours) & np.isnan(stored)), 0.0, error)
            error = np.where(np.isnan(error), np.inf, error)
            worst = max(worst, float(error.max(initial=0.0)))
            equal[rows] &= error <= tolerance
    return {"simulated": len(designs), "equal": int(equal.sum()), "worst_error": worst}
