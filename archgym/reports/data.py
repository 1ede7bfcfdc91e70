"""What a report shows, computed from trials: curves, spreads, the Pareto front, importances, best designs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from archgym.datasets.dataset import read_trials
from archgym.datasets.schema import TrialSchema
from archgym.datasets.shards import find_shards, read_shard, shard_info
from archgym.errors import ArchGymError
from archgym.problem import Problem, parse_name, problem_of_options
from archgym.simulator import Metric, runs_own_code

CURVE_POINTS = 160
CLOUD_POINTS = 4000
PARALLEL_POINTS = 1000


@dataclass(frozen=True)
class Run:
    """One run: its best reward after each simulator evaluation.

    Attributes:
        agent, seed, hyperparameters: what ran.
        best: float64 ``(evaluations,)``, the best reward after each evaluation.
        table: its trials.
    """

    agent: str
    seed: int
    hyperparameters: str
    best: NDArray[np.float64]
    table: pa.Table


@dataclass(frozen=True)
class ProblemReport:
    """All runs on one problem.

    Attributes:
        problem: the problem, made again from what the shards say; None where that is no longer possible (a trace
            file that moved, say), ``missing`` then says why.
        name, objective, space: as the shards say.
        runs: in order of agent and seed.
    """

    name: str
    objective: str
    space: str
    problem: Problem | None
    missing: str
    runs: list[Run]

    @property
    def agents(self) -> list[str]:
        """Names of the agents, in order of appearance."""
        return list(dict.fromkeys(run.agent for run in self.runs))

    def of(self, agent: str) -> list[Run]:
        """The runs of one agent."""
        return [run for run in self.runs if run.agent == agent]


def load_report(folder: Path, *, trust: bool = False) -> list[ProblemReport]:
    """Read every shard below ``folder``, grouped by problem.

    Args:
        folder: where the shards are.
        trust: also run the programs that the trials name (``torch:FILE.py:NAME``); False where they may be anyone's.
    """
    groups: dict[str, dict[str, Any]] = {}
    for path in find_shards(folder):
        if path.suffix == ".parquet":
            continue
        schema, _, _ = read_shard(path)
        info = shard_info(schema, path)
        key = json.dumps([info[part] for part in _GROUP], sort_keys=True)
        groups.setdefault(key, {"info": info, "paths": []})["paths"].append(path)
    if not groups:
        raise ArchGymError(f"{folder} holds no runs; give the folder that 'archgym run' or 'archgym study' wrote")
    reports = []
    for group in groups.values():
        info = group["info"]
        runs = [_run(path) for path in group["paths"]]
        runs = sorted(
            (run for run in runs if len(run.best)), key=lambda run: (run.agent, run.hyperparameters, run.seed)
        )
        problem, missing = None, ""
        try:
            if runs_own_code(parse_name(info["problem"])[1]) and not trust:
                raise ArchGymError(
                    "it runs a program that the trials name; add --trust if you trust where they are from"
                )
            problem = problem_of_options(info["problem"], info["options"])
            if problem.simulator.version != info["simulator_version"]:
                raise ArchGymError(
                    f"the trials come from version {info['simulator_version']} of the simulator, installed is "
                    f"{problem.simulator.version}"
                )
            _check_fit(problem, runs)
        except (ArchGymError, OSError, ImportError) as error:
            problem, missing = None, str(error)
        reports.append(ProblemReport(info["problem"], info["objective"], info["space"], problem, missing, runs))
    return [report for report in reports if report.runs]


def _check_fit(problem: Problem, runs: list[Run]) -> None:
    """Refuse trials whose designs or metrics are not those of the problem that their metadata names."""
    schema = TrialSchema(problem, {})
    for run in runs:
        schema.designs(run.table)
        for metric in problem.metrics:
            if metric.name not in run.table.schema.names:
                raise ArchGymError(f"the trials lack the column {metric.name!r} of {problem.name}")


def _run(path: Path) -> Run:
    table = read_trials(path)
    rewards = table.column("reward").to_numpy()
    fresh = ~table.column("cached").to_numpy(zero_copy_only=False)
    best = np.maximum.accumulate(rewards)[fresh] if len(rewards) else np.empty(0)
    info = shard_info(read_shard(path)[0], path)
    return Run(info["agent"], info["seed"], info["hyperparameters"], best, table)


_GROUP = ("problem", "objective", "space", "options", "simulator_version")


def curve_positions(length: int) -> NDArray[np.int64]:
    """Indices at which a curve of ``length`` evaluations is drawn: every one where few, else spaced by logarithm."""
    if length <= CURVE_POINTS:
        return np.arange(length)
    return np.unique(np.geomspace(1, length, CURVE_POINTS).astype(np.int64)) - 1


def anytime(runs: list[Run]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Evaluations ``(k,)`` and the quartiles over runs of the best reward so far ``(3, k)``; a run that ended early
    keeps its last value."""
    length = max(len(run.best) for run in runs)
    at = curve_positions(length)
    values = np.stack([run.best[np.minimum(at, len(run.best) - 1)] for run in runs])
    return at + 1, np.quantile(values, [0.25, 0.5, 0.75], axis=0)


