"""Explicit designs: named blocks, how they are linked, and where each task runs and writes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archgym.errors import ArchGymError
from archgym.simulators.soc.blocks import Accelerator, Bus, Cpu, Memory, ProcessingElement, library
from archgym.simulators.soc.task_graph import TaskGraph

CONSTRAINTS: dict[str, str] = {
    "no_block": "a design has at least one processing element, one memory and one bus",
    "memory_on_two_buses": "a memory is attached to one bus only",
    "dangling_memory": "every memory that a task uses is attached to a bus",
    "bus_cycle": "a bus is not linked to itself (in physical mode: the buses form a tree)",
    "disconnected": "every block that a task uses can be reached from every other over the buses",
    "incompatible_accelerator": "an accelerator runs only the task it was made for (and dummies)",
    "die_area": "the area on the die is at most 100 mm2 (physical mode)",
}
"""Rules of explicit designs: name -> sentence, in the order in which they are checked."""


@dataclass(frozen=True)
class SocDesign:
    """An explicit design; any connected graph of buses.

    Attributes:
        pes, memories, buses: the blocks. The order of the processing elements decides ties in the schedule; the
            first one is where the design is walked from.
        pe_bus: index of the bus of each processing element.
        memory_bus: indices of the buses of each memory; one each in a valid design.
        bus_links: pairs of buses, undirected; duplicates count once.
        task_pe: task name -> index of the processing element that runs it.
        task_memory: task name -> index of the memory it writes to. A task reads each input from where its parent
            wrote it.
    """

    pes: tuple[ProcessingElement, ...]
    memories: tuple[Memory, ...]
    buses: tuple[Bus, ...]
    pe_bus: tuple[int, ...]
    memory_bus: tuple[tuple[int, ...], ...]
    bus_links: tuple[tuple[int, int], ...]
    task_pe: Mapping[str, int]
    task_memory: Mapping[str, int]

    def violation(self, graph: TaskGraph, *, tree: bool = False) -> str:
        """Name of the first broken rule of ``CONSTRAINTS``, empty where the design is valid for ``graph``; with
        ``tree`` any cycle of buses breaks ``bus_cycle``.

        Raises:
            ArchGymError: where the design is not even well formed (an index out of range, a task left out).
        """
        self._check_form(graph)
        if not (self.pes and self.memories and self.buses):
            return "no_block"
        if any(len(set(buses)) > 1 for buses in self.memory_bus):
            return "memory_on_two_buses"
        pes, memories = self.used(graph)
        if any(not self.memory_bus[m] for m in memories):
            return "dangling_memory"
        if any(a == b for a, b in self.bus_links):
            return "bus_cycle"
        reached = self.reached_from(self.pe_bus[pes[0]])
        if not reached >= {*(self.pe_bus[p] for p in pes), *(self.memory_bus[m][0] for m in memories)}:
            return "disconnected"
        links = {frozenset(pair) for pair in self.bus_links if reached.issuperset(pair)}
        if tree and len(links) > len(reached) - 1:
            return "bus_cycle"
        for task in graph.tasks:
            pe = self.pes[self.task_pe[task.name]]
            if isinstance(pe, Accelerator) and task.work > 0 and pe.task != task.name:
                return "incompatible_accelerator"
        return ""

    def used(self, graph: TaskGraph) -> tuple[list[int], list[int]]:
        """The processing elements that run a task and the memories that one writes to, by index, ascending. All else is
        pruned before anything is judged, unless the buses link it to these."""
        written = {self.task_memory[task.name] for task, out in zip(graph.tasks, graph.children, strict=True) if out}
        return sorted({self.task_pe[task.name] for task in graph.tasks}), sorted(written)

    def reached_from(self, bus: int) -> set[int]:
        """The buses that links connect with ``bus``, itself included."""
        reached, grown = {bus}, True
        while grown:
            grown = False
            for a, b in self.bus_links:
                if (a in reached) != (b in reached):
                    reached |= {a, b}
                    grown = True
        return reached

    def root(self, graph: TaskGraph) -> int:
        """The processing element from which the design is walked: the first, or, where that is linked to none that runs a
        task, the first that does. (FARSI always takes the first, and fails there.)"""
        first = self.used(graph)[0][0]
        return 0 if self.pe_bus[0] in self.reached_from(self.pe_bus[first]) else first

    def _check_form(self, graph: TaskGraph) -> None:
        if len(self.pe_bus) != len(self.pes) or len(self.memory_bus) != len(self.memories):
            raise ArchGymError("pe_bus and memory_bus need one entry a processing element and one a memory")
        for what, indices, count in (
            ("pe_bus", self.pe_bus, len(self.buses)),
            ("memory_bus", [bus for buses in self.memory_bus for bus in buses], len(self.buses)),
            ("bus_links", [bus for pair in self.bus_links for bus in pair], len(self.buses)),
            ("task_pe", self.task_pe.values(), len(self.pes)),
            ("task_memory", self.task_memory.values(), len(self.memories)),
        ):
            for index in indices:
                if not 0 <= index < count:
                    raise ArchGymError(f"{what} names block {index}; expected 0..{count - 1}")
        for task in graph.tasks:
            for what, mapping in (("task_pe", self.task_pe), ("task_memory", self.task_memory)):
                if task.name not in mapping and not (what == "task_memory" and task.name == "sink"):
                    raise ArchGymError(f"{what} lacks task {task.name!r} of {graph.name!r}; map every task")
        for pe in self.pes:
            if isinstance(pe, Accelerator) and (
                pe.task not in graph.index or graph.tasks[graph.index[pe.task]].accelerator is None
            ):
                raise ArchGymError(f"{graph.name!r} has no accelerator for a task {pe.task!r}; use one of its tasks")

    # --- the plain form: names of blocks and lists of indices, as in JSON ---------------------------------------

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SocDesign:
        """Read the plain form: ``pes``, ``mems`` and ``buses`` (block names), ``pe_to_bus``, ``mem_to_bus`` (an index,
        a list of indices or None), ``bus_to_bus`` (pairs), ``task_to_pe`` and ``task_to_mem``.

        Block names: ``A53_pe``, ``<task>_IP0_<unroll>_<f>_pe``, ``LMEM_<k>_<f>_mem`` (SRAM), ``GMEM_<k>_<f>_mem``
        (DRAM) and ``LMEM_ic_<k>_<f>_ic``, where f is the clock in 100 MHz and k the index of the width.
        """
        try:
            return cls(
                tuple(_read_pe(name) for name in data["pes"]),
                tuple(_read_memory(name) for name in data["mems"]),
                tuple(_read_bus(name) for name in data["buses"]),
                tuple(int(bus) for bus in data["pe_to_bus"]),
                tuple(_bus_set(entry) for entry in data["mem_to_bus"]),
                tuple((int(a), int(b)) for a, b in data["bus_to_bus"]),
                {_task_name(task): int(pe) for task, pe in data["task_to_pe"].items()},
                {_task_name(task): int(memory) for task, memory in data["task_to_mem"].items()},
            )
        except KeyError as error:
            raise ArchGymError(
                f"the design lacks {error}; expected pes, mems, buses, pe_to_bus, mem_to_bus, bus_to_bus, task_to_pe "
                "and task_to_mem"
            ) from None
        except (TypeError, AttributeError) as error:
            raise ArchGymError(f"the design is not in the plain form ({error}); see SocDesign.from_dict") from None

    def to_dict(self) -> dict[str, Any]:
        """The plain form that :meth:`from_dict` reads; JSON-able."""
        return {
            "pes": [block_name(pe) for pe in self.pes],
            "mems": [block_name(memory) for memory in self.memories],
            "buses": [block_name(bus) for bus in self.buses],
            "pe_to_bus": list(self.pe_bus),
            "mem_to_bus": [buses[0] if len(buses) == 1 else list(buses) for buses in self.memory_bus],
            "bus_to_bus": [list(pair) for pair in self.bus_links],
            "task_to_pe": dict(self.task_pe),
            "task_to_mem": dict(self.task_memory),
        }


def block_name(block: ProcessingElement | Memory | Bus) -> str:
    """Name of a block in the plain form."""
    lib = library()
    if isinstance(block, Cpu):
        return f"{lib.cpu_name}_pe"
    if isinstance(block, Accelerator):
        return f"{block.task}_IP0_{block.unroll}_{block.clock_mhz // 100}_pe"
    level = f"{lib.widths.index(block.bytes_per_cycle)}_{block.clock_mhz // 100}"
    if isinstance(block, Memory):
        return f"{'GMEM' if block.kind == 'dram' else 'LMEM'}_{level}_mem"
    return f"LMEM_ic_{level}_ic"


def _task_name(name: str) -> str:
    """Task names of FARSI's files are accepted in their own spelling."""
    return {"souurce": "source", "siink": "sink"}.get(name, name.removesuffix("_fxp_cloned"))


