"""Collecting a dataset: sampled designs, or a searching agent, through the one evaluator into one shard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from archgym.agents.base import make_agent
from archgym.agents.search import search
from archgym.datasets.dataset import Dataset
from archgym.datasets.sampling import METHODS, draw, perturbations
from archgym.datasets.schema import TrialSchema
from archgym.datasets.shards import SUFFIX
from archgym.errors import ArchGymError, UnknownNameError
from archgym.evaluator import BudgetExhausted, Evaluator
from archgym.problem import Problem
from archgym.space import Designs

CHUNK = 16384


def collect(
    problem: Problem,
    out: Path | str,
    *,
    count: int = 1000,
    method: str = "uniform",
    seed: int = 0,
    near: Path | None = None,
    top: int = 100,
    changes: int = 3,
) -> dict[str, Any]:
    """Evaluate ``count`` designs of a problem into a shard; one that a kill cut short is gone on with.

    Args:
        problem: what is sampled.
        out: folder of the shard.
        count: simulator evaluations; designs equivalent to an earlier one cost nothing.
        method: ``uniform``, ``sobol``, ``lhs``, ``perturb`` (variations of the best designs of ``near``) or
            ``agent:NAME``.
        seed: fixes the designs.
        near, top, changes: for ``perturb``: the dataset, how many of its best designs, and how many parameters at
            most change.
    """
    if count < 1:
        raise ArchGymError(f"the count is {count}; expected a positive number of designs")
    label = "".join(c if c.isalnum() else "-" for c in f"{problem.name}-{method}-{seed}")
    log = Path(out) / f"{label}{SUFFIX}"
    if method.startswith("agent:"):
        agent = make_agent(method[len("agent:") :], problem, seed)
        done = search(problem, agent, count, log=log, resume=True, study="sample", run=label)
        return {"out": str(out), "files": [str(log)], "evaluations": done.evaluations, "trials": done.trials}
    settings: dict[str, Any] = {"method": method}
    centres: Designs | None = None
    if method == "perturb":
        if near is None:
            raise ArchGymError("perturb needs --near, the dataset whose best designs are varied")
        centres = best_designs(problem, Dataset(near), top)
        settings |= {"top": top, "changes": changes}
    elif method not in METHODS:
        raise UnknownNameError("sampling method", method, [*METHODS, "perturb", "agent:NAME"])
    run = {"agent": f"sample-{method}", "hyperparameters": settings, "study": "sample", "run": label}
    with Evaluator(problem, budget=count, seed=seed, log=log, resume=True, run=run) as evaluator:
        size = count
        for attempt in range(64):
            offset = 7919 * attempt
            if centres is not None:
                designs = perturbations(problem.space, centres, size, seed + offset, changes)
            else:
                designs = draw(problem.space, method, size, seed + offset)
            try:
                for start in range(0, len(designs), CHUNK):
                    evaluator.evaluate(designs[start : start + CHUNK])
            except BudgetExhausted:
                break
            if evaluator.exhausted:
                break
            size = max(count - evaluator.used, 256)
    return {"out": str(out), "files": [str(log)], "evaluations": evaluator.used, "trials": evaluator.trials}


def best_designs(problem: Problem, dataset: Dataset, top: int) -> Designs:
    """The ``top`` feasible designs with the highest reward under the problem's objective, best first, distinct. Trials of
    other options, fidelities or versions of the simulator do not count."""
    schema = TrialSchema(problem, {})
    wanted = (problem.name, problem.simulator.space_name)
    same = (problem.simulator.version, problem.fidelity or "", _simulated(problem.options))
    designs: list[Designs] = []
    rewards: list[np.ndarray[Any, Any]] = []
    for info, batch, _ in dataset.groups():
        if (info.problem, info.key[1]) != wanted or (info.key[3], info.key[4], _simulated(info.options)) != same:
            continue
        evaluation = schema.evaluation(batch)
        reward = problem.objective(evaluation)
        rows = np.flatnonzero(evaluation.feasible)
        rows = rows[np.argsort(-reward[rows], kind="stable")]
        ranked = schema.designs(batch.take(rows))
        # Agents come back to their best design: repeats go before the list is cut.
        first = np.sort(np.unique(problem.space.canonical(ranked), axis=0, return_index=True)[1])[:top]
        designs.append(ranked[first])
        rewards.append(reward[rows][first])
    if not designs:
        raise ArchGymError(
            f"the dataset holds no feasible trial of {wanted[0]} in the space {wanted[1]!r} with the same options; sample "
            "that first"
        )
    every, reward = np.concatenate(designs), np.concatenate(rewards)
    order = np.argsort(-reward, kind="stable")
    canonical = problem.space.canonical(every[order])
    _, first = np.unique(canonical, axis=0, return_index=True)
    return every[order[np.sort(first)[:top]]]


def _simulated(options: Mapping[str, Any]) -> dict[str, Any]:
    """A problem's options but its objective, which is scored anew, and the stand-in, which the version tells of."""
    return {name: value for name, value in options.items() if name not in ("objective", "space", "simulator")}
