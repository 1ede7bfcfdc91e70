"""SCALE-Sim itself behind the contract of the systolic simulator: same space, same metrics, counted by simulation.

SCALE-Sim walks every cycle (about a thousand a second), so that only tiny layers are practical. Needs the extra
``scalesim``, or another environment that has it (``python=``). SCALE-Sim 3.0.0 stops with an error on NumPy 2.4 and
later (it turns arrays of one element into integers); that is found out before anything runs.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgym.errors import ArchGymError, MissingExtraError
from archgym.networks.layers import Layer, Network
from archgym.simulator import Evaluation, Workload
from archgym.simulators.external.process import ToolError, find_binary, run_jobs, run_tool
from archgym.simulators.systolic.simulator import SystolicSimulator, array_parameters

# Started with -P: beside the script lies a module named like the package that it imports.
_WORKER = Path(__file__).with_name("scalesim_worker.py")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:2])


@cache
def scalesim_version(python: str) -> str:
    """Version of the SCALE-Sim that an interpreter has.

    Raises:
        MissingExtraError: where it has none.
        ArchGymError: where it is too old, stands beside a NumPy that it does not work with, or the interpreter is
            missing.
    """
    program = find_binary(python, "SCALE-Sim", "give the path of a Python interpreter that has scalesim")
    try:
        output = run_tool([program, "-P", str(_WORKER)], Path.cwd(), timeout_s=120)
        versions = json.loads(output.strip().splitlines()[-1])
        version, numpy = str(versions["scalesim"]), str(versions["numpy"])
    except ToolError as error:
        raise MissingExtraError("SCALE-Sim", "scalesim", str(error)) from None
    except (ValueError, IndexError, KeyError, TypeError):
        raise ArchGymError(f"{python} does not say which SCALE-Sim it has; reinstall scalesim there") from None
    if _numbers(version) < (3, 0):
        raise ArchGymError(f"SCALE-Sim {version} is too old; install scalesim>=3.0 beside numpy<2.4")
    if _numbers(numpy) >= (2, 4):
        raise ArchGymError(
            f"SCALE-Sim {version} does not work with NumPy {numpy}; install numpy<2.4 beside it, "
            "or give another interpreter as python="
        )
    return version


class ScaleSimSimulator(SystolicSimulator):
    """The systolic space, counted by SCALE-Sim.

    Args:
        space, clock_ghz: as in :class:`archgym.simulators.systolic.SystolicSimulator`.
        python: interpreter that has SCALE-Sim; this one where None.
        timeout_s: limit for a design.
        workers: designs at a time.
        largest_macs: layers with more multiply-accumulates are refused rather than simulated for hours.

    Violations: ``stationary-overflow``, ``scalesim-failed``, ``scalesim-timeout``. Bandwidth is estimated by
    SCALE-Sim (it never stalls), so that the design's own bandwidth has no effect here.
    """

    name = "scalesim"
    version = "2"
    starts_programs = True

    def __init__(
        self,
        space: str | None = None,
        *,
        clock_ghz: float = 1.0,
        python: str | None = None,
        timeout_s: float = 600.0,
        workers: int = 1,
        largest_macs: int = 2_000_000,
    ) -> None:
        super().__init__(space, clock_ghz=clock_ghz)
        if not timeout_s > 0 or workers < 1 or largest_macs < 1:
            raise ArchGymError("timeout_s, workers and largest_macs must be positive")
        self.python, self.timeout_s, self.workers = python or sys.executable, float(timeout_s), int(workers)
        self.largest_macs = int(largest_macs)

    def references(self, workload: Workload) -> Any:
        """Those of the closed forms: 64 simulated designs would take hours."""
        return SystolicSimulator(self.space_name, clock_ghz=self.clock_ghz).references(workload)

    @property
    def programs(self) -> Mapping[str, str]:
        return {"scalesim": scalesim_version(self.python)}

    def evaluate(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Evaluation:
        network = self.check_network(workload).merged()
        topology = topology_csv(network, self.largest_macs)
        rows = self._space.check(designs)
        violation = self._space.violations(rows)
        arrays = array_parameters(self._space, rows)
        todo = np.flatnonzero(violation == "")
        if len(todo):
            scalesim_version(self.python)
        jobs = [partial(self._run, arrays[i], network, topology) for i in todo]
        sums = np.ones((len(rows), 9))
        for i, result in zip(todo, run_jobs(jobs, self.workers), strict=True):
            if isinstance(result, ToolError):
                violation[i] = f"scalesim-{result.kind}"
            else:
                sums[i] = result
        return Evaluation.build(self.metrics_of(arrays, sums, float(network.macs)), violation)

    def _run(self, array: NDArray[np.int64], network: Network, topology: str, folder: Path) -> NDArray[np.float64]:
        """The sums that the systolic kernel gives, from SCALE-Sim's reports."""
        (folder / "scale.cfg").write_text(configuration(array), encoding="utf-8")
        (folder / "topology.csv").write_text(topology, encoding="utf-8")
        blank = "".join(f"layer{i}," + "1," * 20 + "\n" for i in range(len(network.layers)))
        (folder / "layout.csv").write_text("Layer name" + ",factor" * 20 + ",\n" + blank, encoding="utf-8")
        files = [str(folder / name) for name in ("scale.cfg", "topology.csv", "layout.csv", "out")]
        run_tool([self.python, "-P", str(_WORKER), *files], folder, timeout_s=self.timeout_s)
        reports = read_reports(folder / "out" / "archgym")
        if len(reports) != len(network.layers):
            raise ToolError("failed", f"{len(reports)} results for {len(network.layers)} layers")
        sums = np.zeros(9)
        for layer, report in zip(network.layers, reports, strict=True):
            runs = layer.count * layer.G
            cycles, stalls = report["Total Cycles"], report["Stall Cycles"]
            values = [
                cycles,
                stalls,
                report["SRAM IFMAP Reads"],
                report["SRAM Filter Reads"],
                report["SRAM OFMAP Writes"],
                report["DRAM IFMAP Reads"] + report["DRAM Filter Reads"],
                report["DRAM OFMAP Writes"],
                report["Mapping Efficiency %"] / 100.0 * cycles,
                cycles,
            ]
            sums += runs * np.array(values)
        sums[7] /= sums[8]
        return sums


