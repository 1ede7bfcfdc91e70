"""The model, readable: one explicit design of any connected graph, in plain Python.

The phase-driven simulation and the Gables-style roofline of FARSI (Boroujerdian et al., "FARSI: An early-stage design
space exploration framework to tame the domain-specific system-on-chip complexity", ACM TECS 2023). Between two events
(a phase) every running task advances at a constant rate: the lowest of what its processing element computes and of
what its share of every memory and bus on its way delivers. The kernel (``kernels/model.py``) does the same over batches and
is tested against this file.

Two modes. ``farsi`` reproduces the reference, its faults included; ``physical`` corrects them (each place says so).

Words: a *record* (t, d) on a block lists the partners of task t whose bytes pass the block in direction d (read from
parents, write to children). A *link* (x, y, d) is one step of a path from a processing element to a memory. A *cluster*
is what shares bandwidth: the reads (writes) of a memory, or those leaving a bus over one link.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from archgym.simulators.soc.blocks import Accelerator, Cpu, Memory, library, memory_table
from archgym.simulators.soc.design import SocDesign, block_name
from archgym.simulators.soc.physical import PhysicalConstants, physical_constants
from archgym.simulators.soc.task_graph import TaskGraph

READ, WRITE = 0, 1
COMPLETE_SHARE = 0.99
"""Share of its work after which FARSI counts a task as complete."""

Record = tuple[int, int]
"""(task, direction)."""


# --- routing and loading ---------------------------------------------------------------------------------------


class Network:
    """The blocks of a design as nodes of a graph: processing elements, then buses, then memories.

    Attributes:
        neighbours: of each node, in the order in which links were added; the order breaks ties.
        records: of each node, (task, direction) -> partners, in recording order. Processing elements record their
            tasks with direction -1.
        root: the processing element from which the design is walked, the first one but in
            :meth:`~archgym.simulators.soc.design.SocDesign.root`'s case.
        blocks: the nodes that are left after pruning, depth first from the root.
    """

    def __init__(self, design: SocDesign, graph: TaskGraph) -> None:
        self.design, self.graph, self.root = design, graph, design.root(graph)
        self.pe_count, self.bus_count = len(design.pes), len(design.buses)
        self.neighbours: list[list[int]] = [[] for _ in range(self.pe_count + self.bus_count + len(design.memories))]
        for pe, bus in enumerate(design.pe_bus):
            self._link(pe, self.bus(bus))
        for a, b in design.bus_links:
            self._link(self.bus(a), self.bus(b))
        for memory, buses in enumerate(design.memory_bus):
            for bus in buses:
                self._link(self.memory(memory), self.bus(bus))
        self.task_pe = [design.task_pe[task.name] for task in graph.tasks]
        self.task_memory = [self.memory(design.task_memory.get(task.name, 0)) for task in graph.tasks]
        self.records: list[dict[Record, list[int]]] = [{} for _ in self.neighbours]
        self._load()
        self._prune()
        self.blocks = self.depth_first()

    def bus(self, index: int) -> int:
        """Node of a bus."""
        return self.pe_count + index

    def memory(self, index: int) -> int:
        """Node of a memory."""
        return self.pe_count + self.bus_count + index

    def is_pe(self, node: int) -> bool:
        return node < self.pe_count

    def is_bus(self, node: int) -> bool:
        return self.pe_count <= node < self.pe_count + self.bus_count

    def is_memory(self, node: int) -> bool:
        return node >= self.pe_count + self.bus_count

    def _link(self, a: int, b: int) -> None:
        for node, other in ((a, b), (b, a)):
            if other not in self.neighbours[node]:
                self.neighbours[node].append(other)

    def depth_first(self) -> list[int]:
        """Nodes in pre-order from the root, neighbours in list order."""
        order: list[int] = []
        stack = [self.root]
        seen: set[int] = set()
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            order.append(node)
            stack += [n for n in reversed(self.neighbours[node]) if n not in seen]
        return order

    def path(self, task: int, memory: int) -> list[int]:
        """Breadth-first shortest path from the task's processing element over buses to a memory; ties by list order."""
        start = self.task_pe[task]
        came_from = {start: start}
        queue = deque([start])
        while queue:
            node = queue.popleft()
            if node == memory:
                break
            for other in self.neighbours[node]:
                if other not in came_from and (self.is_bus(other) or other == memory):
                    came_from[other] = node
                    queue.append(other)
        path = [memory]
        while path[-1] != start:
            path.append(came_from[path[-1]])
        return path[::-1]

    def _record(self, task: int, direction: int, partners: Iterable[int], nodes: Iterable[int]) -> None:
        for node in nodes:
            for partner in partners:
                known = self.records[node].setdefault((task, direction), [])
                if partner not in known:
                    known.append(partner)

    def _load(self) -> None:
        graph = self.graph
        for task, pe in enumerate(self.task_pe):
            self.records[pe].setdefault((task, -1), [])
        for task, memory in enumerate(self.task_memory):
            self._record(task, WRITE, graph.children[task], [memory])
        visited: set[int] = set()
        stack: list[tuple[int, int]] = [(graph.source, -1)]
        while stack:  # depth first, children in order
            task, father = stack.pop()
            if father >= 0:
                memory = self.task_memory[father]
                self._record(task, READ, [father], [memory, *self.path(task, memory)[1:-1]])
            if task in visited:
                continue
            visited.add(task)
            if graph.children[task]:
                self._record(task, WRITE, graph.children[task], self.path(task, self.task_memory[task])[1:-1])
            stack += [(child, task) for child in reversed(graph.children[task])]

    def _prune(self) -> None:
        """Drop the buses that separate nothing; their blocks move to the neighbour. Records stay as they are."""
        near = self.neighbours
        for bus in [node for node in self.depth_first() if self.is_bus(node)]:
            pes = [n for n in near[bus] if self.is_pe(n)]
            memories = [n for n in near[bus] if self.is_memory(n)]
            buses = [n for n in near[bus] if self.is_bus(n)]
            if (not memories or not pes) and len(buses) == 1:
                near[buses[0]].remove(bus)
                for moved in pes + memories:
                    near[moved] = [buses[0]]
                    near[buses[0]].append(moved)
                near[bus] = []
            elif not memories and not pes and buses:
                for other in buses:
                    near[other].remove(bus)
                for other in buses[1:]:
                    self._link(buses[0], other)
                near[bus] = []


