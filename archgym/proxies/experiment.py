"""The diverse-dataset experiment: does data of many agents train a better proxy than data of one?

ArchGym (ISCA 2023, section 7) trained proxies of its DRAM simulator on trials of one agent and on trials of several,
at growing sizes. Here every source gets the same number of distinct designs, and every proxy the same test: uniform
designs whose canonical form is in no training set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from archgym.agents.base import make_agent
from archgym.agents.search import search
from archgym.datasets.dataset import Dataset
from archgym.datasets.schema import TrialSchema
from archgym.datasets.shards import SUFFIX
from archgym.errors import ArchGymError, MissingExtraError
from archgym.problem import Problem
from archgym.proxies.proxy import TrainingData, fit
from archgym.proxies.training import choose_metrics, evaluate, facts_of, from_evaluation, held_out, join
from archgym.writing import write_json

DIVERSE = "all agents"


def run_experiment(
    problem: Problem,
    out: Path,
    *,
    agents: Sequence[str] = ("walk", "ga", "random"),
    sizes: Sequence[int] = (250, 500, 1000, 2000),
    seeds: Sequence[int] = (0,),
    test: int = 4000,
    metrics: Sequence[str] | None = None,
    model: str = "boosting",
    settings: dict[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Collect data with each agent, train on each source and size, test on uniform designs.

    Args:
        problem: what is searched and learned.
        out: folder for the trials, ``experiment.json`` and ``experiment.png``.
        agents: the sources; besides them ``all agents``, equal parts of each.
        sizes: training designs, distinct.
        seeds: of agents and models; errors are averaged.
        test: uniform test draws.
        metrics, model, settings: of the proxies.
        progress: called with a sentence at every step.
    """
    if len(agents) < 2:
        raise ArchGymError("the experiment compares one agent's data with several agents'; give at least two agents")
    say = progress or (lambda sentence: None)
    sizes = sorted(set(int(size) for size in sizes))
    chosen = choose_metrics(problem, metrics)
    names = [metric.name for metric in chosen]
    out = Path(out)
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        parts: dict[str, TrainingData] = {}
        for name in agents:
            say(f"collecting {sizes[-1]} designs with {name}, seed {seed}")
            parts[name] = _collect(problem, out, name, sizes[-1], seed, names)
        tried = np.concatenate([data.designs for data in parts.values()])
        designs = held_out(problem, test, 1_000 + seed, tried)
        truth = problem.simulator.evaluate(designs, problem.workload, fidelity=problem.fidelity, seed=seed)
        for size in sizes:
            for source in (*agents, DIVERSE):
                data = _mix(list(parts.values()), size) if source == DIVERSE else parts[source]
                data = data.take(slice(0, size))
                say(f"training on {len(data)} designs of {source}, seed {seed}")
                start = time.perf_counter()
                proxy = fit(
                    data, chosen, model=model, settings=settings, seed=seed, calibrate=False, about=facts_of(problem)
                )
                trained = time.perf_counter() - start
                found = evaluate(proxy, problem.workload, designs, truth)
                for metric, row in found["metrics"].items():
                    rows.append(
                        {
                            "source": source,
                            "size": size,
                            "designs": len(data),
                            "seed": seed,
                            "metric": metric,
                            "relative_rmse_percent": row["relative_rmse_percent"],
                            "kendall_tau": row["kendall_tau"],
                            "training_s": trained,
                            "seconds_per_design": found["seconds_per_design"],
                        }
                    )
    files = [str(out / "experiment.json")]
    result: dict[str, Any] = {
        "problem": problem.name,
        "model": model,
        "agents": list(agents),
        "sizes": sizes,
        "seeds": list(seeds),
        "test_designs": test,
        "rows": rows,
        "table": _table(rows),
        "files": files,
    }
    figure = plot(result, out / "experiment.png")
    if figure is not None:
        files.append(str(figure))
    write_json(out / "experiment.json", result)
    return result


def _collect(problem: Problem, out: Path, agent: str, count: int, seed: int, metrics: Sequence[str]) -> TrainingData:
    """The first ``count`` distinct designs that an agent tries, in further runs where one repeats itself."""
    schema = TrialSchema(problem, {})
    designs = []
    evaluations = []
    have = 0
    for attempt in range(8):
        log = out / "trials" / f"{agent}-{seed}-{attempt}{SUFFIX}"
        resume = log.exists()
        made = make_agent(agent, problem, 10_007 * attempt + seed)
        search(problem, made, count - have, log=log, resume=resume, study="experiment", run=f"{agent}-{seed}-{attempt}")
        table = Dataset(log).table()
        designs.append(schema.designs(table))
        evaluations.append(schema.evaluation(table))
        data = join_runs(problem, designs, evaluations, metrics)
        have = len(data)
        if have >= count:
            break
    return data


def join_runs(problem: Problem, designs: list[Any], evaluations: list[Any], metrics: Sequence[str]) -> TrainingData:
    """Training data of several runs on one problem, in order."""
    from archgym.simulator import Evaluation

    return from_evaluation(problem, np.concatenate(designs), Evaluation.concatenate(evaluations), metrics)


def _mix(parts: Sequence[TrainingData], size: int) -> TrainingData:
    """Equal parts of each source, one design after the other in turn, without designs that another already gave."""
    chosen: list[tuple[int, int]] = []
    seen: set[bytes] = set()
    place = [0] * len(parts)
    while len(chosen) < size and any(p < len(data) for p, data in zip(place, parts, strict=True)):
        for i, data in enumerate(parts):
            while place[i] < len(data):
                key = data.designs[place[i]].tobytes()
                place[i] += 1
                if key not in seen:
                    seen.add(key)
                    chosen.append((i, place[i] - 1))
                    break
            if len(chosen) >= size:
                break
    return join(
        [data.take(np.array([row for k, row in chosen if k == i], dtype=np.int64)) for i, data in enumerate(parts)]
    )


def _table(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["metric"], row["source"], row["size"]), []).append(row)
    return [
        {
            "metric": metric, "source": source, "size": size,
            "relative_rmse_percent": float(np.mean([r["relative_rmse_percent"] for r in group])),
            "kendall_tau": float(np.mean([r["kendall_tau"] for r in group])),
        }
        for (metric, source, size), group in groups.items()
    ]  # fmt: skip


def plot(result: dict[str, Any], path: Path) -> Path | None:
    """Learning curves, a panel a metric: relative RMSE over training designs for each source."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtraError("the experiment's figure", "plot", "matplotlib is not installed") from None
    metrics = list(dict.fromkeys(row["metric"] for row in result["rows"]))
    figure = Figure(figsize=(4.4 * len(metrics), 3.8), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(metrics)))
    for axis, metric in zip(axes, metrics, strict=True):
        for source in (*result["agents"], DIVERSE):
            line = [row for row in result["table"] if row["metric"] == metric and row["source"] == source]
            axis.plot(
                [row["size"] for row in line], [row["relative_rmse_percent"] for row in line],
                marker="o", lw=2.2 if source == DIVERSE else 1.2, color="black" if source == DIVERSE else None,
                label=source,
            )  # fmt: skip
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("distinct training designs")
        axis.set_ylabel("RMSE on uniform designs, % of the mean")
        axis.set_title(metric, fontsize=9)
        axis.grid(alpha=0.3, which="both")
    axes[0].legend(fontsize=8)
    figure.suptitle(f"{result['problem']}: data of one agent against data of all", fontsize=10)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path
