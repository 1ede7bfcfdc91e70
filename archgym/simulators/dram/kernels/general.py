# mypy: ignore-errors
# Numba compiles this module; its integers are machine words, which mypy cannot follow.
"""The memory controllers of any memory: several channels and ranks, DDR and LPDDR4 and HBM2, refresh of all banks or of
single banks, power-down, both command multiplexers.

The same passes as in :mod:`archgym.simulators.dram.kernels.fast`, written plainly: timing constraints come from tables
(:mod:`archgym.simulators.dram.timing`), every pass follows the steps one by one, and the energy's cycle counters
are read off the list of issued commands at the end. On a single channel and rank of DDR both give the same results,
and the tests hold them against each other.

A channel is an independent controller; the initiator and the arbiter are shared. Banks, groups and ranks are numbered
over all channels.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from archgym.simulators.dram.commands import (
    ACT,
    N_COMMANDS,
    N_LOG,
    NONE,
    PDEA,
    PDEP,
    PDXA,
    PDXP,
    PREAB,
    PREPB,
    RD,
    RDA,
    REFAB,
    REFPB,
    SREFEN,
    SREFEX,
    WR,
    WRA,
)
from archgym.simulators.dram.kernels.fast import (
    ACTIVE,
    ALL_BANK,
    ARB_REORDER,
    ARB_SIMPLE,
    ARBITER,
    BANKWISE,
    BUFFER,
    CLOSED,
    CLOSED_ADAPTIVE,
    FAR,
    FIFO,
    FRFCFS_GRP,
    NO_REFRESH,
    O_TOTAL,
    OPEN_ADAPTIVE,
    PAGE,
    PER_BANK,
    POSTPONED,
    PULLED_IN,
    READ_WRITE,
    REFRESH,
    RESP_REORDER,
    RESPONSES,
    SCHEDULER,
    SIZE,
    latency_statistics,
)
from archgym.simulators.dram.timing import (
    NEVER,
    S_FAW_ACT,
    S_FAW_REF,
    S_LAST_REF_BANK,
    S_READ_END,
    S_REFI,
    S_REFI_BANK,
    S_TWO_BUSES,
    S_WRITE_END,
)

# A design has two more columns here.
POWER_DOWN, COMMAND_MUX, N_DESIGN = 10, 11, 12
NO_POWER_DOWN, STAGGERED = 0, 1
OLDEST, STRICT = 0, 1

# State of a bank.
(
    B_HEAD, B_TAIL, B_COUNT, B_ROW, B_BLOCKED, B_DIRTY, B_NEXT, B_REQUEST, B_COMMAND, B_TIME, B_REMAINING, N_BANK,
) = range(12)  # fmt: skip
# State of a rank: refresh manager, then power-down manager.
(
    R_TN, R_FLEX, R_PULLED, R_COMMAND, R_BANK, R_TIME, R_SLEEPS, R_SELECTED, R_LEFT, R_REFS, R_WAITING, R_OPEN,
    P_STATE, P_ENTRY, P_EXIT, P_SELF, P_IDLE, P_OPEN, P_COMMAND, P_TIME, N_RANK,
) = range(21)  # fmt: skip
IDLE, ACTIVE_PDN, PRECHARGE_PDN, SELF_REFRESH, EXTRA_REFRESH = range(5)
# State of a channel.
(
    C_BUS, C_BUS_COLUMN, C_CHOSEN, C_WAKE, C_READS, C_WRITES, C_LAST_BANK, C_DIRECTION, C_HEAD, C_X, C_LATE, C_BLOCKED,
    C_ADMITTED, C_RESP_HEAD, C_RESP_TAIL, C_RESP_LAST, C_RESP_NEXT, C_ORDER, C_FIRST, N_CHANNEL,
) = range(20)  # fmt: skip

_options = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**_options)
def pick(b, bank, design, direction, follower, row_of, line, is_write):
    """Command and request that bank ``b`` would work on: scheduler, then page policy."""
    request = bank[b, B_HEAD]
    if request < 0:
        return NONE, -1
    row = bank[b, B_ROW]
    if row < 0:
        return ACT, request
    page, scheduler = design[PAGE], design[SCHEDULER]
    if scheduler == FIFO:
        hit = page == CLOSED or row_of[request] == row
        j = follower[request]
        further = j >= 0 and row_of[j] == row
    else:
        hits, first, chosen = 0, -1, -1
        j = request
        while j >= 0:
            if row_of[j] == row:
                hits += 1
                if first < 0:
                    first = j
                if scheduler == FRFCFS_GRP and chosen < 0 and is_write[j] == direction:
                    older = first
                    while older != j and not (row_of[older] == row and line[older] == line[j]):
                        older = follower[older]
                    if older == j:
                        chosen = j
            j = follower[j]
        hit = hits > 0
        further = hits > 1
        if hit:
            request = chosen if chosen >= 0 else first
    if not hit:
        return PREPB, request
    auto = page == CLOSED or (
        not further and (page == CLOSED_ADAPTIVE or (page == OPEN_ADAPTIVE and bank[b, B_COUNT] > 1))
    )
    if is_write[request]:
        return (WRA if auto else WR), request
    return (RDA if auto else RD), request


@njit(**_options)
def bank_ready(command, b, g, r, ready_bank, ready_group, ready_rank, window, scalars):
    """Earliest cycle of a bank's command by the timing constraints; buses are not counted here."""
    time = max(ready_bank[b, command], max(ready_group[g, command], ready_rank[r, command]))
    if command == ACT:
        time = max(time, window[r, 0] + scalars[S_FAW_ACT])
    elif command == REFPB:
        time = max(time, window[r, 0] + scalars[S_FAW_REF])
    return time