@dataclass
class Cluster:
    """What shares the bandwidth of ``block`` in one direction.

    Attributes:
        incoming: node of each incoming link -> the tasks on it with the sum of their burst units.
        users: the tasks that use the cluster.
    """

    block: int
    direction: int
    peak: float
    is_memory: bool
    incoming: dict[int, dict[int, float]]
    users: set[int]


def clusters(network: Network) -> list[Cluster]:
    """The clusters of a network, memories and buses."""
    graph, records = network.graph, network.records
    links: dict[tuple[int, int, int], dict[int, list[int]]] = {}
    for memory in network.blocks:
        if network.is_memory(memory):
            for t, d in records[memory]:
                path = network.path(t, memory)
                for x, y in pairwise(path):
                    if (t, d) in records[y]:
                        links.setdefault((x, y, d), {})[t] = records[y][t, d]

    def units(tasks: dict[int, list[int]], d: int) -> dict[int, float]:
        return {t: sum(graph.burst_unit(t, p, d == WRITE) for p in partners) for t, partners in tasks.items()}

    result = []
    for block in network.blocks:
        for d in (READ, WRITE):
            incoming = {x: tasks for (x, y, e), tasks in links.items() if y == block and e == d}
            if network.is_memory(block) and incoming:
                peak = network.design.memories[block - network.pe_count - network.bus_count].bandwidth
                users = {t for tasks in incoming.values() for t in tasks}
                shares = {x: units(tasks, d) for x, tasks in incoming.items()}
                result.append(Cluster(block, d, peak, True, shares, users))
            elif network.is_bus(block):
                bus = network.design.buses[block - network.pe_count]
                for (x, _, e), tasks in links.items():
                    if x != block or e != d:
                        continue
                    sharing = {
                        i: units(through, d)
                        for i, through in incoming.items()
                        if any(set(partners) & set(tasks.get(t, ())) for t, partners in through.items())
                    }
                    result.append(Cluster(block, d, bus.bandwidth, False, sharing, set(tasks)))
    return result


# --- the phase loop --------------------------------------------------------------------------------------------


@dataclass
class Phase:
    """One phase: constant rates between two events.

    Attributes:
        start_s, duration_s: when.
        instructions: task -> instructions done in the phase.
        rates: task -> instructions/s.
        bottleneck: task -> name of what limits it: ``"pe"`` or the name of a memory or bus.
        energy_j: energy of the phase.
    """

    start_s: float
    duration_s: float = 0.0
    instructions: dict[int, float] = field(default_factory=dict)
    rates: dict[int, float] = field(default_factory=dict)
    bottleneck: dict[int, str] = field(default_factory=dict)
    energy_j: float = 0.0


