"""Task graphs, block figures and column layouts as the arrays the kernel reads."""

from __future__ import annotations

__all__ = ()

import math

import numpy as np

from archgym.simulators.soc.blocks import MEMORY_KINDS, library, memory_table
from archgym.simulators.soc.kernels import model as kernel
from archgym.simulators.soc.kernels.model import GraphArrays, Layout, Tables
from archgym.simulators.soc.physical import PhysicalConstants
from archgym.simulators.soc.spaces import TOPOLOGIES, FullSpace, LimitedSpace
from archgym.simulators.soc.task_graph import TaskGraph


def graph_arrays(graph: TaskGraph) -> GraphArrays:
    """The arrays of a task graph."""
    count = len(graph.tasks)
    starts, parents, sizes, units = [0], [], [], []
    for t in range(count):
        for p in graph.parents[t]:
            parents.append(p)
            sizes.append(graph.bytes_between(p, t))
            units.append(graph.burst_unit(t, p, write=False))
        starts.append(len(parents))
    events: list[tuple[int, int]] = []
    visited: set[int] = set()
    stack = [(graph.source, -1)]
    while stack:  # the walk of model.Network._load
        task, father = stack.pop()
        if father >= 0:
            events.append((task, father))
        if task in visited:
            continue
        visited.add(task)
        if graph.children[task]:
            events.append((task, -1))
        stack += [(child, task) for child in reversed(graph.children[task])]
    masks = np.zeros((3, count + 1), dtype=np.int64)
    masks[kernel.CHILD_MASK, :count] = [sum(1 << c for c in graph.children[t]) for t in range(count)]
    masks[kernel.PARENT_MASK, :count] = [sum(1 << p for p in graph.parents[t]) for t in range(count)]
    masks[kernel.PARENT_START] = starts
    write_units = [float(sum(graph.burst_unit(t, c, True) for c in graph.children[t])) for t in range(count)]
    return GraphArrays(
        figures=np.stack([graph.work, [graph.written_bytes(t) for t in range(count)], write_units]).astype(np.float64),
        sets=masks,
        parent=np.array(parents, dtype=np.int64),
        parent_figures=np.array([sizes, units], dtype=np.float64),
        events=np.ascontiguousarray(np.array(events, dtype=np.int64).T),
        last=np.array(graph.last_tasks, dtype=np.int64),
        source=graph.source,
        sink=graph.sink,
    )