@njit(**_options)
def evaluate_refresh(t, r, banks, rank, bank, policy, interval, postponed, pulled):
    """The refresh manager of rank ``r`` looks at its rank; leaves its command in R_COMMAND and R_BANK."""
    state = rank[r]
    state[R_COMMAND] = NONE
    if t < state[R_TN]:
        return
    # It interrupts power-down first, and waits for the rank to be awake.
    state[P_ENTRY] = 0
    if state[P_STATE] != IDLE:
        state[P_EXIT] = 1
    if state[R_SLEEPS]:
        return
    if t >= state[R_TN] + interval:
        state[R_TN] += interval
        state[R_PULLED] = 0
    first = r * banks
    if policy == ALL_BANK:
        waiting = False
        for b in range(first, first + banks):
            if bank[b, B_COUNT] > 0:
                waiting = True
        if state[R_PULLED]:
            if waiting:
                state[R_PULLED] = 0
                state[R_TN] += interval
            else:
                state[R_COMMAND] = REFAB
            return
        forced = state[R_FLEX] == postponed
        if waiting and not forced:
            state[R_FLEX] += 1
            state[R_TN] += interval
            return
        if forced:
            for b in range(first, first + banks):
                bank[b, B_BLOCKED] = 1
        state[R_COMMAND] = PREAB if state[R_OPEN] > 0 else REFAB
        return
    # Single banks: those not refreshed in this round, in the order of the banks.
    found = False
    if state[R_PULLED] or not state[R_SELECTED]:
        chosen = -1
        for b in range(first, first + banks):
            if bank[b, B_REMAINING]:
                if chosen < 0:
                    chosen = b
                if bank[b, B_COUNT] == 0:
                    chosen = b
                    found = True
                    break
        if found or not state[R_PULLED]:
            state[R_BANK] = chosen
    b = state[R_BANK]
    if state[R_PULLED]:
        if not found:
            state[R_PULLED] = 0
            state[R_TN] += interval
            return
        state[R_COMMAND] = PREPB if bank[b, B_ROW] >= 0 else REFPB
        return
    forced = state[R_FLEX] == postponed
    if not found and not forced:
        state[R_FLEX] += 1
        state[R_TN] += interval
        return
    if bank[b, B_ROW] >= 0:
        state[R_COMMAND] = PREPB
    else:
        state[R_COMMAND] = REFPB
        if forced:
            bank[b, B_BLOCKED] = 1
            state[R_SELECTED] = 1


@njit(**_options)
def evaluate_power_down(state):
    """Command that the power-down manager of a rank has to give."""
    command = NONE
    if state[P_EXIT]:
        if state[P_STATE] == ACTIVE_PDN:
            command = PDXA
        elif state[P_STATE] == PRECHARGE_PDN:
            command = PDXP
        elif state[P_STATE] == SELF_REFRESH:
            command = SREFEX
        elif state[P_STATE] == EXTRA_REFRESH:
            command = REFAB
    elif state[P_ENTRY]:
        command = PDEA if state[P_OPEN] != 0 else PDEP
    elif state[P_SELF]:
        command = SREFEN
    state[P_COMMAND] = command


