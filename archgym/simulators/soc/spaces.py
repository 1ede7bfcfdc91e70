"""The design spaces: ``full``, the one to search, and ``archgym-limited``, ArchGym's own vectors for comparison.

Each row maps to one explicit design (:class:`~archgym.simulators.soc.design.SocDesign`), which the readable model
simulates; the kernel decodes the same rows by the column layouts made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.soc.blocks import MEMORY_KINDS, Accelerator, Bus, Cpu, Memory, ProcessingElement, library
from archgym.simulators.soc.design import CONSTRAINTS, SocDesign
from archgym.simulators.soc.kernels.canonical import canonicalize
from archgym.simulators.soc.task_graph import TaskGraph
from archgym.space import Constraint, Designs, DesignSpace, Mask, Parameter

BUSES = MEMORIES = 4
CPUS = 3
TOPOLOGIES: dict[str, tuple[int, tuple[tuple[int, int], ...]]] = {
    "single": (1, ()),
    "chain2": (2, ((0, 1),)),
    "chain3": (3, ((0, 1), (1, 2))),
    "chain4": (4, ((0, 1), (1, 2), (2, 3))),
    "star4": (4, ((0, 1), (0, 2), (0, 3))),
}
"""Name -> number of buses and their links; the hub of the star is bus 0."""


# --- full ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FullColumns:
    """Column of each parameter of the space ``full``; task arrays hold -1 where a task lacks the parameter."""

    pe: NDArray[np.int64]
    unroll: NDArray[np.int64]
    clock: NDArray[np.int64]
    bus: NDArray[np.int64]
    memory: NDArray[np.int64]
    topology: int
    bus_width: NDArray[np.int64]
    bus_clock: NDArray[np.int64]
    memory_kind: NDArray[np.int64]
    memory_width: NDArray[np.int64]
    memory_clock: NDArray[np.int64]
    memory_bus: NDArray[np.int64]


class FullSpace(DesignSpace):
    """Allocation, mapping and sizing of an SoC of up to three CPUs, an accelerator a task, four memories, four buses.

    Every row is a valid design: parameters of blocks that are not there have no effect, and a bus index beyond the
    topology's last bus wraps around. ``canonical`` sets the former to their first value, wraps the latter and numbers
    the CPUs cpu1 and cpu2 by first use; ``repair`` is the same map.
    """

    def __init__(self, graph: TaskGraph) -> None:
        lib = library()
        parameters: list[Parameter] = []

        def add(name: str, values: Sequence[int | str], ordered: bool, unit: str = "", text: str = "") -> int:
            parameters.append(Parameter(name, tuple(values), ordered, unit, text))
            return len(parameters) - 1

        buses, memories = range(BUSES), range(MEMORIES)
        columns: dict[str, list[int]] = {name: [] for name in FullColumns.__dataclass_fields__}
        topology = add("topology", tuple(TOPOLOGIES), False, "", "how many buses there are and how they are linked")
        for b in buses:
            columns["bus_width"].append(add(f"bus_width.{b}", lib.widths, True, "B/cycle", f"width of bus {b}"))
            columns["bus_clock"].append(add(f"bus_freq.{b}", lib.clocks_mhz, True, "MHz", f"clock of bus {b}"))
        for m in memories:
            columns["memory_kind"].append(add(f"mem_kind.{m}", MEMORY_KINDS, False, "", f"technology of memory {m}"))
            columns["memory_width"].append(add(f"mem_width.{m}", lib.widths, True, "B/cycle", f"width of memory {m}"))
            columns["memory_clock"].append(add(f"mem_freq.{m}", lib.clocks_mhz, True, "MHz", f"clock of memory {m}"))
            columns["memory_bus"].append(add(f"mem_bus.{m}", tuple(buses), False, "", f"bus of memory {m}"))
        cpus = tuple(f"cpu{i}" for i in range(CPUS))
        for t, task in enumerate(graph.tasks):
            pe = unroll = clock = bus = memory = -1
            name = task.name
            if task.work > 0:
                if task.accelerator is not None:
                    pe = add(f"pe.{name}", ("accel", *cpus), False, "", f"what runs {name}")
                    factors = lib.unrolls(task.accelerator)
                    if len(factors) > 1:
                        unroll = add(f"unroll.{name}", factors, True, "", f"unroll factor of {name}'s accelerator")
                    clock = add(f"freq.{name}", lib.clocks_mhz, True, "MHz", f"clock of {name}'s accelerator")
                    bus = add(f"bus.{name}", tuple(buses), False, "", f"bus of {name}'s accelerator")
                else:
                    pe = add(f"pe.{name}", cpus, False, "", f"what runs {name}")
            if task.work > 0 or t == graph.source:
                memory = add(f"mem.{name}", tuple(memories), False, "", f"memory that {name} writes to")
            for key, column in (("pe", pe), ("unroll", unroll), ("clock", clock), ("bus", bus), ("memory", memory)):
                columns[key].append(column)
        self.graph = graph
        self.columns_of = FullColumns(
            topology=topology, **{k: np.array(v, dtype=np.int64) for k, v in columns.items() if k != "topology"}
        )
        self._topology_buses = np.array([count for count, _ in TOPOLOGIES.values()])
        self._accelerated = np.array([task.accelerator is not None for task in graph.tasks])
        c = self.columns_of
        writes = [bool(children) for children in graph.children]
        self._tasks = np.array(
            [c.pe, c.unroll, c.clock, c.bus, c.memory, np.where(self._accelerated, 0, 1), writes], dtype=np.int64
        )
        self._blocks = np.array(
            [c.bus_width, c.bus_clock, c.memory_kind, c.memory_width, c.memory_clock, c.memory_bus], dtype=np.int64
        )
        super().__init__(parameters, canonicalize=self._canonical, repair=self._canonical)

    def _canonical(self, designs: Designs) -> Designs:
        rows = np.ascontiguousarray(designs, dtype=np.int64)
        canonicalize(
            rows, self._tasks, self._blocks, self.columns_of.topology, self._topology_buses,
            np.zeros(MEMORIES, dtype=np.int64),
        )  # fmt: skip
        return rows

    def _written(self, designs: Designs) -> Mask:
        """Which memories are written to; ``(n, 4)``."""
        c = self.columns_of
        used = np.zeros((len(designs), MEMORIES), dtype=bool)
        for t, children in enumerate(self.graph.children):
            if children:
                if c.memory[t] >= 0:
                    used[np.arange(len(designs)), designs[:, c.memory[t]]] = True
                else:
                    used[:, 0] = True
        return used

    def element_count(self, designs: Designs) -> NDArray[np.int64]:
        """Processing elements of each design: cpu0, the other CPUs in use, the accelerators; ``(n,)``."""
        real = np.flatnonzero(self.columns_of.pe >= 0)
        choice = designs[:, self.columns_of.pe[real]] + np.where(self._accelerated[real], 0, 1)
        others = [(choice == k).any(axis=1).astype(np.int64) for k in range(2, CPUS + 1)]
        return 1 + sum(others) + (choice == 0).sum(axis=1)

    def explicit(self, design: NDArray[np.int64]) -> SocDesign:
        """The explicit design of one row."""
        row = self.canonical(design)[0]
        values = self.decode(row)[0]
        graph = self.graph
        bus_count, links = TOPOLOGIES[str(values["topology"])]
        pes: list[ProcessingElement] = [Cpu()]
        pe_bus = [0]
        task_pe: dict[str, int] = {}
        cpu_pe = {"cpu0": 0}
        for task in graph.tasks:
            cpu = str(values.get(f"pe.{task.name}", "cpu0"))
            if cpu != "accel":
                if cpu not in cpu_pe:
                    cpu_pe[cpu] = len(pes)
                    pes.append(Cpu())
                    pe_bus.append(0)
                task_pe[task.name] = cpu_pe[cpu]
        for task in graph.tasks:
            if task.name not in task_pe:
                task_pe[task.name] = len(pes)
                unroll = int(values.get(f"unroll.{task.name}", 1))
                pes.append(Accelerator(task.name, unroll, int(values[f"freq.{task.name}"])))
                pe_bus.append(int(values[f"bus.{task.name}"]))
        kept = np.flatnonzero(self._written(row[None, :])[0]).tolist()
        return SocDesign(
            pes=tuple(pes),
            memories=tuple(
                Memory(str(values[f"mem_kind.{m}"]), int(values[f"mem_width.{m}"]), int(values[f"mem_freq.{m}"]))
                for m in kept
            ),
            buses=tuple(Bus(int(values[f"bus_width.{b}"]), int(values[f"bus_freq.{b}"])) for b in range(bus_count)),
            pe_bus=tuple(pe_bus),
            memory_bus=tuple((int(values[f"mem_bus.{m}"]),) for m in kept),
            bus_links=links,
            task_pe=task_pe,
            task_memory={
                task.name: kept.index(int(values.get(f"mem.{task.name}", 0)))
                for t, task in enumerate(graph.tasks)
                if graph.children[t]
            },
        )


# --- archgym-limited -------------------------------------------------------------------------------------------


class LimitedSpace(DesignSpace):
    """ArchGym's vectors: three processing elements (CPU or the first accelerator of the library at its slowest), three
    of the slowest DRAM, three of the narrowest buses, arbitrary links. Kept for comparison: no design of it comes near
    a budget, and most vectors are not even connected.
    """

    def __init__(self, graph: TaskGraph, *, tree: bool = False) -> None:
        lib = library()
        self.graph = graph
        first = graph.first_accelerator
        pe_values = ("cpu", f"accelerator.{first}") if first else ("cpu",)
        clocks = lib.clocks_mhz
        groups: dict[str, list[Parameter]] = {
            "pe": [Parameter(f"pe.{i}", pe_values, False, "", f"processing element {i}") for i in range(3)],
            "memory": [
                Parameter(f"mem_freq.{i}", clocks, True, "MHz", f"clock of memory {i}, a DRAM of 4 B/cycle")
                for i in range(3)
            ],
            "bus": [Parameter(f"bus_freq.{i}", clocks, True, "MHz", f"clock of bus {i}, 4 B/cycle") for i in range(3)],
            "pe_bus": [
                Parameter(f"pe_to_bus.{i}", (0, 1, 2), False, "", f"bus of processing element {i}") for i in range(3)
            ],
            "bus_bus": [
                Parameter(f"bus_to_bus.{i}", (-1, 0, 1, 2), False, "", f"bus that bus {i} links to, -1 for none")
                for i in range(3)
            ],
            "bus_memory": [
                Parameter(f"bus_to_mem.{i}", (-1, 0, 1, 2), False, "", f"memory on bus {i}, -1 for none")
                for i in range(3)
            ],
            "task_pe": [
                Parameter(f"task_to_pe.{t.name}", (0, 1, 2), False, "", f"what runs {t.name}") for t in graph.tasks
            ],
            "task_memory": [
                Parameter(f"task_to_mem.{t.name}", (0, 1, 2), False, "", f"memory that {t.name} writes to")
                for t in graph.tasks
            ],
        }
        self.start: dict[str, int] = {}
        parameters: list[Parameter] = []
        for name, group in groups.items():
            self.start[name] = len(parameters)
            parameters += group
        self._tree = tree
        rules = {
            "memory_on_two_buses": self._one_bus,
            "dangling_memory": self._attached,
            "bus_cycle": self._no_cycle,
            "disconnected": self._connected,
            "incompatible_accelerator": self._compatible,
        }
        super().__init__(
            parameters,
            [Constraint(name, CONSTRAINTS[name], rule) for name, rule in rules.items()],
            repair=self._repaired,
        )

    def _group(self, designs: Designs, name: str, count: int = 3) -> NDArray[np.int64]:
        return designs[:, self.start[name] : self.start[name] + count]

    def _holders(self, designs: Designs) -> NDArray[np.int64]:
        """How many buses each memory is on; ``(n, 3)``."""
        attached = self._group(designs, "bus_memory") - 1
        return (attached[:, :, None] == np.arange(3)).sum(axis=1)

    def _one_bus(self, designs: Designs) -> Mask:
        return np.asarray((self._holders(designs) <= 1).all(axis=1))

    def _attached(self, designs: Designs) -> Mask:
        return np.asarray(((self._holders(designs) >= 1) | ~self._written(designs)).all(axis=1))

    def _written(self, designs: Designs) -> NDArray[np.bool_]:
        """Which memories a task writes to; ``(n, 3)``."""
        writing = np.flatnonzero([bool(children) for children in self.graph.children])
        memory = self._group(designs, "task_memory", len(self.graph.tasks))[:, writing]
        return np.asarray((memory[:, :, None] == np.arange(3)).any(axis=1))

    def _adjacent(self, designs: Designs) -> NDArray[np.bool_]:
        """Links 0-1, 0-2, 1-2; ``(n, 3)``."""
        other = self._group(designs, "bus_bus") - 1
        return np.stack([(other[:, a] == b) | (other[:, b] == a) for a, b in ((0, 1), (0, 2), (1, 2))], axis=1)

    def _no_cycle(self, designs: Designs) -> Mask:
        to_itself = (self._group(designs, "bus_bus") - 1 == np.arange(3)).any(axis=1)
        triangle = self._adjacent(designs).all(axis=1) if self._tree else np.zeros(len(designs), dtype=bool)
        return ~(to_itself | triangle)

    def _connected(self, designs: Designs) -> Mask:
        """Whether the buses of processing elements that run a task and of memories that are written to are linked."""
        hosts = self._group(designs, "task_pe", len(self.graph.tasks))
        runs = (hosts[:, :, None] == np.arange(3)).any(axis=1)
        used = ((self._group(designs, "pe_bus")[:, :, None] == np.arange(3)) & runs[:, :, None]).any(axis=1)
        memory = self._group(designs, "bus_memory") - 1
        used |= (memory >= 0) & np.take_along_axis(self._written(designs), np.maximum(memory, 0), axis=1)
        near = self._adjacent(designs)
        # Two buses are linked directly or over the third.
        linked = [near[:, i] | (near[:, (i + 1) % 3] & near[:, (i + 2) % 3]) for i in range(3)]
        pairs = zip(linked, ((0, 1), (0, 2), (1, 2)), strict=True)
        return np.asarray(np.all([link | ~(used[:, a] & used[:, b]) for link, (a, b) in pairs], axis=0))

    def _foreign(self, designs: Designs) -> Mask:
        """Tasks with work that sit on another task's accelerator; ``(n, tasks)``."""
        tasks = len(self.graph.tasks)
        host = self._group(designs, "task_pe", tasks)
        accelerator = np.take_along_axis(self._group(designs, "pe"), host, axis=1) == 1
        own = np.array([task.work == 0 or task.name == self.graph.first_accelerator for task in self.graph.tasks])
        return accelerator & ~own

    def _compatible(self, designs: Designs) -> Mask:
        return np.asarray(~self._foreign(designs).any(axis=1))

    def _repaired(self, designs: Designs) -> Designs:
        """Memories: the first bus that holds one keeps it, the others get what is left over. Tasks on
        another's accelerator move to the first CPU; without one, processing element 0 becomes a CPU. Buses: a link to
        itself goes; where those in use are then not connected, the three become a chain."""
        memory = self._group(designs, "bus_memory")
        for i in np.flatnonzero(~(self._one_bus(designs) & self._attached(designs))):
            left_over = [m for m in (1, 2, 3) if m not in memory[i]]
            seen: set[int] = set()
            for b in range(3):
                if memory[i, b] == 0 or int(memory[i, b]) in seen:
                    memory[i, b] = left_over.pop(0)
                seen.add(int(memory[i, b]))
        link = self._group(designs, "bus_bus")
        link[link - 1 == np.arange(3)] = 0
        pes, hosts = self._group(designs, "pe"), self._group(designs, "task_pe", len(self.graph.tasks))
        needs = ~self._compatible(designs)
        pes[needs & (pes == 1).all(axis=1), 0] = 0
        cpu = np.argmax(pes == 0, axis=1)[:, None]
        hosts[...] = np.where(self._foreign(designs), cpu, hosts)
        # Last: which buses have to be linked depends on where tasks run and write.
        link[~self._connected(designs) | ~self._no_cycle(designs)] = (2, 3, 0)
        return designs

    def explicit(self, design: NDArray[np.int64]) -> SocDesign:
        """The explicit design of one row, valid or not."""
        row = self.check(design)[0]
        lib = library()
        values = [parameter.values[index] for parameter, index in zip(self.parameters, row.tolist(), strict=True)]

        def of(name: str, count: int = 3) -> list[Any]:
            return values[self.start[name] : self.start[name] + count]

        names = [task.name for task in self.graph.tasks]
        holders: list[list[int]] = [[], [], []]
        for bus, memory in enumerate(of("bus_memory")):
            if memory >= 0:
                holders[memory].append(bus)
        first = self.graph.first_accelerator
        return SocDesign(
            pes=tuple(Cpu() if v == "cpu" else Accelerator(str(first)) for v in of("pe")),
            memories=tuple(Memory("dram", lib.widths[0], clock) for clock in of("memory")),
            buses=tuple(Bus(lib.widths[0], clock) for clock in of("bus")),
            pe_bus=tuple(of("pe_bus")),
            memory_bus=tuple(tuple(buses) for buses in holders),
            bus_links=tuple((bus, other) for bus, other in enumerate(of("bus_bus")) if other >= 0),
            task_pe=dict(zip(names, of("task_pe", len(names)), strict=True)),
            task_memory=dict(zip(names, of("task_memory", len(names)), strict=True)),
        )
