"""The SoC simulator behind the contract: batches of index rows -> latency, power, energy, area."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError, UnknownNameError
from archgym.objective import Objective
from archgym.options import Option, options_of
from archgym.reading import own_file
from archgym.simulator import Evaluation, Metric, Simulator, Workload
from archgym.simulators.soc.design import SocDesign
from archgym.simulators.soc.model import Result, evaluate_design
from archgym.simulators.soc.physical import physical_constants
from archgym.simulators.soc.spaces import FullSpace, LimitedSpace
from archgym.simulators.soc.task_graph import BUILTIN, TaskGraph, builtin_combination, combine, read_task_graph
from archgym.svg import svg

MODES = ("farsi", "physical")
COMBINATIONS = tuple(tuple(name for k, name in enumerate(BUILTIN) if mask >> k & 1) for mask in (1, 2, 4, 3, 5, 6, 7))
"""Every set of built-in workloads, each in task order."""


class SocSimulator(Simulator):
    """AR/VR systems on chip: task graphs mapped to processors, accelerators, memories and buses.

    Args:
        space: ``"full"`` or ``"archgym-limited"``.
        mode: ``"farsi"`` reproduces FARSI, faults included; ``"physical"`` corrects them (not validated on silicon).
        physical: constants of the physical mode to replace, by name (see ``data/physical.yaml``).
    """

    name = "soc"
    version = "2"
    spaces = ("full", "archgym-limited")
    combines_workloads = True
    default_objective = "farsi-distance"
    renamed_objectives = MappingProxyType({"archgym-target": "archgym-inverse-distance"})
    default_workload = "edge_detection"
    pareto = ("deadline_ratio", "power_w", "area_mm2")
    """The multi-objective view: how late, how much power, how large."""

    def __init__(
        self,
        space: str | None = None,
        *,
        mode: str = "farsi",
        physical: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(space)
        if mode not in MODES:
            raise UnknownNameError("mode of soc", mode, MODES)
        if physical and mode != "physical":
            raise ArchGymError("physical constants were given but the mode is 'farsi'; add mode='physical'")
        self.mode = mode
        self.constants = physical_constants().override(physical or {}) if mode == "physical" else None
        self._spaces: dict[str, FullSpace | LimitedSpace] = {}
        self._compiled: dict[str, tuple[Any, Any, Any]] = {}

    # --- workloads ---------------------------------------------------------------------------------------------

    def workloads(self) -> Mapping[str, Workload]:
        return _Builtin()

    def load_workload(self, name: str, **options: Any) -> TaskGraph:
        """A built-in task graph, a combination of them (names joined with ``+``, or ``all``), ``file:PATH`` (YAML;
        also as a part of a combination), or ``generated`` with the options of
        :func:`~archgym.simulators.soc.generator.generate`."""
        if name == "generated":
            from archgym.simulators.soc.generator import generate

            return generate(**options)
        if options:
            raise ArchGymError(
                f"only the workload 'generated' takes options, not {name!r}; leave {next(iter(options))!r} out"
            )
        path = own_file(name)
        if path is not None and path.exists():
            return read_task_graph(path)
        parts = list(BUILTIN) if name == "all" else name.split("+")
        if len(set(parts)) != len(parts):
            raise ArchGymError(f"the combination {name!r} names a workload twice; name each once")
        known = tuple(part for part in BUILTIN if part in parts)
        for part in parts:
            if part not in BUILTIN and own_file(part) is None:
                raise UnknownNameError("workload of soc", part, [*BUILTIN, "all", "generated"])
        if len(known) == len(parts):
            return builtin_combination(known)
        own = [read_task_graph(path) for part in parts if (path := own_file(part)) is not None]
        return combine([*(builtin_combination((part,)) for part in known), *own])

    def workload_options(self, name: str) -> Mapping[str, Option]:
        from archgym.simulators.soc.generator import generate

        return options_of(generate) if name == "generated" else {}

    @classmethod
    def option_values(cls) -> Mapping[str, Any]:
        return {"mode": MODES}

    def read_workload(self, path: Path, **options: Any) -> TaskGraph:
        return self.load_workload(f"file:{path}", **options)

    # --- space -------------------------------------------------------------------------------------------------

    def space(self, workload: Workload) -> FullSpace | LimitedSpace:
        graph = _task_graph(workload)
        key = graph.fingerprint
        if key not in self._spaces:
            if self.space_name == "full":
                self._spaces[key] = FullSpace(graph)
            else:
                self._spaces[key] = LimitedSpace(graph, tree=self.mode == "physical")
        return self._spaces[key]

    # --- metrics -----------------------------------------------------------------------------------------------

    @property
    def metrics(self) -> tuple[Metric, ...]:  # type: ignore[override]
        """The metrics that every workload has."""
        return self._metrics(())

    def metrics_for(self, workload: Workload) -> tuple[Metric, ...]:
        return self._metrics(tuple(part.name for part in _task_graph(workload).parts))

    def _metrics(self, parts: tuple[str, ...]) -> tuple[Metric, ...]:
        die = self.mode == "physical"
        common = [Metric(f"latency_{part}_s", "s", "min", f"completion of the last task of {part}") for part in parts]
        common += [
            Metric(
                "deadline_ratio", "1", "min", "largest latency over its budget; at most 1 where all deadlines are met"
            ),
            Metric("power_w", "W", "min", "highest average power over a window of 10 ms"),
            Metric("energy_j", "J", "min", "energy of one run of all applications"),
            Metric("area_mm2", "mm2", "min", "area on the die" if die else "area of all blocks, DRAM included"),
            Metric("dram_area_mm2", "mm2", "min", "area of the DRAM arrays" + (", not on the die" if die else "")),
            Metric(
                "other_area_mm2",
                "mm2",
                "min",
                "area of everything but DRAM" + (", its interface included" if die else ""),
            ),
            Metric("phases", "1", "none", "phases of the schedule"),
        ]
        if die:
            common.append(Metric("deadline_power_w", "W", "min", "energy over the longest latency budget"))
        return tuple(common)

    # --- evaluation --------------------------------------------------------------------------------------------

    def evaluate(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Evaluation:
        """Evaluate designs (int64 ``(n, d)``); deterministic, fidelity and seed are ignored."""
        graph = _task_graph(workload)
        space = self.space(graph)
        rows = space.check(designs)
        violation = space.violations(rows)
        raw = self._evaluate_rows(rows, graph, np.asarray(violation == "", dtype=bool))
        columns = self._columns(raw, graph)
        if self.constants is not None:
            too_large = (violation == "") & (columns["other_area_mm2"] > self.constants.die_area_mm2)
            violation[too_large] = "die_area"
        return Evaluation.build(columns, violation, count=len(rows))

    def _evaluate_rows(
        self, rows: NDArray[np.int64], graph: TaskGraph, valid: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        from archgym.simulators.soc import compiled
        from archgym.simulators.soc.kernels import model as kernel

        space = self.space(graph)
        key = graph.fingerprint
        if key not in self._compiled:
            self._compiled[key] = (
                compiled.layout(space),
                compiled.graph_arrays(graph),
                compiled.tables(graph, self.constants),
            )
        layout, arrays, tables = self._compiled[key]
        out = np.empty((len(rows), len(graph.parts) + 6))
        kernel.evaluate_rows(rows, valid, layout, arrays, tables, self.mode == "physical", out)
        return out

    def _columns(self, raw: NDArray[np.float64], graph: TaskGraph) -> dict[str, NDArray[np.float64]]:
        count = len(graph.parts)
        columns = {f"latency_{part.name}_s": raw[:, i] for i, part in enumerate(graph.parts)}
        budgets = np.array([part.latency_budget_s for part in graph.parts])
        columns["deadline_ratio"] = (raw[:, :count] / budgets).max(axis=1, initial=0.0)
        columns["power_w"], columns["energy_j"] = raw[:, count], raw[:, count + 1]
        for i, name in enumerate(("area_mm2", "dram_area_mm2", "other_area_mm2")):
            columns[name] = raw[:, count + 2 + i] * 1e6
        columns["phases"] = raw[:, count + 5]
        if self.mode == "physical":
            columns["deadline_power_w"] = columns["energy_j"] / budgets.max()
        return columns

    # --- explicit designs --------------------------------------------------------------------------------------

    def explicit(self, design: ArrayLike, workload: Workload) -> SocDesign:
        """The explicit design of one index row: its blocks, links and mapping."""
        return self.space(_task_graph(workload)).explicit(np.asarray(design, dtype=np.int64))

    def violation(self, design: SocDesign, workload: Workload) -> str:
        """Name of the rule an explicit design breaks (see ``design.CONSTRAINTS``), empty where it is valid."""
        return design.violation(_task_graph(workload), tree=self.mode == "physical")

    def evaluate_explicit(self, designs: list[SocDesign], workload: Workload) -> Evaluation:
        """Evaluate explicit designs, with any connected graph of buses, by the readable model (milliseconds each)."""
        graph = _task_graph(workload)
        count = len(graph.parts)
        raw = np.full((len(designs), count + 6), np.nan)
        violation = np.full(len(designs), "", dtype=object)
        for i, design in enumerate(designs):
            violation[i] = self.violation(design, graph)
            if not violation[i]:
                result = evaluate_design(design, graph, self.mode, self.constants)
                raw[i] = result_row(result)
        columns = self._columns(raw, graph)
        if self.constants is not None:
            violation[(violation == "") & (columns["other_area_mm2"] > self.constants.die_area_mm2)] = "die_area"
        return Evaluation.build(columns, violation, count=len(designs))

    def trace(self, design: ArrayLike | SocDesign, workload: Workload) -> Result:
        """The whole schedule of one valid design, phase by phase; see :class:`~archgym.simulators.soc.model.Result`."""
        graph = _task_graph(workload)
        explicit = design if isinstance(design, SocDesign) else self.explicit(design, graph)
        broken = self.violation(explicit, graph)
        if broken:
            raise ArchGymError(f"the design breaks {broken!r} and has no schedule; choose a valid one")
        return evaluate_design(explicit, graph, self.mode, self.constants)

    # --- objectives --------------------------------------------------------------------------------------------

    def pictures(self, design: ArrayLike, workload: Workload) -> list[tuple[str, str, str]]:
        """Block diagram and schedule of a design for reports: title, sentence and SVG of each."""
        from archgym.simulators.soc.pictures import draw

        graph = _task_graph(workload)
        row = self.space(workload).check(design)[0]
        if not self.evaluate(row, workload).feasible[0]:
            return []
        explicit = self.explicit(row, graph)
        result = self.trace(explicit, graph)
        drawn = []
        for title, sentence, parts in (
            (
                "Block diagram",
                "Processing elements, buses and memories of the best design with their tasks.",
                (True, False),
            ),
            ("Schedule", "Tasks over processing elements; the lines are the phases of the simulation.", (False, True)),
        ):
            figure = draw(explicit, graph, result, diagram=parts[0], gantt=parts[1])
            drawn.append((title, sentence, svg(figure)))
        return drawn

    def objectives(self, workload: Workload) -> Mapping[str, Objective]:
        from archgym.simulators.soc.objectives import objectives

        return objectives(_task_graph(workload), self.mode)


def result_row(result: Result) -> NDArray[np.float64]:
    """A result of the readable model as the kernel's output row."""
    return np.array(
        [
            *result.latency_s,
            result.power_w,
            result.energy_j,
            result.area_m2,
            result.dram_area_m2,
            result.other_area_m2,
            len(result.phases),
        ]
    )


def _task_graph(workload: Workload) -> TaskGraph:
    if not isinstance(workload, TaskGraph):
        raise ArchGymError(f"{getattr(workload, 'name', workload)!r} is no task graph; load it with the soc simulator")
    return workload


class _Builtin(Mapping[str, Workload]):
    """The built-in task graphs and their combinations, loaded when first asked for."""

    _names: ClassVar[dict[str, tuple[str, ...]]] = {
        **{"+".join(names): names for names in COMBINATIONS},
        "all": BUILTIN,
    }

    def __getitem__(self, name: str) -> TaskGraph:
        graph = builtin_combination(tuple(self._names[name]))
        return graph

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
