"""The model over batches of index rows: the same steps as ``model.py``, compiled, parallel over designs.

Index rows of either space are decoded into one small explicit design held in fixed-size arrays; sets of tasks are bit
masks. Only trees of up to four buses, and any graph of up to three, come up here: there every path is the only
shortest one, and what a task sends over a bus after pruning is what it sent before. That makes two short cuts exact
that ``model.py`` does not take: pruning comes before loading, and the links into a bus that carry a task of an outgoing
link always share a partner with it.

Each design is computed by one thread from its row alone: same bits for any number of threads and any batch order.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archgym.compiling import inner, kernel
from archgym.threads import on_threads

BUSES = 4
MEMORIES = 4
SLICE = 256
"""Designs a thread works off at a time, with one set of scratch arrays."""
FINISHED_SHARE = 0.99
ENTRIES = 16
"""Most clusters a task uses: reads 4 memories + 3 links between buses + 4 to memories, writes 1 + 3 + 1."""
CLUSTERS = 2 * MEMORIES + 2 * BUSES * (BUSES + MEMORIES)
"""Of memory m and direction d: 2 m + d; then of bus b, outgoing link y (bus or 4 + memory) and direction."""
# Neighbours of a bus are coded: processing element p, BUS + b, MEMORY + m.
BUS, MEMORY = 1000, 2000

# Few arrays with named rows instead of many arrays: Numba compiles that many times faster.

F = NDArray[np.float64]
Int = NDArray[np.int64]

# Rows of GraphArrays.figures, .sets, .events and .parent_figures.
WORK, WRITTEN_BYTES, WRITE_UNIT = range(3)
CHILD_MASK, PARENT_MASK, PARENT_START = range(3)
EVENT_TASK, EVENT_FATHER = range(2)
PARENT_BYTES, PARENT_UNIT = range(2)


class GraphArrays(NamedTuple):
    """A task graph; masks are sets of task indices."""

    figures: F
    """[WORK.., task]."""
    sets: Int
    """[CHILD_MASK.., task]; PARENT_START has one entry more than there are tasks."""
    parent: Int
    """Parents, task after task."""
    parent_figures: F
    """[PARENT_BYTES.., entry of parent]."""
    events: Int
    """[EVENT_TASK.., event]: the order in which reads and writes are recorded, a depth-first walk from the source;
    the father is the parent that is read from, -1 for the writes of the task."""
    last: Int
    source: int
    sink: int


# First indices of Tables.accelerator, .curves, .memory, .bus and .scalars.
ACCELERATOR_RATE, ACCELERATOR_JOULE, ACCELERATOR_AREA = range(3)
AREA_CURVE = 2  # after reads and writes
MEMORY_JOULE_FACTOR, MEMORY_AREA_FACTOR, MEMORY_EXTRA_AREA, MEMORY_STANDBY = range(4)
BANDWIDTH, BUS_JOULE_AT, BUS_AREA_AT = range(3)
(
    CPU_RATE, CPU_JOULE, CPU_AREA, LOGIC_LEAKAGE, CAPACITY_UNIT, SMALLEST, WINDOW, COMPLETE_WITHIN, MEMORY_LEAKAGE,
) = range(9)  # fmt: skip


class Tables(NamedTuple):
    """Figures of the blocks in one mode, by level; SI units. The mode enters the kernel here and as ``physical``."""

    accelerator: F
    """[ACCELERATOR_RATE.., task, unroll, clock]."""
    curves: F
    """[read, write, AREA_CURVE; kind; capacity units - 1]: J/byte and m2; the last two capacities extrapolate."""
    memory: F
    """[MEMORY_JOULE_FACTOR.., kind, width, clock]."""
    bus: F
    """[BANDWIDTH.., width, clock]; bandwidth also of memories; J/byte at one port; m2 a port."""
    port_joule: F
    """Factor on the energy of a crossing, by ports."""
    scalars: F
    """[CPU_RATE..]; MEMORY_LEAKAGE has two, W/byte by kind."""


C_PE, C_UNROLL, C_CLOCK, C_BUS, C_MEMORY, C_HAS_ACCELERATOR = range(6)
C_BUS_WIDTH, C_BUS_CLOCK, C_MEMORY_KIND, C_MEMORY_WIDTH, C_MEMORY_CLOCK, C_MEMORY_BUS = range(6)
L_PE, L_MEMORY, L_BUS, L_PE_BUS, L_BUS_BUS, L_BUS_MEMORY, L_TASK_PE, L_TASK_MEMORY, L_FIRST_ACCELERATOR = range(9)


class Layout(NamedTuple):
    """Where a space keeps its parameters."""

    tasks: Int
    """Space ``full``: [C_PE.., task] -> column; -1 where a task lacks the parameter."""
    blocks: Int
    """[C_BUS_WIDTH.., block] -> column."""
    topology: int
    """Column of the topology."""
    topology_buses: Int
    topology_links: Int
    """[topology, link, end]; -1 beyond the last link."""
    limited: Int
    """Space ``archgym-limited``: [L_PE..] -> first column of a group; empty for ``full``."""


# Rows of Scratch.i.
(
    TASK_PE, TASK_MEMORY, PE_BUS, PE_TASKS, MEMORY_BUS, MEMORY_KIND, MEMORY_WIDTH, MEMORY_CLOCK, BUS_WIDTH, BUS_CLOCK,
    COUNT, LINK_A, LINK_B, NEAR_COUNT, POSITION, STACK, BUS_ORDER, ORDER, ENTRY_COUNT, INPUT_COUNT, OUT, CAME, DIRECT,
    THROUGH, SCHEDULED, WAITING, QUEUE, PHASE_COUNT, GROWING, NEAR,
) = range(30)  # fmt: skip
ROOT = 4
"""In row COUNT, after the numbers of processing elements, memories (a mask), buses and links: where walks begin."""
HOP = NEAR + BUSES
ON_PATH = HOP + BUSES
INT_ROWS = ON_PATH + BUSES
# Rows of Scratch.x.
(
    RATE, JOULE, AREA, PEAK_RATE, LINK_TOTAL, CURRENT, LEFT, END, PHASE_S, PHASE_J, STORED, PEAK, WEIGHT, SLOPE, TAKEN,
    MOVED, UNIT, MEMORY_UNIT, BUS_JOULE, JOULE_PER_BYTE,
) = range(20)  # fmt: skip
MEMORY_READ = JOULE_PER_BYTE + 2
FLOAT_ROWS = MEMORY_READ + MEMORIES
# First indices of Scratch.route and .flow.
ENTRY_CLUSTER, ENTRY_LINK, INPUT_LINK = range(3)
ENTRY_RATE, ENTRY_RATIO, ENTRY_UNIT, INPUT_UNIT = range(4)


class Scratch(NamedTuple):
    """One design and its simulation; allocated once a slice."""

    i: Int
    """[TASK_PE.., index]: integers and masks, a row by task, block, bus, cluster or phase."""
    x: F
    """[RATE.., index]: floats, likewise."""
    route: Int
    """[ENTRY_CLUSTER.., task, entry]: the clusters a task uses and the link that brings it there (-1: straight from
    its processing element); the links between blocks it is on."""
    flow: F
    """[ENTRY_RATE.., task, entry]; ENTRY_RATE is peak / ratio: the task's rate if it had the cluster alone."""
    phase_task: Int
    """[phase, slot]."""
    phase_done: F
    """[phase, slot]: instructions."""


