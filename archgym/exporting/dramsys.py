"""DRAMSys 4 (a folder of configurations) and DRAMSys 5 (one file): controller, memory, address map and ``.stl`` trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from archgym.errors import ArchGymError, quote
from archgym.exporting.base import Exporter, Written, whole_simulator, write_json
from archgym.exporting.importing import Importer, Said, inner, number, optional, quietly
from archgym.exporting.memory import Memory, memory_of, said_of_memory
from archgym.problem import Problem
from archgym.reading import quote_path, read_json
from archgym.simulators.dram.addressmap import MAP_NAMES, named_map
from archgym.simulators.dram.devices import device as named_device
from archgym.simulators.dram.spaces import POLICIES, WIDE_NAMES
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


#: Words of other versions for ours.
_OLDER = {
    "RefreshPolicy": {"Rankwise": "AllBank", "Bankwise": "PerBank", "Per2Bank": "PerBank", "SameBank": "PerBank"},
    "Scheduler": {"GrpFrFcfs": "FrFcfsGrp", "GrpFrFcfsWm": "FrFcfsGrp"},
}


class DramsysReader(Importer):
    """Reads a controller's file (``mcconfig``), or a simulation's with the files that it names, of versions 4 and 5."""

    files = (
        "simulations/simulation.json",
        "simulation.json",
        "configs/mcconfigs/controller.json",
        "mcconfig.json",
    )

    def claims(self, path: Path, text: str) -> bool:
        content = quietly(text, "json") if "mcconfig" in text else None
        if not isinstance(content, dict):
            return False
        return "mcconfig" in content or (
            isinstance(content.get("simulation"), dict) and "mcconfig" in content["simulation"]
        )

    def read(self, problem: Problem, path: Path, text: str) -> Said:
        place = quote_path(path)
        content = quietly(text, "json")
        if not isinstance(content, dict):
            raise ArchGymError(f"{place} is no JSON mapping; expected DRAMSys' mcconfig or simulation")
        whole = inner(content, place, "simulation") if "simulation" in content else content
        controller = _part(whole, "mcconfig", path)
        if controller is None:
            raise ArchGymError(f"{place} names no mcconfig, the file of the controller")
        said = Said()
        for name in WIDE_NAMES:
            if name not in controller:
                continue
            value = controller[name]
            if name in POLICIES:
                word = _OLDER.get(name, {}).get(str(value), str(value))
                if word != value:
                    said.unplaced.append(f"{name} {quote(str(value), 40, marks=False)}: {word} is the nearest.")
                value = word
            else:
                value = number(value, place, name)
            said.values[name] = value
        for name, value in controller.items():
            if name not in WIDE_NAMES and value not in (0, False, "", "Normal", None):
                said.unplaced.append(f"{str(name)[:40]} ({quote(str(value), 30, marks=False)}) has no counterpart.")
        _said_of_memspec(said, problem, whole, path)
        return said


def _part(whole: Mapping[str, Any], key: str, path: Path) -> dict[str, Any] | None:
    """A part of a simulation: inside, or in the file that it names beside or above the simulation's."""
    value = whole.get(key)
    if isinstance(value, dict):
        return dict(value)
    if not isinstance(value, str):
        return None
    for file in _places(path, key, value):
        if file.is_file():
            content = read_json(file, key)
            if isinstance(content, dict):
                return dict(content.get(key) or content)
    raise ArchGymError(f"{quote_path(path)} names the {key} {quote(value, 60)}, which is not beside it; put it there")


def _places(path: Path, key: str, name: str) -> Iterator[Path]:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return
    folders = {"mcconfig": ("mcconfigs", "mcconfig"), "memspec": ("memspecs", "memspec"),
               "addressmapping": ("amconfigs", "addressmapping")}[key]  # fmt: skip
    for base in (path.parent, path.parent.parent, path.parent.parent.parent):
        for middle in ("", "configs"):
            for folder in ("", *folders):
                yield base / middle / folder / name


def _said_of_memspec(said: Said, problem: Problem, whole: Mapping[str, Any], path: Path) -> None:
    for key in ("memspec", "addressmapping"):
        if key not in whole:
            continue
        try:
            part = _part(whole, key, path)
        except ArchGymError as error:
            said.unplaced.append(f"{error}.")
            continue
        if key == "memspec" and part is not None:
            _memspec(said, problem, part, quote_path(path))
        elif part is not None:
            _said_of_map(said, problem, part)