@dataclass
class Result:
    """What the model says of a design; SI units. Task attributes are indexed like the graph's tasks."""

    latency_s: tuple[float, ...]
    power_w: float
    energy_j: float
    area_m2: float
    dram_area_m2: float
    other_area_m2: float
    phases: list[Phase]
    launch_s: list[float]
    """When each task had its inputs; it may then wait for its processing element until ``start_s``."""
    start_s: list[float]
    end_s: list[float]
    peak_bytes: dict[int, float]
    capacity_bytes: dict[int, int]
    blocks: list[str]
    static_w: float = 0.0


def evaluate_design(
    design: SocDesign, graph: TaskGraph, mode: str = "farsi", constants: PhysicalConstants | None = None
) -> Result:
    """Simulate one valid design (see :meth:`SocDesign.violation`)."""
    physical = mode == "physical"
    constants = constants or physical_constants()
    network = Network(design, graph)
    groups = clusters(network)
    rates = [_pe_rate(design, graph, t, network.task_pe[t]) for t in range(len(graph.tasks))]
    phases, launch, start, end, peak = _run(network, groups, rates, physical, constants.complete_within)
    memories = {m: peak.get(m, 0.0) for m in network.blocks if network.is_memory(m) and network.records[m]}
    capacity = {m: capacity_bytes(bytes_) for m, bytes_ in memories.items()}
    joule = _joule_per_instruction(network, groups, capacity, constants if physical else None)
    for phase in phases:
        phase.energy_j = sum(done * joule[t] for t, done in phase.instructions.items())
    dram, other, static_w = _area_and_leakage(network, capacity, constants if physical else None)
    for phase in phases:
        phase.energy_j += static_w * phase.duration_s
    durations = [phase.duration_s for phase in phases]
    energies = [phase.energy_j for phase in phases]
    window = library().power_window_s
    return Result(
        latency_s=tuple(end[t] for t in graph.last_tasks),
        power_w=(sliding_power if physical else farsi_power)(durations, energies, window),
        energy_j=float(sum(energies)),
        area_m2=other if physical else dram + other,
        dram_area_m2=dram,
        other_area_m2=other,
        phases=phases,
        launch_s=launch,
        start_s=start,
        end_s=end,
        peak_bytes=memories,
        capacity_bytes=capacity,
        blocks=[_node_name(network, node) for node in network.blocks],
        static_w=static_w,
    )


def _node_name(network: Network, node: int) -> str:
    design = network.design
    if network.is_pe(node):
        return block_name(design.pes[node])
    if network.is_bus(node):
        return block_name(design.buses[node - network.pe_count])
    return block_name(design.memories[node - network.pe_count - network.bus_count])


def _pe_rate(design: SocDesign, graph: TaskGraph, t: int, pe: int) -> float:
    """Instructions/s of the processing element that runs task ``t``; 1 for a dummy."""
    task, element = graph.tasks[t], design.pes[pe]
    if task.work == 0:
        return 1.0
    if isinstance(element, Cpu):
        return library().cpu_rate
    assert task.accelerator is not None
    return library().accelerator_rate(task.accelerator, task.work, element.unroll, element.clock_mhz)


def _bytes(graph: TaskGraph, t: int, d: int, partners: Iterable[int]) -> float:
    return sum(graph.bytes_between(t, p) if d == WRITE else graph.bytes_between(p, t) for p in partners)