@inner(arrays=True, error_model="numpy")
def _scratch(tasks):
    length = max(2 * tasks, tasks + 3 + BUSES + MEMORIES, CLUSTERS)
    return Scratch(
        np.zeros((INT_ROWS, length), np.int64),
        np.zeros((FLOAT_ROWS, length)),
        np.empty((3, tasks, ENTRIES), np.int64),
        np.empty((4, tasks, ENTRIES)),
        np.empty((tasks + 2, tasks), np.int64),
        np.empty((tasks + 2, tasks)),
    )


# --- decoding: index row -> explicit design --------------------------------------------------------------------


@inner(error_model="numpy")
def _decode_full(row, layout, graph, tables, s):
    tasks = graph.figures.shape[1]
    topology = row[layout.topology]
    buses = layout.topology_buses[topology]
    links = 0
    for k in range(layout.topology_links.shape[1]):
        if layout.topology_links[topology, k, 0] >= 0:
            s.i[LINK_A, links] = layout.topology_links[topology, k, 0]
            s.i[LINK_B, links] = layout.topology_links[topology, k, 1]
            links += 1
    for b in range(buses):
        s.i[BUS_WIDTH, b] = row[layout.blocks[C_BUS_WIDTH, b]]
        s.i[BUS_CLOCK, b] = row[layout.blocks[C_BUS_CLOCK, b]]
    # CPUs: cpu0 is processing element 0; the others come in order of first use in task order.
    s.i[PE_BUS, 0] = 0
    s.i[PE_TASKS, 0] = 0
    pes = 1
    first = 0  # of cpu1 and cpu2, which one is processing element 1
    second = 0
    area = 0.0
    for t in range(tasks):
        choice = 1
        if layout.tasks[C_PE, t] >= 0:
            choice = row[layout.tasks[C_PE, t]] + (0 if layout.tasks[C_HAS_ACCELERATOR, t] else 1)
        if choice == 0:
            s.i[TASK_PE, t] = -1
            continue
        pe = 0
        if choice > 1:
            if first == 0 or first == choice:
                first = choice
                pe = 1
            else:
                second = choice
                pe = 2
        s.i[TASK_PE, t] = pe
        s.x[RATE, t] = tables.scalars[CPU_RATE]
        s.x[JOULE, t] = tables.scalars[CPU_JOULE]
    if first:
        pes = 3 if second else 2
    for p in range(1, pes):
        s.i[PE_BUS, p] = 0
        s.i[PE_TASKS, p] = 0
    counted = 0
    for t in range(tasks):
        if s.i[TASK_PE, t] >= 0:
            s.i[PE_TASKS, s.i[TASK_PE, t]] |= np.int64(1) << t
            if t != graph.source and t != graph.sink:
                counted |= 1 << s.i[TASK_PE, t]
    for p in range(pes):
        if counted >> p & 1:
            area += tables.scalars[CPU_AREA]
    for t in range(tasks):
        if s.i[TASK_PE, t] < 0:
            unroll = row[layout.tasks[C_UNROLL, t]] if layout.tasks[C_UNROLL, t] >= 0 else 0
            clock = row[layout.tasks[C_CLOCK, t]]
            s.i[TASK_PE, t] = pes
            s.i[PE_BUS, pes] = row[layout.tasks[C_BUS, t]] % buses
            s.i[PE_TASKS, pes] = np.int64(1) << t
            s.x[RATE, t] = tables.accelerator[ACCELERATOR_RATE, t, unroll, clock]
            s.x[JOULE, t] = tables.accelerator[ACCELERATOR_JOULE, t, unroll, clock]
            area += tables.accelerator[ACCELERATOR_AREA, t, unroll, clock]
            pes += 1
    present = 0
    for t in range(tasks):
        m = row[layout.tasks[C_MEMORY, t]] if layout.tasks[C_MEMORY, t] >= 0 else 0
        s.i[TASK_MEMORY, t] = m
        if graph.sets[CHILD_MASK, t]:
            present |= 1 << m
    for m in range(MEMORIES):
        s.i[MEMORY_KIND, m] = row[layout.blocks[C_MEMORY_KIND, m]]
        s.i[MEMORY_WIDTH, m] = row[layout.blocks[C_MEMORY_WIDTH, m]]
        s.i[MEMORY_CLOCK, m] = row[layout.blocks[C_MEMORY_CLOCK, m]]
        s.i[MEMORY_BUS, m] = row[layout.blocks[C_MEMORY_BUS, m]] % buses
    s.i[COUNT, 0] = pes
    s.i[COUNT, 1] = present
    s.i[COUNT, 2] = buses
    s.i[COUNT, 3] = links
    s.i[COUNT, ROOT] = 0
    s.x[AREA, 0] = area


