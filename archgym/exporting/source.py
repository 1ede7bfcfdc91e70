"""Which design is meant: of a run's folder, a dataset, or a problem with its known optimum."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from archgym.errors import ArchGymError, quote
from archgym.exporting.importing import Imported, import_design, recognised
from archgym.problem import Problem, parse_name, problem_of_options
from archgym.reading import parse_json, read_json, read_yaml
from archgym.simulator import runs_own_code
from archgym.space import Value


def design_of_file(text: str, problem: Problem, format: str | None = None) -> tuple[dict[str, Value], Imported | None]:
    """A design that people give: as :func:`design_from_text`, or from a configuration of another tool, whose account comes
    with it.

    Args:
        text: inline JSON, or the path of a file or folder.
        format: of the file; recognised where None.
    """
    if not text.lstrip().startswith("{") and (format is not None or Path(text).exists()):
        path = Path(text)
        format = format or recognised(problem, path)
        if format is not None or path.is_dir():
            imported = import_design(problem, path, format)
            return imported.design, imported
    return design_from_text(text, problem), None


def design_from_text(text: str, problem: Problem) -> dict[str, Value]:
    """A design from inline JSON or from a JSON or YAML file: parameter -> value, or that under the key ``design`` or
    ``parameters``; parameters that are left out must have one value only.

    Raises:
        ArchGymError: it is no mapping of the problem's parameters to their values.
    """
    if text.lstrip().startswith("{"):
        content = parse_json(text, "the design")
    elif Path(text).suffix in (".yaml", ".yml"):
        content = read_yaml(text, "design")
    else:
        content = read_json(text, "design")
    if isinstance(content, dict):
        content = content.get("design", content.get("parameters", content))
    if not isinstance(content, dict):
        raise ArchGymError(f"a design is a mapping of parameters to values, not {quote(content, 40)}")
    values = {
        name: value["value"] if isinstance(value, dict) and "value" in value else value
        for name, value in content.items()
    }
    single = {p.name: p.values[0] for p in problem.space.parameters if len(p) == 1}
    design = single | values
    return problem.space.decode(problem.space.encode(design))[0]


def from_trials(path: Path, which: str, trust: bool = False) -> tuple[Problem, dict[str, Value]]:
    """Problem and design of trials: ``best``, or the number of a row.

    Args:
        path: a run's folder, a shard or a dataset of one problem.
        which: ``best`` (the highest reward) or a row from 0.
        trust: run the program that the trials name (``torch:FILE.py:NAME``).
    """
    from archgym.datasets.dataset import at_own_fidelity, read_trials
    from archgym.datasets.schema import TrialSchema

    table = at_own_fidelity(read_trials(path))
    names = ("problem", "objective", "space", "options", "simulator_version")
    kinds = {tuple(row) for row in zip(*(table.column(name).to_pylist() for name in names), strict=True)}
    if len(kinds) != 1:
        problems = sorted({str(kind[0]) for kind in kinds})
        raise ArchGymError(
            f"{path} holds trials of {len(kinds)} problems ({quote(', '.join(problems), 120, marks=False)}); give the folder of one"
        )
    name, _, _, options, version = kinds.pop()
    if runs_own_code(parse_name(name)[1]) and not trust:
        raise ArchGymError(f"{name} runs a program that the trials name; add --trust if you trust where they are from")
    problem = problem_of_options(name, json.loads(options) if isinstance(options, str) else options)
    if problem.simulator.version != version:
        raise ArchGymError(
            f"the trials come from version {version} of the simulator, installed is {problem.simulator.version}; search again"
        )
    rewards = table.column("reward").to_numpy()
    if which == "best":
        row = int(np.argmax(np.where(table.column("feasible").to_numpy(zero_copy_only=False), rewards, -np.inf)))
    elif which.isdigit() and int(which) < len(rewards):
        row = int(which)
    else:
        raise ArchGymError(f"--design is {quote(which)}; expected best, a row from 0 to {len(rewards) - 1}, or JSON")
    designs = TrialSchema(problem, {}).designs(table.slice(row, 1))
    return problem, problem.space.decode(designs)[0]


def of_problem(problem: Problem, which: str) -> dict[str, Value]:
    """A design of a problem: its best known one (``best``), or one that ``which`` gives."""
    if which != "best":
        return design_from_text(which, problem)
    if problem.optimum is None:
        raise ArchGymError(
            f"no best design of {problem.name} ships with the simulator; give --design, or the folder of a run in its place"
        )
    return problem.space.decode(problem.space.encode(problem.optimum.design))[0]


def compared(
    problem: Problem, design: Mapping[str, Value], best: Mapping[str, Value] | None, samples: int
) -> dict[str, Any]:
    """A design beside another: both by metric, and the share of ``samples`` uniform designs (seed 0) that beat it. The other
    one is the best of these where None."""
    drawn = problem.space.sample(samples, 0)
    others, uniform = problem.evaluate(drawn, seed=0)
    if best is None:
        row = int(np.argmax(np.where(others.feasible, uniform, -np.inf)))
        best = problem.space.decode(drawn[row : row + 1])[0]
    both = problem.space.encode([dict(design), dict(best)])
    evaluation, rewards = problem.evaluate(both, seed=0)
    better = int((others.feasible & (uniform > rewards[0])).sum())
    metrics = {}
    for metric in problem.metrics:
        mine, other = (float(value) for value in evaluation.metrics[metric.name])
        metrics[metric.name] = {"unit": metric.unit, "direction": metric.direction, "design": mine, "best": other}
    return {
        "problem": problem.name,
        "objective": problem.objective.name,
        "reward": float(rewards[0]),
        "best_reward": float(rewards[1]),
        "feasible": bool(evaluation.feasible[0]),
        "violation": str(evaluation.violation[0]),
        "better_share": better / samples,
        "samples": samples,
        "metrics": metrics,
        "differs": {name: [design[name], best[name]] for name in problem.space.names if design[name] != best[name]},
    }
