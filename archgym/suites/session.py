"""The runs of an entry that a program of one's own does, started by ``archgym suite run SUITE --command "..."``.

```python
from archgym.suites import given_runs

for run in given_runs():
    while not run.over:
        designs = run.problem.space.sample(8, run.rng)      # int64 (n, d): value indices
        designs, evaluation, rewards = run.evaluate(designs)
```

A library that calls a function of its own accord is ended by the exception :class:`BudgetExhausted` of ``run.reward``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from archgym.envs.design_env import DesignEnv
from archgym.errors import ArchGymError
from archgym.evaluator import BudgetExhausted, Evaluator
from archgym.objective import Rewards
from archgym.problem import Problem
from archgym.simulator import Evaluation
from archgym.space import Designs
from archgym.studies.spec import RunSpec, problem_of
from archgym.studies.store import Study
from archgym.suites.entry import VARIABLE, Entry
from archgym.suites.suite import Suite, parse_suite

__all__ = ["BudgetExhausted", "GivenRun", "given_runs"]


class _RunEnv(DesignEnv):
    """An environment whose designs are evaluations of a run, which keeps its log when the environment is closed."""

    def close(self) -> None:
        pass


class GivenRun:
    """One run: a problem, a seed, a budget, and the only door to the simulator.

    Attributes:
        problem: what is searched (its space, metrics and directions).
        seed: of the run.
        budget: simulator evaluations; repeats of a design (by canonical form) cost nothing.
        rng: a generator seeded with ``seed``.
        train: names of the problems that may be learnt from before, without a limit; most suites have none.
    """

    def __init__(self, spec: RunSpec, evaluator: Evaluator, train: tuple[str, ...] = ()) -> None:
        self.problem: Problem = evaluator.problem
        self.seed, self.budget = spec.seed, spec.budget
        self.rng = np.random.default_rng(spec.seed)
        self.train = train
        self._evaluator = evaluator

    @property
    def over(self) -> bool:
        """Whether the budget is used up (or only repeats came for long)."""
        return self._evaluator.exhausted

    @property
    def remaining(self) -> int:
        """Simulator evaluations left."""
        return int(self._evaluator.remaining)

    def env(self, *, action_mode: str = "design", episode_length: int | None = None) -> DesignEnv:
        """A Gymnasium environment over the problem, as :class:`~archgym.envs.DesignEnv` takes the arguments. Every design that
        it evaluates, in ``reset`` too, is an evaluation of this run; one more than the budget raises
        :class:`BudgetExhausted`."""
        made = _RunEnv(problem=self.problem, action_mode=action_mode, episode_length=episode_length)
        made.episodes.evaluator = self._evaluator
        return made

    def evaluate(self, designs: Any) -> tuple[Designs, Evaluation, Rewards]:
        """Evaluate designs ``(n, d)``: those that the budget allowed (a prefix), with evaluation and rewards
        (higher is better, finite for every design). On disk before this returns.

        Raises:
            BudgetExhausted: the run is over.
        """
        return self._evaluator.evaluate(designs)

    def reward(self, design: Any) -> float:
        """The reward of one design: value indices ``(d,)``, or a dictionary name -> value."""
        row = self.problem.space.encode(design) if isinstance(design, dict) else np.asarray(design)[None, :]
        return float(self.evaluate(row)[2][0])


def given_runs() -> Iterator[GivenRun]:
    """The runs that are not done yet, one after the other; each is noted as done when the next one is asked for.

    A run that was cut is done again from its beginning: what a program of one's own does is not repeated.

    Raises:
        ArchGymError: the program was not started by ``archgym suite run --command``.
    """
    place = os.environ.get(VARIABLE)
    if not place:
        raise ArchGymError("no suite gave runs; start the program with: archgym suite run SUITE --command '...'")
    folder = Path(place)
    suite: Suite = parse_suite((folder / "suite.yaml").read_text(encoding="utf-8"))
    entry, study = Entry.read(folder), Study(folder)
    done = {row["run"] for row in study.results()}
    problems = {problem.key: problem for problem in suite.problems}
    for spec in entry.runs(suite):
        if spec.id in done:
            continue
        shard = study.shard(spec)
        shard.unlink(missing_ok=True)
        about = {"agent": entry.agent, "hyperparameters": {}, "study": suite.name, "run": spec.id}
        with Evaluator(problem_of(spec), budget=spec.budget, seed=spec.seed, log=shard, run=about) as evaluator:
            yield GivenRun(spec, evaluator, suite.training(problems[spec.problem_key]))
        study.append(record(spec, evaluator, suite.name))


def record(spec: RunSpec, evaluator: Evaluator, study: str) -> dict[str, Any]:
    """The line of results of a finished run."""
    best = evaluator.best
    return {
        "run": spec.id,
        "study": study,
        "problem_key": spec.problem_key,
        **spec.as_dict(),
        "status": "done",
        "evaluations": evaluator.used,
        "trials": evaluator.trials,
        "best": best.reward if best is not None else None,
        "curve": [list(step) for step in evaluator.improvements],
        "simulation_s": round(evaluator.simulation_s, 6),
    }