def _run(
    network: Network, groups: list[Cluster], pe_rates: list[float], physical: bool, complete_within: float
) -> tuple[list[Phase], list[float], list[float], list[float], dict[int, float]]:
    """Launch, schedule and advance the tasks. Returns phases; launch, start and end times; the peak bytes a
    memory held."""
    graph = network.graph
    count = len(graph.tasks)
    work, left = graph.work, graph.work.copy()
    tokens: list[set[int]] = [set() for _ in range(count)]
    launched = [False] * count
    launch, start, end = ([math.nan] * count for _ in range(3))
    stored: dict[int, float] = {}
    peak: dict[int, float] = {}
    unused: set[int] = set()
    complete: set[int] = set()
    # Order in which FARSI looks at tasks: block after block, in recording order. Physical: task order.
    kernel_order = dict.fromkeys(t for node in network.blocks for t, _ in network.records[node])
    order = list(range(count)) if physical else list(kernel_order)
    ratio = {
        (t, c): _bytes(graph, t, group.direction, network.records[group.block][t, group.direction]) / work[t]
        for c, group in enumerate(groups)
        for t in group.users
        if work[t] > 0
    }
    clock = 0.0
    phases = [Phase(0.0)]
    scheduled: list[int] = []
    waiting: list[int] = []
    first_done = -1
    while True:
        dt = phases[-1].duration_s
        for t in scheduled:  # 1. advance
            if work[t] > 0:
                done = phases[-1].rates[t] * dt
                left[t] -= done
                phases[-1].instructions[t] = done
        running = []
        for t in scheduled:  # 2. complete
            if work[t] > 0:
                share_left = left[t] / work[t]
                unfinished = share_left > complete_within if physical else 1 - share_left < COMPLETE_SHARE
                # The task that ended the phase is complete whatever rounding says, so that every phase ends one.
                if unfinished and t != first_done:
                    running.append(t)
                    continue
            end[t] = clock
            for child in graph.children[t]:
                tokens[child].add(t)
            complete.add(t)
            unused.add(t)
            for p in graph.parents[t]:
                # FARSI frees a parent's bytes once all its children are in the unused set, which they then leave: a
                # child of several parents frees only the first. Physical: once all its readers are complete.
                if physical:
                    free = complete.issuperset(graph.children[p])
                else:
                    free = unused.issuperset(graph.children[p])
                    if free:
                        unused.difference_update(graph.children[p])
                    free = free and p != graph.source
                if free:
                    stored[network.task_memory[p]] -= graph.written_bytes(p)
        fresh = []
        for t in order:  # 3. launch
            if not launched[t] and len(tokens[t]) == len(graph.parents[t]):
                launched[t] = True
                launch[t] = clock
                fresh.append(t)
                memory = network.task_memory[t]
                stored[memory] = stored.get(memory, 0.0) + graph.written_bytes(t)
                peak[memory] = max(peak.get(memory, 0.0), stored[memory])
        # 4. schedule. FARSI lets newcomers overtake those that wait; physical is first come, first served.
        queue = running + waiting + fresh if physical else running + fresh + waiting
        scheduled, waiting = [], []
        busy: set[int] = set()
        for t in queue:
            pe = network.task_pe[t]
            if pe in busy:
                waiting.append(t)
            else:
                busy.add(pe)
                scheduled.append(t)
                if math.isnan(start[t]):
                    start[t] = clock
        if not scheduled and all(launched):  # 5. stop
            return phases, launch, start, end, peak
        phase = Phase(clock)
        active = [t for t in scheduled if work[t] > 0]
        (_fill if physical else _share)(network, groups, pe_rates, ratio, scheduled, active, phase)
        remaining = [left[t] / phase.rates[t] if work[t] > 0 else 0.0 for t in scheduled]
        # 7. advance to the first completion. FARSI takes the difference of two clock readings.
        step = min(remaining)
        first_done = scheduled[remaining.index(step)]
        phase.duration_s = step if physical else (clock + step) - clock
        clock += step
        phases.append(phase)


def _share(
    network: Network,
    groups: list[Cluster],
    pe_rates: list[float],
    ratio: dict[tuple[int, int], float],
    scheduled: list[int],
    active: list[int],
    phase: Phase,
) -> None:
    """Rates in FARSI: a cluster's bandwidth is cut evenly over its active links, a link's by burst units. What an idle
    or compute-bound partner leaves over is lost."""
    for t in scheduled:
        phase.rates[t], phase.bottleneck[t] = pe_rates[t], "pe"
    for c, group in enumerate(groups):
        alive = []
        for tasks in group.incoming.values():
            if any(t in tasks and (group.is_memory or t in group.users) for t in scheduled):
                alive.append((tasks, sum(tasks.get(t, 0.0) for t in scheduled)))
        for t in active:
            if t not in group.users:
                continue
            share = sum(tasks.get(t, 0.0) / total for tasks, total in alive if total > 0) / max(len(alive), 1)
            if share > 0:
                rate = group.peak * share / ratio[t, c]
                if rate < phase.rates[t]:
                    phase.rates[t], phase.bottleneck[t] = rate, _node_name(network, group.block)