@inner(error_model="numpy")
def _decode_limited(row, layout, graph, tables, s):
    tasks = graph.figures.shape[1]
    area = 0.0
    for p in range(3):
        s.i[PE_BUS, p] = row[layout.limited[L_PE_BUS] + p]
        s.i[PE_TASKS, p] = 0
    counted = 0
    for t in range(tasks):
        p = row[layout.limited[L_TASK_PE] + t]
        s.i[TASK_PE, t] = p
        s.i[PE_TASKS, p] |= np.int64(1) << t
        if t != graph.source and t != graph.sink:
            counted |= 1 << p
        if row[layout.limited[L_PE] + p] == 0:
            s.x[RATE, t] = tables.scalars[CPU_RATE]
            s.x[JOULE, t] = tables.scalars[CPU_JOULE]
        else:
            s.x[RATE, t] = tables.accelerator[ACCELERATOR_RATE, t, 0, 0]
            s.x[JOULE, t] = tables.accelerator[ACCELERATOR_JOULE, t, 0, 0]
        s.i[TASK_MEMORY, t] = row[layout.limited[L_TASK_MEMORY] + t]
    for p in range(3):
        if counted >> p & 1:
            if row[layout.limited[L_PE] + p] == 0:
                area += tables.scalars[CPU_AREA]
            else:
                area += tables.accelerator[ACCELERATOR_AREA, layout.limited[L_FIRST_ACCELERATOR], 0, 0]
    links = 0
    present = 0
    for b in range(3):
        s.i[BUS_WIDTH, b] = 0
        s.i[BUS_CLOCK, b] = row[layout.limited[L_BUS] + b]
        other = row[layout.limited[L_BUS_BUS] + b] - 1
        if other >= 0:
            s.i[LINK_A, links] = b
            s.i[LINK_B, links] = other
            links += 1
        m = row[layout.limited[L_BUS_MEMORY] + b] - 1
        if m >= 0:
            s.i[MEMORY_BUS, m] = b
            present |= 1 << m
    for m in range(3):
        s.i[MEMORY_KIND, m] = 1
        s.i[MEMORY_WIDTH, m] = 0
        s.i[MEMORY_CLOCK, m] = row[layout.limited[L_MEMORY] + m]
    s.i[COUNT, 0] = 3
    s.i[COUNT, 1] = present
    s.i[COUNT, 2] = 3
    s.i[COUNT, 3] = links
    s.i[COUNT, ROOT] = _root(s, links)
    s.x[AREA, 0] = area


@inner(error_model="numpy")
def _root(s, links):
    """Processing element 0, or where the buses link it to none that runs a task the first that does."""
    first = 0
    while s.i[PE_TASKS, first] == 0:
        first += 1
    reached = 1 << s.i[PE_BUS, first]
    for _ in range(BUSES):
        for k in range(links):
            pair = 1 << s.i[LINK_A, k] | 1 << s.i[LINK_B, k]
            if reached & pair:
                reached |= pair
    return 0 if reached >> s.i[PE_BUS, 0] & 1 else first


# --- network ---------------------------------------------------------------------------------------------------


@inner(error_model="numpy")
def _append(s, bus, code):
    n = s.i[NEAR_COUNT, bus]
    for k in range(n):
        if s.i[NEAR + bus, k] == code:
            return
    s.i[NEAR + bus, n] = code
    s.i[NEAR_COUNT, bus] = n + 1


@inner(error_model="numpy")
def _remove(s, bus, code):
    n = s.i[NEAR_COUNT, bus]
    k = 0
    while k < n and s.i[NEAR + bus, k] != code:
        k += 1
    for j in range(k, n - 1):
        s.i[NEAR + bus, j] = s.i[NEAR + bus, j + 1]
    if k < n:
        s.i[NEAR_COUNT, bus] = n - 1


@inner(error_model="numpy")
def _bus_order(s):
    """Buses in depth-first order from that of the root; returns how many."""
    start = s.i[PE_BUS, s.i[COUNT, ROOT]]
    seen = 1 << start
    s.i[BUS_ORDER, 0] = start
    s.i[STACK, 0] = start
    s.i[POSITION, start] = 0
    found, depth = 1, 1
    while depth:
        b = s.i[STACK, depth - 1]
        if s.i[POSITION, b] == s.i[NEAR_COUNT, b]:
            depth -= 1
            continue
        code = s.i[NEAR + b, s.i[POSITION, b]]
        s.i[POSITION, b] += 1
        if BUS <= code < MEMORY and not seen >> (code - BUS) & 1:
            other = code - BUS
            seen |= 1 << other
            s.i[BUS_ORDER, found] = other
            found += 1
            s.i[POSITION, other] = 0
            s.i[STACK, depth] = other
            depth += 1
    return found


