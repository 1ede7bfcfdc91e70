"""The folder of a study: the spec, one line a finished run, one shard a run.

```
DIR/study.yaml        the spec as it was given
DIR/problems.jsonl    what regret is measured against, one line a problem
DIR/results.jsonl     one line a finished run, appended by the driver only
DIR/results.jsonl.gz  runs done before, compressed: how a study's results are passed on; read, never written
DIR/runs/...          one shard a run (log: trials)
```
A line is written at once when its run ends; a torn last line (a kill) is left out by the reader, and its run is done
again.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from archgym.announcing import say
from archgym.datasets.shards import SUFFIX
from archgym.errors import ArchGymError
from archgym.problem import Problem
from archgym.reading import checked, quote_path, read_json_lines
from archgym.simulator import REFERENCES
from archgym.studies.spec import RunSpec, StudySpec, load_spec, problem_of
from archgym.writing import unwritable

SPEC, PROBLEMS, RESULTS, RUNS = "study.yaml", "problems.jsonl", "results.jsonl", "runs"
PACKED = ".gz"
SAMPLES = 512
"""Uniform designs of a yardstick."""

Whole = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
Key = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class RunRecord(msgspec.Struct):
    """A line of ``results.jsonl``: what a run was, and what became of it."""

    run: Key
    status: Literal["done", "failed"]
    problem: Key
    problem_key: Key
    options: dict[str, Any]
    agent: Key
    hyperparameters: dict[str, Any]
    seed: Whole
    budget: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
    batch: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)] = 1024
    study: str = ""
    error: str = ""
    evaluations: Whole = 0
    trials: Whole = 0
    from_store: Whole = 0
    best: float | None = None
    best_design: dict[str, Any] | None = None
    best_metrics: dict[str, float | None] | None = None
    curve: list[tuple[Whole, float]] = []
    front: list[list[float]] = []
    agent_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    simulation_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0

    def __post_init__(self) -> None:
        run = RunSpec(self.problem, self.options, self.agent, self.hyperparameters, self.seed, self.budget, self.batch)
        if (self.run, self.problem_key) != (run.id, run.problem_key):
            raise ValueError("the run's name does not fit its problem, agent, hyperparameters, budget and seed")
        steps = [at for at, _ in self.curve]
        # Cheaper fidelities cost parts of an evaluation, so two steps may stand at one whole number.
        if any(a > b for a, b in itertools.pairwise(steps)) or (
            steps and not 1 <= steps[0] <= steps[-1] <= self.evaluations
        ):
            raise ValueError("the curve's evaluations do not rise from 1 to those of the run")
        rewards = [reward for _, reward in self.curve]
        if any(a >= b for a, b in itertools.pairwise(rewards)) or (rewards and self.best != rewards[-1]):
            raise ValueError("the curve's rewards do not rise to the run's best")
        if self.status == "done" and self.best is not None and not self.curve:
            raise ValueError("a run with a best reward has no curve")
        if any(a > b for a, b in itertools.pairwise(value for _, value in self.curve)):
            raise ValueError("the curve's rewards fall")
        if self.best is not None and self.curve and self.curve[-1][1] != self.best:
            raise ValueError("the curve does not end at the best reward")
        if len({len(point) for point in self.front}) > 1 or (self.front and not 1 <= len(self.front[0]) <= 16):
            raise ValueError("the points of the front differ in length")


class ProblemRecord(msgspec.Struct):
    """A line of ``problems.jsonl``: what regret on a problem is measured against."""

    problem_key: Key
    random_median: float | None = None
    samples: Whole = 512
    problem: str = ""
    options: dict[str, Any] = {}
    objective: str = ""
    optimum: float | None = None
    exhaustive: bool = False
    feasible_share: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    pareto_metrics: list[str] = []
    designs: Annotated[float, msgspec.Meta(ge=0)] | None = None


def _lines(path: Path, kind: Any) -> Iterator[dict[str, Any]]:
    """The JSON lines of a file, those of its compressed part (``.gz`` after its name) first; lines that a kill cut are
    left out, and what is no record of ``kind`` is refused."""
    for part in (_packed(path), path):
        if part.is_file():
            for number, row in read_json_lines(part, torn=True):
                record = checked(row, kind, f"line {number} of {quote_path(part)}")
                yield {**msgspec.structs.asdict(record), **row}


def _packed(path: Path) -> Path:
    return path.with_name(path.name + PACKED)


class Study:
    """A study's folder.

    Args:
        folder: where it is.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.results_path = self.folder / RESULTS
        self.problems_path = self.folder / PROBLEMS
        self.spec_path = self.folder / SPEC

    @property
    def holds_results(self) -> bool:
        """Whether there is a file of results, compressed or not."""
        return self.results_path.is_file() or _packed(self.results_path).is_file()

    @classmethod
    def create(cls, folder: Path | str, spec: StudySpec, *, resume: bool) -> Study:
        """Open the folder for running ``spec``; an existing study is continued only with ``resume``."""
        study = cls(folder)
        if study.holds_results or study.spec_path.exists():
            if not resume:
                raise ArchGymError(
                    f"{study.folder} holds a study already; add --resume to continue it, or choose another folder"
                )
            name = load_spec(study.spec_path).name
            if name != spec.name:
                raise ArchGymError(f"{study.folder} holds the study {name!r}, not {spec.name!r}; choose another folder")
        try:
            study.folder.mkdir(parents=True, exist_ok=True)
            study.spec_path.write_text(spec.text, encoding="utf-8")
            study._mend()
        except OSError as error:
            raise unwritable(study.folder, error) from None
        return study

    def _mend(self) -> None:
        """End a torn last line, so that the next one starts on its own."""
        for path in (self.results_path, self.problems_path):
            if path.is_file() and path.stat().st_size:
                with open(path, "rb+") as file:
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        file.write(b"\n")

    def shard(self, run: RunSpec) -> Path:
        """Where the trials of a run are."""
        return self.folder / RUNS / f"{run.id}{SUFFIX}"

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a finished run."""
        self._append(self.results_path, record)

    def _append(self, path: Path, row: Mapping[str, Any]) -> None:
        try:
            with open(path, "ab") as file:
                file.write(json.dumps(row, sort_keys=True).encode() + b"\n")
        except OSError as error:
            raise unwritable(path, error) from None

    def results(self) -> list[dict[str, Any]]:
        """Records of the finished runs, the latest of each."""
        found: dict[str, dict[str, Any]] = {}
        for row in _lines(self.results_path, RunRecord):
            if row["status"] == "done":
                found[row["run"]] = row
        return list(found.values())

    def failures(self) -> list[dict[str, Any]]:
        """Records of runs that failed and were not done since."""
        done = {row["run"] for row in self.results()}
        failed = {row["run"]: row for row in _lines(self.results_path, RunRecord) if row["status"] == "failed"}
        return [row for run, row in failed.items() if run not in done]

    def problems(self) -> dict[str, dict[str, Any]]:
        """What regret is measured against: problem key -> row."""
        return {row["problem_key"]: row for row in _lines(self.problems_path, ProblemRecord)}

    def note_problems(self, runs: list[RunSpec], samples: int | None = None) -> None:
        """Write the yardsticks of problems that are not noted yet; see :func:`yardstick`."""
        known = self.problems()
        for run in runs:
            if run.problem_key not in known:
                known[run.problem_key] = row = {
                    "problem_key": run.problem_key,
                    **yardstick(problem_of(run), run.options, samples),
                }
                self._append(self.problems_path, row)


def yardstick(problem: Problem, options: Mapping[str, Any] | None = None, samples: int | None = None) -> dict[str, Any]:
    """What results on a problem are measured against: the known optimum, if any, and the median feasible reward of
    ``samples`` uniform designs (seed 0); None for 512, or the 64 of the reference values where each starts a program. Without
    samples there is no median, nor where the simulator itself fails on them: that is said, and ends no study."""
    simulator = problem.simulator
    if samples is None:
        samples = REFERENCES if simulator.starts_programs else SAMPLES
    if simulator.starts_programs and samples:
        say(
            f"{problem.name}: {samples} random designs are the yardstick of its rewards (yardstick: 0 in the study: none)"
        )
    optimum = problem.optimum
    median = share = None
    if samples:
        try:
            evaluation, rewards = problem.evaluate(problem.space.sample(samples, 0), seed=0)
            feasible = rewards[evaluation.feasible]
            median = float(np.median(feasible)) if len(feasible) else float(problem.objective.penalty)
            share = float(evaluation.feasible.mean())
        except ArchGymError:
            raise
        except Exception as error:
            say(f"{problem.name}: no yardstick, {type(error).__name__} among its random designs: {error}")
    return {
        "problem": problem.name,
        "options": dict(options or {}),
        "objective": problem.objective.name,
        "optimum": optimum.reward if optimum is not None else None,
        "exhaustive": bool(optimum is not None and optimum.exhaustive),
        "random_median": median,
        "samples": samples,
        "feasible_share": share,
        "pareto_metrics": [metric.name for metric in problem.pareto_metrics],
        "designs": float(problem.space.size),
    }