@njit(**_options)
def evaluate_managers(
    t, c, ranks, banks, rank, bank, design, interval, postponed, pulled, channel, ready_bank, ready_group, ready_rank,
    window, scalars, groups,
):  # fmt: skip
    """Refresh managers, then power-down managers of a channel, each with the earliest time of its command."""
    for r in range(c * ranks, (c + 1) * ranks):
        if design[REFRESH] != NO_REFRESH:
            evaluate_refresh(t, r, banks, rank, bank, design[REFRESH], interval, postponed, pulled)
    for r in range(c * ranks, (c + 1) * ranks):
        state = rank[r]
        clamp = max(t, channel[c, C_BUS])
        command = state[R_COMMAND]
        if command == NONE:
            state[R_TIME] = FAR
        elif command == PREPB or command == REFPB:
            b = state[R_BANK]
            g = r * groups + (b - r * banks) // (banks // groups)
            state[R_TIME] = max(
                clamp, bank_ready(command, b, g, r, ready_bank, ready_group, ready_rank, window, scalars)
            )
        else:
            state[R_TIME] = max(clamp, ready_rank[r, command])
        state[P_TIME] = FAR
        if design[POWER_DOWN] == STAGGERED:
            evaluate_power_down(state)
            if state[P_COMMAND] != NONE:
                state[P_TIME] = max(clamp, ready_rank[r, state[P_COMMAND]])


@njit(**_options)
def has_space(c, design, channel, bank):
    """The buffer's test, made before the incoming request's bank is looked at; ``design[SIZE]`` entries."""
    if design[BUFFER] == BANKWISE:
        last = channel[c, C_LAST_BANK]
        return last < 0 or bank[last, B_COUNT] < design[SIZE]
    if design[BUFFER] == READ_WRITE:
        return channel[c, C_READS] < design[SIZE] and channel[c, C_WRITES] < design[SIZE]
    return channel[c, C_READS] + channel[c, C_WRITES] < design[SIZE]


@njit(**_options)
def choose(
    b, g, r, clamp_row, clamp_column, design, bank, rank, direction, follower, row_of, line, is_write, ready_bank,
    ready_group, ready_rank, window, scalars,
):  # fmt: skip
    """Bank ``b`` chooses its command and the earliest time of it."""
    bank[b, B_COMMAND] = NONE
    bank[b, B_TIME] = FAR
    if bank[b, B_COUNT] == 0 or bank[b, B_BLOCKED] or rank[r, R_SLEEPS]:
        return
    if bank[b, B_DIRTY]:
        command, request = pick(b, bank, design, direction, follower, row_of, line, is_write)
        bank[b, B_NEXT] = command
        bank[b, B_REQUEST] = request
        bank[b, B_DIRTY] = 0
    command = bank[b, B_NEXT]
    bank[b, B_COMMAND] = command
    clamp = clamp_column if RD <= command <= WRA else clamp_row
    bank[b, B_TIME] = max(clamp, bank_ready(command, b, g, r, ready_bank, ready_group, ready_rank, window, scalars))


@njit(**_options)
def grown(log):
    """A log of twice the length with the same rows first."""
    larger = np.empty((2 * log.shape[0], log.shape[1]), log.dtype)
    for i in range(log.shape[0]):
        for k in range(log.shape[1]):
            larger[i, k] = log[i, k]
    return larger