def pareto_mask(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """True for the rows of ``losses`` (n, m; lower is better) that no other row dominates."""
    n = len(losses)
    mask = np.zeros(n, dtype=bool)
    order = np.lexsort(losses.T[::-1])
    front: list[NDArray[np.float64]] = []
    for row in order:
        point = losses[row]
        if not np.isfinite(point).all():
            continue
        # In lexicographic order only earlier points can dominate.
        if front:
            stack = np.stack(front)
            if ((stack <= point).all(axis=1) & (stack < point).any(axis=1)).any():
                continue
        mask[row] = True
        front.append(point)
    return mask


def importances(problem: Problem, table: pa.Table) -> dict[str, float]:
    """Share of the variance of the reward that each parameter explains alone (the correlation ratio eta squared),
    over the distinct feasible designs of ``table``; interactions are not counted, so that the sum can be below 1."""
    feasible = table.column("feasible").to_numpy(zero_copy_only=False)
    rewards = table.column("reward").to_numpy()
    result = {}
    for parameter in problem.space.parameters:
        levels = np.array(table.column(parameter.name).to_pylist(), dtype=object).astype(str)[feasible]
        values = rewards[feasible]
        total = values.var() * len(values)
        share = 0.0
        if total > 0:
            names, inverse = np.unique(levels, return_inverse=True)
            counts = np.bincount(inverse)
            means = np.bincount(inverse, weights=values) / counts
            share = float((counts * (means - values.mean()) ** 2).sum() / total)
        result[parameter.name] = share
    return result


def best_rows(report: ProblemReport) -> list[dict[str, Any]]:
    """The best trial of each agent: agent, seed, reward, evaluations until found, design and metrics by name."""
    rows = []
    for agent in report.agents:
        run = max(report.of(agent), key=lambda r: r.best[-1])
        rewards = run.table.column("reward").to_numpy()
        i = int(np.argmax(rewards))
        row = {name: run.table.column(name)[i].as_py() for name in run.table.column_names}
        found = int(np.argmax(run.best == run.best[-1])) + 1
        rows.append({"agent": agent, "seed": run.seed, "reward": float(rewards[i]), "found": found, "row": row})
    return sorted(rows, key=lambda row: -row["reward"])


def pareto_axes(report: ProblemReport) -> list[Metric]:
    """The two metrics of the Pareto plot."""
    if report.problem is None:
        return []
    metrics = list(report.problem.pareto_metrics)
    if len(metrics) < 2:
        more = [m for m in report.problem.metrics if m.direction != "none" and m not in metrics]
        metrics += more
    return metrics[:2]


def distinct_best(problem: Problem, table: pa.Table, count: int) -> NDArray[np.int64]:
    """Rows of the ``count`` best feasible trials with different designs, best first."""
    rewards = table.column("reward").to_numpy()
    order = np.argsort(-rewards, kind="stable")
    order = order[table.column("feasible").to_numpy(zero_copy_only=False)[order]][: 20 * count]
    names = list(problem.space.names)
    seen: set[tuple[Any, ...]] = set()
    rows = []
    for row, values in zip(order, table.select(names).take(pa.array(order)).to_pylist(), strict=True):
        key = tuple(values.values())
        if key not in seen:
            seen.add(key)
            rows.append(int(row))
            if len(rows) == count:
                break
    return np.array(rows, dtype=np.int64)
