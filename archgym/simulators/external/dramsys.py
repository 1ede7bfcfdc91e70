"""DRAMSys 4.0 itself behind the simulator contract: a pool of processes of a binary that the user points at.

One scratch folder a design holds the JSON configuration that the program wants (controller, memory, address map,
simulation) and the trace; the program's printed results are read with their units. A run that hangs, dies or prints
something else makes its design infeasible with the reason by name, never a number.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from archgym.errors import ArchGymError
from archgym.simulator import Evaluation, Metric, Workload
from archgym.simulators.dram.addressmap import AddressMap, named_map
from archgym.simulators.dram.devices import Device
from archgym.simulators.dram.simulator import DramSimulator
from archgym.simulators.dram.trace import Trace
from archgym.simulators.dram.traces import write_trace
from archgym.simulators.external.process import ToolError, program_digest, run_tool
from archgym.space import DesignSpace
from archgym.threads import usable_cores

BINARY_VARIABLE = "ARCHGYM_DRAMSYS"
"""Environment variable that names the binary where the option does not."""

TIME_LIMIT, CRASHED, UNREADABLE = "dramsys_time_limit", "dramsys_crashed", "dramsys_unreadable_output"
"""Why a design has no result: the run took too long, ended with an error, or printed no complete result."""

METRICS = (
    Metric("total_time_ns", "ns", "min", "time of the last response (the makespan)"),
    Metric("bandwidth_gbps", "Gbit/s", "max", "data moved / total time"),
    Metric("energy_pj", "pJ", "min", "energy of all devices, without I/O and termination"),
    Metric("average_power_mw", "mW", "min", "power as the program prints it, over the power model's own time"),
    Metric("energy_per_bit_pj", "pJ/bit", "min", "energy / data moved"),
)

_TIME_NS = {"fs": 1e-6, "ps": 1e-3, "ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
_ENERGY_PJ = {"fJ": 1e-3, "pJ": 1.0, "nJ": 1e3, "uJ": 1e6, "mJ": 1e9, "J": 1e12}
_POWER_MW = {"uW": 1e-3, "mW": 1.0, "W": 1e3}
_RATE_GBPS = {"kb/s": 1e-6, "Mb/s": 1e-3, "Gb/s": 1.0, "Tb/s": 1e3}
#: Label as printed -> name, units, how values of several channels combine.
_PRINTED: Mapping[str, tuple[str, Mapping[str, float], Callable[[list[float]], float]]] = {
    "Total Time": ("total_time_ns", _TIME_NS, max),
    "Total Energy": ("energy_pj", _ENERGY_PJ, sum),
    "Average Power": ("average_power_mw", _POWER_MW, sum),
    "AVG BW": ("bandwidth_gbps", _RATE_GBPS, sum),
}
_LINE = re.compile(
    r"(?P<label>Total Time|Total Energy|Average Power|AVG BW)\s*:\s*"
    r"(?P<value>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>[A-Za-z]+(?:/[A-Za-z]+)?)"
)


def parse_output(text: str) -> dict[str, float]:
    """The results that DRAMSys printed: total time (ns), energy (pJ), power (mW), bandwidth (Gbit/s), those printed.

    Each number is read with its unit; the program prints the time in the largest unit that makes it a whole number.
    Of several channels the latest time and the sums of the others are taken.

    Raises:
        ArchGymError: where a unit is unknown or the total time is missing or not positive.
    """
    found: dict[str, list[float]] = {}
    for match in _LINE.finditer(text):
        name, units, _ = _PRINTED[match["label"]]
        if match["unit"] not in units:
            raise ArchGymError(
                f"DRAMSys printed {match[0]!r}; expected one of the units {', '.join(units)} for {match['label']!r}"
            )
        found.setdefault(name, []).append(float(match["value"]) * units[match["unit"]])
    combined = {name: combine(found[name]) for name, _, combine in _PRINTED.values() if name in found}
    if not combined.get("total_time_ns", 0.0) > 0:
        raise ArchGymError("DRAMSys printed no positive 'Total Time'; expected one, like 'Total Time: 50300 ns'")
    return combined


class DramsysSimulator(DramSimulator):
    """DRAMSys 4.0 over the designs and traces of the DRAM simulator.

    Args:
        space: ``deployable``, ``archgym`` or ``archgym-rl``.
        binary: path of the DRAMSys program; the environment variable ``ARCHGYM_DRAMSYS`` where None.
        device, address_map, ranks, channels: as for the DRAM simulator.
        workers: processes at a time; the number of usable cores where None.
        time_limit_s: seconds that a run may take.
    """

    name = "dramsys"
    version = "4.0"
    starts_programs: ClassVar[bool] = True
    spaces = ("deployable", "archgym", "archgym-rl")
    fidelities: tuple[str, ...] = ()
    default_objective = "makespan"  # the program gives no latency of single requests
    metrics = METRICS

    def __init__(
        self,
        space: str | None = None,
        binary: str | None = None,
        device: str = "DDR3-1600",
        address_map: str = "rbc",
        ranks: int | None = None,
        channels: int = 1,
        workers: int | None = None,
        time_limit_s: float = 60.0,
    ) -> None:
        super().__init__(space, device=device, address_map=address_map, ranks=ranks, channels=channels)
        if workers is not None and workers < 1:
            raise ArchGymError(f"workers is {workers}; expected at least 1")
        if not time_limit_s > 0:
            raise ArchGymError(f"time_limit_s is {time_limit_s}; expected more than 0 seconds")
        self.address_map = named_map(address_map, self.device, self.ranks, self.channels)
        self.binary = binary
        self.workers = workers or usable_cores()
        self.time_limit_s = time_limit_s

    @property
    def programs(self) -> Mapping[str, str]:
        given = Path(self.binary or os.environ.get(BINARY_VARIABLE) or "").expanduser()
        return {"dramsys": program_digest(given)} if given.is_file() else {}

    def objective_for(self, workload: Workload) -> tuple[str, str]:
        return self.default_objective, ""

    def pictures(self, design: ArrayLike, workload: Workload) -> list[tuple[str, str, str]]:
        """None: the program prints no commands."""
        return []

    def program(self) -> Path:
        """The binary; an error with one sentence where there is none that can be run."""
        given = self.binary or os.environ.get(BINARY_VARIABLE)
        if not given:
            raise ArchGymError(
                f"the simulator 'dramsys' needs a DRAMSys 4.0 program; give its path as the option binary or in the "
                f"environment variable {BINARY_VARIABLE}"
            )
        path = Path(given).expanduser()
        if not path.is_file():
            raise ArchGymError(f"there is no DRAMSys program {path}; give the path of the binary")
        if not os.access(path, os.X_OK):
            raise ArchGymError(f"the DRAMSys program {path} cannot be executed; make it executable (chmod +x)")
        return path.resolve()

    def evaluate(
        self, designs: ArrayLike, workload: Workload, *, fidelity: str | None = None, seed: int | None = None
    ) -> Evaluation:
        if not isinstance(workload, Trace):
            raise ArchGymError(f"the workload of {self.name} is a {type(workload).__name__}; expected a Trace")
        space = self.space(workload)
        array = space.check(designs)
        program = self.program()
        from archgym.simulators.dram.batch import check_addresses

        check_addresses(workload, self.address_map.capacity, self.device.name)
        violation = np.full(len(array), "", dtype=object)
        metrics = {metric.name: np.full(len(array), np.nan) for metric in METRICS}
        bits = 8.0 * self.device.burst_bytes * len(workload)
        with tempfile.TemporaryDirectory(prefix="archgym-dramsys-") as shared:
            trace = write_trace(workload, Path(shared) / "trace.stl", memory_clock_mhz=self.device.clock_mhz)
            with ThreadPoolExecutor(self.workers) as pool:
                jobs = [pool.submit(self._run_program, program, _values(space, row), trace) for row in array]
                for i, job in enumerate(jobs):
                    result = job.result()
                    if isinstance(result, str):
                        violation[i] = result
                        continue
                    for name, value in result.items():
                        metrics[name][i] = value
                    if "energy_pj" in result:
                        metrics["energy_per_bit_pj"][i] = result["energy_pj"] / bits
        return Evaluation.build(metrics, violation=violation, count=len(array))

    def _run_program(self, program: Path, design: Mapping[str, Any], trace: Path) -> dict[str, float] | str:
        """One run in a scratch folder of its own; results, or the name of what went wrong."""
        with tempfile.TemporaryDirectory(prefix="archgym-dramsys-") as name:
            folder = Path(name)
            simulation = write_configuration(
                folder, design, trace, self.device, self.address_map, self.ranks, self.channels
            )
            try:
                output = run_tool([str(program), str(simulation), name], folder, timeout_s=self.time_limit_s)
            except ToolError as error:
                return TIME_LIMIT if error.kind == "timeout" else CRASHED
        try:
            return parse_output(output)
        except ArchGymError:
            return UNREADABLE


def _values(space: DesignSpace, row: Any) -> dict[str, Any]:
    values = {p.name: p.values[int(i)] for p, i in zip(space.parameters, row, strict=True)}
    return {name: value if isinstance(value, str) else int(value) for name, value in values.items()}


_SIMULATION = {
    "AddressOffset": 0,
    "CheckTLM2Protocol": False,
    "DatabaseRecording": False,
    "Debug": False,
    "ECCControllerMode": "Disabled",
    "EnableWindowing": False,
    "ErrorCSVFile": "",
    "ErrorChipSeed": 42,
    "SimulationName": "archgym",
    "SimulationProgressBar": False,
    "StoreMode": "NoStorage",
    "ThermalSimulation": False,
    "UseMalloc": False,
    "WindowSize": 1000,
}
_THERMAL = {
    "TemperatureScale": "Celsius",
    "StaticTemperatureDefaultValue": 89,
    "ThermalSimPeriod": 100,
    "ThermalSimUnit": "us",
    "PowerInfoFile": "powerInfo.json",
    "IceServerIp": "127.0.0.1",
    "IceServerPort": 11880,
    "SimPeriodAdjustFactor": 10,
    "NPowStableCyclesToIncreasePeriod": 5,
    "GenerateTemperatureMap": False,
    "GeneratePowerMap": False,
}
"""What every run is configured with, beside its design."""


def write_configuration(
    folder: Path,
    design: Mapping[str, Any],
    trace: Path,
    device: Device,
    address_map: AddressMap,
    ranks: int = 1,
    channels: int = 1,
) -> Path:
    """Write the JSON files of one run below ``folder``; returns that of the simulation. ``trace`` counts cycles of the
    memory clock."""
    for name, content in configuration(design, trace.name, device, address_map, ranks, channels).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    (folder / "traces").mkdir(exist_ok=True)
    (folder / "traces" / trace.name).symlink_to(trace.resolve())
    return folder / SIMULATION


SIMULATION = "simulations/simulation.json"
"""The file that the program is started with."""


def configuration(
    design: Mapping[str, Any],
    trace: str,
    device: Device,
    address_map: AddressMap,
    ranks: int = 1,
    channels: int = 1,
) -> dict[str, dict[str, Any]]:
    """The JSON files of one run, path -> content, laid out as DRAMSys' folder of resources. ``trace`` is the name of the
    trace, which counts cycles of the memory clock."""
    controller = {"CmdMux": "Oldest", "PowerDownPolicy": "NoPowerDown", **design}
    fields = {
        "BYTE_BIT": "byte",
        "COLUMN_BIT": "column",
        "BANKGROUP_BIT": "bank_group",
        "BANK_BIT": "bank",
        "RANK_BIT": "rank",
        "ROW_BIT": "row",
        "CHANNEL_BIT": "channel",
    }
    mapping: dict[str, Any] = {
        key: list(address_map.bits[name]) for key, name in fields.items() if address_map.bits.get(name)
    }
    if address_map.xor:
        mapping["XOR"] = [{"FIRST": a, "SECOND": b} for a, b in address_map.xor]
    memory: dict[str, Any] = {
        "memarchitecturespec": {
            "burstLength": device.burst_length,
            "dataRate": device.data_rate,
            "nbrOfBankGroups": device.bank_groups,
            "nbrOfBanks": device.banks,
            "nbrOfChannels": channels,
            "nbrOfColumns": device.columns,
            "nbrOfDevices": device.devices,
            "nbrOfDevicesOnDIMM": device.devices,
            "nbrOfRanks": ranks,
            "nbrOfRows": device.rows,
            "width": device.width_bits,
        },
        "memoryId": device.name,
        "memoryType": device.family,
        "memtimingspec": {**device.timing, "clkMhz": device.clock_mhz},
    }
    if device.has_energy:
        memory["mempowerspec"] = dict(device.power)
    # The reference's power model refuses LPDDR4 and HBM2.
    power = device.has_energy and device.family in ("DDR3", "DDR4")
    top = {
        "simulation": {
            "addressmapping": "map.json",
            "mcconfig": "controller.json",
            "memspec": "memory.json",
            "simconfig": "simulator.json",
            "simulationid": "archgym",
            "thermalconfig": "thermal.json",
            "tracesetup": [{"clkMhz": device.clock_mhz, "name": trace}],
        }
    }
    return {
        "configs/amconfigs/map.json": {"CONGEN": mapping},
        "configs/mcconfigs/controller.json": {"mcconfig": controller},
        "configs/memspecs/memory.json": {"memspec": memory},
        "configs/simulator/simulator.json": {"simconfig": {**_SIMULATION, "PowerAnalysis": power}},
        "configs/thermalsim/thermal.json": {"thermalsimconfig": _THERMAL},
        SIMULATION: top,
    }
