"""The co-design problem: a neural cell and the systolic array that runs its network, searched together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError
from archgym.objective import Budget, Constrained, LogRatio, Objective, Term, log_ratio
from archgym.options import Option
from archgym.reading import own_file
from archgym.simulator import Evaluation, Live, Metric, Simulator, Workload, remembered
from archgym.simulators.codesign.cost import TERMS, added_words, term_counts, term_networks
from archgym.simulators.nas.macro import Macro, macro
from archgym.simulators.nas.simulator import NasSimulator
from archgym.simulators.nas.workload import NasWorkload
from archgym.simulators.systolic.simulator import SystolicSimulator, array_parameters
from archgym.space import Constraint, Designs, DesignSpace, Mask, SubSpace

EDGES = 6
REDUCED = {
    "array_rows": [8, 16, 32],
    "array_columns": [8, 16, 32],
    "ifmap_sram_kb": [16],
    "filter_sram_kb": [16, 64],
    "ofmap_sram_kb": [16],
    "bandwidth": [2, 16],
}
"""Hardware of the space ``reduced``: small enough for the exact Pareto front."""


class CoDesignSimulator(Simulator):
    """A cell of NAS-Bench-201's space and a systolic array.

    The accuracy comes from the cell simulator (its fidelities hold here), latency and energy from the systolic
    simulator through the additive look-up of :mod:`archgym.simulators.codesign.cost`, the area from the array.

    Args:
        space: ``full`` (8.2e9 designs) or ``reduced`` (1,687,500, with a known exact Pareto front).
        clock_ghz: cycles a nanosecond; what it means for energy, the systolic simulator says.

    Violations: those of the systolic simulator and of the cell table.
    """

    name = "codesign"
    version = "2"
    spaces = ("full", "reduced")
    fidelities = NasSimulator.fidelities
    default_objective = "accuracy-under-budgets"
    default_workload = "nb201-mnist1d-v2"
    pareto = ("accuracy_percent", "latency_ms", "energy_uj")
    metrics = (
        Metric("accuracy_percent", "%", "max", "accuracy of the cell's network under the fidelity in force"),
        Metric("latency_cycles", "cycles", "min", "one inference, layer after layer, additions included"),
        Metric("latency_ms", "ms", "min", "the same at the array's clock"),
        Metric("energy_uj", "uJ", "min", "one inference"),
        Metric("area_mm2", "mm2", "min", "array and SRAMs"),
        Metric("parameters", "", "min", "trainable parameters of the network"),
        Metric("macs", "", "min", "multiply-accumulates of one forward pass"),
    )

    def __init__(self, space: str | None = None, *, clock_ghz: float = 1.0) -> None:
        super().__init__(space)
        self.nas = NasSimulator()
        self.hardware = SystolicSimulator(clock_ghz=clock_ghz)
        full = self.hardware.space(self.hardware.load_workload("resnet18"))
        self.hardware_space: DesignSpace = full if self.space_name == "full" else full.restrict(REDUCED)
        self._spaces: dict[str, DesignSpace] = {}

    # --- workloads -------------------------------------------------------------------------------------------------

    def workloads(self) -> Mapping[str, Workload]:
        known = self.nas.workloads()
        return {name: w for name, w in known.items() if isinstance(w, NasWorkload) and w.plain_cells}

    def workload_groups(self) -> Mapping[str, tuple[str, ...]]:
        return self.nas.workload_groups()

    def live(self, workload: Workload, fidelity: str | None = None) -> Live | None:
        return self.nas.live(workload, fidelity)

    def load_workload(self, name: str, **options: Any) -> Workload:
        """A workload of the cell simulator by name, or ``file:PATH`` of a table of your own, with its options."""
        if own_file(name) is None and name not in self.workloads():
            return super().load_workload(name, **options)
        return self.nas.load_workload(name, **options)

    def workload_options(self, name: str) -> Mapping[str, Option]:
        return self.nas.workload_options(name)

    def read_workload(self, path: Path, **options: Any) -> Workload:
        return self.nas.read_workload(path, **options)

    def space(self, workload: Workload) -> DesignSpace:
        if "all" not in self._spaces:
            cell = self.nas.space(_cells(workload))
            hardware = self.hardware_space
            rules = [Constraint(r.name, r.sentence, _of_hardware(r.satisfied)) for r in hardware.constraints]
            self._spaces["all"] = DesignSpace([*cell.parameters, *hardware.parameters], rules)
        return self._spaces["all"]

    # --- evaluation ------------------------------------------------------------------------------------------------

    def check_fidelity(self, workload: Workload, fidelity: str | None) -> None:
        self.nas.check_fidelity(workload, fidelity)
        if self.nas.inherits(fidelity):
            raise ArchGymError("codesign inherits from no parent design; choose train:inherit=supernet or nas/...")

    def relative_cost(self, workload: Workload, fidelity: str | None = None) -> float:
        """That of the cell's accuracy, beside which the cost model of the array takes no time."""
        return self.nas.relative_cost(workload, fidelity)

    def cheaper_fidelities(self, workload: Workload, fidelity: str | None = None) -> tuple[str, ...]:
        return self.nas.cheaper_fidelities(workload, fidelity)

    def noisy(self, workload: Workload, fidelity: str | None = None) -> bool:
        return self.nas.noisy(workload, fidelity)

    def evaluate(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Evaluation:
        cell_workload = _cells(workload)
        space = self.space(workload)
        array = space.check(designs)
        cell = self.nas.evaluate(np.ascontiguousarray(array[:, :EDGES]), workload, fidelity=fidelity, seed=seed)
        hardware, inverse = np.unique(array[:, EDGES:], axis=0, return_inverse=True)
        costs = self.term_costs(hardware, macro(cell_workload.macro_name))
        counts = term_counts(array[:, :EDGES]).astype(np.float64)
        rows = inverse.reshape(-1)
        cycles = (counts * costs["latency_cycles"][rows]).sum(axis=1)
        metrics = {
            "accuracy_percent": cell.metrics["accuracy_percent"],
            "latency_cycles": cycles,
            "latency_ms": cycles / (self.hardware.clock_ghz * 1e6),
            "energy_uj": (counts * costs["energy_uj"][rows]).sum(axis=1),
            "area_mm2": costs["area_mm2"][rows],
            "parameters": cell.metrics["parameters"],
            "macs": cell.metrics["macs"],
        }
        violation = space.violations(array)
        violation = np.where(violation == "", cell.violation, violation)
        return Evaluation.build(metrics, violation)

    def term_costs(self, hardware: Designs, skeleton: Macro) -> dict[str, NDArray[np.float64]]:
        """The look-up: ``latency_cycles`` and ``energy_uj`` of each term, ``(n, 5)``, and ``area_mm2`` ``(n,)``, for
        hardware designs ``(n, h)`` of ``hardware_space``."""
        full = self.hardware_space.lift(hardware) if isinstance(self.hardware_space, SubSpace) else hardware
        space = self.hardware.space(self.hardware.load_workload("resnet18"))
        n = len(full)
        cycles, energy = np.empty((n, len(TERMS))), np.empty((n, len(TERMS)))
        area = np.empty(n)
        for k, network in enumerate(term_networks(skeleton).values()):
            # A design whose buffers do not hold a tile has no cost; the space's rule names it.
            evaluation = self.hardware.evaluate(full, network)
            cycles[:, k] = evaluation.metrics["latency_cycles"]
            energy[:, k] = evaluation.metrics["energy_uj"]
            area = evaluation.metrics["area_mm2"]
        arrays = array_parameters(space, full)
        words = added_words(skeleton)
        # One addition a column and cycle; two operands and the sum go through the output SRAM.
        sums = np.zeros((n, 8))
        sums[:, 0] = np.ceil(words / arrays[:, 1])
        sums[:, 4] = 3 * words
        added = self.hardware.metrics_of(arrays, sums, 0.0)
        cycles[:, 4], energy[:, 4] = added["latency_cycles"], added["energy_uj"]
        return {"latency_cycles": cycles, "energy_uj": energy, "area_mm2": area}

    # --- objectives ------------------------------------------------------------------------------------------------

    def objectives(self, workload: Workload) -> Mapping[str, Objective]:
        """``accuracy-under-budgets`` (latency, energy and area at most half their reference values), ``accuracy``,
        ``edp`` and ``accuracy-edp`` (accuracy to the tenth power against the energy-delay product)."""
        reference = self.references(workload)
        accuracy = LogRatio([Term("accuracy_percent", reference["accuracy_percent"], -1.0)], "accuracy")
        budgets = [Budget(name, 0.5 * reference[name]) for name in ("latency_ms", "energy_uj", "area_mm2")]
        both = [
            Term("accuracy_percent", reference["accuracy_percent"], -1.0, 10.0),
            Term("latency_ms", reference["latency_ms"]),
            Term("energy_uj", reference["energy_uj"]),
        ]
        return {
            "accuracy-under-budgets": Constrained(accuracy, budgets, "accuracy-under-budgets"),
            "accuracy": accuracy,
            "edp": log_ratio(self, workload, ["latency_ms", "energy_uj"], "edp"),
            "accuracy-edp": LogRatio(both, "accuracy-edp"),
        }

    @remembered
    def references(self, workload: Workload) -> Mapping[str, float]:
        """Medians over the feasible among 1,024 uniform designs with seed 0: a table that is not complete leaves too
        few of 64. Where there is no table no network is trained for it: the accuracy's reference is then 100."""
        space = self.space(workload)
        trained = self.live(workload) is not None
        evaluation = self.evaluate(space.sample(1024, 0), workload, fidelity="formula" if trained else None, seed=0)
        result = {}
        for metric in self.metrics:
            column = evaluation.metrics[metric.name][evaluation.feasible]
            result[metric.name] = float(np.median(column)) if len(column) else 1.0
        return result | {"accuracy_percent": 100.0} if trained else result


def exact_front(simulator: CoDesignSimulator, workload: Workload, fidelity: str | None = None) -> NDArray[np.float64]:
    """The exact Pareto front of the ``reduced`` space in the losses (-accuracy_percent, latency_ms, energy_uj),
    ``(m, 3)`` sorted; found by enumeration.

    Cells with equal term counts cost the same on every array, so that only the most accurate of them matters.
    """
    if simulator.space_name != "reduced":
        raise ArchGymError("the exact front is known for the space 'reduced' only; make the simulator with it")
    from archgym.simulators.nas import cells

    rows = cells.all_rows()
    accuracy = simulator.nas.evaluate(rows, workload, fidelity=fidelity, seed=0).metrics["accuracy_percent"]
    counts = term_counts(rows)
    kinds, inverse = np.unique(counts, axis=0, return_inverse=True)
    best = np.full(len(kinds), -np.inf)
    np.maximum.at(best, inverse.reshape(-1), np.where(np.isnan(accuracy), -np.inf, accuracy))
    kinds, best = kinds[np.isfinite(best)].astype(np.float64), best[np.isfinite(best)]
    hardware = simulator.hardware_space.unrank(np.arange(simulator.hardware_space.size))
    hardware = hardware[simulator.hardware_space.violations(hardware) == ""]
    costs = simulator.term_costs(hardware, macro(_cells(workload).macro_name))
    latency = kinds @ costs["latency_cycles"].T / (simulator.hardware.clock_ghz * 1e6)
    energy = kinds @ costs["energy_uj"].T
    losses = np.stack([np.repeat(-best, len(hardware)), latency.ravel(), energy.ravel()], axis=1)
    losses = np.unique(losses, axis=0)
    front: list[NDArray[np.float64]] = []
    for point in losses:
        # In lexicographic order only earlier points can dominate.
        if not front or not (np.array(front) <= point).all(axis=1).any():
            front.append(point)
    return np.array(front)


def _of_hardware(rule: Callable[[Designs], Mask]) -> Callable[[Designs], Mask]:
    """A rule on hardware designs as a rule on whole designs."""
    return lambda designs: rule(designs[:, EDGES:])


def _cells(workload: Workload) -> NasWorkload:
    if not isinstance(workload, NasWorkload) or not workload.plain_cells:
        raise ArchGymError(f"codesign works on a workload of nb201 cells, not on {workload.name!r}")
    return workload