@inner(error_model="numpy")
def _build_network(graph, s):
    """Neighbour lists, pruning, paths."""
    pes, present, buses, links = s.i[COUNT, 0], s.i[COUNT, 1], s.i[COUNT, 2], s.i[COUNT, 3]
    for b in range(buses):
        s.i[NEAR_COUNT, b] = 0
    for p in range(pes):
        b = s.i[PE_BUS, p]
        s.i[NEAR + b, s.i[NEAR_COUNT, b]] = p
        s.i[NEAR_COUNT, b] += 1
    for k in range(links):
        _append(s, s.i[LINK_A, k], BUS + s.i[LINK_B, k])
        _append(s, s.i[LINK_B, k], BUS + s.i[LINK_A, k])
    for m in range(MEMORIES):
        if present >> m & 1:
            b = s.i[MEMORY_BUS, m]
            s.i[NEAR + b, s.i[NEAR_COUNT, b]] = MEMORY + m
            s.i[NEAR_COUNT, b] += 1
    if buses > 1:
        found = _bus_order(s)
        reached = 0
        for k in range(found):
            reached |= 1 << s.i[BUS_ORDER, k]
        for b in range(buses):
            if not reached >> b & 1:
                s.i[NEAR_COUNT, b] = 0
        for k in range(found):
            b = s.i[BUS_ORDER, k]
            n_pe, n_memory, n_bus, only = 0, 0, 0, np.int64(-1)
            for j in range(s.i[NEAR_COUNT, b]):
                code = s.i[NEAR + b, j]
                if code >= MEMORY:
                    n_memory += 1
                elif code >= BUS:
                    n_bus += 1
                    if only < 0:
                        only = code - BUS
                else:
                    n_pe += 1
            if n_bus == 1 and (n_memory == 0 or n_pe == 0):
                _remove(s, only, BUS + b)
                for j in range(s.i[NEAR_COUNT, b]):
                    code = s.i[NEAR + b, j]
                    if code >= MEMORY:
                        s.i[MEMORY_BUS, code - MEMORY] = only
                        _append(s, only, code)
                    elif code < BUS:
                        s.i[PE_BUS, code] = only
                        _append(s, only, code)
                s.i[NEAR_COUNT, b] = 0
            elif n_bus > 1 and n_memory == 0 and n_pe == 0:
                for j in range(n_bus):
                    _remove(s, s.i[NEAR + b, j] - BUS, BUS + b)
                for j in range(1, n_bus):
                    _append(s, only, s.i[NEAR + b, j])
                    _append(s, s.i[NEAR + b, j] - BUS, BUS + only)
                s.i[NEAR_COUNT, b] = 0
    # hop[a, g]: next bus on the way from a to g; on_path[a, g]: buses on that way, both ends included.
    for g in range(buses):
        if s.i[NEAR_COUNT, g] == 0:
            continue
        s.i[HOP + g, g] = g
        s.i[ON_PATH + g, g] = 1 << g
        seen = 1 << g
        s.i[STACK, 0] = g
        head, tail = 0, 1
        while head < tail:
            u = s.i[STACK, head]
            head += 1
            for j in range(s.i[NEAR_COUNT, u]):
                v = s.i[NEAR + u, j] - BUS
                if 0 <= v < MEMORY - BUS and not seen >> v & 1:
                    seen |= 1 << v
                    s.i[HOP + v, g] = u
                    s.i[ON_PATH + v, g] = s.i[ON_PATH + u, g] | 1 << v
                    s.i[STACK, tail] = v
                    tail += 1


@inner(error_model="numpy")
def _place_tasks(mask, placed, s, at):
    t = 0
    while mask:
        if mask & 1 and not placed >> t & 1:
            s.i[ORDER, at] = t
            at += 1
        mask >>= 1
        t += 1
    return at


@inner(error_model="numpy")
def _kernel_order(graph, s):
    """Order in which FARSI looks at the tasks: blocks depth first from the root, each block's records in recording order,
    a task at its first appearance."""
    tasks = graph.figures.shape[1]
    root = s.i[COUNT, ROOT]
    placed = s.i[PE_TASKS, root]
    at = _place_tasks(placed, np.int64(0), s, np.int64(0))
    start = s.i[PE_BUS, root]
    seen = 1 << start
    s.i[STACK, 0] = start
    s.i[POSITION, start] = -1
    depth = 1
    while depth and at < tasks:
        b = s.i[STACK, depth - 1]
        if s.i[POSITION, b] < 0:
            s.i[POSITION, b] = 0
            for e in range(graph.events.shape[1]):
                t = graph.events[EVENT_TASK, e]
                if not placed >> t & 1:
                    father = graph.events[EVENT_FATHER, e]
                    m = s.i[TASK_MEMORY, t if father < 0 else father]
                    if s.i[ON_PATH + s.i[PE_BUS, s.i[TASK_PE, t]], s.i[MEMORY_BUS, m]] >> b & 1:
                        placed |= np.int64(1) << t
                        s.i[ORDER, at] = t
                        at += 1
            continue
        if s.i[POSITION, b] == s.i[NEAR_COUNT, b]:
            depth -= 1
            continue
        code = s.i[NEAR + b, s.i[POSITION, b]]
        s.i[POSITION, b] += 1
        if code >= MEMORY:
            m = code - MEMORY
            for t in range(tasks):
                if s.i[TASK_MEMORY, t] == m and graph.sets[CHILD_MASK, t] and not placed >> t & 1:
                    placed |= np.int64(1) << t
                    s.i[ORDER, at] = t
                    at += 1
            for e in range(graph.events.shape[1]):
                t, father = graph.events[EVENT_TASK, e], graph.events[EVENT_FATHER, e]
                if father >= 0 and s.i[TASK_MEMORY, father] == m and not placed >> t & 1:
                    placed |= np.int64(1) << t
                    s.i[ORDER, at] = t
                    at += 1
        elif code >= BUS:
            if not seen >> (code - BUS) & 1:
                seen |= 1 << (code - BUS)
                s.i[POSITION, code - BUS] = -1
                s.i[STACK, depth] = code - BUS
                depth += 1
        else:
            at = _place_tasks(s.i[PE_TASKS, code], placed, s, at)
            placed |= s.i[PE_TASKS, code]


