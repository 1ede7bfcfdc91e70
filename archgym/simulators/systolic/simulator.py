"""The systolic-array problem: shape, dataflow, buffers and bandwidth of an array that runs a network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError
from archgym.networks.layers import DIMS, Network
from archgym.networks.simulator import NetworkSimulator
from archgym.objective import LogRatio, Objective, log_ratio
from archgym.simulator import Evaluation, Metric, Workload
from archgym.space import Constraint, Designs, DesignSpace, Parameter

DATAFLOWS = ("ws", "os", "is")


@cache
def technology() -> dict[str, Any]:
    """Energies, areas and word sizes, from the package's ``technology.json``."""
    text = resources.files(__package__).joinpath("technology.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


class SystolicSimulator(NetworkSimulator):
    """Search for a systolic array for a network.

    Args:
        space: ``default`` (powers of two, 526,848 designs, enumerable as a whole) or ``fine`` (rows and columns in
            steps of four).
        clock_ghz: cycles a nanosecond. A faster clock leaves the energy of each action as it is (the voltage is the
            technology's) and leaks for a shorter time.

    Violation: ``stationary-overflow`` (half of the stationary operand's SRAM does not hold one tile of it).
    """

    name = "systolic"
    version = "2"
    spaces = ("default", "fine")
    default_objective = "edp"
    default_workload = "resnet18"
    pareto = ("latency_cycles", "energy_uj", "area_mm2")
    metrics = (
        Metric("latency_cycles", "cycles", "min", "run time of the network, stalls included"),
        Metric("latency_ms", "ms", "min", "run time at the array's clock"),
        Metric("energy_uj", "uJ", "min", "multiply-accumulates, registers, SRAM, DRAM and leakage"),
        Metric("edp_uj_ms", "uJ*ms", "min", "energy-delay product"),
        Metric("area_mm2", "mm2", "min", "array and SRAMs"),
        Metric("utilization", "", "max", "multiply-accumulates a cycle and element, 1 at best"),
        Metric("mapping_efficiency", "", "max", "share of the array that the folds occupy, weighted by cycles"),
        Metric("stall_cycles", "cycles", "min", "cycles spent waiting for DRAM"),
        Metric("sram_accesses", "words", "min", "reads and writes of the three SRAMs"),
        Metric("dram_words", "words", "min", "words to and from DRAM"),
    )

    def __init__(self, space: str | None = None, *, clock_ghz: float = 1.0) -> None:
        super().__init__(space)
        if not isinstance(clock_ghz, (int, float)) or isinstance(clock_ghz, bool) or not 0 < clock_ghz < 1e6:
            raise ArchGymError(f"clock_ghz is {clock_ghz!r}; expected a positive number")
        self.clock_ghz = float(clock_ghz)
        self._space = _make_space(self.space_name)
        self._shapes: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    # --- design space ----------------------------------------------------------------------------------------------

    def space(self, workload: Workload) -> DesignSpace:
        return self._space

    # --- evaluation ------------------------------------------------------------------------------------------------

    def evaluate(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Evaluation:
        from archgym.simulators.systolic.kernels import array

        network = self.check_network(workload)
        rows = self._space.check(designs)
        violation = self._space.violations(rows)
        arrays = array_parameters(self._space, rows)
        layers, repeats = self._layer_arrays(network)
        sums = array.totals(arrays, layers, repeats)
        return Evaluation.build(self.metrics_of(arrays, sums, float(network.macs)), violation)

    def _layer_arrays(self, network: Network) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        key = network.fingerprint
        if key not in self._shapes:
            self._shapes[key] = layer_parameters(network)
        return self._shapes[key]

    def metrics_of(
        self, arrays: NDArray[np.int64], sums: NDArray[np.float64], macs: float
    ) -> dict[str, NDArray[np.float64]]:
        """Metric columns from counted work.

        Args:
            arrays: designs as :func:`array_parameters` gives them, ``(n, 7)``.
            sums: float64 ``(n, 8)``: cycles, stall cycles, words of the ifmap, filter and ofmap SRAM, words from and
                to DRAM, mapping efficiency.
            macs: multiply-accumulates.
        """
        tech = technology()
        elements = (arrays[:, 0] * arrays[:, 1]).astype(np.float64)
        cycles, stalls = sums[:, 0], sums[:, 1]
        operand, width = tech["operand_bits"], tech["sram_width_bits"]
        words_a_row = width / operand
        # Capacities come halved (double buffering) and in words.
        depths = arrays[:, 3:6] * 2.0 / words_a_row

        def law(name: str, depth: NDArray[np.float64]) -> NDArray[np.float64]:
            factor, of_width, of_depth = tech[name]
            return factor * width**of_width * depth**of_depth / words_a_row

        sram_pj = (
            sums[:, 2] * law("sram_read_pj", depths[:, 0])
            + sums[:, 3] * law("sram_read_pj", depths[:, 1])
            + sums[:, 4] * law("sram_write_pj", depths[:, 2])
        )
        dram_words = sums[:, 5] + sums[:, 6]
        # Words that cross DRAM are also written into, or read from, an SRAM.
        sram_pj = sram_pj + sums[:, 5] * law("sram_write_pj", depths[:, :2].mean(axis=1))
        sram_pj = sram_pj + sums[:, 6] * law("sram_read_pj", depths[:, 2])
        register_pj = macs * (2 * operand + tech["partial_sum_bits"]) * tech["register_pj_per_bit"]
        sram_bits = depths.sum(axis=1) * width
        leakage_pj = (
            cycles
            / self.clock_ghz
            * (elements * tech["mac_leakage_pj_per_ns"] + sram_bits * tech["sram_leakage_pj_per_bit_ns"])
        )
        energy_pj = (
            macs * tech["mac_pj"] + register_pj + sram_pj + dram_words * operand * tech["dram_pj_per_bit"] + leakage_pj
        )
        register_bits = 2 * operand + tech["partial_sum_bits"]
        area_um2 = elements * (tech["mac_area_um2"] + register_bits * tech["register_area_um2_per_bit"])
        area_um2 = area_um2 + sram_bits * tech["sram_area_um2_per_bit"]
        latency_ms = cycles / (self.clock_ghz * 1e6)
        energy_uj = energy_pj * 1e-6
        return {
            "latency_cycles": cycles,
            "latency_ms": latency_ms,
            "energy_uj": energy_uj,
            "edp_uj_ms": energy_uj * latency_ms,
            "area_mm2": area_um2 * 1e-6,
            "utilization": macs / (cycles * elements),
            "mapping_efficiency": sums[:, 7],
            "stall_cycles": stalls,
            "sram_accesses": sums[:, 2:5].sum(axis=1),
            "dram_words": dram_words,
        }

    # --- objectives ------------------------------------------------------------------------------------------------

    def objectives(self, workload: Workload) -> Mapping[str, Objective]:
        """``latency``, ``energy``, ``edp``, ``area`` and ``edap`` (energy, delay and area) as log ratios."""

        def ratio(name: str, *metrics: str) -> LogRatio:
            return log_ratio(self, workload, metrics, name)

        return {
            "latency": ratio("latency", "latency_cycles"),
            "energy": ratio("energy", "energy_uj"),
            "edp": ratio("edp", "energy_uj", "latency_cycles"),
            "area": ratio("area", "area_mm2"),
            "edap": ratio("edap", "energy_uj", "latency_cycles", "area_mm2"),
        }


@cache
def _make_space(name: str) -> DesignSpace:
    sides = tuple(2**k for k in range(2, 9)) if name == "default" else tuple(range(4, 257, 4))
    sizes = tuple(2**k for k in range(4, 12))
    parameters = [
        Parameter("array_rows", sides, True, "elements", "rows of the array"),
        Parameter("array_columns", sides, True, "elements", "columns of the array"),
        Parameter("dataflow", DATAFLOWS, False, "", "which operand stays: weights, outputs or inputs"),
        Parameter("ifmap_sram_kb", sizes, True, "KiB", "input buffer, double-buffered"),
        Parameter("filter_sram_kb", sizes, True, "KiB", "filter buffer, double-buffered"),
        Parameter("ofmap_sram_kb", sizes, True, "KiB", "output buffer, double-buffered"),
        Parameter("bandwidth", (1, 2, 4, 8, 16, 32, 64), True, "words/cycle", "of each buffer's link to DRAM"),
    ]

    def fits(designs: Designs) -> NDArray[np.bool_]:
        sides_, sizes_ = np.array(sides), np.array(sizes)
        tile = sides_[designs[:, 0]] * sides_[designs[:, 1]]
        # The stationary operand's buffer: filter for ws, ofmap for os, ifmap for is.
        column = np.array([4, 5, 3])[designs[:, 2]]
        half = sizes_[np.take_along_axis(designs, column[:, None], axis=1)[:, 0]] * 512
        return np.asarray(tile <= half)

    rule = Constraint("stationary-overflow", "half of the stationary operand's SRAM holds one tile of the array", fits)
    return DesignSpace(parameters, [rule])


def array_parameters(space: DesignSpace, designs: Designs) -> NDArray[np.int64]:
    """Designs as the kernel takes them, int64 ``(n, 7)``."""
    result = np.empty((len(designs), 7), dtype=np.int64)
    for j, parameter in enumerate(space.parameters):
        if parameter.name == "dataflow":
            result[:, j] = designs[:, j]
        else:
            scale = 512 if parameter.name.endswith("_kb") else 1
            result[:, j] = np.array(parameter.values, dtype=np.int64)[designs[:, j]] * scale
    return result


def layer_parameters(network: Network) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Layers as the kernel takes them: ``(m, 4)``, and repeats ``(m,)``."""
    network = network.merged()
    column = {name: network.array[:, i] for i, name in enumerate((*DIMS, "sp", "sq", "dr", "ds", "count"))}
    pixels = column["N"] * column["P"] * column["Q"]
    products = column["R"] * column["S"] * column["C"]
    inputs = np.array([layer.input_words // layer.G for layer in network.layers], dtype=np.int64)
    layers = np.stack([pixels, products, column["K"], inputs], axis=1)
    return layers, column["G"] * column["count"]
