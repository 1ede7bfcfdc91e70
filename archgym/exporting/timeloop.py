"""Timeloop 0.4: architecture, problem, mapping, energies and areas of every layer, with the mapping found here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archgym.errors import ArchGymError
from archgym.exporting.base import Exporter, Written, whole_simulator
from archgym.networks.layers import Network
from archgym.problem import Problem
from archgym.simulators.accelerator.hardware import WORD_BITS
from archgym.simulators.accelerator.loopnest import Problem as LoopNest
from archgym.simulators.external.timeloop import write_inputs
from archgym.space import Value


class TimeloopExporter(Exporter):
    """A folder a layer, each with the five files that ``timeloop-model`` takes."""

    name = "timeloop"
    title = "Timeloop"
    simulators = ("accelerator",)

    def write(self, problem: Problem, design: Mapping[str, Value], folder: Path) -> Written:
        if not isinstance(problem.workload, Network):
            raise ArchGymError(f"{problem.name} has several networks; export the design on one of them")
        simulator: Any = whole_simulator(problem)
        space = simulator.space(problem.workload)
        machine, nests = simulator.nests(space.encode(design), problem.workload, fidelity=problem.fidelity)
        written = Written()
        for number, (layer, mapping) in enumerate(nests):
            name = f"{number:03d}-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", layer.name)[:60]
            if mapping is None:
                written.unsaid.append(f"Layer {layer.name!r} has no mapping on this hardware.")
                continue
            (folder / name).mkdir()
            files = write_inputs(folder / name, LoopNest.from_layer(layer), machine, mapping, WORD_BITS)
            written.files[f"{name}/"] = f"{layer.name}, {layer.count} time(s): {', '.join(files)}"
        written.unsaid += [
            "Repeats of a layer: multiply its results by the number of times in the table.",
            "Transfers between neighbouring instances: the model here has none; switch them off with "
            "TIMELOOP_DISABLE_LINK_TRANSFERS=1 to compare.",
        ]
        written.command = (
            "for d in */; do (cd $d && TIMELOOP_DISABLE_LINK_TRANSFERS=1 timeloop-model architecture.yaml problem.yaml "
            "mapping.yaml ERT.yaml ART.yaml); done"
        )
        return written
