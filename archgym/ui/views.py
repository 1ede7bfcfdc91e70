"""What the application shows of a problem's runs, a study or a suite, as plain data: every view is computed here, from all
trials, and holds a bounded number of them."""

from __future__ import annotations

import io
import json
import tempfile
import threading
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote as url_quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from archgym.datasets.merge import in_region, parse_region
from archgym.datasets.query import query_table
from archgym.datasets.schema import TrialSchema
from archgym.errors import ArchGymError, quote
from archgym.exporting import EXPORTERS, export, formats_for
from archgym.problem import Problem
from archgym.registry import OBJECTIVES
from archgym.reports import data, html
from archgym.reports.board import board_of
from archgym.reports.charts import CHARTS
from archgym.reports.data import ProblemReport
from archgym.reports.study import study_sections
from archgym.sensitivity import MOST, costly
from archgym.studies.summary import Results
from archgym.ui.folder import Folder, Item, check_links

SQL_ROWS = 1000
SQL_SECONDS = 20.0
DESIGNS = 25
"""Designs in a table of them."""
MOST_PICKED = 8
"""Designs side by side."""

PATIENCE_S = 2.0
"""Seconds of simulation that a page spends without being asked to."""

T = TypeVar("T")
_simulating = threading.Lock()


def about(reports: Sequence[ProblemReport], number: int) -> dict[str, Any]:
    """What can be chosen: problems, objectives, metrics, parameters with their values, agents."""
    report = reports[number]
    problem = report.problem
    made: dict[str, Any] = {
        "problems": [{"name": r.name, "objective": r.objective, "space": r.space} for r in reports],
        "objective": report.objective, "agents": report.agents, "trials": len(report.trials), "missing": report.missing,
        "objectives": [], "metrics": [], "parameters": [], "formats": {}, "charts": list(CHARTS), "pictures": False,
    }  # fmt: skip
    if problem is not None:
        simulator = problem.simulator
        own = simulator.stands_for.objectives(problem.workload)
        directed = [m for m in problem.metrics if m.direction != "none"]
        made |= {
            "objectives": list(dict.fromkeys([*own, *OBJECTIVES, *(m.name for m in directed)])),
            "metrics": [{"name": m.name, "unit": m.unit, "direction": m.direction} for m in data.pareto_axes(report)],
            "parameters": [
                {"name": p.name, "unit": p.unit, "values": list(p.values)} for p in problem.space.parameters if len(p) > 1
            ],
            "formats": {name: EXPORTERS.load(name).title for name in formats_for(problem.name.partition("/")[0])},
        }  # fmt: skip
    return made


def chart(report: ProblemReport, name: str, choices: Mapping[str, Any]) -> dict[str, Any] | None:
    """A chart of the report; its trials are named by their designs, so that they can be picked."""
    if name == "parallel" and report.problem is not None:
        # Nothing is simulated to choose the axes: here people can.
        choices = {"shares": data.explained(report.problem, report.sample), **choices}
    made = CHARTS[name](report, **choices)
    if made is None:
        return None
    title, sentence, figure = made
    for trace in figure["data"]:
        if "customdata" in trace and name in ("pareto", "parallel"):
            trace["customdata"] = names_of(report, np.array(trace["customdata"], dtype=np.int64))
    return {"title": title, "sentence": sentence, "figure": figure}


# --- what has to be simulated --------------------------------------------------------------------------------------


def importance(folder: Folder, report: ProblemReport, asked: bool) -> dict[str, Any] | None:
    """The chart of what parameters are worth, once a problem; where its simulations take longer than :data:`PATIENCE_S`, only
    when a person asked for it: till then ``seconds`` says what they are likely to take."""
    if report.problem is None or costly(report.problem):
        return None
    seconds = MOST * float(np.median(report.column("evaluation_s")))
    key = ("effects", *_identity(report))
    if not asked and seconds > PATIENCE_S and not folder.has("simulated", key):
        return {"title": "What matters", "sentence": "How much of the reward's variance each parameter is worth.",
                "seconds": seconds}  # fmt: skip
    # cached_property keeps it in the report, where the chart looks for it.
    report.__dict__["effects"] = folder.kept("simulated", key, lambda: _alone(lambda: report.effects))
    return chart(report, "importance", {})


def told(folder: Folder, report: ProblemReport, what: str) -> str:
    """What was found, in one sentence, and what changing the best design costs: simulated once a best design."""
    make = {"found": html.found, "changes": html.changes}[what]
    best = data.best_rows(report)[0]["row"]
    key = (what, *_identity(report), tuple(map(str, best.values())))
    return folder.kept("simulated", key, lambda: _alone(lambda: make(report)))


def _identity(report: ProblemReport) -> tuple[str, ...]:
    return (*report.runs[0].source, report.objective)


def _alone(make: Callable[[], T]) -> T:
    """One request simulates at a time: the processors are few, and a person waits for one thing."""
    with _simulating:
        return make()


def pictures(report: ProblemReport, name: str) -> list[dict[str, str]]:
    """The simulator's pictures of a design, or of the best one."""
    problem = _problem(report)
    row = design_of(problem, name) if name else data.best_rows(report)[0]["row"]
    drawn = _alone(lambda: html.drawn(problem, data.design_in(problem, row)))
    return [{"title": title, "sentence": sentence, "image": image} for title, sentence, image in drawn]


# --- designs -------------------------------------------------------------------------------------------------------


def names_of(report: ProblemReport, rows: NDArray[np.int64]) -> list[str]:
    """The designs of trials as short texts, value indices joined by ``-``: names that outlive the order of the trials."""
    return ["-".join(map(str, design)) for design in _designs(report, rows).tolist()]


