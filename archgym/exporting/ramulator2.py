"""Ramulator 2: its YAML and a load-store trace. Its controller is FR-FCFS; presets of the same speed stand for the memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from archgym.errors import ArchGymError, quote
from archgym.exporting.base import Exporter, Written
from archgym.exporting.importing import Importer, Said, inner, mapping_of, number, optional, quietly
from archgym.exporting.memory import Memory, memory_of, said_of_memory
from archgym.problem import Problem
from archgym.reading import quote_path
from archgym.space import Value
from archgym.writing import yaml_text

#: Our times -> the fields of Ramulator's timing, in cycles.
_TIMES = {
    "RL": "nCL", "RCD": "nRCD", "RP": "nRP", "RAS": "nRAS", "RC": "nRC", "WR": "nWR", "RTP": "nRTP", "WL": "nCWL",
    "CCD_S": "nCCDS", "CCD_L": "nCCDL", "RRD_S": "nRRDS", "RRD_L": "nRRDL", "WTR_S": "nWTRS", "WTR_L": "nWTRL",
    "CCD": "nCCD", "RRD": "nRRD", "WTR": "nWTR", "FAW": "nFAW", "RFC": "nRFC", "REFI": "nREFI",
}  # fmt: skip
_MAPS = {"rbc": "RoBaRaCoCh", "brc": "ChRaBaRoCo", "li": "RoBaRaCoCh", "li-xor": "MOP4CLXOR"}


class Ramulator2Exporter(Exporter, Importer):
    """``config.yaml`` and ``trace.txt`` (``LD 0xADDRESS`` or ``ST 0xADDRESS``)."""

    name = "ramulator2"
    title = "Ramulator 2"
    units = {
        "org.density": "Mibit a chip",
        "org.dq": "bits",
        "org.*": "counts",
        "timing.rate": "MT/s",
        "timing.tCK_ps": "ps",
        "timing.*": "cycles of the memory's clock",
        "clock_ratio": "a ratio of clocks",
        "RowPolicy.cap": "requests to an open row",
        "trace.txt: address": "bytes (hexadecimal)",
    }
    simulators = ("dram",)
    files = ("config.yaml",)

    def write(self, problem: Problem, design: Mapping[str, Value], folder: Path) -> Written:
        memory = memory_of(problem, design)
        if memory.device.family not in ("DDR3", "DDR4"):
            raise ArchGymError(
                f"{memory.device.name} is {memory.device.family}, for which no Ramulator file is written; known: DDR3, DDR4"
            )
        content, unsaid = _config(memory)
        (folder / "config.yaml").write_text(yaml_text(content), encoding="utf-8")
        kinds = np.where(memory.trace.is_write, "ST", "LD")
        lines = map("{} 0x{:x}\n".format, kinds.tolist(), memory.trace.address.tolist())
        (folder / "trace.txt").write_text("".join(lines), encoding="utf-8")
        if memory.trace.time.any():
            unsaid.insert(
                0, "The times of the requests: a load-store trace has none, requests come as fast as they are taken."
            )
        return Written(
            {
                "config.yaml": "front end, memory (times in cycles, period in ps), controller",
                "trace.txt": "the requests",
            },
            unsaid,
            "ramulator2 -f config.yaml",
        )

    def claims(self, path: Path, text: str) -> bool:
        content = quietly(text) if "MemorySystem" in text else None
        return isinstance(content, dict) and "MemorySystem" in content

    def read(self, problem: Problem, path: Path, text: str) -> Said:
        place = quote_path(path)
        system = inner(mapping_of(text, place), place, "MemorySystem")
        dram = inner(system, place, "DRAM")
        controller = optional(system, "Controller")
        said = Said()

        def chosen(key: str, default: str) -> str:
            return str(optional(controller, key).get("impl", default))

        schedulers = {"FRFCFS": "FrFcfs", "FCFS": "Fifo"}
        scheduler = chosen("Scheduler", "FRFCFS")
        if scheduler not in schedulers:
            said.unplaced.append(f"Scheduler {scheduler[:40]}: FrFcfs is taken.")
        said.values["Scheduler"] = schedulers.get(scheduler, "FrFcfs")
        row = chosen("RowPolicy", "OpenRowPolicy")
        pages = {"OpenRowPolicy": "Open", "ClosedRowPolicy": "Closed", "TimeoutRowPolicy": "OpenAdaptive"}
        if row not in pages:
            raise ArchGymError(f"{place}: the row policy {quote(row, 40)} is not known; known: {', '.join(pages)}")
        said.values["PagePolicy"] = pages[row]
        policy = optional(controller, "RowPolicy")
        if row == "ClosedRowPolicy" and number(policy.get("cap", 1), place, "cap") > 1:
            said.values["PagePolicy"] = "ClosedAdaptive"
            said.unplaced.append(
                f"ClosedRowPolicy closes after {policy['cap']} hits; ClosedAdaptive closes without waiting hits."
            )
        refresh = chosen("RefreshManager", "AllBank")
        said.values["RefreshPolicy"] = {"NoRefresh": "NoRefresh", "AllBank": "AllBank"}.get(refresh, "PerBank")
        plugins = controller.get("plugins")
        for plugin in plugins if isinstance(plugins, list) else []:
            said.unplaced.append(f"Plugin {quote(str(plugin), 60, marks=False)} has no counterpart.")
        word = str(optional(system, "AddrMapper").get("impl", "RoBaRaCoCh"))
        maps = {"RoBaRaCoCh": "rbc", "ChRaBaRoCo": "brc", "MOP4CLXOR": "li-xor"}
        if word in maps:
            said.values["AddressMap"] = maps[word]
            if word == "MOP4CLXOR":
                said.unplaced.append("MOP4CLXOR keeps four lines together; li-xor is the nearest map.")
        else:
            said.unplaced.append(f"Address mapper {word[:40]} has no counterpart.")
        _said_of_dram(said, problem, dram, place)
        return said


def _said_of_dram(said: Said, problem: Problem, dram: Mapping[str, Any], place: str) -> None:
    """Kind, speed and size of the memory: by the names of presets, or by numbers."""
    family = str(dram.get("impl", "")).upper().split("-")[0]
    organisation = optional(dram, "org")
    timing = optional(dram, "timing")
    preset = str(timing.get("preset", ""))
    digits = re.search(r"_(\d{3,5})", preset)
    rate = number(timing["rate"], place, "rate") if "rate" in timing else int(digits[1]) if digits else 0
    if rate < 0:
        rate = int(digits[1]) if digits else 0
    for key, parameter in (("channel", "Channels"), ("rank", "Ranks")):
        if key in organisation:
            said.values[parameter] = number(organisation[key], place, key)
    banks = 0
    if "bank" in organisation:
        groups = number(organisation.get("bankgroup", 1), place, "bankgroup")
        banks = int(number(organisation["bank"], place, "bank") * groups)
    rows = int(number(organisation.get("row", 0), place, "row"))
    said_of_memory(said, problem, family, rate / 2, banks, rows)
    if timing.get("preset") or organisation.get("preset"):
        names = ", ".join(str(part.get("preset"))[:40] for part in (organisation, timing) if part.get("preset"))
        said.unplaced.append(f"Ramulator's presets {names}: the memory is a preset of archgym.")


def _config(memory: Memory) -> tuple[dict[str, Any], list[str]]:
    device, controller = memory.device, memory.controller
    unsaid: list[str] = []
    megabits = device.rank_bytes // device.devices >> 17
    organisation = {
        "density": megabits,
        "dq": device.width_bits,
        "channel": memory.channels,
        "rank": memory.ranks,
        **({"bankgroup": device.bank_groups} if device.bank_groups > 1 else {}),
        "bank": device.banks // device.bank_groups,
        "row": device.rows,
        "column": device.columns,
    }
    timing: dict[str, Any] = {"rate": round(device.clock_mhz * device.data_rate), "tCK_ps": device.tck_ps}
    timing["nBL"] = device.burst_cycles
    timing |= {theirs: int(device.timing[ours]) for ours, theirs in _TIMES.items() if ours in device.timing}
    if memory.map_name == "li":
        unsaid.append("The address map 'li' (bank groups below the columns) has no counterpart; RoBaRaCoCh is written.")
    elif memory.map_name == "li-xor":
        unsaid.append("MOP4CLXOR is like the address map 'li-xor', not equal to it.")
    policy = {"Open": "OpenRowPolicy", "OpenAdaptive": "OpenRowPolicy"}.get(
        str(controller["PagePolicy"]), "ClosedRowPolicy"
    )
    if controller["PagePolicy"] != "Open":
        unsaid.append(
            f"PagePolicy {controller['PagePolicy']} is written as {policy}, which closes rows by other rules."
        )
    row_policy: dict[str, Any] = {"impl": policy}
    if policy == "ClosedRowPolicy":
        row_policy["cap"] = 1 if controller["PagePolicy"] == "Closed" else 4
    if controller["Scheduler"] != "FrFcfs":
        unsaid.append(f"Scheduler {controller['Scheduler']}: FRFCFS is written.")
    inner: dict[str, Any] = {"impl": "Generic", "Scheduler": {"impl": "FRFCFS"}}
    if controller["RefreshPolicy"] == "NoRefresh":
        inner["RefreshManager"] = {"impl": "NoRefresh"}
    else:
        inner["RefreshManager"] = {"impl": "AllBank"}
        if controller["RefreshPolicy"] == "PerBank":
            unsaid.append("Refresh of single banks: all banks are refreshed together.")
    for name in ("SchedulerBuffer", "RequestBufferSize", "RefreshMaxPostponed", "RefreshMaxPulledin", "RespQueue",
                 "Arbiter", "MaxActiveTransactions", "PowerDownPolicy", "CmdMux"):  # fmt: skip
        unsaid.append(f"{name} ({controller[name]}) has no counterpart.")
    inner |= {"RowPolicy": row_policy, "plugins": None}
    unsaid.append("Currents: power stands in Ramulator's own presets.")
    return {
        "Frontend": {"impl": "LoadStoreTrace", "path": "trace.txt", "clock_ratio": 1},
        "MemorySystem": {
            "impl": "GenericDRAM",
            "clock_ratio": 1,
            "DRAM": {"impl": device.family, "org": organisation, "timing": timing},
            "Controller": inner,
            "AddrMapper": {"impl": _MAPS.get(memory.map_name, "RoBaRaCoCh")},
        },
    }, unsaid