def _memspec(said: Said, problem: Problem, spec: Mapping[str, Any], place: str) -> None:
    organisation, timing = (
        part if isinstance(part, dict) else {} for part in (spec.get("memarchitecturespec"), spec.get("memtimingspec"))
    )

    def size(key: str, default: int) -> int:
        return int(number(organisation.get(key, default), place, key))

    banks = size("nbrOfBanks", 0)
    said.values["Ranks"], said.values["Channels"] = size("nbrOfRanks", 1), size("nbrOfChannels", 1)
    clock = 0.0
    if "clkMhz" in timing:
        clock = float(number(timing["clkMhz"], place, "clkMhz"))
    elif "tCK" in timing:
        period = float(number(timing["tCK"], place, "tCK"))
        clock = 1e-6 / period if period > 0 else 0.0
    said_of_memory(said, problem, str(spec.get("memoryType", "")).upper(), clock, banks, size("nbrOfRows", 0))


def _said_of_map(said: Said, problem: Problem, congen: Mapping[str, Any]) -> None:
    """The name of an address map, where its bits are those of one of ours."""
    fields = {"column": "COLUMN_BIT", "bank_group": "BANKGROUP_BIT", "bank": "BANK_BIT", "rank": "RANK_BIT",
              "channel": "CHANNEL_BIT", "row": "ROW_BIT"}  # fmt: skip
    own = optional(congen, "CONGEN") or congen
    device = getattr(whole_simulator(problem), "device", None)
    preset = said.values.get("Device") or getattr(device, "name", "DDR4-2400")
    ranks, channels = (int(said.values.get(name, 1)) for name in ("Ranks", "Channels"))
    bits = {ours: tuple(own.get(theirs) or ()) for ours, theirs in fields.items()}
    xor = bool(own.get("XOR"))
    for name in MAP_NAMES:
        try:
            known = named_map(name, named_device(str(preset)), ranks, channels)
        except ArchGymError:
            continue
        if xor == bool(known.xor) and all(tuple(known.bits.get(field, ())) == bits[field] for field in fields):
            said.values["AddressMap"] = name
            return
    said.unplaced.append(f"The address map is none of {', '.join(MAP_NAMES)}, bit for bit.")


_UNITS = {
    "memarchitecturespec.width": "bits a chip",
    "memarchitecturespec.*urstLength": "transfers",
    "memarchitecturespec.dataRate": "transfers a cycle",
    "memarchitecturespec.nbr*": "counts",
    "memtimingspec.clkMhz": "MHz",
    "memtimingspec.tCK": "s",
    "memtimingspec.*": "cycles of the memory's clock",
    "mempowerspec.i*": "mA",
    "mempowerspec.v*": "V",
    "*_BIT": "bits of the byte address, from 0",
    "XOR.*": "bits of the byte address, from 0",
    "mcconfig.RequestBufferSize": "requests",
    "mcconfig.MaxActiveTransactions": "requests",
    "mcconfig.RefreshMax*": "refresh commands",
    "mcconfig.HighWatermark": "requests",
    "mcconfig.LowWatermark": "requests",
    "simconfig.AddressOffset": "bytes",
    "simconfig.ErrorChipSeed": "a seed",
    "simconfig.WindowSize": "cycles of the memory's clock",
    "tracesetup.clkMhz": "MHz, of the times in the trace",
    "trace.stl: time, address": "cycles of that clock, bytes (hexadecimal)",
}


class Dramsys4Exporter(Exporter, DramsysReader):
    """A folder of resources as DRAMSys 4.0 reads it; the same files that the real back-end runs."""

    name = "dramsys4"
    title = "DRAMSys 4.0"
    simulators = ("dram",)
    units = _UNITS | {
        "thermalsimconfig.StaticTemperatureDefaultValue": "degrees Celsius (thermal simulation is off)",
        "thermalsimconfig.ThermalSimPeriod": "the `ThermalSimUnit`, us",
        "thermalsimconfig.IceServerPort": "a TCP port",
        "thermalsimconfig.SimPeriodAdjustFactor": "a factor",
        "thermalsimconfig.NPowStableCyclesToIncreasePeriod": "periods",
    }

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


class Dramsys5Exporter(Exporter, DramsysReader):
    """One file with everything inside, as DRAMSys 5 reads it, and the trace."""

    name = "dramsys5"
    title = "DRAMSys 5"
    simulators = ("dram",)
    units = _UNITS

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