# --- routes ----------------------------------------------------------------------------------------------------


@inner(error_model="numpy")
def _build_routes(graph, tables, s, physical):
    """Clusters each task uses, and the links that bring it there."""
    for m in range(MEMORIES):
        if s.i[COUNT, 1] >> m & 1:
            peak = tables.bus[BANDWIDTH, s.i[MEMORY_WIDTH, m], s.i[MEMORY_CLOCK, m]]
            s.x[PEAK_RATE, 2 * m] = peak
            s.x[PEAK_RATE, 2 * m + 1] = peak
    if physical:
        for b in range(s.i[COUNT, 2]):
            if s.i[NEAR_COUNT, b]:
                s.x[BUS_JOULE, b] = (
                    tables.bus[BUS_JOULE_AT, s.i[BUS_WIDTH, b], s.i[BUS_CLOCK, b]]
                    * tables.port_joule[s.i[NEAR_COUNT, b]]
                )
    for t in range(graph.figures.shape[1]):
        work = graph.figures[WORK, t]
        s.i[ENTRY_COUNT, t] = 0
        s.i[INPUT_COUNT, t] = 0
        if work == 0.0:
            continue
        home = s.i[PE_BUS, s.i[TASK_PE, t]]
        entries, inputs = 0, 0
        for m in range(MEMORIES):
            s.x[MEMORY_READ + m, t] = 0.0
        for d in range(2):
            for b in range(BUSES):
                s.x[MOVED, b] = 0.0
                s.x[UNIT, b] = 0.0
                s.i[OUT, b] = 0
            for m in range(MEMORIES):
                s.x[MEMORY_UNIT, m] = 0.0
            first, last = graph.sets[PARENT_START, t], graph.sets[PARENT_START, t + 1]
            if d == 1:
                first, last = 0, 1 if graph.sets[CHILD_MASK, t] else 0
            for k in range(first, last):
                if d == 0:
                    m = s.i[TASK_MEMORY, graph.parent[k]]
                    size, burst = graph.parent_figures[PARENT_BYTES, k], graph.parent_figures[PARENT_UNIT, k]
                    s.x[MEMORY_READ + m, t] += size
                else:
                    m = s.i[TASK_MEMORY, t]
                    size, burst = graph.figures[WRITTEN_BYTES, t], graph.figures[WRITE_UNIT, t]
                s.x[MEMORY_UNIT, m] += burst
                b = home
                target = s.i[MEMORY_BUS, m]
                while True:
                    s.x[MOVED, b] += size
                    s.x[UNIT, b] += burst
                    if b == target:
                        s.i[OUT, b] |= 1 << (BUSES + m)
                        break
                    follow = s.i[HOP + b, target]
                    s.i[OUT, b] |= 1 << follow
                    s.i[CAME, follow] = b
                    b = follow
            for b in range(s.i[COUNT, 2]):
                if s.i[OUT, b] == 0:
                    continue
                link = -1
                if b != home:
                    link = 2 * MEMORIES + (s.i[CAME, b] * BUSES + b) * 2 + d
                    s.route[INPUT_LINK, t, inputs] = link
                    s.flow[INPUT_UNIT, t, inputs] = s.x[UNIT, b]
                    inputs += 1
                ratio = s.x[MOVED, b] / work
                peak = tables.bus[BANDWIDTH, s.i[BUS_WIDTH, b], s.i[BUS_CLOCK, b]]
                if physical:
                    s.x[JOULE, t] += ratio * s.x[BUS_JOULE, b]
                for y in range(BUSES + MEMORIES):
                    if s.i[OUT, b] >> y & 1:
                        cluster = 2 * MEMORIES + (b * (BUSES + MEMORIES) + y) * 2 + d
                        s.x[PEAK_RATE, cluster] = peak
                        s.route[ENTRY_CLUSTER, t, entries] = cluster
                        s.flow[ENTRY_RATE, t, entries] = peak / ratio
                        s.flow[ENTRY_RATIO, t, entries] = ratio
                        s.route[ENTRY_LINK, t, entries] = link
                        s.flow[ENTRY_UNIT, t, entries] = s.x[UNIT, b]
                        entries += 1
            for m in range(MEMORIES):
                if s.x[MEMORY_UNIT, m] > 0.0:
                    size = s.x[MEMORY_READ + m, t] if d == 0 else graph.figures[WRITTEN_BYTES, t]
                    cluster = 2 * m + d
                    s.route[INPUT_LINK, t, inputs] = cluster
                    s.flow[INPUT_UNIT, t, inputs] = s.x[MEMORY_UNIT, m]
                    inputs += 1
                    ratio = size / work
                    s.route[ENTRY_CLUSTER, t, entries] = cluster
                    s.flow[ENTRY_RATE, t, entries] = s.x[PEAK_RATE, cluster] / ratio
                    s.flow[ENTRY_RATIO, t, entries] = ratio
                    s.route[ENTRY_LINK, t, entries] = cluster
                    s.flow[ENTRY_UNIT, t, entries] = s.x[MEMORY_UNIT, m]
                    entries += 1
        s.i[ENTRY_COUNT, t] = entries
        s.i[INPUT_COUNT, t] = inputs