def _read_pe(name: str) -> ProcessingElement:
    if name == f"{library().cpu_name}_pe":
        return Cpu()
    match = re.fullmatch(r"(.+)_IP0_(\d+)_(\d+)_pe", name)
    if not match:
        raise ArchGymError(f"{name!r} is no processing element; expected A53_pe or <task>_IP0_<unroll>_<f>_pe")
    return Accelerator(_task_name(match[1]), int(match[2]), _clock(name, match[3]))


def _read_memory(name: str) -> Memory:
    match = re.fullmatch(r"(GMEM|LMEM)_(\d+)_(\d+)_mem", name)
    if not match:
        raise ArchGymError(f"{name!r} is no memory; expected LMEM_<k>_<f>_mem (SRAM) or GMEM_<k>_<f>_mem (DRAM)")
    return Memory("dram" if match[1] == "GMEM" else "sram", _width(name, match[2]), _clock(name, match[3]))


def _read_bus(name: str) -> Bus:
    match = re.fullmatch(r"LMEM_ic_(\d+)_(\d+)_ic", name)
    if not match:
        raise ArchGymError(f"{name!r} is no bus; expected LMEM_ic_<k>_<f>_ic")
    return Bus(_width(name, match[1]), _clock(name, match[2]))


def _width(name: str, digits: str) -> int:
    widths = library().widths
    if int(digits) >= len(widths):
        raise ArchGymError(f"{name!r} has width level {digits}; expected 0..{len(widths) - 1}")
    return widths[int(digits)]


def _clock(name: str, digits: str) -> int:
    clock = int(digits) * 100
    if clock not in library().clocks_mhz:
        raise ArchGymError(f"{name!r} has clock multiplier {digits}; expected 1, 4, 6 or 8")
    return clock


def _bus_set(entry: int | Sequence[int] | None) -> tuple[int, ...]:
    if entry is None:
        return ()
    return (int(entry),) if isinstance(entry, int) else tuple(int(bus) for bus in entry)
