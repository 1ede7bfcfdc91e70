"""From trials to a proxy, and how good it is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.datasets.dataset import Dataset
from archgym.datasets.sampling import distinct
from archgym.datasets.schema import TrialSchema
from archgym.errors import ArchGymError, UnknownNameError
from archgym.problem import Problem
from archgym.proxies.proxy import Proxy, TrainingData, fit, relative_rmse_percent
from archgym.simulator import Evaluation, Metric, Workload
from archgym.space import Designs


def default_metrics(problem: Problem) -> list[str]:
    """The metrics a proxy of this problem learns where none are named: the objective's and the Pareto view's."""
    return list(dict.fromkeys([*problem.objective.needs, *(metric.name for metric in problem.pareto_metrics)]))


def choose_metrics(problem: Problem, names: Sequence[str] | None) -> list[Metric]:
    """The metrics by name or pattern (``latency_*_s``); all of them for ``["all"]``."""
    known = {metric.name: metric for metric in problem.metrics}
    if names is not None and list(names) == ["all"]:
        return list(known.values())
    asked = list(names) if names else default_metrics(problem)
    chosen = list(dict.fromkeys(found for name in asked for found in _matching(name, known)))
    for name in chosen:
        if name not in known:
            raise UnknownNameError(f"metric of {problem.name}", name, known)
    return [known[name] for name in chosen]


def _matching(name: str, known: Iterable[str]) -> list[str]:
    """The known names that a pattern with ``*`` stands for; the name itself where it is none or matches nothing."""
    found = [metric for metric in known if fnmatchcase(metric, name)] if "*" in name else []
    return found or [name]


def from_evaluation(problem: Problem, designs: Designs, evaluation: Evaluation, metrics: Sequence[str]) -> TrainingData:
    """Training data of one workload: canonical forms once each, weighted by how often they stand in ``designs``."""
    canonical = problem.space.canonical(designs)
    _, first, counts = np.unique(canonical, axis=0, return_index=True, return_counts=True)
    order = np.argsort(first)
    first, counts = first[order], counts[order]
    return TrainingData(
        problem.space,
        {problem.workload.name: problem.workload},
        canonical[first],
        np.zeros(len(first), dtype=np.int64),
        counts.astype(np.float64),
        {name: evaluation.metrics[name][first] for name in metrics},
        evaluation.feasible[first],
        evaluation.violation[first],
        label=problem.simulator.measured_as(canonical[first], problem.workload),
    )


def join(parts: Sequence[TrainingData]) -> TrainingData:
    """Several workloads of one simulator and space."""
    if len(parts) == 1:
        return parts[0]
    workloads: dict[str, Workload] = {}
    index = []
    for part in parts:
        if part.space.names != parts[0].space.names:
            raise ArchGymError("the trials are of several design spaces; train one proxy for each")
        own = []
        for name, workload in part.workloads.items():
            label = next((k for k, w in workloads.items() if w.fingerprint == workload.fingerprint), None)
            if label is None:
                label = name if name not in workloads else f"{name} ({workload.fingerprint[:8]})"
                workloads[label] = workload
            own.append(list(workloads).index(label))
        index.append(np.array(own, dtype=np.int64)[part.workload])
    low, high = boxes(parts)
    return TrainingData(
        parts[0].space,
        workloads,
        np.concatenate([p.designs for p in parts]),
        np.concatenate(index),
        np.concatenate([p.weight for p in parts]),
        {name: np.concatenate([p.metrics[name] for p in parts]) for name in parts[0].metrics},
        np.concatenate([p.feasible for p in parts]),
        np.concatenate([p.violation for p in parts]),
        low,
        high,
        _labels(parts),
    )


def _labels(parts: Sequence[TrainingData]) -> NDArray[np.int64] | None:
    labels = [part.label for part in parts if part.label is not None]
    return np.concatenate(labels) if len(labels) == len(parts) else None


def boxes(parts: Sequence[TrainingData]) -> tuple[Designs, Designs] | tuple[None, None]:
    """The boxes of several parts together: the designs alone where a part has none; None where no part has any."""
    if all(part.low is None for part in parts):
        return None, None
    low = np.concatenate([part.designs if part.low is None else part.low for part in parts])
    high = np.concatenate([part.designs if part.high is None else part.high for part in parts])
    return low, high


def with_reach(problem: Problem, data: TrainingData) -> TrainingData:
    """Training data on one workload with what the simulator says each design answers for; it simulates again."""
    low, high = problem.simulator.reach(data.designs, problem.workload, fidelity=problem.fidelity)
    return replace(data, low=low, high=high)


def from_dataset(
    dataset: Dataset, metrics: Sequence[str] | None = None, *, limit: int | None = None, trust: bool = False
) -> tuple[TrainingData, list[Metric], Problem]:
    """The trials of a dataset, all of one simulator, version and space; several workloads are allowed.

    Args:
        dataset: the trials; rows of all objectives are used.
        metrics: names, None for the default ones, ``["all"]`` for all.
        limit: use at most so many distinct designs, the first ones.
        trust: see :meth:`archgym.datasets.dataset.ProblemInfo.make`.
    """
    problems: dict[tuple[str, ...], Problem] = {}
    rows: dict[tuple[str, ...], list[tuple[Designs, Evaluation]]] = {}
    of_key: dict[tuple[str, ...], tuple[tuple[str, ...], TrialSchema]] = {}
    for info, batch, _ in dataset.groups():
        if info.key not in of_key:
            problem = info.make(trust=trust)
            name: tuple[str, ...] = (problem.workload.fingerprint, info.key[4], str(problem.simulator.settings))
            problems.setdefault(name, problem)
            of_key[info.key] = name, TrialSchema(problems[name], {})
        name, schema = of_key[info.key]
        rows.setdefault(name, []).append((schema.designs(batch), schema.evaluation(batch)))
    if not problems:
        raise ArchGymError("the dataset holds no trials to learn from")
    kinds = {
        (p.simulator.name, p.simulator.version, p.simulator.space_name, p.fidelity, str(p.simulator.settings))
        for p in problems.values()
    }
    if len(kinds) > 1:
        raise ArchGymError(
            f"the trials are of several simulators, versions, spaces, fidelities or options ({sorted(map(str, kinds))}); "
            "choose one with --problem"
        )
    first = next(iter(problems.values()))
    chosen = choose_metrics(first, metrics)
    names = [metric.name for metric in chosen]
    parts = []
    for name, problem in problems.items():
        designs = np.concatenate([part[0] for part in rows[name]])
        evaluation = Evaluation.concatenate([part[1] for part in rows[name]])
        parts.append(from_evaluation(problem, designs, evaluation, names))
    data = join(parts)
    if limit is not None and len(data) > limit:
        data = data.take(slice(0, limit))
    return data, chosen, first


def facts_of(problem: Problem) -> dict[str, Any]:
    """What a proxy file says of the simulator behind it."""
    return {
        "simulator": problem.simulator.name,
        "version": problem.simulator.version,
        "space": problem.simulator.space_name,
        "fidelity": problem.fidelity,
        "simulator_settings": problem.simulator.settings,
        "options": {
            k: v for k, v in problem.options.items() if k not in ("objective", "space", "fidelity", "simulator")
        },
    }


def train_on_problem(
    problem: Problem,
    count: int,
    *,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
    method: str = "uniform",
    reach: bool = True,
    **kwargs: Any,
) -> Proxy:
    """Simulate ``count`` distinct uniform designs and train a proxy on them; ``kwargs`` go to :func:`fit`. With
    ``reach`` it also learns from the designs of which the simulator knows that the simulated ones answer for them."""
    chosen = choose_metrics(problem, metrics)
    designs = distinct(problem.space, count, seed, method)
    evaluation = problem.simulator.evaluate(designs, problem.workload, fidelity=problem.fidelity, seed=seed)
    data = from_evaluation(problem, designs, evaluation, [metric.name for metric in chosen])
    if reach:
        data = with_reach(problem, data)
    return fit(data, chosen, seed=seed, about=facts_of(problem), **kwargs)


def held_out(problem: Problem, count: int, seed: int, exclude: Designs | None = None) -> Designs:
    """Uniform designs ``(m, d)``, m <= ``count``: those of ``count`` draws whose canonical form is not among
    ``exclude`` (canonical designs), nor measured together with one of them."""
    designs = problem.space.sample(count, np.random.default_rng([seed, 424242]))
    if exclude is None or not len(exclude):
        return designs
    labels = problem.simulator.measured_as(designs, problem.workload)
    if labels is not None:
        return designs[~np.isin(labels, np.asarray(problem.simulator.measured_as(exclude, problem.workload)))]
    known = {row.tobytes() for row in np.ascontiguousarray(exclude, dtype=np.int64)}
    fresh = [row.tobytes() not in known for row in problem.space.canonical(designs)]
    return designs[np.array(fresh, dtype=bool)]


def evaluate(
    proxy: Proxy, workload: Workload, designs: Designs, evaluation: Evaluation, level: float = 0.9
) -> dict[str, Any]:
    """Errors of a proxy against true evaluations, JSON-able.

    A metric's row: ``relative_rmse_percent`` (root mean square error in percent of the mean), mean and largest
    relative error, ``r2``, ``kendall_tau`` (rank correlation, ties counted), ``coverage`` (share of the truth inside
    the intervals) and their mean relative half width; ``feasibility`` is the share of designs whose feasibility was
    predicted right.
    """
    from scipy.stats import kendalltau

    start = time.perf_counter()
    said = proxy.predict(designs, workload, level)
    seconds = time.perf_counter() - start
    rows = {}
    for metric in proxy.metrics:
        truth = evaluation.metrics[metric.name]
        use = np.isfinite(truth)
        y, guess = truth[use], said.mean[metric.name][use]
        low, high = said.low[metric.name][use], said.high[metric.name][use]
        if not len(y):
            continue
        some = slice(0, 5000)  # Kendall's tau sorts pairs
        variance = float(((y - y.mean()) ** 2).mean())
        with np.errstate(all="ignore"):
            relative = np.abs(guess / y - 1)
            width = np.mean((high - low) / 2 / np.abs(y))
        tiny = 1e-12 * np.abs(y)
        rows[metric.name] = {
            "relative_rmse_percent": relative_rmse_percent(guess, y),
            "mean_relative_error_percent": float(100 * relative.mean()),
            "worst_relative_error_percent": float(100 * relative.max()),
            "r2": 1 - float(((guess - y) ** 2).mean()) / variance if variance else 1.0,
            "kendall_tau": float(kendalltau(guess[some], y[some]).statistic) if variance else 1.0,
            "coverage": float(((low - tiny <= y) & (y <= high + tiny)).mean()),
            "mean_half_width_percent": float(100 * width),
        }
    return {
        "designs": len(designs),
        "metrics": rows,
        "outside": float(said.outside.mean()),
        "feasibility": float(((said.violation == "") == evaluation.feasible).mean()),
        "seconds_per_design": seconds / max(len(designs), 1),
        "level": level,
    }


def leave_one_workload_out(
    data: TrainingData, metrics: Sequence[Metric], **kwargs: Any
) -> Iterator[tuple[Workload, Proxy]]:
    """For each workload of ``data`` in turn a proxy trained on all others (without intervals, which could say nothing of
    a workload unlike the others); ``kwargs`` go to :func:`fit`."""
    names = list(data.workloads)
    if len(names) < 3:
        raise ArchGymError("an unseen-workload error needs trials of at least three workloads")
    for i, workload in enumerate(data.workloads.values()):
        rest = [j for j in range(len(names)) if j != i]
        inside = data.take(data.workload != i)
        part = replace(
            inside,
            workloads={names[j]: data.workloads[names[j]] for j in rest},
            workload=np.searchsorted(np.array(rest), inside.workload),
        )
        yield workload, fit(part, metrics, calibrate=False, **kwargs)


def unseen_workload_errors(data: TrainingData, metrics: Sequence[Metric], **kwargs: Any) -> dict[str, dict[str, float]]:
    """Leave one workload out: relative RMSE in percent of each metric on a workload that training never saw."""
    result = {}
    proxies = leave_one_workload_out(data, metrics, **kwargs)
    for i, (name, (workload, proxy)) in enumerate(zip(data.workloads, proxies, strict=True)):
        out = data.take((data.workload == i) & data.feasible)
        said = proxy.means(out.designs, workload)
        result[name] = {m.name: relative_rmse_percent(said[m.name], out.metrics[m.name]) for m in metrics}
    return result


def training_from_paths(
    paths: Sequence[Path | str], *, problem: str | None, metrics: Sequence[str] | None, limit: int | None, trust: bool
) -> tuple[TrainingData, list[Metric], Problem]:
    """:func:`from_dataset` for files and folders, restricted to one problem where it is named."""
    dataset = Dataset(list(paths))
    return from_dataset(dataset if problem is None else dataset.select(problem), metrics, limit=limit, trust=trust)


def predictions_per_second(proxy: Proxy, workload: Workload, designs: Designs, seconds: float = 1.0) -> float:
    """Designs predicted a second, means alone, after compilation."""
    proxy.means(designs[:1000], workload)
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        proxy.means(designs, workload)
        done += len(designs)
    return done / spent


def summary(errors: Mapping[str, Any]) -> list[str]:
    """The errors as lines for people."""
    return [
        f"  {name:<24} RMSE {row['relative_rmse_percent']:7.3f} % of the mean, tau {row['kendall_tau']:.4f}, "
        f"coverage {100 * row['coverage']:.1f} %, half width {row['mean_half_width_percent']:.3f} %"
        for name, row in errors["metrics"].items()
    ]


__all__ = [
    "boxes", "choose_metrics", "default_metrics", "evaluate", "facts_of", "from_dataset", "from_evaluation", "held_out", "join",
    "leave_one_workload_out", "predictions_per_second", "summary", "train_on_problem", "training_from_paths", "unseen_workload_errors",
    "with_reach",
]  # fmt: skip
