"""DRAMSim3: an ``.ini`` of structure, timing, power and system, and a trace of ``0xADDRESS READ|WRITE cycle`` lines.

Its controller has fewer choices than ours: FR-FCFS always, open or closed pages, refresh by rank or by bank.
"""

from __future__ import annotations

import configparser
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from archgym.errors import ArchGymError, quote
from archgym.exporting.base import Exporter, Written
from archgym.exporting.importing import Importer, Said, number, sections_of
from archgym.exporting.memory import Memory, memory_of, said_of_memory
from archgym.problem import Problem
from archgym.reading import quote_path
from archgym.space import Value

#: Our address maps from the most significant field down, in DRAMSim3's words; li interleaves below the column, which
#: DRAMSim3 cannot say with all bits of the column in one place.
_MAPS = {"rbc": "rorababgchco", "brc": "rababgrochco"}
_FAMILIES = {"DDR3": "DDR3", "DDR4": "DDR4"}


class _CasedParser(configparser.ConfigParser):
    """Keeps the case of keys: DRAMSim3 tells tRRD_S from trrd_s."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


class Dramsim3Exporter(Exporter, Importer):
    """``memory.ini`` and ``trace.txt``."""

    name = "dramsim3"
    title = "DRAMSim3"
    units = {
        "dram_structure.device_width": "bits",
        "dram_structure.BL": "transfers (a burst)",
        "dram_structure.*": "counts",
        "timing.tCK": "ns",
        "timing.*": "cycles of the memory's clock",
        "power.VDD": "V",
        "power.*": "mA",
        "system.channel_size": "MiB",
        "system.bus_width": "bits",
        "system.channels": "a count",
        "system.*_queue_size": "requests",
        "other.epoch_period": "cycles of the memory's clock",
        "other.output_level": "a level of detail",
        "trace.txt: address, cycle": "bytes (hexadecimal), cycles of the memory's clock",
    }
    simulators = ("dram",)
    files = ("memory.ini",)

    def write(self, problem: Problem, design: Mapping[str, Value], folder: Path) -> Written:
        memory = memory_of(problem, design)
        if memory.device.family not in _FAMILIES:
            raise ArchGymError(
                f"{memory.device.name} is {memory.device.family}, for which no DRAMSim3 file is written; known: DDR3, DDR4"
            )
        sections, unsaid = _sections(memory)
        parser = _CasedParser()
        parser.read_dict(sections)
        text = io.StringIO()
        parser.write(text)
        (folder / "memory.ini").write_text(text.getvalue(), encoding="utf-8")
        cycles = memory.trace.arrival(memory.device.clock_mhz)
        kinds = np.where(memory.trace.is_write, "WRITE", "READ")
        lines = map("0x{:x} {} {}\n".format, memory.trace.address.tolist(), kinds.tolist(), cycles.tolist())
        (folder / "trace.txt").write_text("".join(lines), encoding="utf-8")
        span = int(cycles[-1]) + 100_000
        return Written(
            {
                "memory.ini": "structure, times in cycles (tCK in ns), currents in mA, system",
                "trace.txt": f"the requests: address, kind, cycle of {memory.device.clock_mhz:g} MHz",
            },
            unsaid,
            f"dramsim3main memory.ini -c {span} -t trace.txt",
        )

    def claims(self, path: Path, text: str) -> bool:
        return "[dram_structure]" in text

    def read(self, problem: Problem, path: Path, text: str) -> Said:
        place = quote_path(path)
        parser = sections_of(text, place, "DRAMSim3")
        if not parser.has_section("dram_structure"):
            raise ArchGymError(f"{place} has no section [dram_structure]")
        given = {key: value for section in parser.sections() for key, value in parser[section].items()}
        words = {
            "PagePolicy": ("row_buf_policy", {"OPEN_PAGE": "Open", "CLOSE_PAGE": "Closed"}, "OPEN_PAGE"),
            "SchedulerBuffer": ("queue_structure", {"PER_BANK": "Bankwise", "PER_RANK": "Shared"}, "PER_BANK"),
            "RefreshPolicy": (
                "refresh_policy",
                {
                    "RANK_LEVEL_STAGGERED": "AllBank",
                    "RANK_LEVEL_SIMULTANEOUS": "AllBank",
                    "BANK_LEVEL_STAGGERED": "PerBank",
                },
                "RANK_LEVEL_STAGGERED",
            ),
        }
        said = Said({"Scheduler": "FrFcfs"})
        for parameter, (key, known, default) in words.items():
            word = given.get(key, default).strip().upper()
            if word not in known:
                raise ArchGymError(f"{place}: {key} is {quote(word, 40)}; known: {', '.join(known)}")
            said.values[parameter] = known[word]
        if "cmd_queue_size" in given:
            said.values["RequestBufferSize"] = number(given["cmd_queue_size"], place, "cmd_queue_size")
        sleeps = given.get("enable_self_refresh", "false").strip().lower() == "true"
        said.values["PowerDownPolicy"] = "Staggered" if sleeps else "NoPowerDown"
        order = given.get("address_mapping", "").strip().lower()
        if order:
            known_maps = (ours for ours, theirs in _MAPS.items() if _fields(theirs) == _fields(order))
            said.values["AddressMap"] = next(known_maps, order)
        size = {key: number(given.get(key, default), place, key) for key, default in (
            ("channels", 1), ("bankgroups", 1), ("banks_per_group", 8), ("device_width", 8), ("rows", 0), ("columns", 0),
            ("tck", 0), ("channel_size", 0), ("bus_width", 64),
        )}  # fmt: skip
        said.values["Channels"] = size["channels"]
        rank_mb = (
            size["rows"]
            * size["columns"]
            * size["bankgroups"]
            * size["banks_per_group"]
            * size["bus_width"]
            / 8
            / 2**20
        )
        if rank_mb and size["channel_size"]:
            said.values["Ranks"] = max(round(size["channel_size"] / rank_mb), 1)
        family = given.get("protocol", "").strip().upper()
        clock = 1000 / size["tck"] if size["tck"] else 0.0
        said_of_memory(
            said, problem, family, clock, int(size["bankgroups"] * size["banks_per_group"]), int(size["rows"])
        )
        said.unplaced.append("trans_queue_size, epochs and the times of the memory: the memory is a preset here.")
        return said


def _fields(order: str) -> list[str]:
    """The fields of an address map without rank and channel, of which there is often one: DRAMSim3's own files begin with
    them."""
    fields = [order[i : i + 2] for i in range(0, len(order), 2)]
    return [field for field in fields if field not in ("ra", "ch")]


def _sections(memory: Memory) -> tuple[dict[str, dict[str, Any]], list[str]]:
    device, timing, controller = memory.device, memory.device.timing, memory.controller
    unsaid: list[str] = []

    def pair(name: str) -> dict[str, int]:
        short, long = timing.get(f"{name}_S", timing.get(name)), timing.get(f"{name}_L", timing.get(name))
        return {f"t{name}_S": int(short or 0), f"t{name}_L": int(long or 0)}

    times: dict[str, Any] = {"tCK": device.tck_ps / 1000}
    times |= {"AL": timing.get("AL", 0), "CL": timing["RL"], "CWL": timing["WL"]}
    for name in ("RCD", "RP", "RAS", "RFC", "REFI", "FAW", "WR", "RTP", "CKE", "CKESR", "XS", "XP", "RTRS"):
        if name in timing:
            times[f"t{name}"] = timing[name]
    times["tRPRE"], times["tWPRE"] = timing.get("RPRE", 1), timing.get("WPRE", 1)
    times |= pair("RRD") | pair("WTR") | pair("CCD")
    power: dict[str, Any] = {}
    if device.has_energy:
        names = {"idd0": "IDD0", "idd2p0": "IDD2P", "idd2n": "IDD2N", "idd3p0": "IDD3P", "idd3n": "IDD3N",
                 "idd4w": "IDD4W", "idd4r": "IDD4R", "idd5": "IDD5AB", "idd6": "IDD6x", "vdd": "VDD"}  # fmt: skip
        power = {theirs: device.power[ours] for ours, theirs in names.items() if ours in device.power}
        if "vdd2" in device.power:
            unsaid.append("The second supply (VPP) and its currents have no place there.")
    else:
        unsaid.append(f"{device.name} has no currents here: the section of power is empty.")
    if memory.map_name in _MAPS:
        order = _MAPS[memory.map_name]
    else:
        order = _MAPS["rbc"]
        unsaid.append(
            f"The address map {memory.map_name!r} cannot be said as an order of whole fields; {order} is written."
        )
    if memory.channels > 1:
        unsaid.append("Channel bits lie above the column there, and directly above the burst here.")
    pages = {"Open": "OPEN_PAGE", "OpenAdaptive": "OPEN_PAGE", "Closed": "CLOSE_PAGE", "ClosedAdaptive": "CLOSE_PAGE"}
    if "Adaptive" in str(controller["PagePolicy"]):
        unsaid.append(
            f"PagePolicy {controller['PagePolicy']} looks at waiting requests; {pages[controller['PagePolicy']]} does not."
        )
    if controller["Scheduler"] != "FrFcfs":
        unsaid.append(f"Scheduler {controller['Scheduler']}: DRAMSim3 always serves row hits first (FR-FCFS).")
    refresh = {"AllBank": "RANK_LEVEL_STAGGERED", "PerBank": "BANK_LEVEL_STAGGERED"}.get(
        str(controller["RefreshPolicy"])
    )
    if refresh is None:
        refresh = "RANK_LEVEL_STAGGERED"
        unsaid.append("NoRefresh cannot be said: ranks are refreshed.")
    for name in (
        "RefreshMaxPostponed",
        "RefreshMaxPulledin",
        "RespQueue",
        "Arbiter",
        "MaxActiveTransactions",
        "CmdMux",
    ):
        unsaid.append(f"{name} ({controller[name]}) has no counterpart.")
    buffer = {"Bankwise": "PER_BANK", "ReadWrite": "PER_RANK", "Shared": "PER_RANK"}[str(controller["SchedulerBuffer"])]
    if controller["SchedulerBuffer"] != "Bankwise":
        unsaid.append(f"SchedulerBuffer {controller['SchedulerBuffer']}: the queue is one a rank.")
    return {
        "dram_structure": {
            "protocol": _FAMILIES[device.family],
            "bankgroups": device.bank_groups,
            "banks_per_group": device.banks // device.bank_groups,
            "rows": device.rows,
            "columns": device.columns,
            "device_width": device.width_bits,
            "BL": device.burst_length,
        },
        "timing": times,
        "power": power,
        "system": {
            "channel_size": memory.rank_megabytes * memory.ranks,
            "channels": memory.channels,
            "bus_width": device.width_bits * device.devices,
            "address_mapping": order,
            "queue_structure": buffer,
            "cmd_queue_size": controller["RequestBufferSize"],
            "trans_queue_size": 32,
            "refresh_policy": refresh,
            "row_buf_policy": pages[str(controller["PagePolicy"])],
            "enable_self_refresh": "true" if controller["PowerDownPolicy"] == "Staggered" else "false",
        },
        "other": {"epoch_period": 0, "output_level": 1, "output_prefix": "archgym"},
    }, unsaid