@njit(**_options)
def simulate_general(
    design, table_bank, table_group, table_rank, table_other, length, scalars, arrival, bank_of, row_of, line, is_write,
    order_of, next_of, first_of, channels, ranks, banks, groups, fixed, out,
):  # fmt: skip
    """One design over one trace on any memory.

    Args:
        design: int64 (12,): the ten columns of the fast controller, power-down policy and command multiplexer.
        table_bank ... scalars: see :class:`archgym.simulators.dram.timing.Distances`.
        arrival: int64 (n,). bank_of: int32 (n,), counted over all channels and ranks. row_of, line: int32 (n,).
        is_write: uint8 (n,). order_of: int32 (n,), number of the request in its channel; next_of: int32 (n,), the
            next request of the channel or -1; first_of: int32 (channels,), its first request or -1.
        channels, ranks (of a channel), banks, groups (of a rank).
        fixed: True counts the open banks for power-down as they are; False as the reference does, which forgets
            auto-precharges.
        out: int64 row of the fast controller; the total time (-1 for a deadlock) and the latencies are filled here.

    Returns:
        The issued commands, int64 (m, N_LOG), in order of time; and how many rows of them are filled.
    """
    n = arrival.shape[0]
    total_ranks, total_banks = channels * ranks, channels * ranks * banks
    per_group = banks // groups
    in_order = design[RESPONSES] == RESP_REORDER
    arbiter, limit, policy = design[ARBITER], design[ACTIVE], design[REFRESH]
    strict, staggered = design[COMMAND_MUX] == STRICT, design[POWER_DOWN] == STAGGERED
    two_buses = scalars[S_TWO_BUSES] == 1
    interval = scalars[S_REFI_BANK] if policy == PER_BANK else scalars[S_REFI]
    factor = banks if policy == PER_BANK else 1
    postponed, pulled = design[POSTPONED] * factor, design[PULLED_IN] * factor

    follower = np.empty(n, np.int32)
    before = np.empty(n, np.int32)
    answered = np.empty(n, np.int64)
    entry = np.empty(n, np.int64)
    free = np.empty(n, np.int64)  # when the k-th response was completed
    data_end = np.empty(n, np.int64)  # by place in the channel's response queue
    data_request = np.empty(n, np.int32)
    number = np.empty(n, np.int64)
    waiting = np.empty(n, np.int32)  # responses in the arbiter (Simple, Fifo)
    arrived = np.empty(n, np.uint8)  # responses in the arbiter (Reorder)
    for i in range(n):
        follower[i], before[i], entry[i], data_end[i], arrived[i] = -1, -1, FAR, -1, 0

    bank = np.zeros((total_banks, N_BANK), np.int64)
    rank = np.zeros((total_ranks, N_RANK), np.int64)
    channel = np.zeros((channels, N_CHANNEL), np.int64)
    ready_bank = np.zeros((total_banks, N_COMMANDS), np.int64)
    ready_group = np.zeros((total_ranks * groups, N_COMMANDS), np.int64)
    ready_rank = np.zeros((total_ranks, N_COMMANDS), np.int64)
    window = np.empty((total_ranks, 4), np.int64)
    log = np.empty((4 * n + 64, N_LOG), np.int64)
    n_log = 0
    for r in range(total_ranks):
        for k in range(4):
            window[r, k] = NEVER
    for b in range(total_banks):
        bank[b, B_HEAD], bank[b, B_TAIL], bank[b, B_ROW] = -1, -1, -1
        bank[b, B_REMAINING], bank[b, B_DIRTY], bank[b, B_TIME] = 1, 1, FAR
    place = 0
    for c in range(channels):
        channel[c, C_LAST_BANK] = -1
        channel[c, C_HEAD] = first_of[c]
        channel[c, C_X] = FAR
        channel[c, C_ADMITTED] = -1
        channel[c, C_RESP_LAST] = -1
        channel[c, C_RESP_NEXT] = FAR
        channel[c, C_FIRST] = place
        if two_buses:  # the reference's buses of HBM2 are not free before cycle 1
            channel[c, C_BUS], channel[c, C_BUS_COLUMN] = 1, 1
        channel[c, C_RESP_HEAD] = place
        channel[c, C_RESP_TAIL] = place
        channel[c, C_ORDER] = 1  # next number in admission order, for Strict
        i = first_of[c]
        while i >= 0:
            place += 1
            i = next_of[i]
        for k in range(ranks):
            r = c * ranks + k
            shift, reverse = k, 0
            m = ranks
            while m > 1:
                reverse = reverse * 2 + (shift & 1)
                shift >>= 1
                m >>= 1
            rank[r, R_TN] = FAR if policy == NO_REFRESH else interval - (reverse * interval) // ranks
            rank[r, R_LEFT] = banks
            rank[r, R_TIME] = FAR
            rank[r, P_TIME] = FAR
            if staggered:
                rank[r, P_ENTRY] = 1
                rank[r, P_IDLE] = 1
                rank[r, P_COMMAND] = PDEP
                rank[r, P_TIME] = 0
        channel[c, C_WAKE] = 0

    entered = 0  # requests that entered the arbiter (Fifo, Reorder)
    last_entry = np.int64(-1)
    offered, last_admitted = 0, np.int64(-1)  # Simple: the request that the initiator offers
    done, last_done, expected = 0, np.int64(-1), 0
    wait_head, wait_tail = 0, 0
    t = np.int64(0)

    while True:
        # --- responses due now: from the channels to the arbiter, from there one a cycle to the initiator -----------
        for c in range(channels):
            if channel[c, C_RESP_NEXT] == t:
                k = channel[c, C_RESP_HEAD]
                q = data_request[k]
                channel[c, C_RESP_HEAD] = k + 1
                channel[c, C_RESP_NEXT] = FAR
                channel[c, C_WAKE] = t
                if arbiter == ARB_REORDER:
                    arrived[q] = 1
                else:
                    waiting[wait_tail] = q
                    wait_tail += 1
                if arbiter == ARB_SIMPLE:
                    channel[c, C_RESP_LAST] = FAR  # until the initiator takes it
                else:
                    channel[c, C_RESP_LAST] = t
                    k += 1
                    if k < channel[c, C_RESP_TAIL] and data_end[k] >= 0:
                        channel[c, C_RESP_NEXT] = max(data_end[k], t + 1)
        if last_done < t:
            q = -1
            if arbiter == ARB_REORDER:
                if expected < n and arrived[expected]:
                    q = expected
                    expected += 1
            elif wait_head < wait_tail:
                q = waiting[wait_head]
                wait_head += 1
            if q >= 0:
                answered[q] = t
                free[done] = t
                done += 1
                last_done = t
                if arbiter == ARB_SIMPLE:
                    c = bank_of[q] // (ranks * banks)
                    channel[c, C_RESP_LAST] = t
                    k = channel[c, C_RESP_HEAD]
                    if k < channel[c, C_RESP_TAIL] and data_end[k] >= 0:
                        channel[c, C_RESP_NEXT] = max(data_end[k], t + 1)

        # --- requests that reach a controller ----------------------------------------------------------------------
        if arbiter == ARB_SIMPLE:
            if offered < n:
                c = bank_of[offered] // (ranks * banks)
                if channel[c, C_X] == FAR:
                    channel[c, C_X] = max(arrival[offered], last_admitted + 1)
                    channel[c, C_LATE] = 1
                    channel[c, C_BLOCKED] = 0
        else:
            while entered < n and (entered < limit or entered - limit < done):
                last_entry = max(arrival[entered], last_entry + 1)
                if entered >= limit:
                    last_entry = max(last_entry, free[entered - limit])
                entry[entered] = last_entry
                entered += 1
            for c in range(channels):
                i = channel[c, C_HEAD]
                if channel[c, C_X] == FAR and i >= 0 and entry[i] < FAR:
                    channel[c, C_X] = max(entry[i], channel[c, C_ADMITTED] + 1)
                    channel[c, C_LATE] = 1 if entry[i] > channel[c, C_ADMITTED] else 0
                    channel[c, C_BLOCKED] = 0

        # --- passes of the channels --------------------------------------------------------------------------------
        for c in range(channels):
            while True:
                arrives = channel[c, C_X] == t and not channel[c, C_BLOCKED]
                if not arrives and channel[c, C_WAKE] > t:
                    break
                visible = channel[c, C_X] <= t
                if arrives and channel[c, C_LATE]:
                    channel[c, C_LATE] = 0
                    if channel[c, C_WAKE] <= t:
                        visible = False  # the pass without it comes first
                issued_request = -1
                # One pass. Twice through admission: at its start, and after a column command.
                first_rank, first_bank = c * ranks, c * ranks * banks
                for stage in range(2):
                    if visible and channel[c, C_X] <= t:
                        if has_space(c, design, channel, bank):
                            i = offered if arbiter == ARB_SIMPLE else channel[c, C_HEAD]
                            b = np.int64(bank_of[i])
                            r = b // banks
                            if rank[r, R_WAITING] == 0:
                                rank[r, P_IDLE] = 0
                                rank[r, P_ENTRY] = 0
                                rank[r, P_SELF] = 0
                                if rank[r, P_STATE] != IDLE:
                                    rank[r, P_EXIT] = 1
                            rank[r, R_WAITING] += 1
                            channel[c, C_LAST_BANK] = b
                            if is_write[i]:
                                channel[c, C_WRITES] += 1
                            else:
                                channel[c, C_READS] += 1
                            number[i] = order_of[i] + 1
                            j = bank[b, B_TAIL]
                            before[i] = j
                            if j >= 0:
                                follower[j] = i
                            else:
                                bank[b, B_HEAD] = i
                            bank[b, B_TAIL] = i
                            bank[b, B_COUNT] += 1
                            bank[b, B_DIRTY] = 1
                            if in_order:
                                k = channel[c, C_FIRST] + order_of[i]
                                channel[c, C_RESP_TAIL] = k + 1
                            channel[c, C_X] = FAR
                            channel[c, C_BLOCKED] = 0
                            channel[c, C_ADMITTED] = t
                            if arbiter == ARB_SIMPLE:
                                last_admitted = t
                                offered += 1
                                if offered < n:
                                    d = bank_of[offered] // (ranks * banks)
                                    channel[d, C_X] = max(arrival[offered], t + 1)
                                    channel[d, C_LATE] = 1
                                    channel[d, C_BLOCKED] = 0
                            else:
                                i = next_of[i]
                                channel[c, C_HEAD] = i
                                if i >= 0 and entry[i] < FAR:
                                    channel[c, C_X] = max(entry[i], t + 1)
                                    channel[c, C_LATE] = 1 if entry[i] > t else 0
                            if stage == 0:
                                g = r * groups + (b - r * banks) // per_group
                                choose(
                                    b, g, r, max(t, channel[c, C_BUS]), max(t, channel[c, C_BUS_COLUMN]), design, bank,
                                    rank, channel[c, C_DIRECTION], follower, row_of, line, is_write, ready_bank,
                                    ready_group, ready_rank, window, scalars,
                                )  # fmt: skip
                        else:
                            channel[c, C_BLOCKED] = 1
                    if stage == 1:
                        break
                    evaluate_managers(
                        t, c, ranks, banks, rank, bank, design, interval, postponed, pulled, channel, ready_bank,
                        ready_group, ready_rank, window, scalars, groups,
                    )  # fmt: skip

                    # Candidates: smallest earliest time + length, then the lowest number; refresh has number 0.
                    row_key, row_number, row_time = FAR, FAR, FAR
                    row_command, row_bank, row_rank = NONE, np.int64(-1), np.int64(-1)
                    col_key, col_number, col_time = FAR, FAR, FAR
                    col_command, col_bank = NONE, np.int64(-1)
                    any_candidate = False
                    for r in range(first_rank, first_rank + ranks):
                        if rank[r, P_TIME] < FAR:
                            any_candidate = True
                            key = rank[r, P_TIME] + length[rank[r, P_COMMAND]]
                            if key < row_key or (key == row_key and FAR - 1 < row_number):
                                row_key, row_number, row_time = key, FAR - 1, rank[r, P_TIME]
                                row_command, row_bank, row_rank = rank[r, P_COMMAND], -1, r
                            continue
                        if rank[r, R_TIME] < FAR:
                            any_candidate = True
                            key = rank[r, R_TIME] + length[rank[r, R_COMMAND]]
                            if key < row_key or (key == row_key and row_number > 0):
                                row_key, row_number, row_time = key, np.int64(0), rank[r, R_TIME]
                                row_command, row_bank, row_rank = rank[r, R_COMMAND], rank[r, R_BANK], r
                        for b in range(r * banks, (r + 1) * banks):
                            command = bank[b, B_COMMAND]
                            if command == NONE:
                                continue
                            any_candidate = True
                            key = bank[b, B_TIME] + length[command]
                            m = number[bank[b, B_REQUEST]]
                            if RD <= command <= WRA:
                                if strict and m != channel[c, C_ORDER]:
                                    continue
                                if two_buses:
                                    if key < col_key or (key == col_key and m < col_number):
                                        col_key, col_number, col_time = key, m, bank[b, B_TIME]
                                        col_command, col_bank = command, b
                                    continue
                            if key < row_key or (key == row_key and m < row_number):
                                row_key, row_number, row_time = key, m, bank[b, B_TIME]
                                row_command, row_bank, row_rank = command, b, r
                    # Of the two buses' commands the earlier one, of simultaneous ones the older request's.
                    if two_buses and (col_time < row_time or (col_time == row_time and col_number < row_number)):
                        row_time, row_number = col_time, col_number
                        row_command, row_bank = col_command, col_bank
                        row_rank = col_bank // banks
                    if row_command == NONE or row_time > t:
                        break
                    # --- issue --------------------------------------------------------------------------------------
                    command, r, b = row_command, row_rank, row_bank
                    whole_rank = command >= PREAB and command != REFPB
                    if whole_rank:
                        b = r * banks
                    request = np.int64(-1)
                    if n_log == log.shape[0]:
                        log = grown(log)
                    if row_number > 0 and row_number < FAR - 1:
                        request = bank[b, B_REQUEST]
                    log[n_log, 0], log[n_log, 1], log[n_log, 2] = t, command, c
                    log[n_log, 3], log[n_log, 4], log[n_log, 5] = r - first_rank, b - first_bank, request
                    n_log += 1
                    issued_request = n_log
                    column = RD <= command <= WRA
                    if two_buses and column:
                        channel[c, C_BUS_COLUMN] = t + length[command]
                    else:
                        channel[c, C_BUS] = t + length[command]
                        if not two_buses:
                            channel[c, C_BUS_COLUMN] = t + length[command]
                    g = r * groups + (b - r * banks) // per_group
                    for k in range(N_COMMANDS):
                        if not whole_rank:
                            ready_bank[b, k] = max(ready_bank[b, k], t + table_bank[command, k])
                            ready_group[g, k] = max(ready_group[g, k], t + table_group[command, k])
                        ready_rank[r, k] = max(ready_rank[r, k], t + table_rank[command, k])
                    if ranks > 1:
                        for other in range(first_rank, first_rank + ranks):
                            if other != r:
                                for k in range(N_COMMANDS):
                                    ready_rank[other, k] = max(ready_rank[other, k], t + table_other[command, k])
                    if command == ACT or command == REFPB:
                        for k in range(3):
                            window[r, k] = window[r, k + 1]
                        window[r, 3] = t + length[command] - 1
                    # Banks.
                    if whole_rank:
                        for k in range(b, b + banks):
                            bank[k, B_DIRTY] = 1
                            if command == PREAB:
                                bank[k, B_ROW] = -1
                            elif command == REFAB:
                                bank[k, B_BLOCKED] = 0
                        if command == PREAB:
                            rank[r, R_OPEN] = 0
                            rank[r, P_OPEN] = 0
                    else:
                        bank[b, B_DIRTY] = 1
                        if command == ACT:
                            bank[b, B_ROW] = row_of[request]
                            rank[r, R_OPEN] += 1
                            rank[r, P_OPEN] += 1
                        elif command == PREPB:
                            bank[b, B_ROW] = -1
                            rank[r, R_OPEN] -= 1
                            rank[r, P_OPEN] -= 1
                        elif command == RDA or command == WRA:
                            bank[b, B_ROW] = -1
                            rank[r, R_OPEN] -= 1
                            if fixed:
                                rank[r, P_OPEN] -= 1
                        elif command == REFPB:
                            bank[b, B_BLOCKED] = 0
                    # Refresh manager.
                    state = rank[r]
                    if command == REFAB and state[R_SLEEPS]:
                        state[R_PULLED] = 0
                        if policy != NO_REFRESH:
                            state[R_TN] = t + interval
                        state[R_SLEEPS] = 0
                    elif (command == REFAB and policy == ALL_BANK) or command == REFPB:
                        if command == REFPB:
                            state[R_SELECTED] = 0
                            bank[b, B_REMAINING] = 0
                            state[R_LEFT] -= 1
                            if state[R_LEFT] == 0:
                                state[R_LEFT] = banks
                                for k in range(r * banks, (r + 1) * banks):
                                    bank[k, B_REMAINING] = 1
                            state[R_REFS] += 1
                            if scalars[S_LAST_REF_BANK] > 0 and state[R_REFS] % banks == 0:
                                ready_rank[r, REFPB] = max(ready_rank[r, REFPB], t + scalars[S_LAST_REF_BANK])
                        if state[R_PULLED]:
                            state[R_FLEX] -= 1
                        else:
                            state[R_PULLED] = 1
                        if state[R_FLEX] == -pulled:
                            state[R_PULLED] = 0
                            state[R_TN] += interval
                    elif command == PDEA or command == PDEP or command == SREFEN:
                        state[R_SLEEPS] = 1
                        if command == SREFEN:
                            state[R_TN] = FAR
                    elif command == PDXA or command == PDXP:
                        state[R_SLEEPS] = 0
                    # Power-down manager.
                    if staggered:
                        if command == PDEA:
                            state[P_STATE] = ACTIVE_PDN
                            state[P_ENTRY] = 0
                        elif command == PDEP:
                            state[P_STATE] = PRECHARGE_PDN
                            state[P_ENTRY] = 0
                        elif command == SREFEN:
                            state[P_STATE] = SELF_REFRESH
                            state[P_ENTRY] = 0
                            state[P_SELF] = 0
                        elif command == PDXA:
                            state[P_STATE] = IDLE
                            state[P_EXIT] = 0
                        elif command == PDXP:
                            state[P_STATE] = IDLE
                            state[P_EXIT] = 0
                            if state[P_IDLE]:
                                state[P_SELF] = 1
                        elif command == SREFEX:
                            state[P_STATE] = EXTRA_REFRESH
                        elif command == REFAB or command == REFPB:
                            if command == REFAB and state[P_STATE] == EXTRA_REFRESH:
                                state[P_STATE] = IDLE
                                state[P_EXIT] = 0
                            elif state[P_IDLE]:
                                state[P_ENTRY] = 1
                    if column:
                        q = request
                        write = is_write[q]
                        if write:
                            channel[c, C_WRITES] -= 1
                        else:
                            channel[c, C_READS] -= 1
                        j, k = before[q], follower[q]
                        if j >= 0:
                            follower[j] = k
                        else:
                            bank[b, B_HEAD] = k
                        if k >= 0:
                            before[k] = j
                        else:
                            bank[b, B_TAIL] = j
                        bank[b, B_COUNT] -= 1
                        channel[c, C_ORDER] += 1
                        if write != channel[c, C_DIRECTION]:
                            channel[c, C_DIRECTION] = write
                            for k in range(first_bank, first_bank + ranks * banks):
                                bank[k, B_DIRTY] = 1
                        end = t + (scalars[S_WRITE_END] if write else scalars[S_READ_END])
                        if in_order:
                            k = channel[c, C_FIRST] + order_of[q]
                        else:
                            k = channel[c, C_RESP_TAIL]
                            channel[c, C_RESP_TAIL] = k + 1
                        data_end[k] = end
                        data_request[k] = q
                        if k == channel[c, C_RESP_HEAD] and channel[c, C_RESP_LAST] < FAR:
                            channel[c, C_RESP_NEXT] = max(end, channel[c, C_RESP_LAST] + 1)
                        state[R_WAITING] -= 1
                    if staggered and state[R_WAITING] == 0:
                        state[P_IDLE] = 1
                        if state[P_STATE] == IDLE:
                            state[P_ENTRY] = 1
                    if not (column and channel[c, C_BLOCKED]):
                        break

                # --- all banks choose anew, then the managers; the earliest time of all is the next wake-up ----------
                wake = FAR
                skip = issued_request < 0 and any_candidate
                clamp_row, clamp_column = max(t, channel[c, C_BUS]), max(t, channel[c, C_BUS_COLUMN])
                for r in range(first_rank, first_rank + ranks):
                    for b in range(r * banks, (r + 1) * banks):
                        if bank[b, B_COUNT] == 0:
                            bank[b, B_COMMAND] = NONE
                            continue
                        g = r * groups + (b - r * banks) // per_group
                        choose(
                            b, g, r, clamp_row, clamp_column, design, bank, rank, channel[c, C_DIRECTION], follower,
                            row_of, line, is_write, ready_bank, ready_group, ready_rank, window, scalars,
                        )  # fmt: skip
                        if not (skip and bank[b, B_TIME] == t):
                            wake = min(wake, bank[b, B_TIME])
                evaluate_managers(
                    t, c, ranks, banks, rank, bank, design, interval, postponed, pulled, channel, ready_bank,
                    ready_group, ready_rank, window, scalars, groups,
                )  # fmt: skip
                for r in range(first_rank, first_rank + ranks):
                    if rank[r, R_COMMAND] != NONE:
                        if not (skip and rank[r, R_TIME] == t):
                            wake = min(wake, rank[r, R_TIME])
                    elif rank[r, R_TN] > t:
                        wake = min(wake, rank[r, R_TN])
                    if not (skip and rank[r, P_TIME] == t):
                        wake = min(wake, rank[r, P_TIME])
                channel[c, C_WAKE] = wake

        # --- the next time -----------------------------------------------------------------------------------------
        if done == n:
            break
        later = FAR
        for c in range(channels):
            later = min(later, min(channel[c, C_WAKE], channel[c, C_RESP_NEXT]))
            if not channel[c, C_BLOCKED]:
                later = min(later, channel[c, C_X])
        if wait_head < wait_tail or (arbiter == ARB_REORDER and expected < n and arrived[expected]):
            later = min(later, t + 1)
        if later >= FAR:
            last_done = np.int64(-1)  # a deadlock: Strict with a scheduler that reorders
            break
        t = max(later, t + 1)

    out[O_TOTAL] = last_done
    if last_done < 0:
        return log, 0
    values, scratch = np.empty(n, np.int64), np.empty(1032, np.int64)
    writes = np.int64(0)
    for i in range(n):
        writes += is_write[i]
    latency_statistics(answered, arrival, is_write, writes, values, scratch, out)
    return log, n_log