def configuration(array: NDArray[np.int64]) -> str:
    """SCALE-Sim's configuration file for a row of :func:`array_parameters`."""
    from archgym.simulators.systolic.kernels.array import DATAFLOWS

    rows, columns, dataflow, ifmap, weights, ofmap, bandwidth = (int(value) for value in array)
    sections: dict[str, dict[str, object]] = {
        "general": {"run_name": "archgym"},
        "architecture_presets": {
            "ArrayHeight": rows,
            "ArrayWidth": columns,
            "IfmapSramSzkB": ifmap // 512,
            "FilterSramSzkB": weights // 512,
            "OfmapSramSzkB": ofmap // 512,
            "IfmapOffset": 0,
            "FilterOffset": 10_000_000,
            "OfmapOffset": 20_000_000,
            "Bandwidth": bandwidth,
            "Dataflow": DATAFLOWS[dataflow],
            "ReadRequestBuffer": 32,
            "WriteRequestBuffer": 32,
        },
        "layout": {
            f"{tensor}{what}": value
            for tensor in ("Ifmap", "Filter")
            for what, value in (
                ("CustomLayout", False),
                ("SRAMBankBandwidth", 10),
                ("SRAMBankNum", 10),
                ("SRAMBankPort", 2),
            )
        },
        "sparsity": {"SparsitySupport": "false", "SparseRep": "ellpack_block", "OptimizedMapping": "false"}
        | {"BlockSize": 8, "RandomNumberGeneratorSeed": 40},
        "run_presets": {"InterfaceBandwidth": "CALC", "UseRamulatorTrace": False},
    }
    return "\n".join(
        f"[{title}]\n" + "".join(f"{key}: {value}\n" for key, value in entries.items())
        for title, entries in sections.items()
    )


def topology_csv(network: Network, largest_macs: int) -> str:
    """SCALE-Sim's topology file: one group of every layer, its input just as large as the outputs need."""
    lines = ["Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,"]
    for i, layer in enumerate(network.layers):
        lines.append(f"layer{i}, " + ", ".join(map(str, _topology_row(layer, largest_macs))) + ",")
    return "\n".join(lines) + "\n"


def _topology_row(layer: Layer, largest_macs: int) -> tuple[int, ...]:
    if layer.macs // layer.G > largest_macs:
        raise ArchGymError(
            f"layer {layer.name!r} has {layer.macs // layer.G:,} MACs a group, too many for SCALE-Sim's walk over "
            f"cycles; raise largest_macs ({largest_macs:,}) or use the systolic simulator"
        )
    if layer.stride_p != layer.stride_q or layer.dilation_r != 1 or layer.dilation_s != 1:
        raise ArchGymError(f"layer {layer.name!r} has uneven strides or a dilation, which SCALE-Sim does not know")
    rows = layer.input_rows
    if layer.N > 1:
        if layer.R != 1 or layer.stride_p != 1:
            raise ArchGymError(f"layer {layer.name!r} has a batch of {layer.N}, which SCALE-Sim does not know")
        rows *= layer.N
    return rows, layer.input_columns, layer.R, layer.S, layer.C, layer.K, layer.stride_p


def read_reports(folder: Path) -> list[dict[str, float]]:
    """One record a layer from ``COMPUTE_REPORT.csv`` and ``DETAILED_ACCESS_REPORT.csv``; numbers by column name.

    Raises:
        ToolError: where a report or a column is missing.
    """
    tables = []
    for name in ("COMPUTE_REPORT.csv", "DETAILED_ACCESS_REPORT.csv"):
        try:
            with open(folder / name, encoding="utf-8", newline="") as lines:
                table = list(csv.DictReader(lines, skipinitialspace=True))
        except OSError:
            raise ToolError("failed", f"it wrote no {name}") from None
        tables.append(table)
    needed: tuple[str, ...] = ("Total Cycles", "Stall Cycles", "Mapping Efficiency %")
    needed += tuple(f"{memory} {what}" for memory in ("SRAM", "DRAM") for what in ("IFMAP Reads", "Filter Reads"))
    needed += ("SRAM OFMAP Writes", "DRAM OFMAP Writes")
    records = []
    for compute, access in zip(*tables, strict=False):
        row = {key.strip(): value for key, value in {**compute, **access}.items() if key}
        try:
            records.append({key: float(row[key]) for key in needed})
        except (KeyError, TypeError, ValueError) as error:
            raise ToolError("failed", f"its reports lack a number for {error}") from None
    return records
