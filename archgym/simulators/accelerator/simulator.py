"""The accelerator problem: a hardware design runs a network, every layer with the best mapping the mapper finds."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError
from archgym.networks import Network, network
from archgym.networks.layers import Layer
from archgym.networks.simulator import NetworkSimulator
from archgym.objective import Budget, Budgets, InverseCost, LogRatio, Objective, Term, log_ratio
from archgym.reading import own_file
from archgym.simulator import Evaluation, Metric, Workload
from archgym.simulators.accelerator import hardware, loopnest, mapper
from archgym.simulators.accelerator.components import technologies
from archgym.simulators.accelerator.components import technology as library
from archgym.space import DesignSpace

_OLD_TABLES = "archgym-45nm"
_TARGETS_OF_ARCHGYM = {"energy_uj": 29206 * 0.70, "area_mm2": 2.03 * 0.85, "latency_ms": 7.885704 * 0.80}
_TARGET_SHARES = {"energy_uj": 0.70, "area_mm2": 0.85, "latency_ms": 0.80}
_DESIGNS_AT_ONCE = 2048
_COSTS = {"effort1": 0.36, "effort2": 1.0, "effort3": 8.0}
"""Time of a mapper effort against the default's: the geometric means over resnet18 and mobilenet_v2."""


class AcceleratorSimulator(NetworkSimulator):
    """Search for the hardware of a DNN accelerator.

    Args:
        space: ``archgym``, the 26 parameters of ArchGym's Timeloop environment with every value, or ``reduced``, nine
            of them with a few values each (20,736 designs), where the optimum is known.
        technology: component library, see :mod:`.components`; ``file:PATH`` for one of the user's own.
        mapper_goal: what the mapper minimises for every layer: ``edp``, ``energy`` or ``delay``.
        dram_bandwidth: words a cycle of main memory each way; None = unlimited, as in ArchGym.
        cycle_ns: cycle time. It leaves the energy of each action as it is (the voltage is the technology's); leakage is a
            power, the technology's pJ a cycle of one nanosecond, and grows with the time.
        archgym_compat: count 14 dummy buffers whatever the mesh, as ArchGym does, instead of one a column.

    Fidelities are mapper efforts. Violation: ``no_mapping`` (no mapping of some layer fits the buffers).
    """

    name = "accelerator"
    version = "2"
    spaces = ("archgym", "reduced")
    fidelities = ("effort2", "effort1", "effort3")
    default_objective = "edp"
    renamed_objectives = MappingProxyType({"archgym-target": "targets"})
    default_workload = "resnet18"
    pareto = ("energy_uj", "latency_cycles", "area_mm2")
    metrics = (
        Metric("energy_uj", "uJ", "min", "MACs, accesses to every level and leakage, all layers"),
        Metric("latency_cycles", "cycles", "min", "all layers one after the other"),
        Metric("latency_ms", "ms", "min", "the same at the cycle time"),
        Metric("edp_uj_ms", "uJ*ms", "min", "energy-delay product"),
        Metric("area_mm2", "mm2", "min", "MACs and buffers, used or not"),
        Metric("utilization", "", "max", "multiply-accumulates a cycle and element, 1 at best"),
        Metric("power_w", "W", "min", "energy over latency"),
    )

    def __init__(
        self,
        space: str | None = None,
        *,
        technology: str = "accelergy-45nm",
        mapper_goal: mapper.Goal = "edp",
        dram_bandwidth: float | None = None,
        cycle_ns: float = 1.0,
        archgym_compat: bool = False,
    ) -> None:
        super().__init__(space)
        mapper.goal_code(mapper_goal)
        for value, what in ((dram_bandwidth, "dram_bandwidth"), (cycle_ns, "cycle_ns")):
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0):
                raise ArchGymError(f"{what} is {value!r}; expected a positive number")
        self.library = library(technology)
        self.mapper_goal = mapper_goal
        self.dram_bandwidth = np.inf if dram_bandwidth is None else float(dram_bandwidth)
        self.cycle_ns = float(cycle_ns)
        self.archgym_compat = bool(archgym_compat)
        self._space = hardware.design_space(self.library, self.space_name)
        self._base: dict[tuple[str, str], dict[str, float]] = {}

    @property
    def settings(self) -> dict[str, Any]:
        given = super().settings
        if own_file(str(given.get("technology", ""))) is not None:
            given["technology"] = f"sha256:{self.library.fingerprint}"
        return given

    @classmethod
    def option_values(cls) -> Mapping[str, Any]:
        return {"technology": technologies()}

    # --- design space ----------------------------------------------------------------------------------------------

    def space(self, workload: Workload) -> DesignSpace:
        return self._space

    # --- evaluation ------------------------------------------------------------------------------------------------

    def relative_cost(self, workload: Workload, fidelity: str | None = None) -> float:
        """Measured, see docs/performance.md; between networks the ratios differ by some tens of per cent."""
        return _COSTS[fidelity or self.fidelities[0]]

    def cheaper_fidelities(self, workload: Workload, fidelity: str | None = None) -> tuple[str, ...]:
        cost = self.relative_cost(workload, fidelity)
        return tuple(name for name in sorted(self.fidelities) if _COSTS[name] < cost)

    def evaluate(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Evaluation:
        network = self.check_network(workload).merged()
        rows = self._space.check(designs)
        if not len(rows):
            return self.evaluate(np.zeros((1, self._space.dimension), dtype=np.int64), workload).take(slice(0, 0))
        parts = [
            self._evaluate_values(self._values(rows[i : i + _DESIGNS_AT_ONCE]), network, fidelity)
            for i in range(0, len(rows), _DESIGNS_AT_ONCE)
        ]
        return Evaluation.concatenate(parts)

    def _values(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """All 26 parameters by value; those that the space leaves out are as in ArchGym's starting point."""
        columns = self._space.columns(rows)
        fixed = {name: np.full(len(rows), value) for name, value in hardware.BASE_DESIGN.items()}
        return {**fixed, **columns}

    def evaluate_values(
        self, values: Mapping[str, ArrayLike], workload: Workload, *, fidelity: str | None = None
    ) -> Evaluation:
        """Evaluate hardware given by values instead of indices, also outside the space (name -> array of length n);
        ``hardware.BASE_DESIGN`` is one such."""
        columns = {name: np.atleast_1d(np.asarray(values[name])) for name in hardware.BASE_DESIGN}
        return self._evaluate_values(columns, self.check_network(workload).merged(), fidelity)

    def _evaluate_values(
        self, columns: Mapping[str, NDArray[Any]], network: Network, fidelity: str | None
    ) -> Evaluation:
        table, area = self._table(columns)
        count = len(table)
        # Designs that differ in nothing the mapper sees are searched once.
        unique, back = np.unique(table, axis=0, return_inverse=True)
        energy, cycles, found, _ = self._run(unique, network, fidelity)
        repeats = np.array([layer.count for layer in network.layers], dtype=np.float64)
        fits: NDArray[np.bool_] = np.asarray(found.all(axis=1))
        total_pj = np.where(fits, (energy * repeats).sum(axis=1), np.nan)[back.reshape(-1)]
        total_cycles = np.where(fits, (cycles * repeats).sum(axis=1), np.nan)[back.reshape(-1)]
        violation = np.full(count, "", dtype=object)
        violation[~fits[back.reshape(-1)]] = "no_mapping"
        latency_ms = total_cycles * self.cycle_ns * 1e-6
        energy_uj = total_pj * 1e-6
        elements = table[:, hardware.MESH_X] * table[:, hardware.MESH_Y]
        metrics = {
            "energy_uj": energy_uj,
            "latency_cycles": total_cycles,
            "latency_ms": latency_ms,
            "edp_uj_ms": energy_uj * latency_ms,
            "area_mm2": area,
            "utilization": network.macs / (total_cycles * elements),
            "power_w": energy_uj / latency_ms * 1e-3,
        }
        return Evaluation.build(metrics, violation)

    def _table(self, columns: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        table, area = hardware.hardware_table(
            columns, self.library, dram_bandwidth=self.dram_bandwidth, dummy_buffers=14 if self.archgym_compat else 0
        )
        table[:, [hardware.LEAK_G, hardware.LEAK_X, hardware.LEAK_PE]] *= self.cycle_ns
        return table, area

    def _run(
        self, table: NDArray[np.float64], network: Network, fidelity: str | None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_], mapper.Mappings]:
        """Energy, cycles and success of every layer on every hardware, each ``(n, layers)``, and the mappings."""
        n, m = len(table), len(network.layers)
        layer_of = np.tile(np.arange(m), n)
        hardware_of = np.repeat(np.arange(n), m)
        effort = mapper.EFFORTS[fidelity or self.fidelities[0]]
        mappings = mapper.find_mappings(
            network.layers, table, layer_of, hardware_of, goal=self.mapper_goal, effort=effort, cache=mapper.OPTIONS
        )
        costs = mapper.evaluate_mappings(mappings, network.layers, table, layer_of, hardware_of)
        found = mappings.found & (costs.verdict == 0)
        return costs.energy_pj.reshape(n, m), costs.cycles.reshape(n, m), found.reshape(n, m), mappings

    def nests(
        self, design: ArrayLike, workload: Workload, *, fidelity: str | None = None
    ) -> tuple[loopnest.Architecture, list[tuple[Layer, loopnest.Mapping | None]]]:
        """The hardware of one design and every distinct layer with its best mapping on it, None where nothing fits."""
        network = self.check_network(workload).merged()
        rows = self._space.check(design)
        if len(rows) != 1:
            raise ArchGymError(f"one design has one hardware, and {len(rows)} were given; call it once a design")
        columns = self._values(rows)
        table, _ = self._table(columns)
        _, _, found, mappings = self._run(table, network, fidelity)
        areas = {name: float(area[0]) for name, area in hardware.areas_um2(columns, self.library).items()}
        return hardware.architecture(table[0], areas, self.cycle_ns), [
            (layer, mappings.mapping(i) if found[0, i] else None) for i, layer in enumerate(network.layers)
        ]

    def layer_details(
        self, design: ArrayLike, workload: Workload, *, fidelity: str | None = None
    ) -> list[dict[str, Any]]:
        """One design layer by layer: energy, cycles, utilization of one run, repeats, energy by level and tensor, and
        the mapping as text."""
        machine, nests = self.nests(design, workload, fidelity=fidelity)
        details = []
        for layer, mapping in nests:
            row: dict[str, Any] = {"layer": layer.name, "count": layer.count, "macs": layer.macs}
            if mapping is None:
                details.append({**row, "violation": "no_mapping"})
                continue
            result = loopnest.evaluate(loopnest.Problem.from_layer(layer), machine, mapping)
            by_place = {
                f"{level.name}/{tensor}": float(result.energy_pj[b, t]) * 1e-6
                for b, level in enumerate(machine.levels)
                for t, tensor in enumerate(("W", "I", "O"))
                if mapper.KEEP[b, t]
            }
            details.append(
                {
                    **row,
                    "violation": result.violation,
                    "energy_uj": result.total_pj * 1e-6,
                    "latency_cycles": result.cycles,
                    "utilization": result.utilization,
                    "mac_uj": result.mac_pj * 1e-6,
                    "leakage_uj": float(result.leakage_pj.sum()) * 1e-6,
                    "energy_uj_by_place": by_place,
                    "mapping": mapping.text(machine),
                }
            )
        return details

    def pictures(self, design: ArrayLike, workload: Workload) -> list[tuple[str, str, str]]:
        """The energy of a design by layer, level and tensor, for reports: title, sentence and SVG."""
        from archgym.simulators.accelerator.breakdown import draw

        details = self.layer_details(design, workload)
        if any("energy_uj_by_place" not in row for row in details):
            return []
        sentence = (
            "Energy of the best design: one bar a layer, parts by storage level and tensor (W, I, O), MAC and leakage."
        )
        return [("Energy breakdown", sentence, draw(details))]

    # --- objectives ------------------------------------------------------------------------------------------------

    def base_metrics(self, workload: Workload, fidelity: str | None = None) -> Mapping[str, float]:
        """Metrics of ArchGym's starting point, by our own model."""
        key = (workload.fingerprint, fidelity or self.fidelities[0])
        if key not in self._base:
            values = {name: np.array([value]) for name, value in hardware.BASE_DESIGN.items()}
            evaluation = self.evaluate_values(values, workload, fidelity=fidelity)
            self._base[key] = {name: float(column[0]) for name, column in evaluation.metrics.items()}
        return self._base[key]

    def targets(self, workload: Workload) -> Mapping[str, float]:
        """ArchGym's targets. Its figures (20444.2 uJ, 1.7255 mm2, 6.3085632 ms) belong to the older tables and to
        AlexNet's five ungrouped convolutions; elsewhere the same shares (0.70, 0.85, 0.80) of the base design."""
        alexnet = network("archgym_alexnet")
        if self.library.name == _OLD_TABLES and workload.fingerprint == alexnet.fingerprint and self.cycle_ns == 1.0:
            return dict(_TARGETS_OF_ARCHGYM)
        base = self.base_metrics(workload)
        return {name: share * base[name] for name, share in _TARGET_SHARES.items()}

    def objectives(self, workload: Workload) -> Mapping[str, Objective]:
        """``latency``, ``energy``, ``edp``, ``area`` and ``edap`` as log ratios; ``targets``: minus the sum over energy,
        area and latency of the relative excess over ArchGym's targets, and where all are met the product of the three
        ratios decides; ``archgym-inverse-excess``: ArchGym's own 1 / that sum, flat where all are met."""

        def ratio(name: str, *metrics: str) -> LogRatio:
            return log_ratio(self, workload, metrics, name)

        targets = self.targets(workload)
        budgets = [Budget(name, target) for name, target in targets.items()]
        excess = "minus the relative excess over ArchGym's targets: " + ", ".join(
            f"{name} {target:.6g}" for name, target in targets.items()
        )
        return {
            "latency": ratio("latency", "latency_cycles"),
            "energy": ratio("energy", "energy_uj"),
            "edp": ratio("edp", "energy_uj", "latency_cycles"),
            "area": ratio("area", "area_mm2"),
            "edap": ratio("edap", "energy_uj", "latency_cycles", "area_mm2"),
            "targets": Budgets(
                budgets,
                LogRatio([Term(name, target) for name, target in targets.items()]),
                name="targets",
                description=excess,
            ),
            # 1500: what ArchGym's environment takes for the cost of a design without a mapping.
            "archgym-inverse-excess": InverseCost(
                Budgets(budgets, description=excess), "archgym-inverse-excess", penalty=-1500.0
            ),
        }
