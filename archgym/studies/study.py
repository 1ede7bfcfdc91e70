"""Running a study: what is left to do, progress, and what it ended with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from archgym.errors import whole_number
from archgym.studies.executors import Executor, SerialExecutor
from archgym.studies.spec import StudySpec
from archgym.studies.store import Study


@dataclass(frozen=True)
class StudyResult:
    """What a call of :func:`run_study` ended with.

    Attributes:
        study: the folder.
        runs: runs the spec has; ``done`` of them are finished, ``new`` of those by this call.
        failed: records of runs that failed.
        seconds: wall time of this call; ``evaluations`` and ``evaluations_per_s`` of its runs, of which the store answered
            ``from_store``.
    """

    study: Study
    runs: int
    done: int
    new: int
    failed: list[dict[str, Any]]
    seconds: float
    evaluations: int
    from_store: int = 0

    @property
    def evaluations_per_s(self) -> float:
        return self.evaluations / self.seconds if self.seconds else 0.0


def run_study(
    spec: StudySpec,
    folder: Path | str,
    *,
    executor: Executor | None = None,
    resume: bool = False,
    limit: int | None = None,
    max_seconds: float | None = None,
    console: Console | None = None,
    on_record: Callable[[dict[str, Any]], None] | None = None,
) -> StudyResult:
    """Do the runs of a study that are not done yet.

    Args:
        spec: the study.
        folder: where results go; see :mod:`archgym.studies.store`.
        executor: where the runs are done; this process where None.
        resume: continue the study in ``folder``: finished runs stand, a run that was cut goes on from its shard.
        limit: do at most so many runs.
        max_seconds: start no more runs after so long.
        console: where the progress is shown; silent where None.
        on_record: called with each record.
    """
    if limit is not None:
        limit = whole_number("limit", limit, "runs", least=0)
    spec.check_problems()  # before there is a file
    study = Study.create(folder, spec, resume=resume)
    runs = spec.runs()
    finished = {row["run"] for row in study.results()}
    todo = [run for run in runs if run.id not in finished]
    before = len(runs) - len(todo)
    if limit is not None:
        todo = todo[:limit]
    study.note_problems(runs, spec.yardstick)
    start, new, evaluations, kept = time.perf_counter(), 0, 0, 0
    executor = executor or SerialExecutor()
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("runs, {task.fields[rate]} evaluations/s,"),
        TimeElapsedColumn(),
        TextColumn("so far,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console, disable=console is None) as progress:
        task = progress.add_task(spec.name, total=len(runs), completed=before, rate="-")
        records = executor.run(todo, study, spec.name, spec.log == "trials")
        try:
            for record in records:
                study.append(record)
                new += record["status"] == "done"
                evaluations += record.get("evaluations", 0)
                kept += record.get("from_store", 0)
                rate = evaluations / max(time.perf_counter() - start, 1e-9)
                progress.update(task, advance=1, rate=f"{rate:,.0f}")
                if on_record is not None:
                    on_record(record)
                if max_seconds is not None and time.perf_counter() - start > max_seconds:
                    break
        finally:
            records.close()  # type: ignore[attr-defined]
    ids = {run.id for run in runs}
    done = sum(row["run"] in ids for row in study.results())
    failed = [row for row in study.failures() if row["run"] in ids]
    return StudyResult(study, len(runs), done, new, failed, time.perf_counter() - start, evaluations, kept)