def _fill(
    network: Network,
    groups: list[Cluster],
    pe_rates: list[float],
    ratio: dict[tuple[int, int], float],
    scheduled: list[int],
    active: list[int],
    phase: Phase,
) -> None:
    """Rates in physical mode: weighted max-min fairness by progressive filling (Bertsekas and Gallager, "Data
    Networks", section 6.5.2). The heaviest stream of every task grows at the same B/s until its processing element or
    one of its clusters is saturated; what it leaves over goes to the others."""
    for t in scheduled:
        phase.rates[t], phase.bottleneck[t] = pe_rates[t], "pe"
    weight = {}
    for t in active:
        heaviest = max((ratio[t, c] for c, group in enumerate(groups) if t in group.users), default=0.0)
        weight[t] = 1.0 / heaviest if heaviest > 0 else math.inf
    growing = [t for t in active if math.isfinite(weight[t])]
    while growing:
        level, cause = math.inf, -1
        for c, group in enumerate(groups):
            slope = sum(weight[t] * ratio[t, c] for t in growing if t in group.users)
            if slope > 0:
                taken = sum(phase.rates[t] * ratio[t, c] for t in active if t not in growing and t in group.users)
                full = max(group.peak - taken, 0.0) / slope
                if full < level:
                    level, cause = full, c
        limit = min(pe_rates[t] / weight[t] for t in growing)
        if limit <= level:
            growing = [t for t in growing if pe_rates[t] / weight[t] > limit]
            continue
        for t in growing:
            if t in groups[cause].users:
                phase.rates[t] = min(level * weight[t], pe_rates[t])
                phase.bottleneck[t] = _node_name(network, groups[cause].block)
        growing = [t for t in growing if t not in groups[cause].users]


# --- energy, area and power ------------------------------------------------------------------------------------


def capacity_bytes(peak_bytes: float) -> int:
    """Capacity of a memory that must hold ``peak_bytes``: the next multiple of 256,000 bytes."""
    lib = library()
    return math.ceil(max(math.ceil(peak_bytes), lib.smallest_bytes) / lib.capacity_unit_bytes) * lib.capacity_unit_bytes


def _joule_per_instruction(
    network: Network, groups: list[Cluster], capacity: dict[int, int], constants: PhysicalConstants | None
) -> dict[int, float]:
    """Dynamic energy of an instruction of each task, with the bytes it moves."""
    design, graph, lib = network.design, network.graph, library()
    joule: dict[int, float] = {}
    for t in graph.real_tasks:
        task, pe = graph.tasks[t], design.pes[network.task_pe[t]]
        if isinstance(pe, Cpu):
            joule[t] = 1.0 / lib.cpu_instructions_per_joule
            continue
        figures = task.accelerator
        assert figures is not None
        if constants is None:
            # FARSI reads the figure as femtojoule a run and lets it grow with the unroll factor.
            joule[t] = lib.energy_scaling * pe.unroll * figures.power * 1e-15 / task.work
        else:
            watt = figures.power * task.power_unit_w
            run_s = figures.cycles / lib.accelerator_clock_hz
            voltage = constants.relative_voltage[lib.clocks_mhz.index(pe.clock_mhz)]
            unroll = 1 + constants.unroll_energy_per_doubling * math.log2(pe.unroll)
            joule[t] = lib.energy_scaling * watt * run_s * voltage**2 * unroll / task.work
    for group in groups:
        if not group.is_memory:
            continue
        memory = design.memories[group.block - network.pe_count - network.bus_count]
        per_byte = _memory_joule_per_byte(memory, capacity[group.block], group.direction, constants)
        for t in group.users:
            # A task whose share of a cluster is zero is not charged in FARSI: its units there are all zero.
            if graph.work[t] > 0 and (constants is not None or any(u.get(t, 0.0) > 0 for u in group.incoming.values())):
                moved = _bytes(graph, t, group.direction, network.records[group.block][t, group.direction])
                joule[t] += moved / graph.work[t] * per_byte
    if constants is not None:
        for node in network.blocks:
            if network.is_bus(node):
                for (t, d), partners in network.records[node].items():
                    if graph.work[t] > 0:
                        moved = _bytes(graph, t, d, partners)
                        joule[t] += moved / graph.work[t] * _bus_joule_per_byte(network, node, constants)
    return joule


def _memory_joule_per_byte(memory: Memory, capacity: int, direction: int, constants: PhysicalConstants | None) -> float:
    units = capacity // library().capacity_unit_bytes
    if constants is None:
        return memory_table().lookup(memory.kind, units)[direction]
    if memory.kind == "dram":
        return constants.dram_j_per_byte
    voltage = constants.relative_voltage[library().clocks_mhz.index(memory.clock_mhz)]
    table = memory_table().monotone()
    return table.lookup("sram", units)[direction] * constants.sram_energy_factor(memory.bytes_per_cycle) * voltage**2


