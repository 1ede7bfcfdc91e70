"""One run of a study, in whatever process: a RunSpec in, a record out."""

from __future__ import annotations

__all__ = ()

from pathlib import Path
from typing import Any

import numpy as np

from archgym.agents.base import make_agent
from archgym.agents.search import RunResult, search
from archgym.datasets.shards import SUFFIX
from archgym.errors import ArchGymError
from archgym.files import kept_beside
from archgym.locating import following
from archgym.problem import Problem
from archgym.studies.spec import RunSpec, problem_of

FRONT_POINTS = 64
"""Points of a Pareto front that a record keeps; longer ones are thinned evenly along the first metric."""


def smaller_budget(run: RunSpec, log: Path) -> Path | None:
    """The shard beside ``log`` of the same run with the largest smaller budget, if there is one."""
    start, end = f"{run.setting}-b", f"-s{run.seed}{SUFFIX}"
    budgets = [path.name[len(start) : -len(end)] for path in log.parent.glob(f"{start}*{end}")]
    smaller = [int(text) for text in budgets if text.isdecimal() and int(text) < run.budget]
    return log.parent / f"{start}{max(smaller)}{end}" if smaller else None


def execute(run: RunSpec, log: Path | None, study: str = "") -> dict[str, Any]:
    """Do a run, or go on with it where its shard ``log`` holds a part; returns its record (JSON-able).

    Where there is only the shard of the same run with a smaller budget, it goes on from a copy of that.
    A run that raises is a record too (``status: failed``): one bad run does not end a study.
    """
    record: dict[str, Any] = {"run": run.id, "study": study, "problem_key": run.problem_key, **run.as_dict()}
    try:
        with following(kept_beside([log]) if log is not None else ()):
            problem = problem_of(run)
        earlier = smaller_budget(run, log) if log is not None and not log.exists() else None
        try:
            result = _search(run, problem, log, study, earlier)
        except ArchGymError:
            if earlier is None or log is None:
                raise
            # Made by other code, or damaged: everything is simulated again.
            log.unlink(missing_ok=True)
            result = _search(run, problem, log, study, None)
    except Exception as error:
        sentence = str(error).splitlines()[0] if str(error) else ""
        return {**record, "status": "failed", "error": f"{type(error).__name__}: {sentence}"}
    best = result.best
    front = result.front[np.isfinite(result.front).all(axis=1)]
    if len(front) > FRONT_POINTS:
        front = front[np.unique(np.linspace(0, len(front) - 1, FRONT_POINTS).round().astype(int))]
    return {
        **record,
        "status": "done",
        "evaluations": result.evaluations,
        "trials": result.trials,
        "from_store": result.from_store,
        "best": best.reward if best is not None else None,
        "best_design": problem.space.decode(best.design)[0] if best is not None else None,
        "best_metrics": _plain(best.metrics) if best is not None else None,
        "curve": [list(step) for step in result.improvements],
        "front": front.tolist(),
        "agent_s": round(result.agent_s, 6),
        "simulation_s": round(result.simulation_s, 6),
    }


def _search(run: RunSpec, problem: Problem, log: Path | None, study: str, earlier: Path | None) -> RunResult:
    agent = make_agent(run.agent, problem, run.seed, **run.hyperparameters)
    return search(
        problem, agent, run.budget, log=log, resume=log is not None, batch=run.batch, study=study, run=run.id, earlier=earlier
    )  # fmt: skip


def _plain(metrics: dict[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in metrics.items()}
