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

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from archgym.datasets.shards import SUFFIX, unwritable
from archgym.errors import ArchGymError
from archgym.problem import Problem
from archgym.studies.spec import RunSpec, StudySpec, load_spec, problem_of


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole JSON lines of a file, those of its compressed part (``.gz`` after its name) first; a torn one is
    skipped."""
    packed = _packed(path)
    try:
        if packed.is_file():
            with gzip.open(packed, "rt", encoding="utf-8", errors="replace") as file:
                yield from _objects(file)
    except (OSError, EOFError, zlib.error):
        raise ArchGymError(f"{packed} is no gzip file or a truncated one; get it again") from None
    if path.is_file():
        with open(path, encoding="utf-8", errors="replace") as file:
            yield from _objects(file)


def _packed(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def _objects(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


class Study:
    """A study's folder.

    Args:
        folder: where it is.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.results_path = self.folder / "results.jsonl"
        self.problems_path = self.folder / "problems.jsonl"
        self.spec_path = self.folder / "study.yaml"

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
        return self.folder / "runs" / f"{run.id}{SUFFIX}"

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
        for row in _lines(self.results_path):
            if "run" in row and row.get("status") == "done":
                found[row["run"]] = row
        return list(found.values())

    def failures(self) -> list[dict[str, Any]]:
        """Records of runs that failed and were not done since."""
        done = {row["run"] for row in self.results()}
        failed = {row["run"]: row for row in _lines(self.results_path) if row.get("status") == "failed"}
        return [row for run, row in failed.items() if run not in done]

    def problems(self) -> dict[str, dict[str, Any]]:
        """What regret is measured against: problem key -> row."""
        return {row["problem_key"]: row for row in _lines(self.problems_path) if "problem_key" in row}

    def note_problems(self, runs: list[RunSpec]) -> None:
        """Write the yardsticks of problems that are not noted yet."""
        known = self.problems()
        for run in runs:
            if run.problem_key not in known:
                known[run.problem_key] = row = {
                    "problem_key": run.problem_key,
                    **yardstick(problem_of(run), run.options),
                }
                self._append(self.problems_path, row)


def yardstick(problem: Problem, options: Mapping[str, Any] | None = None, samples: int = 512) -> dict[str, Any]:
    """What results on a problem are measured against: the known optimum, if any, and the median feasible reward of
    ``samples`` uniform designs (seed 0)."""
    evaluation, rewards = problem.evaluate(problem.space.sample(samples, 0), seed=0)
    feasible = rewards[evaluation.feasible]
    optimum = problem.optimum
    return {
        "problem": problem.name,
        "options": dict(options or {}),
        "objective": problem.objective.name,
        "optimum": optimum.reward if optimum is not None else None,
        "exhaustive": bool(optimum is not None and optimum.exhaustive),
        "random_median": float(np.median(feasible)) if len(feasible) else float(problem.objective.penalty),
        "feasible_share": float(evaluation.feasible.mean()),
        "pareto_metrics": [metric.name for metric in problem.pareto_metrics],
        "designs": float(problem.space.size),
    }