# --- phases ----------------------------------------------------------------------------------------------------


@inner(error_model="numpy")
def _bits(mask):
    count = 0
    while mask:
        mask &= mask - 1
        count += 1
    return count


@inner(error_model="numpy")
def _share(s, running):
    """Rates in FARSI: even over the active links of a cluster, by burst units within a link."""
    for k in range(running):
        t = s.i[SCHEDULED, k]
        for i in range(s.i[INPUT_COUNT, t]):
            s.x[LINK_TOTAL, s.route[INPUT_LINK, t, i]] += s.flow[INPUT_UNIT, t, i]
        for i in range(s.i[ENTRY_COUNT, t]):
            cluster, link = s.route[ENTRY_CLUSTER, t, i], s.route[ENTRY_LINK, t, i]
            if cluster >= 2 * MEMORIES:
                if link < 0:
                    s.i[DIRECT, cluster] += 1  # one task a processing element: a link of its own
                else:
                    s.i[THROUGH, cluster] |= 1 << ((link - 2 * MEMORIES) // 2 // BUSES)
    for k in range(running):
        t = s.i[SCHEDULED, k]
        rate = s.x[RATE, t]
        for i in range(s.i[ENTRY_COUNT, t]):
            cluster, link = s.route[ENTRY_CLUSTER, t, i], s.route[ENTRY_LINK, t, i]
            share = 1.0
            if link >= 0:
                share = s.flow[ENTRY_UNIT, t, i] / s.x[LINK_TOTAL, link]
            if cluster >= 2 * MEMORIES:
                active = s.i[DIRECT, cluster] + _bits(s.i[THROUGH, cluster])
                if active > 1:
                    share /= active
            limit = s.flow[ENTRY_RATE, t, i] * share
            rate = min(rate, limit)
        s.x[CURRENT, k] = rate
    for k in range(running):
        t = s.i[SCHEDULED, k]
        for i in range(s.i[INPUT_COUNT, t]):
            s.x[LINK_TOTAL, s.route[INPUT_LINK, t, i]] = 0.0
        for i in range(s.i[ENTRY_COUNT, t]):
            s.i[DIRECT, s.route[ENTRY_CLUSTER, t, i]] = 0
            s.i[THROUGH, s.route[ENTRY_CLUSTER, t, i]] = 0


@inner(error_model="numpy")
def _fill(s, running):
    """Rates in physical mode: the heaviest stream of every task grows evenly until something saturates."""
    left = 0
    for k in range(running):
        t = s.i[SCHEDULED, k]
        heaviest = 0.0
        for i in range(s.i[ENTRY_COUNT, t]):
            heaviest = max(heaviest, s.flow[ENTRY_RATIO, t, i])
        s.x[CURRENT, k] = s.x[RATE, t]
        s.i[GROWING, k] = 1 if heaviest > 0 else 0
        if s.i[GROWING, k]:
            s.x[WEIGHT, k] = 1.0 / heaviest
            left += 1
    while left:
        for k in range(running):
            t = s.i[SCHEDULED, k]
            for i in range(s.i[ENTRY_COUNT, t]):
                s.x[SLOPE, s.route[ENTRY_CLUSTER, t, i]] = 0.0
                s.x[TAKEN, s.route[ENTRY_CLUSTER, t, i]] = 0.0
        limit = np.inf
        for k in range(running):
            t = s.i[SCHEDULED, k]
            for i in range(s.i[ENTRY_COUNT, t]):
                if s.i[GROWING, k]:
                    s.x[SLOPE, s.route[ENTRY_CLUSTER, t, i]] += s.x[WEIGHT, k] * s.flow[ENTRY_RATIO, t, i]
                else:
                    s.x[TAKEN, s.route[ENTRY_CLUSTER, t, i]] += s.x[CURRENT, k] * s.flow[ENTRY_RATIO, t, i]
            if s.i[GROWING, k]:
                limit = min(limit, s.x[RATE, t] / s.x[WEIGHT, k])
        level = np.inf
        cause = -1
        for k in range(running):
            if s.i[GROWING, k]:
                t = s.i[SCHEDULED, k]
                for i in range(s.i[ENTRY_COUNT, t]):
                    cluster = s.route[ENTRY_CLUSTER, t, i]
                    full = max(s.x[PEAK_RATE, cluster] - s.x[TAKEN, cluster], 0.0) / s.x[SLOPE, cluster]
                    if full < level:
                        level = full
                        cause = cluster
        for k in range(running):
            if not s.i[GROWING, k]:
                continue
            t = s.i[SCHEDULED, k]
            if limit <= level:
                if s.x[RATE, t] / s.x[WEIGHT, k] <= limit:
                    s.i[GROWING, k] = 0
                    left -= 1
            else:
                for i in range(s.i[ENTRY_COUNT, t]):
                    if s.route[ENTRY_CLUSTER, t, i] == cause:
                        s.x[CURRENT, k] = min(level * s.x[WEIGHT, k], s.x[RATE, t])
                        s.i[GROWING, k] = 0
                        left -= 1
                        break


@inner(error_model="numpy")
def _run(graph, tables, s, physical):
    """Launch, schedule and advance the tasks; returns the number of phases."""
    tasks = graph.figures.shape[1]
    for t in range(tasks):
        s.x[LEFT, t] = graph.figures[WORK, t]
    for m in range(MEMORIES):
        s.x[STORED, m] = 0.0
        s.x[PEAK, m] = 0.0
    one = np.int64(1)
    everything = (one << tasks) - 1
    complete, unused, launched = np.int64(0), np.int64(0), np.int64(0)
    clock = 0.0
    phases = 1
    s.x[PHASE_S, 0] = 0.0
    s.i[PHASE_COUNT, 0] = 0
    # Typed counters: a literal 0 would have the steps compiled twice.
    n_scheduled, n_waiting = np.int64(0), np.int64(0)
    first_done = -1
    while True:
        dt = s.x[PHASE_S, phases - 1]
        n_queue = 0
        done = 0
        for k in range(n_scheduled):
            t = s.i[SCHEDULED, k]
            work = graph.figures[WORK, t]
            if work > 0.0:
                instructions = s.x[CURRENT, k] * dt
                s.x[LEFT, t] -= instructions
                s.phase_task[phases - 1, done] = t
                s.phase_done[phases - 1, done] = instructions
                done += 1
                share_left = s.x[LEFT, t] / work
                unfinished = (
                    share_left > tables.scalars[COMPLETE_WITHIN] if physical else 1 - share_left < FINISHED_SHARE
                )
                if unfinished and t != first_done:
                    s.i[QUEUE, n_queue] = t
                    n_queue += 1
                    continue
            s.x[END, t] = clock
            complete |= one << t
            unused |= one << t
            for j in range(graph.sets[PARENT_START, t], graph.sets[PARENT_START, t + 1]):
                p = graph.parent[j]
                children = graph.sets[CHILD_MASK, p]
                if physical:
                    if children & ~complete == 0:
                        s.x[STORED, s.i[TASK_MEMORY, p]] -= graph.figures[WRITTEN_BYTES, p]
                elif children & ~unused == 0:
                    unused &= ~children
                    if p != graph.source:
                        s.x[STORED, s.i[TASK_MEMORY, p]] -= graph.figures[WRITTEN_BYTES, p]
        s.i[PHASE_COUNT, phases - 1] = done
        if physical:
            for k in range(n_waiting):
                s.i[QUEUE, n_queue] = s.i[WAITING, k]
                n_queue += 1
        for k in range(tasks):
            t = k if physical else s.i[ORDER, k]
            if not launched >> t & 1 and graph.sets[PARENT_MASK, t] & ~complete == 0:
                launched |= one << t
                m = s.i[TASK_MEMORY, t]
                s.x[STORED, m] += graph.figures[WRITTEN_BYTES, t]
                s.x[PEAK, m] = max(s.x[PEAK, m], s.x[STORED, m])
                s.i[QUEUE, n_queue] = t
                n_queue += 1
        if not physical:
            for k in range(n_waiting):
                s.i[QUEUE, n_queue] = s.i[WAITING, k]
                n_queue += 1
        busy = np.int64(0)
        n_scheduled, n_waiting = np.int64(0), np.int64(0)
        dummy = -1
        for k in range(n_queue):
            t = s.i[QUEUE, k]
            if busy >> s.i[TASK_PE, t] & 1:
                s.i[WAITING, n_waiting] = t
                n_waiting += 1
            else:
                busy |= one << s.i[TASK_PE, t]
                s.i[SCHEDULED, n_scheduled] = t
                n_scheduled += 1
                if dummy < 0 and graph.figures[WORK, t] == 0.0:
                    dummy = t
        if n_scheduled == 0 and launched == everything:
            return phases
        if dummy >= 0:  # takes no time: nothing advances
            for k in range(n_scheduled):
                s.x[CURRENT, k] = 0.0
            s.x[PHASE_S, phases] = 0.0
            first_done = dummy
        else:
            if physical:
                _fill(s, n_scheduled)
            else:
                _share(s, n_scheduled)
            step = np.inf
            for k in range(n_scheduled):
                t = s.i[SCHEDULED, k]
                remaining = s.x[LEFT, t] / s.x[CURRENT, k]
                if remaining < step:
                    step = remaining
                    first_done = t
            s.x[PHASE_S, phases] = step if physical else (clock + step) - clock
            clock += step
        phases += 1


# --- energy, area and power ------------------------------------------------------------------------------------


@inner(error_model="numpy")
def _at(column, units):
    last = len(column)
    if units <= last:
        return column[units - 1]
    return column[last - 1] + (column[last - 1] - column[last - 2]) * (units - last)


@inner(error_model="numpy")
def _farsi_power(s, phases, window):
    best = 0.0
    budget = window
    up, lo, closed = 0, 0, False
    end = 0
    for k in range(phases):
        length = s.x[PHASE_S, k]
        if length == 0.0:
            continue
        if length > budget:
            budget = window
            closed = True
            end = up + 1
            seconds, joule = 0.0, 0.0
            for j in range(lo, end):
                seconds += s.x[PHASE_S, j]
                joule += s.x[PHASE_J, j]
            if seconds > 0.0:
                best = max(best, joule / seconds)
            lo = up + 1
        else:
            budget -= length
        up += 1
    if not closed:
        lo = 0
    if not closed or end != phases:
        seconds, joule = 0.0, 0.0
        for j in range(lo, phases):
            seconds += s.x[PHASE_S, j]
            joule += s.x[PHASE_J, j]
        if seconds > 0.0:
            best = max(best, joule / seconds)
    return best


@inner(error_model="numpy")
def _sliding_power(s, phases, window):
    total = 0.0
    for k in range(phases):
        total += s.x[PHASE_S, k]
    window = min(window, total)
    if window <= 0.0:
        return 0.0
    best = 0.0
    for side in range(2):  # windows that start on a boundary, then windows that end on one
        for first in range(phases):
            room, inside = window, 0.0
            for j in range(first, phases):
                k = phases - 1 - j if side else j
                length = s.x[PHASE_S, k]
                if length >= room:
                    inside += s.x[PHASE_J, k] * (room / length)
                    room = 0.0
                    break
                inside += s.x[PHASE_J, k]
                room -= length
            if room == 0.0 or first == 0:
                best = max(best, inside)
    return best / window


@inner(error_model="numpy")
def _account(graph, tables, s, physical, phases, out):
    """Energy, area and power; ``out``: latencies, then power, energy, area, DRAM area, other area, phases."""
    other, dram = s.x[AREA, 0], 0.0
    static = tables.scalars[LOGIC_LEAKAGE] * s.x[AREA, 0]
    for m in range(MEMORIES):
        if s.x[PEAK, m] == 0.0:
            continue
        kind, width, speed = s.i[MEMORY_KIND, m], s.i[MEMORY_WIDTH, m], s.i[MEMORY_CLOCK, m]
        units = int(np.ceil(max(np.ceil(s.x[PEAK, m]), tables.scalars[SMALLEST]) / tables.scalars[CAPACITY_UNIT]))
        area = _at(tables.curves[AREA_CURVE, kind], units) * tables.memory[MEMORY_AREA_FACTOR, kind, width, speed]
        for d in range(2):
            factor = tables.memory[MEMORY_JOULE_FACTOR, kind, width, speed]
            s.x[JOULE_PER_BYTE + d, m] = _at(tables.curves[d, kind], units) * factor
        if kind == 1:
            dram += area
        else:
            other += area
        other += tables.memory[MEMORY_EXTRA_AREA, kind, width, speed]
        static += tables.memory[MEMORY_STANDBY, kind, width, speed]
        static += tables.scalars[MEMORY_LEAKAGE + kind] * (units * tables.scalars[CAPACITY_UNIT])
    if physical:
        for b in range(s.i[COUNT, 2]):
            other += tables.bus[BUS_AREA_AT, s.i[BUS_WIDTH, b], s.i[BUS_CLOCK, b]] * s.i[NEAR_COUNT, b]
    for t in range(graph.figures.shape[1]):
        work = graph.figures[WORK, t]
        if work > 0.0:
            for m in range(MEMORIES):
                if s.x[MEMORY_READ + m, t] > 0.0:
                    s.x[JOULE, t] += s.x[MEMORY_READ + m, t] / work * s.x[JOULE_PER_BYTE + 0, m]
            s.x[JOULE, t] += graph.figures[WRITTEN_BYTES, t] / work * s.x[JOULE_PER_BYTE + 1, s.i[TASK_MEMORY, t]]
    energy = 0.0
    for k in range(phases):
        joule = static * s.x[PHASE_S, k]
        for i in range(s.i[PHASE_COUNT, k]):
            joule += s.phase_done[k, i] * s.x[JOULE, s.phase_task[k, i]]
        s.x[PHASE_J, k] = joule
        energy += joule
    parts = len(graph.last)
    for i in range(parts):
        out[i] = s.x[END, graph.last[i]]
    if physical:
        out[parts] = _sliding_power(s, phases, tables.scalars[WINDOW])
    else:
        out[parts] = _farsi_power(s, phases, tables.scalars[WINDOW])
    out[parts + 1] = energy
    out[parts + 2] = other if physical else dram + other
    out[parts + 3] = dram
    out[parts + 4] = other
    out[parts + 5] = phases


# --- batches ---------------------------------------------------------------------------------------------------


@kernel(error_model="numpy")
def _evaluate_slice(rows, valid, layout, graph, tables, physical, out):
    s = _scratch(graph.figures.shape[1])
    for i in range(len(rows)):
        if not valid[i]:
            out[i] = np.nan
            continue
        if len(layout.limited):
            _decode_limited(rows[i], layout, graph, tables, s)
        else:
            _decode_full(rows[i], layout, graph, tables, s)
        _build_network(graph, s)
        if not physical:
            _kernel_order(graph, s)
        _build_routes(graph, tables, s, physical)
        phases = _run(graph, tables, s, physical)
        _account(graph, tables, s, physical, phases, out[i])


def evaluate_rows(
    rows: Int,
    valid: NDArray[np.bool_],
    layout: Layout,
    graph: GraphArrays,
    tables: Tables,
    physical: bool,
    out: F,
) -> None:
    """Evaluate the ``valid`` rows of either space: int64 ``(n, d)`` -> ``out`` float64 ``(n, parts + 6)``; the others
    become NaN. Slices of the batch go to as many threads as :func:`archgym.threads.thread_count` says; they hold no lock. A
    batch of one slice, a single design above all, needs no other thread."""

    def work(start: int) -> None:
        part = slice(start, start + SLICE)
        _evaluate_slice(rows[part], valid[part], layout, graph, tables, physical, out[part])

    on_threads(work, range(0, len(rows), SLICE))
