"""What a report shows, computed from trials: curves, the Pareto front, what parameters explain and are worth, best designs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from archgym.datasets.dataset import Dataset, at_own_fidelity
from archgym.datasets.problems import KEY_COLUMNS, options_of, unusable
from archgym.datasets.schema import RUN_COLUMNS, TRIAL_COLUMNS, TrialSchema, has_costs, words_and_positions
from archgym.datasets.shards import find_shards
from archgym.errors import ArchGymError
from archgym.evaluator import used_after
from archgym.pareto import non_dominated
from archgym.problem import Problem, make_problem, parse_name, problem_of_options
from archgym.sensitivity import Change, Effects, one_change, total_effects
from archgym.simulator import Metric, runs_own_code
from archgym.space import Designs

CURVE_POINTS = 160
CLOUD_POINTS = 4000
PARALLEL_POINTS = 1000
SAMPLE = 20_000
"""Trials from which parameters are weighed for the axes of a figure where there are more."""


@dataclass(frozen=True)
class Run:
    """One run: its best reward after each simulator evaluation.

    Attributes:
        agent, seed, hyperparameters: what ran.
        best: float64 ``(evaluations,)``, the best reward after each evaluation; of a run at several fidelities after each
            evaluation's cost, NaN as long as nothing was evaluated in full.
        table: its trials, at the problem's own fidelity.
        source: what it is a run of: problem, objective, space, options, version of the simulator.
    """

    agent: str
    seed: int
    hyperparameters: str
    best: NDArray[np.float64]
    table: pa.Table
    source: tuple[str, ...] = ()


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

    @cached_property
    def agents(self) -> list[str]:
        """Names of the agents, in order of appearance."""
        return list(dict.fromkeys(run.agent for run in self.runs))

    def of(self, agent: str) -> list[Run]:
        """The runs of one agent."""
        return [run for run in self.runs if run.agent == agent]

    @cached_property
    def trials(self) -> pa.Table:
        """The trials of all runs, one run after the other."""
        tables = [run.table for run in self.runs]
        return pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()

    @cached_property
    def agent_of(self) -> NDArray[np.int64]:
        """The position among ``agents`` of the agent of each trial ``(n,)``."""
        codes = [self.agents.index(run.agent) for run in self.runs]
        return np.repeat(codes, [len(run.table) for run in self.runs])

    @cached_property
    def sample(self) -> pa.Table:
        """The trials, or :data:`SAMPLE` of them at equal distances."""
        n = len(self.trials)
        return (
            self.trials if n <= SAMPLE else self.trials.take(pa.array(np.linspace(0, n - 1, SAMPLE).astype(np.int64)))
        )

    @cached_property
    def effects(self) -> Effects | None:
        """What the parameters are worth over the whole space; it simulates at most a quarter as many designs as the runs did."""
        if self.problem is None:
            return None
        return total_effects(self.problem, sum(len(run.best) for run in self.runs) // 4)

    @cached_property
    def changes(self) -> list[Change] | None:
        """What changing one parameter of the best design costs; it simulates every such design."""
        if self.problem is None:
            return None
        return one_change(self.problem, design_in(self.problem, best_rows(self)[0]["row"]))

    def column(self, name: str) -> NDArray[Any]:
        """A column of numbers or truth values of the trials."""
        values: NDArray[Any] = self.trials.column(name).to_numpy()
        return values

    def by_objective(self, objective: str) -> ProblemReport:
        """The same trials, their rewards by another objective of the problem; nothing is simulated.

        Raises:
            ArchGymError: there is no such objective, or the problem could not be made again.
        """
        if self.problem is None:
            raise ArchGymError(
                f"rewards by another objective need the problem, which could not be made: {self.missing}"
            )
        problem = make_problem(self.name, **{**self.problem.options, "objective": objective})
        schema = TrialSchema(problem, {})
        runs = []
        for run in self.runs:
            rewards = problem.objective(schema.evaluation(run.table))
            place = run.table.schema.get_field_index("reward")
            table = run.table.set_column(place, "reward", pa.array(rewards))
            runs.append(replace(run, best=_best_so_far(table), table=table))
        return ProblemReport(self.name, problem.objective.name, self.space, problem, "", runs)


_SOURCE = ("problem", "objective", "space", "options", "simulator_version")
_RUN = (*_SOURCE, "agent", "hyperparameters", "study", "run", "seed")


def load_report(folder: Path, *, trust: bool = False) -> list[ProblemReport]:
    """Read every trial below ``folder``, grouped by problem.

    Args:
        folder: where the shards or Parquet files are.
        trust: also run the programs that the trials name (``torch:FILE.py:NAME``); False where they may be anyone's.
    """
    return reports_of((run for path in find_shards(folder) for run in runs_in(path)), trust=trust)


def reports_of(
    runs: Iterable[Run], *, trust: bool = False, make: Callable[[str, Any], Problem] = problem_of_options
) -> list[ProblemReport]:
    """Runs grouped by what they are runs of; ``make`` makes a problem from its name and options."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(run.source, []).append(run)
    reports = []
    for (name, objective, space, options, version), mine in groups.items():
        mine = sorted(
            (run for run in mine if len(run.best)), key=lambda run: (run.agent, run.hyperparameters, run.seed)
        )
        problem, missing = None, ""
        try:
            if runs_own_code(parse_name(name)[1]) and not trust:
                raise ArchGymError(
                    "it runs a program that the trials name; add --trust if you trust where they are from"
                )
            problem = make(name, options_of(options))
            if problem.simulator.version != version:
                raise ArchGymError(
                    f"the trials come from version {version} of the simulator, installed is {problem.simulator.version}"
                )
            _check_fit(problem, mine)
        except (ArchGymError, OSError, ImportError) as error:
            problem, missing = None, str(error)
        reports.append(ProblemReport(name, objective, space, problem, missing, mine))
    return [report for report in reports if report.runs]


