"""The trial schema: one row a trial, flat columns, each with its role and unit in the field's metadata.

| columns | type | role |
| --- | --- | --- |
| ``problem, workload, objective, space, simulator_version, fidelity, options`` | dictionary(string) | run |
| ``agent, hyperparameters, hyperparameter_hash, study, run`` | dictionary(string) | run |
| ``seed`` | int64 | run |
| ``index`` | int64 | trial: position in the run, from 0; a gap stands for repeats, which are not logged unless asked for |
| one a parameter, by its name | int64, float64, bool or string | parameter: the *value*, not the index |
| one a metric, by its name | float64 | metric: unit and direction in the metadata |
| ``feasible, violation, reward`` | bool, string, float64 | trial |
| ``parent`` | string | trial: value indices of the design that this one inherits from, only where designs inherit |
| ``fidelity`` | dictionary(string) | trial: what it was evaluated at, empty for the problem's own; in runs at several fidelities |
| ``cost`` | float64 | trial: what it cost, in evaluations of the problem's own fidelity; in runs at several fidelities |
| ``cached`` | bool | trial: a repeat, answered from the run's own cache at no cost to the budget |
| ``evaluation_s``, ``time_s`` | float64 | clock: seconds of simulation a design, seconds since the epoch |

What is constant over a run stands once in a shard's schema metadata (key ``archgym``, JSON) and becomes columns when
shards are read together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from archgym.datasets.columns import of_numbers, of_texts, to_numbers
from archgym.errors import ArchGymError, quote
from archgym.problem import Problem
from archgym.simulator import Evaluation
from archgym.space import Designs, Parameter

FORMAT = 1
RUN_COLUMNS = (
    "problem",
    "workload",
    "objective",
    "space",
    "simulator_version",
    "fidelity",
    "options",
    "agent",
    "hyperparameters",
    "hyperparameter_hash",
    "study",
    "run",
)
TRIAL_COLUMNS = ("index", "feasible", "violation", "reward", "cached", "evaluation_s", "time_s")
CLOCK_COLUMNS = ("evaluation_s", "time_s")
"""Columns that may differ between two runs that are otherwise equal bit by bit."""


def hyperparameter_hash(hyperparameters: Mapping[str, Any]) -> str:
    """Twelve hex digits that identify hyperparameters, whatever their order."""
    return hashlib.sha256(json.dumps(hyperparameters, sort_keys=True).encode()).hexdigest()[:12]


def has_costs(schema: pa.Schema) -> bool:
    """Whether trials have the column ``cost``: those of runs at several fidelities. A metric or a parameter may have this
    name, too."""
    return "cost" in schema.names and b"role" not in (schema.field("cost").metadata or {})


def _parameter_type(parameter: Parameter) -> pa.DataType:
    kinds = {type(value) for value in parameter.values}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    if kinds <= {int, float}:
        return pa.float64()
    return pa.dictionary(pa.int32(), pa.string())


def words_and_positions(column: pa.Array) -> tuple[list[Any], NDArray[np.int64]]:
    """The distinct values of a column, None last, and each row's position ``(n,)`` among them; null rows stand at the last.

    Positions are wide whatever the width of the column's own indices: eight bits may leave no room for one more value.
    """
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    words = [*column.dictionary.to_pylist(), None]
    positions = column.indices.cast(pa.int64())
    return words, to_numbers(positions.fill_null(len(words) - 1) if positions.null_count else positions)


class TrialSchema:
    """The columns of one problem's trials and how batches of them are made.

    Args:
        problem: gives parameters, metrics and names.
        run: what is constant over the run: agent, hyperparameters (dict), seed, study, run; JSON-able. Where they are
            given, also ``repeats`` (repeats are logged), ``budget`` (the run depends on it) and ``fidelities`` (name -> cost
            of those that its designs may be evaluated at beside the problem's own).
    """

    def __init__(self, problem: Problem, run: Mapping[str, Any]) -> None:
        self.problem = problem
        hyperparameters = dict(run.get("hyperparameters", {}))
        self.run = {
            "problem": problem.name,
            "workload": problem.workload.name,
            "objective": problem.objective.name,
            "space": problem.simulator.space_name,
            "simulator_version": problem.simulator.version,
            "fidelity": problem.fidelity or "",
            "agent": run.get("agent", ""),
            "hyperparameters": json.dumps(hyperparameters, sort_keys=True),
            "hyperparameter_hash": hyperparameter_hash(hyperparameters),
            "study": run.get("study", ""),
            "run": run.get("run", ""),
            "seed": int(run.get("seed", 0)),
            **{key: run[key] for key in ("repeats", "budget", "fidelities") if key in run},
        }
        self._costs: dict[str, float] = {"": 1.0, **run.get("fidelities", {})}
        self.options = problem.options
        space = problem.space
        fields = [pa.field("index", pa.int64())]
        self._types = [_parameter_type(parameter) for parameter in space.parameters]
        for parameter, kind in zip(space.parameters, self._types, strict=True):
            fields.append(
                pa.field(
                    parameter.name,
                    kind,
                    metadata={"role": "parameter", "unit": parameter.unit, "ordered": str(parameter.ordered).lower()},
                )
            )
        for metric in problem.metrics:
            about = {"role": "metric", "unit": metric.unit, "direction": metric.direction}
            fields.append(pa.field(metric.name, pa.float64(), metadata=about))
        fields += [
            pa.field("feasible", pa.bool_()),
            pa.field("violation", pa.dictionary(pa.int32(), pa.string())),
            pa.field("reward", pa.float64()),
            pa.field("cached", pa.bool_()),
            pa.field("evaluation_s", pa.float64(), metadata={"role": "clock", "unit": "s"}),
            pa.field("time_s", pa.float64(), metadata={"role": "clock", "unit": "s"}),
        ]
        self._inherits = problem.simulator.inherits(problem.fidelity)
        if self._inherits:
            fields.append(pa.field("parent", pa.string()))
        several = self._several = "fidelities" in run
        names = [f.name for f in fields] + list(RUN_COLUMNS) + ["seed"] + (["cost"] if several else [])
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ArchGymError(f"column {twice!r} would stand twice in the trials; rename the parameter or metric")
        if several:
            fields += [pa.field("fidelity", pa.dictionary(pa.int32(), pa.string())), pa.field("cost", pa.float64())]
        # A dictionary column of an IPC stream needs the same dictionary in every batch.
        self._dictionaries = [of_texts([str(value) for value in parameter.values]) for parameter in space.parameters]
        self._values = [np.array(p.values) for p in space.parameters]
        self._violations = ["", *(constraint.name for constraint in space.constraints)]
        about_run = {"format": FORMAT, **self.run, "options": self.options}
        try:
            said = json.dumps(about_run, sort_keys=True)
        except (TypeError, ValueError) as error:
            raise ArchGymError(f"what trials would say of the run is not JSON ({quote(error, marks=False)})") from None
        self.schema = pa.schema(fields, metadata={"archgym": said})

    def batch(
        self,
        start: int | NDArray[np.int64],
        designs: Designs,
        evaluation: Evaluation,
        rewards: NDArray[np.float64],
        cached: NDArray[np.bool_],
        evaluation_s: float,
        time_s: float,
        parents: Designs | None = None,
        fidelity: str | None = None,
    ) -> pa.RecordBatch:
        """A record batch of n trials whose first has index ``start``, or whose indices ``(n,)`` it is."""
        n = len(designs)
        index = start if isinstance(start, np.ndarray) else np.arange(start, start + n, dtype=np.int64)
        columns: list[pa.Array] = [of_numbers(index)]
        for j, kind in enumerate(self._types):
            if pa.types.is_dictionary(kind):
                indices = of_numbers(designs[:, j].astype(np.int32))
                columns.append(pa.DictionaryArray.from_arrays(indices, self._dictionaries[j]))
            else:
                columns.append(of_numbers(self._values[j][designs[:, j]], kind))
        for metric in self.problem.metrics:
            columns.append(of_numbers(np.asarray(evaluation.metrics[metric.name], dtype=np.float64)))
        columns.append(of_numbers(evaluation.feasible))
        columns.append(self._violation_column(evaluation))
        columns.append(of_numbers(rewards))
        columns.append(of_numbers(cached))
        columns.append(of_numbers(np.full(n, evaluation_s)))
        columns.append(of_numbers(np.full(n, time_s)))
        if self._inherits:
            rows = [[-1]] * n if parents is None else parents.tolist()
            columns.append(of_texts([" ".join(map(str, row)) if row[0] >= 0 else None for row in rows]))
        if self._several:
            names = list(self._costs)
            at = np.full(n, names.index(fidelity or ""), dtype=np.int32)
            columns.append(pa.DictionaryArray.from_arrays(of_numbers(at), of_texts(names)))
            columns.append(of_numbers(np.where(cached, 0.0, self._costs[fidelity or ""])))
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _violation_column(self, evaluation: Evaluation) -> pa.Array:
        if evaluation.feasible.all():
            codes = np.zeros(len(evaluation), dtype=np.int32)
        else:
            known = {name: code for code, name in enumerate(self._violations)}
            for name in evaluation.violation.tolist():
                if name not in known:
                    known[name] = len(self._violations)
                    self._violations.append(name)
            codes = np.array([known[name] for name in evaluation.violation.tolist()], dtype=np.int32)
        return pa.DictionaryArray.from_arrays(of_numbers(codes), of_texts(self._violations))

    def designs(self, table: pa.Table | pa.RecordBatch) -> Designs:
        """The index rows ``(n, d)`` of a table with this problem's parameter columns."""
        result = np.empty((table.num_rows, self.problem.space.dimension), dtype=np.int64)
        for j, parameter in enumerate(self.problem.space.parameters):
            if parameter.name not in table.schema.names:
                raise ArchGymError(f"the trials lack the column {parameter.name!r} of {self.problem.name}")
            result[:, j] = self._indices(table.column(parameter.name), parameter)
        return result

    def check(self, table: pa.Table | pa.RecordBatch) -> None:
        """Refuse a table whose designs are not of this problem's space; cheaper than :meth:`designs`."""
        for parameter in self.problem.space.parameters:
            if parameter.name not in table.schema.names:
                raise ArchGymError(f"the trials lack the column {parameter.name!r} of {self.problem.name}")
            self._indices(table.column(parameter.name).unique(), parameter)

    def _indices(self, column: pa.ChunkedArray | pa.Array, parameter: Parameter) -> NDArray[np.int64]:
        """Value indices of a parameter's column, whatever its Arrow type."""
        if isinstance(column, pa.ChunkedArray):
            column = column.unify_dictionaries().combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        kind = _parameter_type(parameter)
        # Text columns hold every value as text, also the numbers of a mixed list.
        known = {str(v) if pa.types.is_dictionary(kind) else v: i for i, v in enumerate(parameter.values)}
        words, positions = words_and_positions(column)
        result = np.array([known.get(word, -1) for word in words], dtype=np.int64)[positions]
        if (result < 0).any():
            row = int(np.argmax(result < 0))
            raise ArchGymError(
                f"the trials hold {parameter.name} = {words[positions[row]]!r}, which is not in the space "
                f"{self.problem.simulator.space_name!r} of {self.problem.name}"
            )
        return result

    def evaluation(self, table: pa.Table | pa.RecordBatch) -> Evaluation:
        """The evaluation columns of a table of this problem's trials."""
        metrics = {m.name: to_numbers(table.column(m.name)) for m in self.problem.metrics}
        column = table.column("violation")
        words, positions = words_and_positions(
            column.unify_dictionaries().combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        )
        violation = np.array(words, dtype=object)[positions]
        return Evaluation(metrics, to_numbers(table.column("feasible")), violation)
