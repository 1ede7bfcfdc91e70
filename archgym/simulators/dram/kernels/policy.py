# mypy: ignore-errors
# Numba compiles this module; its integers are machine words, which mypy cannot follow.
"""The policies of a controller, once for the general controller and for the exact order of events: what a bank works on,
whether its row closes, space in the buffer, the command multiplexer, the managers of refresh and power-down.

When a command may be issued is not decided here: each controller has its own way to the timing constraints. ``m`` is a
:class:`~archgym.simulators.dram.kernels.state.Memory`, ``c`` a channel.
"""

from __future__ import annotations

import numpy as np

from archgym.compiling import inner
from archgym.simulators.dram.commands import (
    ACT,
    LOG_BANK,
    LOG_CHANNEL,
    LOG_COMMAND,
    LOG_RANK,
    LOG_REQUEST,
    LOG_TIME,
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
from archgym.simulators.dram.kernels.state import (
    ACTIVE_PDN,
    ALL_BANK,
    BANKWISE,
    CLOSED,
    CLOSED_ADAPTIVE,
    EXTRA_REFRESH,
    FAR,
    FRFCFS,
    IDLE,
    NO_REFRESH,
    OPEN,
    PRECHARGE_PDN,
    READ_WRITE,
    SCHED_FIFO,
    SELF_REFRESH,
    YES,
)


@inner(error_model="numpy")
def has_space(m, c):
    """Space in the request buffer, tested without a look at the request that comes in."""
    k = m.k[0]
    x, size = m.channels[c], k.size
    if k.buffer == BANKWISE:
        return x.last_bank < 0 or m.banks[c, x.last_bank].count < size
    if k.buffer == READ_WRITE:
        return x.reads < size and x.writes < size
    return x.reads + x.writes < size


@inner(error_model="numpy")
def enqueue(m, c, request):
    """A request is admitted: it joins the list of its bank and the counts of its rank and channel."""
    x, q = m.channels[c], m.requests[request]
    r = m.ranks[c, q.rank]
    if r.waiting == 0:
        r.idle = r.entry = r.self_entry = 0
        if r.state != IDLE:
            r.exit = 1
    r.waiting += 1
    b = m.banks[c, q.bank]
    q.next = -1
    if b.count:
        m.requests[b.last].next = request
    else:
        b.first = request
    b.last = request
    b.count += 1
    b.dirty = 1
    if q.write:
        x.writes += 1
    else:
        x.reads += 1
    x.last_bank = q.bank
    x.admitted += 1
    q.number = x.admitted


@inner(error_model="numpy")
def remove_from_buffer(m, c, bank, request):
    """The column command of a request was issued: its entry is free."""
    b, x, q = m.banks[c, bank], m.channels[c], m.requests[request]
    if b.first == request:
        b.first = q.next
    else:
        before = b.first
        while m.requests[before].next != request:
            before = m.requests[before].next
        m.requests[before].next = q.next
        if b.last == request:
            b.last = before
    b.count -= 1
    if q.write:
        x.writes -= 1
    else:
        x.reads -= 1
    x.last_write = q.write


@inner(error_model="numpy")
def candidate(m, c, bank):
    """The request that the scheduler would serve next in a bank that has one."""
    k = m.k[0]
    b = m.banks[c, bank]
    head, row = b.first, b.open_row
    if k.scheduler == SCHED_FIFO or row < 0:
        return head
    oldest = np.int64(-1)
    i = head
    while i >= 0:
        if m.requests[i].row == row:
            if k.scheduler == FRFCFS:
                return i
            if oldest < 0:
                oldest = i
            if m.requests[i].write == m.channels[c].last_write:
                # Not before an older request to the same address.
                hazard = False
                j = head
                while j != i:
                    if m.requests[j].row == row and m.requests[j].line == m.requests[i].line:
                        hazard = True
                        break
                    j = m.requests[j].next
                if not hazard:
                    return i
        i = m.requests[i].next
    return head if oldest < 0 else oldest


@inner(error_model="numpy")
def closes(m, c, bank):
    """Whether the column command of a bank closes the row (auto-precharge)."""
    k = m.k[0]
    page = k.page
    if page in (OPEN, CLOSED):
        return page == CLOSED
    b = m.banks[c, bank]
    hits = 0
    if k.scheduler == SCHED_FIFO:  # looks at the head and the one behind it only
        hits = 1
        second = m.requests[b.first].next
        if second >= 0 and m.requests[second].row == b.open_row:
            hits = 2
    else:
        i = b.first
        while i >= 0:
            hits += m.requests[i].row == b.open_row
            i = m.requests[i].next
    return hits < 2 and (page == CLOSED_ADAPTIVE or b.count >= 2)


@inner(error_model="numpy")
def pick(m, c, bank):
    """The command that a bank with requests would issue next by scheduler and page policy; notes its request."""
    b = m.banks[c, bank]
    request = candidate(m, c, bank)
    b.candidate = request
    q = m.requests[request]
    if b.open_row < 0:
        return ACT
    if m.k[0].page != CLOSED and q.row != b.open_row:
        return PREPB
    if closes(m, c, bank):
        return WRA if q.write else RDA
    return WR if q.write else RD


@inner(error_model="numpy")
def select(m, c):
    """The command mux: smallest end time, then lowest admission number; refresh before requests, power-down last.

    Returns whether there was a command at all, and the winner if it is due: command (else NONE), rank, bank, request.
    """
    k, x = m.k[0], m.channels[c]
    now = k.now
    any_command = False
    # With separate buses the best row and the best column command are taken first; else all compete as row commands.
    row_end, row_start, row_number = FAR, FAR, FAR
    row_command, row_rank, row_bank, row_request = NONE, -1, -1, -1
    col_end, col_start, col_number = FAR, FAR, FAR
    col_command, col_rank, col_bank, col_request = NONE, -1, -1, -1
    for rank in range(k.ranks):
        r = m.ranks[c, rank]
        first = rank * k.banks
        if r.power_command != NONE:  # keeps all others of its rank back
            any_command = True
            start = max(r.power_time, now)
            end = start + m.length[r.power_command]
            if end < row_end or (end == row_end and FAR - 1 < row_number):
                row_end, row_start, row_number = end, start, FAR - 1
                row_command, row_rank, row_bank, row_request = r.power_command, rank, first, -1
            continue
        if r.refresh_command != NONE:
            any_command = True
            start = max(r.refresh_time, now)
            end = start + m.length[r.refresh_command]
            if end < row_end or (end == row_end and row_number > 0):
                row_end, row_start, row_number = end, start, 0
                row_command, row_rank, row_bank, row_request = r.refresh_command, rank, first + r.refresh_bank, -1
        for bank in range(first, first + k.banks):
            b = m.banks[c, bank]
            command = b.command
            if command == NONE:
                continue
            any_command = True
            number = m.requests[b.candidate].number
            start = max(b.time, now)
            end = start + m.length[command]
            if RD <= command <= WRA:
                if k.strict and number != x.next_strict:
                    continue
                if k.column_buses:
                    if end < col_end or (end == col_end and number < col_number):
                        col_end, col_start, col_number = end, start, number
                        col_command, col_rank, col_bank, col_request = command, rank, bank, b.candidate
                    continue
            if end < row_end or (end == row_end and number < row_number):
                row_end, row_start, row_number = end, start, number
                row_command, row_rank, row_bank, row_request = command, rank, bank, b.candidate
    # Of the two buses' commands the earlier one, of simultaneous ones the older request's.
    if col_start < row_start or (col_start == row_start and col_number < row_number):
        row_start, row_command, row_rank, row_bank, row_request = (
            col_start,
            col_command,
            col_rank,
            col_bank,
            col_request,
        )
    if row_start != now:
        row_command = NONE
    return any_command, row_command, row_rank, row_bank, row_request


@inner(error_model="numpy")
def apply(m, c, command, rank, bank):
    """A command goes to the DRAM: update banks, refresh manager and power-down manager. Returns whether it ends a round of
    refreshes over all banks of the rank."""
    k = m.k[0]
    r, b, now, banks = m.ranks[c, rank], m.banks[c, bank], k.now, k.banks
    column = RD <= command <= WRA
    round_ends = False
    if command == ACT:
        b.open_row = m.requests[b.candidate].row
        r.open_banks += 1
        r.counted_open += 1
    elif command == PREPB:
        b.open_row = -1
        r.open_banks -= 1
        r.counted_open -= 1
    elif command in (RDA, WRA):
        b.open_row = -1
        r.open_banks -= 1
        if k.fixed:  # in the reference the power-down manager's count stays
            r.counted_open -= 1
    elif command == REFPB:
        b.blocked = 0
        b.unrefreshed = 0
        r.pinned = 0
        r.round_count = (r.round_count + 1) % banks
        if r.round_count == 0:
            round_ends = True
            for i in range(rank * banks, (rank + 1) * banks):
                m.banks[c, i].unrefreshed = 1
        pulled_in(m, r)
        if r.idle:
            r.entry = 1
    elif not column:
        for i in range(rank * banks, (rank + 1) * banks):
            a = m.banks[c, i]
            if command == PREAB:
                a.open_row = -1
            elif command == REFAB:
                a.blocked = a.asleep = 0
            elif command in (PDXA, PDXP):
                a.asleep = 0
            elif command != SREFEX:
                a.asleep = 1
        if command == PREAB:
            r.open_banks = r.counted_open = 0
        elif command == REFAB:
            if r.refresh_asleep:
                r.refresh_asleep = r.pulling = 0
                r.trigger = now + k.interval if k.interval else FAR
            else:
                pulled_in(m, r)
            if r.state == EXTRA_REFRESH:
                r.state, r.exit = IDLE, 0
            elif r.idle:
                r.entry = 1
        elif command == PDEA:
            r.state, r.entry, r.refresh_asleep = ACTIVE_PDN, 0, 1
        elif command == PDEP:
            r.state, r.entry, r.refresh_asleep = PRECHARGE_PDN, 0, 1
        elif command == SREFEN:
            r.state, r.entry, r.self_entry, r.refresh_asleep, r.trigger = SELF_REFRESH, 0, 0, 1, FAR
        elif command == PDXA:
            r.state, r.exit, r.refresh_asleep = IDLE, 0, 0
        elif command == PDXP:
            r.state, r.exit, r.refresh_asleep = IDLE, 0, 0
            if r.idle:
                r.self_entry = 1
        elif command == SREFEX:
            r.state = EXTRA_REFRESH
    if column:
        m.channels[c].next_strict += 1
    return round_ends


@inner(error_model="numpy")
def log_command(s, c, command, rank, bank, request):
    """A row of the log of either controller, whose state ``s`` is: a command that is issued now."""
    p = s.p[0]
    i = p.logged
    s.log[i, LOG_TIME], s.log[i, LOG_COMMAND], s.log[i, LOG_CHANNEL] = s.m.k[0].now, command, c
    s.log[i, LOG_RANK], s.log[i, LOG_BANK], s.log[i, LOG_REQUEST] = rank, bank, request
    p.logged += 1


@inner(error_model="numpy")
def after_command(m, c, rank, column):
    """A command of a rank was issued, a column command served a request: a rank without requests is idle, and may go to
    power-down."""
    r = m.ranks[c, rank]
    r.waiting -= column
    if r.waiting == 0:
        r.idle = 1
        if r.state == IDLE:
            r.entry = 1


@inner(error_model="numpy")
def pulled_in(m, r):
    """A refresh was issued: count it, and stop pulling in at the limit."""
    k = m.k[0]
    if r.pulling:
        r.flex -= 1
    else:
        r.pulling = 1
    if r.flex == -k.most_pulled_in:
        r.pulling = 0
        r.trigger += k.interval


@inner(error_model="numpy")
def idle_bank(m, c, rank, unrefreshed):
    """The first bank of a rank without requests (of those not yet refreshed in this round), -1 where all have some."""
    k = m.k[0]
    for i in range(k.banks):
        bank = rank * k.banks + i
        if (not unrefreshed or m.banks[c, bank].unrefreshed) and m.banks[c, bank].count == 0:
            return i
    return -1


@inner(error_model="numpy")
def refresh_command(m, c, rank):
    """The refresh manager of a rank looks at it and leaves its command in ``refresh_command``; returns when it wants to be
    looked at again where it has none."""
    k = m.k[0]
    if k.refresh == NO_REFRESH:
        return FAR
    now, interval, postponed = k.now, k.interval, k.most_postponed
    r = m.ranks[c, rank]
    r.refresh_command, r.refresh_time = NONE, FAR
    if now < r.trigger:
        return r.trigger
    r.entry = 0
    if r.state != IDLE:
        r.exit = 1
    if r.refresh_asleep:
        return FAR
    if now >= r.trigger + interval:
        r.trigger += interval
        r.pulling = 0
    forced = r.flex == postponed
    first = rank * k.banks
    if k.refresh == ALL_BANK:
        busy = False
        for i in range(first, first + k.banks):
            busy |= m.banks[c, i].count > 0
        if r.pulling:
            if busy:
                r.pulling = 0
                r.trigger += interval
                return r.trigger
        elif forced:
            for i in range(first, first + k.banks):
                m.banks[c, i].blocked = 1
        elif busy:
            r.flex += 1
            r.trigger += interval
            return r.trigger
        # While pulling in no bank is open.
        r.refresh_command = PREAB if r.open_banks > 0 and not r.pulling else REFAB
        r.refresh_bank = 0
    else:
        bank = idle_bank(m, c, rank, YES)
        if r.pulling:
            if bank < 0:
                r.pulling = 0
                r.trigger += interval
                return r.trigger
            r.refresh_bank = bank
        elif not r.pinned:
            if bank < 0:
                if not forced:
                    r.flex += 1
                    r.trigger += interval
                    return r.trigger
                bank = 0
                while not m.banks[c, first + bank].unrefreshed:
                    bank += 1
            r.refresh_bank = bank
        if m.banks[c, first + r.refresh_bank].open_row >= 0:
            r.refresh_command = PREPB
        else:
            r.refresh_command = REFPB
            if forced and not r.pulling:
                m.banks[c, first + r.refresh_bank].blocked = 1
                r.pinned = 1
    return FAR


@inner(error_model="numpy")
def power_down_command(m, c, rank):
    """The power-down manager of a rank (Staggered: power-down, then self refresh)."""
    k = m.k[0]
    if not k.power_down:
        return
    r = m.ranks[c, rank]
    command = NONE
    if r.exit:
        state = r.state
        if state == ACTIVE_PDN:
            command = PDXA
        elif state == PRECHARGE_PDN:
            command = PDXP
        elif state == SELF_REFRESH:
            command = SREFEX
        else:
            command = REFAB
    elif r.entry:
        command = PDEA if r.counted_open != 0 else PDEP
    elif r.self_entry:
        command = SREFEN
    r.power_command, r.power_time = command, FAR