def _designs(report: ProblemReport, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    problem = _problem(report)
    return TrialSchema(problem, {}).designs(report.trials.select(list(problem.space.names)).take(pa.array(rows)))


def _problem(report: ProblemReport) -> Problem:
    if report.problem is None:
        raise ArchGymError(f"this needs the problem, which could not be made again: {report.missing}")
    return report.problem


def design_of(problem: Problem, name: str) -> dict[str, Any]:
    """The design of that name."""
    parts = name.split("-")
    if not all(part.isdecimal() and len(part) < 8 for part in parts):
        raise ArchGymError(f"{quote(name)} names no design; expected value indices joined by -")
    return problem.space.decode(problem.space.check([int(part) for part in parts]))[0]


def inside(report: ProblemReport, where: str) -> NDArray[np.bool_] | None:
    """The trials that meet conditions such as ``Size>=6, Policy=Open|Closed``; None where there are none."""
    return in_region(report.trials, parse_region(where)) if where.strip() else None


def designs(report: ProblemReport, where: str) -> dict[str, Any]:
    """The best different designs that meet the conditions, as a table, and how many trials meet them."""
    problem = _problem(report)
    mask = inside(report, where)
    rows = data.distinct_best(problem, report.trials, DESIGNS, mask)
    metrics = [m.name for m in data.pareto_axes(report)]
    parameters = [p for p in problem.space.parameters if len(p) > 1]
    # What people look for stands first: the reward, what it is made of, the design, then everything else.
    columns = ["reward", *metrics[:2], *(p.name for p in parameters), *metrics[2:]]
    numeric = {"reward", *metrics, *(p.name for p in parameters if not isinstance(p.values[0], str | bool))}
    units = {m.name: m.unit for m in problem.metrics}
    table = report.trials.select(columns).take(pa.array(rows))
    cells = {name: table.column(name).to_pylist() for name in columns}
    return {
        "count": len(report.trials) if mask is None else int(mask.sum()),
        "columns": columns,
        "numbers": [name in numeric for name in columns],
        "rows": [
            {"name": name, "cells": [html.cell(cells[c][i], units.get(c)) for c in columns],
             "values": [cells[c][i] for c in columns]}
            for i, name in enumerate(names_of(report, rows))
        ],
    }  # fmt: skip


def side_by_side(report: ProblemReport, names: Sequence[str]) -> str:
    """Designs side by side as the report's table, their metrics as the trials have them."""
    problem = _problem(report)
    columns = []
    for number, name in enumerate(names[:MOST_PICKED], 1):
        design = design_of(problem, name)
        hit = np.ones(len(report.trials), dtype=bool)
        for parameter in problem.space.parameters:
            if len(parameter) > 1:
                column = report.trials.column(parameter.name)
                value = design[parameter.name]
                wanted = str(value) if pa.types.is_dictionary(column.type) else value
                hit &= pc.equal(
                    column, pa.scalar(wanted, column.type.value_type if isinstance(wanted, str) else column.type)
                ).to_numpy()
        rows = np.flatnonzero(hit)
        if not len(rows):
            raise ArchGymError(f"no trial has the design {quote(name)}")
        row = report.trials.slice(int(rows[0]), 1).to_pylist()[0]
        columns.append(
            {"agent": f"design {number}", "reward": row["reward"], "found": int(row["index"]) + 1, "row": row}
        )
    return html.design_table(report, columns, found="trial of its run") if columns else ""


def exported(report: ProblemReport, name: str, to: str) -> bytes:
    """A design as another tool's files, in one archive."""
    problem = _problem(report)
    if to not in formats_for(problem.name.partition("/")[0]):
        raise ArchGymError(f"there is no format {quote(to)} for {problem.name}")
    made = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="archgym-export-") as folder, _simulating:
        export(problem, design_of(problem, name), to, Path(folder))
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(Path(folder).rglob("*")):
                if path.is_file():
                    archive.write(path, Path(to) / path.relative_to(folder))
    return made.getvalue()


# --- everything of an item -----------------------------------------------------------------------------------------


def sql(reports: Sequence[ProblemReport], text: str) -> dict[str, Any]:
    """The rows of a statement over the trials of all problems."""
    tables = [report.trials for report in reports]
    try:
        trials = tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="permissive")
        trials = trials.unify_dictionaries()
    except pa.ArrowException as error:
        raise ArchGymError(f"the trials of these problems do not fit into one table ({quote(error, 80)})") from None
    table = query_table(trials, text, rows=SQL_ROWS + 1, seconds=SQL_SECONDS)
    kinds = table.schema.types
    return {
        "columns": table.column_names,
        "numbers": [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds],
        "rows": [[_plain(value) for value in row.values()] for row in table.slice(0, SQL_ROWS).to_pylist()],
        "more": len(table) > SQL_ROWS,
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """A value that JSON has, whole numbers beyond a browser's precision as text."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53:
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value, default=str)


def study(folder: Folder, item: Item) -> dict[str, Any]:
    """Tables and curves of a study's finished runs."""
    check_links(item)

    def make() -> dict[str, Any]:
        sections, figures = study_sections(Results.load(item.path))
        return {"html": "".join(sections), "figures": figures}

    return folder.kept("study", (item.key, item.signature()), make)


def board(folder: Folder, name: str, version: int) -> dict[str, Any]:
    """The board of a suite: its entries, improvements of every run simulated again."""
    suite = folder.suite(name, version)
    entries = folder.entries(name, version)

    def make() -> dict[str, Any]:
        for item in entries:
            check_links(item)
        keys = {item.path: item.key for item in entries}
        with _simulating:
            made = board_of(suite, list(keys), lambda path: f"?at={url_quote(keys[path])}", repeat=0)
        return {"html": "".join(made.parts.sections), "figures": made.parts.figures}

    return folder.kept("board", (name, version, tuple(item.signature() for item in entries)), make)
