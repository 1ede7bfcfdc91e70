"""SCALE-Sim 3: the configuration of the array and the topology of the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archgym.errors import ArchGymError
from archgym.exporting.base import Exporter, Written, whole_simulator
from archgym.networks.layers import Network
from archgym.problem import Problem
from archgym.simulators.external.scalesim import configuration, topology_csv
from archgym.simulators.systolic.simulator import array_parameters
from archgym.space import Value


class ScaleSimExporter(Exporter):
    """``scale.cfg`` and ``topology.csv``."""

    name = "scalesim"
    title = "SCALE-Sim 3"
    simulators = ("systolic",)

    def write(self, problem: Problem, design: Mapping[str, Value], folder: Path) -> Written:
        if not isinstance(problem.workload, Network):
            raise ArchGymError(f"{problem.name} has several networks; export the design on one of them")
        simulator: Any = whole_simulator(problem)
        space = simulator.space(problem.workload)
        network = problem.workload.merged()
        (folder / "scale.cfg").write_text(
            configuration(array_parameters(space, space.encode(design))[0]), encoding="utf-8"
        )
        (folder / "topology.csv").write_text(topology_csv(network, largest_macs=1 << 62), encoding="utf-8")
        unsaid = [
            "Repeats: a layer that occurs several times stands once "
            f"({sum(layer.count for layer in network.layers)} layers, {len(network.layers)} rows); multiply its results.",
        ]
        if any(layer.G > 1 for layer in network.layers):
            unsaid.append("Groups: a grouped or depthwise layer stands with one of its groups; multiply its results.")
        unsaid.append(
            "Bandwidth is estimated (InterfaceBandwidth CALC); the closed forms here stall on the design's own."
        )
        return Written(
            {"scale.cfg": "array, SRAM in kB, dataflow", "topology.csv": "the layers"},
            unsaid,
            "python -m scalesim.scale -c scale.cfg -t topology.csv -p out",
        )