def _check_fit(problem: Problem, runs: list[Run]) -> None:
    """Refuse trials whose designs or metrics are not those of the problem that their metadata names."""
    schema = TrialSchema(problem, {})
    for run in runs:
        schema.check(run.table)
        for metric in problem.metrics:
            if metric.name not in run.table.schema.names:
                raise ArchGymError(f"the trials lack the column {metric.name!r} of {problem.name}")


def runs_in(path: Path) -> list[Run]:
    """The runs in a shard or a Parquet file, their trials in the order of the file; none where it has no trials."""
    dataset = Dataset(path)
    table = dataset.table()
    if not len(table):
        return []
    table = _paid(table, path)
    code = _codes(table, _RUN)
    order = np.argsort(code, kind="stable") if (np.diff(code) < 0).any() else None
    if order is not None:
        table, code = table.take(pa.array(order)), code[order]
    edges = [0, *(np.flatnonzero(np.diff(code)) + 1).tolist(), len(table)]
    kept: dict[tuple[str, ...], set[str]] = {}
    for info in dataset.problems.values():
        about = dict(zip(KEY_COLUMNS, info.key, strict=True))
        kept.setdefault(tuple(about[name] for name in _SOURCE), {*info.parameters, *info.metrics})
    found = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        part = table.slice(low, high - low)
        first = part.slice(0, 1).to_pylist()[0]
        source = tuple(str(first[name]) for name in _SOURCE)
        if len(kept) > 1:  # the columns of other problems are empty here
            own = {*kept.get(source, ()), *RUN_COLUMNS, *TRIAL_COLUMNS, "seed", _USED}
            part = part.select([name for name in part.schema.names if name in own])
        found.append(
            Run(first["agent"], first["seed"], first["hyperparameters"], _best_so_far(part), part, source)
        )  # fmt: skip
    return found


def _codes(table: pa.Table, names: Sequence[str]) -> NDArray[np.int64]:
    """A number of each trial ``(n,)``, the same where the columns ``names`` are."""
    code = np.zeros(len(table), dtype=np.int64)
    for name in names:  # dense codes after every column, so that many columns of many words cannot overflow
        words, positions = words_and_positions(table.column(name).combine_chunks())
        if (positions != positions[0]).any():
            code = np.unique(code * len(words) + positions, return_inverse=True)[1]
    return code


_USED = "used of the budget"
"""Column: what a run at several fidelities had used of its budget after the trial, in whole evaluations; -1 in other runs."""


