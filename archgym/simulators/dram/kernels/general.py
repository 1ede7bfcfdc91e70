# mypy: ignore-errors
# Numba compiles this module; its integers are machine words, which mypy cannot follow.
"""The memory controllers of any memory: several channels and ranks, DDR and LPDDR4 and HBM2, refresh of all banks or of
single banks, power-down, both command multiplexers.

The same passes as in :mod:`archgym.simulators.dram.kernels.fast`, written plainly: each pass is a function of the channel,
policies come from :mod:`archgym.simulators.dram.kernels.policy`, timing constraints from tables of distances
(:mod:`archgym.simulators.dram.timing`), and the energy's cycle counters are read off the list of issued commands at the
end. On a single channel and rank of DDR both give the same results, and the tests hold them against each other.

A channel is an independent controller; the initiator and the arbiter are shared.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from archgym.compiling import inner, kernel
from archgym.simulators.dram.commands import ACT, N_COMMANDS, NONE, PREAB, PREPB, RD, REFPB, WRA
from archgym.simulators.dram.kernels.fast import O_TOTAL, latency_statistics
from archgym.simulators.dram.kernels.policy import (
    after_command,
    apply,
    enqueue,
    has_space,
    log_command,
    pick,
    power_down_command,
    refresh_command,
    remove_from_buffer,
    select,
)
from archgym.simulators.dram.kernels.state import ARB_REORDER, ARB_SIMPLE, FAR, NO, RESP_FIFO, RESP_REORDER, record
from archgym.simulators.dram.timing import S_FAW_ACT, S_FAW_REF, S_LAST_REF_BANK

#: The initiator and the arbiter: requests that entered it (Fifo, Reorder) and when the last one did; the request that the
#: initiator offers (Simple) and when the last one was admitted; responses completed, when the last one was, the next one in
#: order; responses that wait in the arbiter; commands logged; open slots of the log are checked against ``logged``.
PROGRESS = record(
    "entered", "last_entry", "offered", "last_admitted", "done", "last_done", "expected", "wait_head", "wait_tail",
    "logged",
)  # fmt: skip
#: Of a request: its number in its channel and the next one there; when it entered the arbiter; whether its response waits in
#: the arbiter (Reorder). By number of a response: when it was completed, and which one waits in the arbiter (Simple, Fifo).
#: By place in the response queue of a channel: the end of the data (-1 where not known yet) and the request.
ROUTE = record("order", "next", "entry", "arrived", "free", "waiting", "data_end", "data_request")

#: Everything that a simulation works on: the memory; the above; earliest cycles of each command by place, from the distances
#: after each command; the log.
State = namedtuple(
    "State",
    ["m", "p", "routes", "ready_bank", "ready_group", "ready_rank", "bank", "group", "rank", "other", "scalars", "log"],
)


# --- timing ----------------------------------------------------------------------------------------------------------


@inner(error_model="numpy")
def earliest(s, c, command, rank, bank):
    """Earliest cycle of a command to a bank, not before now, by the timing constraints and the buses."""
    k, x = s.m.k[0], s.m.channels[c]
    group = bank // (k.banks // k.groups)
    time = max(s.ready_bank[c, bank, command], max(s.ready_group[c, group, command], s.ready_rank[c, rank, command]))
    if command == ACT:
        time = max(time, s.m.ranks[c, rank].faw_ends[0] + s.scalars[S_FAW_ACT])
    elif command == REFPB:
        time = max(time, s.m.ranks[c, rank].faw_ends[0] + s.scalars[S_FAW_REF])
    bus = x.column_bus if k.column_buses and RD <= command <= WRA else x.row_bus
    return max(time, max(k.now, bus))


@inner(error_model="numpy")
def earliest_of_rank(s, c, command, rank):
    """The same for a command to all banks of a rank."""
    return max(s.ready_rank[c, rank, command], max(s.m.k[0].now, s.m.channels[c].row_bus))


@inner(error_model="numpy")
def remember(s, c, command, rank, bank):
    """After a command: no other one earlier than its distance allows."""
    k = s.m.k[0]
    now = k.now
    whole_rank = command >= PREAB and command != REFPB
    group = bank // (k.banks // k.groups)
    for later in range(N_COMMANDS):
        if not whole_rank:
            s.ready_bank[c, bank, later] = max(s.ready_bank[c, bank, later], now + s.bank[command, later])
            s.ready_group[c, group, later] = max(s.ready_group[c, group, later], now + s.group[command, later])
        s.ready_rank[c, rank, later] = max(s.ready_rank[c, rank, later], now + s.rank[command, later])
    if k.ranks > 1:
        for other in range(k.ranks):
            if other != rank:
                for later in range(N_COMMANDS):
                    ready = s.ready_rank[c, other, later]
                    s.ready_rank[c, other, later] = max(ready, now + s.other[command, later])
    if command == ACT or command == REFPB:
        ends = s.m.ranks[c, rank].faw_ends
        for i in range(3):
            ends[i] = ends[i + 1]
        ends[3] = now + s.m.length[command] - 1


# --- a channel's controller ------------------------------------------------------------------------------------------


@inner(error_model="numpy")
def choose(s, c, bank):
    """A bank chooses its command and the earliest time of it, which is returned."""
    b = s.m.banks[c, bank]
    b.command, b.time = NONE, FAR
    if b.count == 0 or b.blocked or b.asleep:
        return FAR
    if b.dirty:  # only a bank that was touched looks through its requests again
        b.picked = pick(s.m, c, bank)
        b.dirty = 0
    b.command = b.picked
    b.time = earliest(s, c, b.command, bank // s.m.k[0].banks, bank)
    return b.time


@inner(error_model="numpy")
def managers(s, c, skip):
    """Refresh managers, then power-down managers of a channel, each with the earliest time of its command. Returns when they
    want to be looked at again; ``skip`` leaves out what is due now."""
    k = s.m.k[0]
    wake = FAR
    for rank in range(k.ranks):
        r = s.m.ranks[c, rank]
        time = refresh_command(s.m, c, rank)
        command = r.refresh_command
        if command == PREPB or command == REFPB:
            time = earliest(s, c, command, rank, rank * k.banks + r.refresh_bank)
            r.refresh_time = time
        elif command != NONE:
            time = earliest_of_rank(s, c, command, rank)
            r.refresh_time = time
        elif time <= k.now:
            continue
        if not (skip and time == k.now):
            wake = min(wake, time)
    if k.power_down:
        for rank in range(k.ranks):
            r = s.m.ranks[c, rank]
            power_down_command(s.m, c, rank)
            if r.power_command != NONE:
                r.power_time = earliest_of_rank(s, c, r.power_command, rank)
            if not (skip and r.power_time == k.now):
                wake = min(wake, r.power_time)
    return wake


@inner(error_model="numpy")
def admit(s, c):
    """Take the request that waits at the controller, if there is space; returns whether there was."""
    m, p, x, now = s.m, s.p[0], s.m.channels[c], s.m.k[0].now
    simple = m.k[0].arbiter == ARB_SIMPLE
    if not has_space(m, c):
        x.refused = 1
        return False
    request = p.offered if simple else x.head
    enqueue(m, c, request)
    if m.k[0].responses == RESP_REORDER:
        x.resp_tail = x.place + s.routes[request].order + 1
    x.reaches, x.refused, x.admitted_at = FAR, 0, now
    if simple:
        p.last_admitted = now
        p.offered += 1
        if p.offered < len(s.routes):
            y = m.channels[m.requests[p.offered].channel]
            y.reaches, y.late, y.refused = max(m.requests[p.offered].arrival, now + 1), 1, 0
    else:
        following = s.routes[request].next
        x.head = following
        if following >= 0 and s.routes[following].entry < FAR:
            entry = s.routes[following].entry
            x.reaches, x.late = max(entry, now + 1), entry > now
    return True


@inner(error_model="numpy")
def issue(s, c, command, rank, bank, request):
    """A command goes to the DRAM: log, buses, constraints, banks and managers."""
    m, x = s.m, s.m.channels[c]
    k = m.k[0]
    now, first = k.now, rank * k.banks
    log_command(s, c, command, rank, bank, request)
    if k.column_buses and RD <= command <= WRA:
        x.column_bus = now + m.length[command]
    else:
        x.row_bus = now + m.length[command]
    remember(s, c, command, rank, bank)
    if apply(m, c, command, rank, bank) and s.scalars[S_LAST_REF_BANK] > 0:
        s.ready_rank[c, rank, REFPB] = max(s.ready_rank[c, rank, REFPB], now + s.scalars[S_LAST_REF_BANK])
    if command >= PREAB and command != REFPB:
        for other in range(first, first + k.banks):
            m.banks[c, other].dirty = 1
    else:
        m.banks[c, bank].dirty = 1
    if RD <= command <= WRA:
        serve(s, c, bank, request)
    after_command(m, c, rank, RD <= command <= WRA)


@inner(error_model="numpy")
def serve(s, c, bank, request):
    """A column command serves a request: its entry is free, and its response is due at the end of the data."""
    m, x = s.m, s.m.channels[c]
    k = m.k[0]
    write = m.requests[request].write
    if write != x.last_write:
        for other in range(k.ranks * k.banks):
            m.banks[c, other].dirty = 1
    remove_from_buffer(m, c, bank, request)
    end = k.now + (k.write_end if write else k.read_end)
    if k.responses == RESP_FIFO:
        place = x.resp_tail
        x.resp_tail += 1
    else:
        place = x.place + s.routes[request].order
    s.routes[place].data_end, s.routes[place].data_request = end, request
    if place == x.resp_head and x.resp_last < FAR:
        x.resp_next = max(end, x.resp_last + 1)


@inner(error_model="numpy")
def channel_pass(s, c, visible):
    """One pass: admit the request that waits, look at the managers, issue the best command if it is due (a column command
    lets a request that was refused in), let all choose anew."""
    m, x, k = s.m, s.m.channels[c], s.m.k[0]
    now = k.now
    if visible and x.reaches <= now and admit(s, c):
        choose(s, c, x.last_bank)
    managers(s, c, NO)
    waiting, command, rank, bank, request = select(m, c)
    if command != NONE:
        if command >= PREAB and command != REFPB:
            bank = rank * k.banks
        issue(s, c, command, rank, bank, request)
        if RD <= command <= WRA and x.refused and visible and x.reaches <= now:
            admit(s, c)
    skip = waiting and command == NONE
    wake = FAR
    for bank in range(k.ranks * k.banks):
        b = m.banks[c, bank]
        if b.count == 0:
            b.command = NONE
            continue
        time = choose(s, c, bank)
        if not (skip and time == now):
            wake = min(wake, time)
    x.wake = min(wake, managers(s, c, skip))


@inner(error_model="numpy")
def passes(s, c):
    """The passes of a channel at this time: a request that arrives in this very cycle is seen by a later one."""
    x, now = s.m.channels[c], s.m.k[0].now
    while True:
        arrives = x.reaches == now and not x.refused
        if not arrives and x.wake > now:
            return
        visible = x.reaches <= now
        if arrives and x.late:
            x.late = 0
            if x.wake <= now:
                visible = False  # the pass without it comes first
        channel_pass(s, c, visible)


# --- initiator and arbiter -------------------------------------------------------------------------------------------


@inner(error_model="numpy")
def next_response(s, c):
    """After a response of a channel has left: when the next one does, if that is known."""
    x, now = s.m.channels[c], s.m.k[0].now
    x.resp_last = now
    place = x.resp_head
    if place < x.resp_tail and s.routes[place].data_end >= 0:
        x.resp_next = max(s.routes[place].data_end, now + 1)


@inner(error_model="numpy")
def respond(s):
    """Responses due now: from the channels to the arbiter, from there one a cycle to the initiator."""
    m, p, k = s.m, s.p[0], s.m.k[0]
    now = k.now
    for c in range(k.channels):
        x = m.channels[c]
        if x.resp_next != now:
            continue
        request = s.routes[x.resp_head].data_request
        x.resp_head += 1
        x.resp_next, x.wake = FAR, now
        if k.arbiter == ARB_REORDER:
            s.routes[request].arrived = 1
        else:
            s.routes[p.wait_tail].waiting = request
            p.wait_tail += 1
        if k.arbiter == ARB_SIMPLE:
            x.resp_last = FAR  # until the initiator takes it
        else:
            next_response(s, c)
    if p.last_done >= now:
        return
    request = np.int64(-1)
    if k.arbiter == ARB_REORDER:
        if p.expected < len(s.routes) and s.routes[p.expected].arrived:
            request = p.expected
            p.expected += 1
    elif p.wait_head < p.wait_tail:
        request = s.routes[p.wait_head].waiting
        p.wait_head += 1
    if request >= 0:
        m.requests[request].answered = now
        s.routes[p.done].free = now
        p.done += 1
        p.last_done = now
        if k.arbiter == ARB_SIMPLE:
            next_response(s, m.requests[request].channel)


@inner(error_model="numpy")
def offer(s):
    """Requests that reach a controller: when, and whether they had to wait before."""
    m, p, k = s.m, s.p[0], s.m.k[0]
    n = len(s.routes)
    if k.arbiter == ARB_SIMPLE:
        if p.offered < n:
            x = m.channels[m.requests[p.offered].channel]
            if x.reaches == FAR:
                x.reaches, x.late, x.refused = max(m.requests[p.offered].arrival, p.last_admitted + 1), 1, 0
        return
    limit = k.active
    while p.entered < n and (p.entered < limit or p.entered - limit < p.done):
        p.last_entry = max(m.requests[p.entered].arrival, p.last_entry + 1)
        if p.entered >= limit:
            p.last_entry = max(p.last_entry, s.routes[p.entered - limit].free)
        s.routes[p.entered].entry = p.last_entry
        p.entered += 1
    for c in range(k.channels):
        x = m.channels[c]
        if x.reaches == FAR and x.head >= 0 and s.routes[x.head].entry < FAR:
            entry = s.routes[x.head].entry
            x.reaches, x.late, x.refused = max(entry, x.admitted_at + 1), entry > x.admitted_at, 0


@inner(error_model="numpy")
def next_time(s):
    """The next cycle in which anything happens; FAR where nothing ever will."""
    m, p, k = s.m, s.p[0], s.m.k[0]
    later = FAR
    for c in range(k.channels):
        x = m.channels[c]
        later = min(later, min(x.wake, x.resp_next))
        if not x.refused:
            later = min(later, x.reaches)
    in_order = k.arbiter == ARB_REORDER and p.expected < len(s.routes) and s.routes[p.expected].arrived
    if p.wait_head < p.wait_tail or in_order:
        later = min(later, k.now + 1)
    return later


@kernel(error_model="numpy")
def simulate(s, out):
    """One design over one trace on any memory, from the state at cycle 0.

    Fills ``out``, a row of the fast controller, with the total time (-1 for a deadlock: Strict with a scheduler that
    reorders) and the latencies. Returns False where the log is too short.
    """
    m, p, k = s.m, s.p[0], s.m.k[0]
    n = len(s.routes)
    while True:
        respond(s)
        offer(s)
        for c in range(k.channels):
            if p.logged + 64 > s.log.shape[0]:
                return False
            passes(s, c)
        if p.done == n:
            break
        later = next_time(s)
        if later >= FAR:
            out[O_TOTAL] = -1
            p.logged = 0
            return True
        k.now = max(later, k.now + 1)
    out[O_TOTAL] = p.last_done
    values, scratch = np.empty(n, np.int64), np.empty(1032, np.int64)
    answered, arrival, is_write = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.uint8)
    writes = np.int64(0)
    for i in range(n):
        q = m.requests[i]
        answered[i], arrival[i], is_write[i] = q.answered, q.arrival, q.write
        writes += q.write
    latency_statistics(answered, arrival, is_write, writes, values, scratch, out)
    return True