def tables(graph: TaskGraph, constants: PhysicalConstants | None) -> Tables:
    """Figures of the blocks for a task graph; in ``farsi`` mode where there are no constants."""
    lib = library()
    clocks, widths = len(lib.clocks_mhz), len(lib.widths)
    count = len(graph.tasks)
    most = max([len(lib.unrolls(task.accelerator)) for task in graph.tasks if task.accelerator is not None], default=1)
    accelerator = np.zeros((3, count, most, clocks))
    rate, joule, area = accelerator
    for t, task in enumerate(graph.tasks):
        if task.accelerator is None:
            continue
        for u, unroll in enumerate(lib.unrolls(task.accelerator)):
            for f, clock in enumerate(lib.clocks_mhz):
                rate[t, u, f] = lib.accelerator_rate(task.accelerator, task.work, unroll, clock)
                area[t, u, f] = lib.area_scaling * unroll * task.accelerator.area_um2 * 1e-12
                if constants is None:
                    joule[t, u, f] = lib.energy_scaling * unroll * task.accelerator.power * 1e-15 / task.work
                else:
                    area[t, u, f] *= constants.relative_area[f]
                    run_s = task.accelerator.cycles / lib.accelerator_clock_hz
                    growth = 1 + constants.unroll_energy_per_doubling * math.log2(unroll)
                    watt = task.accelerator.power * task.power_unit_w
                    voltage = constants.relative_voltage[f]
                    joule[t, u, f] = lib.energy_scaling * watt * run_s * voltage**2 * growth / task.work
    table = memory_table() if constants is None else memory_table().monotone()
    curves = np.stack([table.read, table.write, table.area])
    memory = np.zeros((4, len(MEMORY_KINDS), widths, clocks))
    joule_factor, area_factor, extra_area, standby = memory
    joule_factor[...] = area_factor[...] = 1.0
    bus = np.zeros((3, widths, clocks))
    bandwidth, bus_joule, bus_area = bus
    bandwidth[...] = [[width * (clock * 1e6) for clock in lib.clocks_mhz] for width in lib.widths]
    port_joule = np.ones(count + 3 + kernel.BUSES + kernel.MEMORIES + 1)
    scalars = np.zeros(kernel.MEMORY_LEAKAGE + len(MEMORY_KINDS))
    scalars[kernel.CPU_RATE] = lib.cpu_rate
    scalars[kernel.CPU_JOULE] = 1.0 / lib.cpu_instructions_per_joule
    scalars[kernel.CPU_AREA] = lib.cpu_area_m2
    scalars[kernel.CAPACITY_UNIT] = lib.capacity_unit_bytes
    scalars[kernel.SMALLEST] = lib.smallest_bytes
    scalars[kernel.WINDOW] = lib.power_window_s
    if constants is not None:
        sram, dram = MEMORY_KINDS.index("sram"), MEMORY_KINDS.index("dram")
        scalars[kernel.LOGIC_LEAKAGE] = constants.logic_leakage_w_per_mm2 * 1e6
        scalars[kernel.COMPLETE_WITHIN] = constants.complete_within
        scalars[kernel.MEMORY_LEAKAGE + sram] = constants.sram_leakage_w_per_byte
        curves[:2, dram] = constants.dram_j_per_byte
        extra_area[dram] = constants.dram_interface_mm2_per_gb_s * 1e-6 * (bandwidth * 1e-9)
        standby[dram] = constants.dram_standby_w_per_gb_s * (bandwidth * 1e-9)
        for w, width in enumerate(lib.widths):
            area_factor[sram, w] = constants.sram_area_factor(width)
            for f in range(clocks):
                voltage = constants.relative_voltage[f]
                joule_factor[sram, w, f] = constants.sram_energy_factor(width) * voltage**2
                bus_joule[w, f] = constants.bus_j_per_byte * voltage**2
                bus_area[w, f] = constants.bus_um2_per_byte_port * 1e-12 * width * constants.relative_area[f]
        port_joule[1:] = [constants.bus_port_factor(p) for p in range(1, len(port_joule))]
    return Tables(accelerator, curves, memory, bus, port_joule, scalars)


def layout(space: FullSpace | LimitedSpace) -> Layout:
    """Where a space keeps its parameters."""
    most = max(len(links) for _, links in TOPOLOGIES.values())
    topology_links = np.full((len(TOPOLOGIES), most, 2), -1, dtype=np.int64)
    for k, (_, links) in enumerate(TOPOLOGIES.values()):
        topology_links[k, : len(links)] = np.array(links, dtype=np.int64).reshape(-1, 2)
    topology_buses = np.array([count for count, _ in TOPOLOGIES.values()], dtype=np.int64)
    if isinstance(space, LimitedSpace):
        graph = space.graph
        groups = ("pe", "memory", "bus", "pe_bus", "bus_bus", "bus_memory", "task_pe", "task_memory")
        starts = [space.start[group] for group in groups]
        starts.append(graph.index[graph.first_accelerator] if graph.first_accelerator else -1)
        none = np.empty((6, 0), dtype=np.int64)
        return Layout(none, none, 0, topology_buses, topology_links, np.array(starts, dtype=np.int64))
    c = space.columns_of
    accelerated = np.array([int(task.accelerator is not None) for task in space.graph.tasks], dtype=np.int64)
    return Layout(
        tasks=np.stack([c.pe, c.unroll, c.clock, c.bus, c.memory, accelerated]),
        blocks=np.stack([c.bus_width, c.bus_clock, c.memory_kind, c.memory_width, c.memory_clock, c.memory_bus]),
        topology=c.topology,
        topology_buses=topology_buses,
        topology_links=topology_links,
        limited=np.empty(0, dtype=np.int64),
    )