def _paid(table: pa.Table, path: Path) -> pa.Table:
    """The trials at the runs' own fidelity, with a column of what the runs had used of their budgets where there are runs
    at several."""
    if not has_costs(table.schema):
        return table
    costs = table.column("cost").to_numpy()  # NaN where there is one fidelity
    if (wrong := np.flatnonzero((costs < 0) | (costs > 1))).size:
        raise unusable(path, f"trial {wrong[0]} costs {costs[wrong[0]]:.6g} evaluations; one costs 1 at most")
    runs = _codes(table, [name for name in _RUN if name != "options"])
    order = np.argsort(runs, kind="stable")
    used = np.full(len(table), -1)
    for rows in np.split(order, np.flatnonzero(np.diff(runs[order])) + 1):
        if not np.isnan(costs[rows]).any():
            used[rows] = used_after(costs[rows])
    return at_own_fidelity(table.append_column(_USED, pa.array(used)))


def _best_so_far(table: pa.Table) -> NDArray[np.float64]:
    """The best reward after each simulator evaluation of a run."""
    if _USED in table.schema.names and len(table):
        used = table.column(_USED).to_numpy()
        if (used > 0).all():
            curve = np.full(used[-1], np.nan)
            np.fmax.at(curve, used - 1, table.column("reward").to_numpy())
            return np.asarray(np.fmax.accumulate(curve))
    rewards = table.column("reward").to_numpy()
    fresh = ~table.column("cached").to_numpy()
    best: NDArray[np.float64] = np.maximum.accumulate(rewards)[fresh]
    return best


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


def front_rows(losses: NDArray[np.float64]) -> NDArray[np.int64]:
    """The rows of ``losses`` ``(n, 2)``, to be minimised, that no other row dominates, in order of the first column; of
    equal ones the first."""
    rows = np.flatnonzero(np.isfinite(losses).all(axis=1))
    if len(rows) > SAMPLE:
        # What one in many already dominates need not be sorted.
        front = non_dominated(losses[rows[:: len(rows) // SAMPLE]])
        least = np.concatenate([[np.inf], front[:, 1]])
        rows = rows[losses[rows, 1] <= least[np.searchsorted(front[:, 0], losses[rows, 0], side="right")]]
    points, first = np.unique(losses[rows], axis=0, return_index=True)
    if not len(points):
        return rows
    before = np.concatenate([[np.inf], np.minimum.accumulate(points[:, 1])[:-1]])
    return rows[first[points[:, 1] < before]]


def explained(problem: Problem, table: pa.Table) -> dict[str, float]:
    """Share of the variance of the reward that each parameter explains alone (the correlation ratio eta squared) over the
    feasible trials of ``table``. Agents do not sample evenly, and with few trials chance explains some: good for choosing
    the axes of a figure, and no statement on the parameters."""
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


def design_in(problem: Problem, row: Mapping[str, Any]) -> Designs:
    """The design ``(1, d)`` in a trial given by column."""
    return problem.space.encode({name: row[name] for name in problem.space.names})


def pareto_axes(report: ProblemReport) -> list[Metric]:
    """The metrics that a trade-off can be drawn of, the two of the Pareto plot first."""
    if report.problem is None:
        return []
    metrics = list(report.problem.pareto_metrics)
    return metrics + [m for m in report.problem.metrics if m.direction != "none" and m not in metrics]


def distinct_best(
    problem: Problem, table: pa.Table, count: int, inside: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Rows of the ``count`` best feasible trials with different designs, best first; of those ``inside``, where given."""
    rewards = table.column("reward").to_numpy()
    feasible = table.column("feasible").to_numpy()
    rows = np.flatnonzero(feasible if inside is None else feasible & inside)
    if len(rows) > 20 * count:
        least = -np.partition(-rewards[rows], 20 * count - 1)[20 * count - 1]
        rows = rows[rewards[rows] >= least]
    rows = rows[np.argsort(-rewards[rows], kind="stable")][: 20 * count]
    designs = TrialSchema(problem, {}).designs(table.select(list(problem.space.names)).take(pa.array(rows)))
    first = np.unique(designs, axis=0, return_index=True)[1] if len(designs) else rows
    best: NDArray[np.int64] = rows[np.sort(first)[:count]]
    return best
