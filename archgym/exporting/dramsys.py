"""DRAMSys 4 (a folder of configurations) and DRAMSys 5 (one file): controller, memory, address map and ``.stl`` trace."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archgym.exporting.base import Exporter, Written, write_json
from archgym.exporting.memory import Memory, memory_of
from archgym.problem import Problem
from archgym.simulators.dram.traces import write_trace
from archgym.simulators.external.dramsys import configuration
from archgym.space import Value

TRACE = "trace.stl"


def _unsaid(memory: Memory) -> list[str]:
    unsaid = [f"The address map has no name there: its bits are written out (here it is {memory.map_name!r})."]
    if not memory.device.has_energy:
        unsaid.append(f"{memory.device.name} has no currents here, so that no power is analysed.")
    elif memory.device.family not in ("DDR3", "DDR4"):
        unsaid.append(f"DRAMSys' power model refuses {memory.device.family}: power analysis is off.")
    return unsaid


class Dramsys4Exporter(Exporter):
    """A folder of resources as DRAMSys 4.0 reads it; the same files that the real back-end runs."""

    name = "dramsys4"
    title = "DRAMSys 4.0"
    simulators = ("dram",)

    def write(self, problem: Problem, design: Mapping[str, Value], folder: Path) -> Written:
        memory = memory_of(problem, design)
        files = configuration(
            memory.controller, TRACE, memory.device, memory.address_map, memory.ranks, memory.channels
        )
        for path, content in files.items():
            write_json(folder / path, content)
        (folder / "traces").mkdir()
        write_trace(memory.trace, folder / "traces" / TRACE, memory_clock_mhz=memory.device.clock_mhz)
        what = {
            "mcconfigs": "the controller",
            "memspecs": f"{memory.device.name}: organisation, times in cycles of {memory.device.clock_mhz:g} MHz, mA, V",
            "amconfigs": "the address map, bit by bit",
            "simulator": "settings of the simulation",
            "thermalsim": "unused: thermal simulation is off",
            "simulations": "the file to start DRAMSys with",
        }
        named = {path: next(text for key, text in what.items() if key in path) for path in files}
        named[f"traces/{TRACE}"] = f"the requests, times in cycles of {memory.device.clock_mhz:g} MHz"
        return Written(named, _unsaid(memory), "DRAMSys simulations/simulation.json .")


class Dramsys5Exporter(Exporter):
    """One file with everything inside, as DRAMSys 5 reads it, and the trace."""

    name = "dramsys5"
    title = "DRAMSys 5"
    simulators = ("dram",)

    def write(self, problem: Problem, design: Mapping[str, Value], folder: Path) -> Written:
        memory = memory_of(problem, design)
        parts = configuration(
            memory.controller, TRACE, memory.device, memory.address_map, memory.ranks, memory.channels
        )
        inner: dict[str, Any] = {}
        for content in parts.values():
            inner.update(content)
        spec: dict[str, Any] = inner["memspec"]
        organisation = spec["memarchitecturespec"]
        organisation.pop("nbrOfDevicesOnDIMM")
        organisation["maxBurstLength"] = memory.device.burst_length
        timing = dict(spec["memtimingspec"])
        # Version 5.1 takes the period in seconds and calls the first refresh time RFC1; what it does not read it passes over.
        timing["tCK"] = memory.device.tck_ps * 1e-12
        if "RFC" in timing and memory.device.family in ("DDR4", "DDR5"):
            timing["RFC1"] = timing["RFC"]
        spec["memtimingspec"] = timing
        unsaid = _unsaid(memory)
        power = spec.pop("mempowerspec", None)
        if power is not None:
            unsaid.append(
                "Currents: DRAMSys 5 wants more of them than a preset here has, so that power analysis is off."
            )
        settings = {
            k: v
            for k, v in inner["simconfig"].items()
            if k not in ("ECCControllerMode", "ErrorCSVFile", "ErrorChipSeed", "ThermalSimulation")
        }
        settings["PowerAnalysis"] = False
        simulation = {
            "simulationid": "archgym",
            "addressmapping": inner["CONGEN"],
            "mcconfig": {**inner["mcconfig"], "RefreshManagement": False},
            "memspec": spec,
            "simconfig": settings,
            "tracesetup": [{"type": "player", "clkMhz": memory.device.clock_mhz, "name": TRACE}],
        }
        write_json(folder / "simulation.json", {"simulation": simulation})
        write_trace(memory.trace, folder / TRACE, memory_clock_mhz=memory.device.clock_mhz)
        return Written(
            {
                "simulation.json": "controller, memory (times in cycles, tCK in s), address map and settings",
                TRACE: f"the requests, times in cycles of {memory.device.clock_mhz:g} MHz",
            },
            unsaid,
            "DRAMSys simulation.json",
        )