def _bus_joule_per_byte(network: Network, node: int, constants: PhysicalConstants) -> float:
    bus = network.design.buses[node - network.pe_count]
    voltage = constants.relative_voltage[library().clocks_mhz.index(bus.clock_mhz)]
    return constants.bus_j_per_byte * voltage**2 * constants.bus_port_factor(len(network.neighbours[node]))


def _area_and_leakage(
    network: Network, capacity: dict[int, int], constants: PhysicalConstants | None
) -> tuple[float, float, float]:
    """(DRAM area, other area, power that does not depend on activity): m2, m2, W."""
    design, graph, lib = network.design, network.graph, library()
    dram = other = static = 0.0
    for pe, element in enumerate(design.pes):
        hosted = [t for t, host in enumerate(network.task_pe) if host == pe]
        if all(t in (graph.source, graph.sink) for t in hosted):
            continue
        if isinstance(element, Accelerator):
            figures = graph.tasks[graph.index[element.task]].accelerator
            assert figures is not None
            area = lib.area_scaling * element.unroll * figures.area_um2 * 1e-12
            if constants is not None:
                area *= constants.relative_area[lib.clocks_mhz.index(element.clock_mhz)]
        else:
            area = lib.cpu_area_m2
        other += area
        if constants is not None:
            static += constants.logic_leakage_w_per_mm2 * (area * 1e6)
    table = memory_table() if constants is None else memory_table().monotone()
    for node, size in capacity.items():
        memory = design.memories[node - network.pe_count - network.bus_count]
        area = table.lookup(memory.kind, size // lib.capacity_unit_bytes)[2]
        if memory.kind == "dram":
            dram += area
            if constants is not None:
                other += constants.dram_interface_mm2_per_gb_s * 1e-6 * (memory.bandwidth * 1e-9)
                static += constants.dram_standby_w_per_gb_s * (memory.bandwidth * 1e-9)
        elif constants is None:
            other += area
        else:
            other += area * constants.sram_area_factor(memory.bytes_per_cycle)
            static += constants.sram_leakage_w_per_byte * size
    if constants is not None:
        for node in network.blocks:
            if network.is_bus(node):
                bus = design.buses[node - network.pe_count]
                ports = len(network.neighbours[node])
                scale = constants.relative_area[lib.clocks_mhz.index(bus.clock_mhz)]
                other += constants.bus_um2_per_byte_port * 1e-12 * bus.bytes_per_cycle * ports * scale
    return dram, other, static


def farsi_power(durations: list[float], energies: list[float], window_s: float) -> float:
    """Largest average power over windows of nominally ``window_s``, as FARSI forms them: the index does not advance
    over phases of no length, so that the windows are displaced against the phases."""
    ends, up, lo, budget = [], 0, 0, window_s
    for length in durations:
        if length == 0:
            continue
        if length > budget:
            budget = window_s
            ends.append((lo, up + 1))
            lo = up + 1
        else:
            budget -= length
        up += 1
    if not ends:
        ends = [(0, len(durations))]
    elif ends[-1][1] != len(durations):
        ends.append((ends[-1][1], len(durations)))
    best = 0.0
    for a, b in ends:
        seconds = sum(durations[a:b])
        best = max(best, sum(energies[a:b]) / seconds if seconds > 0 else 0.0)
    return best


def sliding_power(durations: list[float], energies: list[float], window_s: float) -> float:
    """Largest average power over any window of ``min(window_s, run time)``. Power is constant within a phase, so that
    the best window has one end on a phase boundary."""
    total = sum(durations)
    window = min(window_s, total)
    if window <= 0:
        return 0.0
    best = 0.0
    for step in (1, -1):  # windows that start on a boundary, then windows that end on one
        lengths, joules = durations[::step], energies[::step]
        for first in range(len(lengths)):
            room, inside = window, 0.0
            for length, joule in zip(lengths[first:], joules[first:], strict=True):
                if length >= room:
                    inside += joule * (room / length)
                    room = 0.0
                    break
                inside += joule
                room -= length
            # A window that would reach beyond the run is covered by the one that ends with the run.
            if room == 0.0 or first == 0:
                best = max(best, inside)
    return best / window
