"""What the formats of memory simulators share: a design with the memory that it is for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archgym.errors import ArchGymError
from archgym.exporting.base import whole_simulator
from archgym.exporting.importing import Said
from archgym.problem import Problem
from archgym.simulators.dram.addressmap import AddressMap, named_map
from archgym.simulators.dram.devices import Device, device, devices
from archgym.simulators.dram.spaces import WIDE_NAMES
from archgym.simulators.dram.trace import Trace
from archgym.space import Value


@dataclass(frozen=True)
class Memory:
    """A memory controller with its memory and what it has to serve.

    Attributes:
        controller: the controller's parameters by DRAMSys' names, all twelve.
        device, address_map, ranks, channels: the memory; ``map_name`` is the map's name.
        trace: the requests.
    """

    controller: Mapping[str, Any]
    device: Device
    map_name: str
    address_map: AddressMap
    ranks: int
    channels: int
    trace: Trace

    @property
    def rank_megabytes(self) -> int:
        """Capacity of a rank in MiB."""
        return self.device.rank_bytes >> 20


def memory_of(problem: Problem, design: Mapping[str, Value]) -> Memory:
    """The memory that a design of the DRAM simulator stands for, in whichever space."""
    simulator: Any = whole_simulator(problem)
    if not isinstance(problem.workload, Trace):
        raise ArchGymError(f"{problem.name} has several traces; export the design on one of them")
    chosen = device(str(design["Device"])) if "Device" in design else simulator.device
    map_name = str(design.get("AddressMap", simulator.address_map_name))
    ranks = int(design.get("Ranks", simulator.ranks))
    channels = int(design.get("Channels", simulator.channels))
    defaults: dict[str, Any] = {"PowerDownPolicy": "NoPowerDown", "CmdMux": "Oldest"}
    controller = {name: design.get(name, defaults.get(name)) for name in WIDE_NAMES}
    return Memory(
        controller, chosen, map_name, named_map(map_name, chosen, ranks, channels), ranks, channels, problem.workload
    )


def said_of_memory(said: Said, problem: Problem, family: str, clock_mhz: float, banks: int, rows: int) -> None:
    """The preset nearest to a memory of a file: as ``Device`` where the space has it, else a sentence where the problem's own
    memory is another one. Zero stands for what the file does not say."""
    alike = [d for d in devices().values() if d.family == family.replace("_", "").replace("-", "")[: len(d.family)]]
    if not alike:
        if family:
            said.unplaced.append(f"The memory is {family[:30]}, of which there is no preset.")
        return
    nearest = min(
        alike,
        key=lambda d: (
            abs(math.log(d.clock_mhz / clock_mhz)) if clock_mhz > 0 else 0.0, bool(banks) and d.banks != banks,
            bool(rows) and d.rows != rows, d.name,
        ),
    )  # fmt: skip
    if clock_mhz > 0 and abs(nearest.clock_mhz / clock_mhz - 1) > 0.01:
        said.unplaced.append(f"The memory is {family} at {clock_mhz:g} MHz; the nearest preset is {nearest.name}.")
    elif (banks and nearest.banks != banks) or (rows and nearest.rows != rows):
        said.unplaced.append(
            f"The memory has {banks} banks of {rows} rows; {nearest.name} has {nearest.banks} of {nearest.rows}."
        )
    if "Device" in problem.space.names:
        said.values["Device"] = nearest.name
        return
    own = getattr(whole_simulator(problem), "device", None)
    if own is not None and own.name != nearest.name:
        said.unplaced.append(
            f"The memory is {nearest.name} in the file and {own.name} in the problem, which holds; -o device={nearest.name} "
            "asks for the file's."
        )
