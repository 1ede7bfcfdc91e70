"""What the formats of memory simulators share: a design with the memory that it is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archgym.errors import ArchGymError
from archgym.exporting.base import whole_simulator
from archgym.problem import Problem
from archgym.simulators.dram.addressmap import AddressMap, named_map
from archgym.simulators.dram.devices import Device, device
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
