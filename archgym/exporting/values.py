"""A design as plain data, with its metrics and their units: JSON and CSV, for every simulator."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from archgym.exporting.base import Exporter, Written, write_json
from archgym.problem import Problem
from archgym.space import Value


def _metrics(problem: Problem, design: Mapping[str, Value]) -> Iterator[tuple[str, float | None, str]]:
    evaluation, _ = problem.evaluate(problem.space.encode(design), seed=0)
    for metric in problem.metrics:
        value = float(evaluation.metrics[metric.name][0])
        yield metric.name, value if np.isfinite(value) else None, metric.unit


class JsonExporter(Exporter):
    """``design.json``: problem with its options, parameters and metrics, each with its unit."""

    name = "json"
    title = "programs that read JSON"
    units = {
        "parameters.*.value": "the `unit` beside it; empty and 1: a count, a share or a word",
        "metrics.*.value": "the `unit` beside it; empty and 1: a count or a share",
        "options.*": "as `archgym options` says of the simulator",
    }

    def write(self, problem: Problem, design: Mapping[str, Value], folder: Path) -> Written:
        units = {p.name: p.unit for p in problem.space.parameters}
        content = {
            "problem": problem.name,
            "options": problem.options,
            "simulator_version": problem.simulator.version,
            "parameters": {name: {"value": value, "unit": units[name]} for name, value in design.items()},
            "metrics": {name: {"value": value, "unit": unit} for name, value, unit in _metrics(problem, design)},
        }
        write_json(folder / "design.json", content)
        return Written({"design.json": "problem, parameters and metrics with their units"})


class CsvExporter(Exporter):
    """``design.csv``: kind (parameter or metric), name, value, unit."""

    name = "csv"
    title = "spreadsheets"
    units = {"value": "the column `unit`; empty and 1: a count, a share or a word"}

    def write(self, problem: Problem, design: Mapping[str, Value], folder: Path) -> Written:
        with open(folder / "design.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["kind", "name", "value", "unit"])
            for parameter in problem.space.parameters:
                writer.writerow(["parameter", parameter.name, design[parameter.name], parameter.unit])
            for name, value, unit in _metrics(problem, design):
                writer.writerow(["metric", name, "" if value is None else repr(value), unit])
        return Written(
            {"design.csv": "parameters and metrics with their units"},
            ["The options of the problem stand in no column."],
        )
