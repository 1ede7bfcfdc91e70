# mypy: ignore-errors
# Numba compiles this module; its integers are machine words, which mypy cannot follow.
"""The memory controller of one channel with one rank of DDR3, DDR4 or DDR5: the fast path.

The model is event driven and works in *passes*, as DRAMSys 4.0's controller does: at a time t it admits the request
that waits, looks at the refresh manager, takes the best command that the banks and the manager chose before, issues it
if it is due, and lets them choose anew. Between passes nothing changes, so time jumps to the earliest of: the best
command, the refresh trigger, the next request at the controller. At most one command issues in a cycle.

What makes it fast: every bank keeps its next command and the bank's own part of its earliest time, and only a bank
that was touched chooses again; the terms of bank groups and of the rank are kept for each kind of command and are
combined with the bank's part in one scan of the banks that hold requests; responses are computed when the column
command issues, since the end of its data is known then.

All times are cycles of the memory clock. One simulation is one call of a single-threaded function that takes no Python
object, so that threads run designs side by side with the same bits whatever their number.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from archgym.compiling import inner, kernel
from archgym.simulators.dram.commands import ACT, NONE, PREAB, PREPB, RD, RDA, REFAB, WR, WRA
from archgym.simulators.dram.kernels.state import (
    ARB_REORDER,
    ARB_SIMPLE,
    BANKWISE,
    CLOSED,
    CLOSED_ADAPTIVE,
    FRFCFS_GRP,
    NO,
    NO_REFRESH,
    OPEN_ADAPTIVE,
    READ_WRITE,
    RESP_REORDER,
    SCHED_FIFO,
)

# --- the design, one int64 row of these columns ---------------------------------------------------------------------
PAGE, SCHEDULER, BUFFER, SIZE, RESPONSES, REFRESH, POSTPONED, PULLED_IN, ARBITER, ACTIVE = range(10)

# --- timing: distances between commands, one int64 vector made by archgym.simulators.dram.timing.fast_times ------------
(
    T_COLUMN, T_RAS, T_RC, T_RP, T_RFC, T_RRD_S, T_RRD_L, T_FAW, T_CCD_S, T_CCD_L, T_CCD_L_WR, T_READ_PRE, T_WRITE_PRE,
    T_READ_ACT, T_WRITE_ACT, T_READ_WRITE, T_WRITE_READ_S, T_WRITE_READ_L, T_WRITE_RDA, T_PPD, T_READ_END, T_WRITE_END,
    T_REFI, T_AUTO_READ, T_AUTO_WRITE, T_READ_TAIL, T_WRITE_TAIL, T_ACT_TAIL, N_TIMING,
) = range(29)  # fmt: skip

# --- results, one int64 row a design --------------------------------------------------------------------------------
(
    O_TOTAL, O_SUM, O_P50, O_P95, O_P99, O_MAX, O_READ_SUM, O_READ_P99, O_ACT, O_PRE, O_RD, O_WR, O_REF,
    O_OPEN_CYCLES, O_CLOSED_CYCLES, O_SIZE_NEEDED, O_ACTIVE_NEEDED, O_FLEX_HIGH, O_FLEX_LOW, N_OUT,
) = range(20)  # fmt: skip

# --- state of a bank ------------------------------------------------------------------------------------------------
# Requests: first, last, how many; the open row; requests to it: how many, writes of them, the oldest.
HEAD, TAIL, COUNT, ROW, HITS, WRITE_HITS, FIRST_HIT = range(7)
# Times: its own constraints; its choice: command, earliest time by its own constraints, places of terms and number.
ACT_READY, PRE_READY, COL_READY, RDA_READY, COMMAND, LOCAL, NUMBER_AND_TERMS = range(7)
NIL = (1 << 32) - 1  # no request, no row

FAR = np.int64(1) << 61  # a time that never comes
SHIFT = 24  # a candidate's key is earliest time << SHIFT | admission number
NUMBER = (np.int64(1) << SHIFT) - 1
MAX_REQUESTS = int(NUMBER)


@intrinsic
def lowest_bit(typingctx, mask):
    """Position of the lowest set bit of a non-zero int64: one instruction."""

    def codegen(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


@kernel(error_model="numpy")
def percentile_ranks(values, n, hist, out):
    """Nearest-rank percentiles 50, 95 and 99 of the first ``n`` non-negative ``values``, into ``out``.

    Selection by two counting passes; ``hist`` is scratch of 1,024 counters. Long ranges take further passes.
    """
    top = np.int64(0)
    for i in range(n):
        top = max(top, values[i])
    bits = 0
    while (top >> bits) > 0:
        bits += 1
    ranks = ((n * 50 + 99) // 100, (n * 95 + 99) // 100, (n * 99 + 99) // 100)
    shift0 = max(bits - 10, 0)
    # One histogram of the leading ten bits serves all three ranks; then each refines within its bin.
    for i in range(1024):
        hist[i] = 0
    for i in range(n):
        hist[values[i] >> shift0] += 1
    place, below = 0, np.int64(0)
    bins = np.empty(3, np.int64)
    rests = np.empty(3, np.int64)
    for k in range(3):
        while below + hist[place] < ranks[k]:
            below += hist[place]
            place += 1
        bins[k] = place
        rests[k] = ranks[k] - below
    for k in range(3):
        prefix, rest, shift = bins[k], rests[k], shift0
        while shift > 0:
            step = min(shift, 10)
            low = shift - step
            for i in range(1024):
                hist[i] = 0
            mask = (np.int64(1) << step) - 1
            for i in range(n):
                if (values[i] >> shift) == prefix:
                    hist[(values[i] >> low) & mask] += 1
            place = 0
            while hist[place] < rest:
                rest -= hist[place]
                place += 1
            prefix = (prefix << step) | place
            shift = low
        out[k] = prefix


@inner(error_model="numpy")
def evaluate_refresh(t, tn, interval, flex, pulled_in, forced, open_banks, waiting, max_postponed, flex_high):
    """The all-bank refresh manager looks at the state of its rank at ``t >= tn``.

    Returns the trigger, the postponed count (negative: pulled in), whether it is pulling in, whether the refresh is
    forced (which blocks the banks), its command, and the largest count at which it had to decide.
    """
    command = NONE
    if t >= tn + interval:
        tn += interval
        pulled_in = False
    if pulled_in:
        if waiting:
            pulled_in = False
            tn += interval
        else:
            command = REFAB
    else:
        flex_high = max(flex_high, flex)
        if flex == max_postponed:
            forced = True
            command = PREAB if open_banks > 0 else REFAB
        elif waiting:
            flex += 1
            tn += interval
        else:
            command = PREAB if open_banks > 0 else REFAB
    return tn, flex, pulled_in, forced, command, flex_high


@inner(error_model="numpy")
def latency_statistics(answered, arrival, is_write, writes, values, L, out):
    """Sums, maximum and nearest-rank percentiles of the latencies (response minus arrival in the trace)."""
    n = arrival.shape[0]
    hist, ranks = L[:1024], L[1024:1027]
    total, top = np.int64(0), np.int64(0)
    for i in range(n):
        value = answered[i] - arrival[i]
        values[i] = value
        total += value
        top = max(top, value)
    percentile_ranks(values, n, hist, ranks)
    out[O_SUM], out[O_MAX] = total, top
    out[O_P50], out[O_P95], out[O_P99] = ranks[0], ranks[1], ranks[2]
    if writes == 0:
        out[O_READ_SUM], out[O_READ_P99] = total, ranks[2]
        return
    # An int64, not the literal 0: Numba would compile percentile_ranks once more for the literal.
    reads, total = np.int64(0), np.int64(0)
    for i in range(n):
        if not is_write[i]:
            values[reads] = answered[i] - arrival[i]
            total += values[reads]
            reads += 1
    out[O_READ_SUM], out[O_READ_P99] = total, -1
    if reads:
        percentile_ranks(values, reads, hist, ranks)
        out[O_READ_P99] = ranks[2]


@inner(error_model="numpy")
def covers(run, result, design, interval):
    """True where ``design``, of the same structure as ``run``, provably has ``run``'s result, because they differ
    only in limits that ``run`` never touched.

    The buffer: ``run`` was never refused, and its levels at admission fit the other size. The transaction limit: it
    never held a request, and the other is above the requests in flight. Refresh: no trigger before the end, or the
    counts at which the manager had to decide never reach either limit.
    """
    if run[SIZE] != design[SIZE] and design[SIZE] < result[O_SIZE_NEEDED]:
        return False
    if run[ARBITER] != ARB_SIMPLE and run[ACTIVE] != design[ACTIVE] and design[ACTIVE] < result[O_ACTIVE_NEEDED]:
        return False
    if run[REFRESH] == NO_REFRESH:
        return design[REFRESH] == NO_REFRESH or result[O_TOTAL] < interval
    if result[O_FLEX_HIGH] < 0:
        return True
    if design[REFRESH] == NO_REFRESH:
        return False
    high, low = result[O_FLEX_HIGH], result[O_FLEX_LOW]
    if run[POSTPONED] != design[POSTPONED] and (high >= run[POSTPONED] or high >= design[POSTPONED]):
        return False
    return run[PULLED_IN] == design[PULLED_IN] or (low > -run[PULLED_IN] and low > -design[PULLED_IN])


@kernel(error_model="numpy")
def simulate_batch(designs, timing, arrival, bank_of, row_of, line, is_write, banks, groups, out, log):
    """Designs over one trace, one after the other.

    Designs of the same structure (policies) should stand together, those with wide limits first: then the results of
    designs that are provably equal to one before are copied, see :func:`covers`.

    Args:
        designs: int64 (m, 10).
        timing: int64 (N_TIMING,).
        arrival: int64 (n,), cycles, non-decreasing. bank_of: uint8 (n,). row_of, line: uint32 (n,); two requests are
            to the same address where their lines are equal. is_write: uint8 (n,).
        banks, groups: of the rank; a group is ``bank // (banks // groups)``.
        out: int64 (m, N_OUT), filled.
        log: int64 (k, 3), filled with (cycle, command, bank or -1) of the last design simulated; further commands are
            dropped; k may be 0.

    Returns:
        Number of simulations run, and of commands in the last one, which tells how long a complete log is.
    """
    n = arrival.shape[0]
    I = np.empty((4, n), np.int64)
    link = np.empty((n, 2), np.uint32)  # a bank's requests in order of admission: the one before, the one behind
    bank = np.empty((banks, 8), np.uint32)
    time = np.empty((banks, 8), np.int64)
    Q = np.empty(4 * groups + 4, np.int64)
    L = np.empty(1032, np.int64)
    touched = np.empty(2 * banks + 2, np.uint8)
    runs = np.empty(designs.shape[0], np.int64)
    first, n_runs, n_log = 0, 0, 0
    act_to_column, t_ras, t_rc, t_rp, t_rfc = (
        timing[T_COLUMN], timing[T_RAS], timing[T_RC], timing[T_RP], timing[T_RFC],
    )  # fmt: skip
    t_rrd_s, t_rrd_l, t_faw = timing[T_RRD_S], timing[T_RRD_L], timing[T_FAW]
    t_ccd_s, t_ccd_l, t_ccd_l_wr = timing[T_CCD_S], timing[T_CCD_L], timing[T_CCD_L_WR]
    read_to_pre, write_to_pre = timing[T_READ_PRE], timing[T_WRITE_PRE]
    read_to_act, write_to_act = timing[T_READ_ACT], timing[T_WRITE_ACT]
    read_to_write, write_to_rda = timing[T_READ_WRITE], timing[T_WRITE_RDA]
    write_to_read_s, write_to_read_l = timing[T_WRITE_READ_S], timing[T_WRITE_READ_L]
    read_end, write_end, t_ppd, t_refi = timing[T_READ_END], timing[T_WRITE_END], timing[T_PPD], timing[T_REFI]
    auto_read, auto_write = timing[T_AUTO_READ], timing[T_AUTO_WRITE]
    read_tail, write_tail, act_tail = timing[T_READ_TAIL], timing[T_WRITE_TAIL], timing[T_ACT_TAIL]
    answered, data_end, slot_free = I[0], I[1], I[2]
    # Terms of the groups (kind * groups + group) and of the rank (by kind): ACT, RD, WR, PREPB.
    group_term = Q[: 4 * groups]
    rank_term = Q[4 * groups : 4 * groups + 4]
    group_shift = 0
    while groups << group_shift < banks:
        group_shift += 1

    for m in range(designs.shape[0]):
        design = designs[m]
        # --- is the result known already? ---------------------------------------------------------------------------
        if m > 0:
            for k in (PAGE, SCHEDULER, BUFFER, RESPONSES, ARBITER):
                if design[k] != designs[m - 1, k]:
                    first = n_runs
        same = -1
        for k in range(n_runs - 1, first - 1, -1):
            if covers(designs[runs[k]], out[runs[k]], design, t_refi):
                same = runs[k]
                break
        if same >= 0:
            for k in range(N_OUT):
                out[m, k] = out[same, k]
            continue
        runs[n_runs] = m
        n_runs += 1

        # --- the state at the start ---------------------------------------------------------------------------------
        page, scheduler, buffer, size = design[PAGE], design[SCHEDULER], design[BUFFER], design[SIZE]
        in_order = design[RESPONSES] == RESP_REORDER
        arbiter, limit = design[ARBITER], design[ACTIVE]
        refresh, max_postponed, max_pulled = design[REFRESH] != NO_REFRESH, design[POSTPONED], design[PULLED_IN]
        for k in range(4 * groups + 4):
            Q[k] = 0
        for b in range(banks):
            for k in range(8):
                bank[b, k] = 0
                time[b, k] = 0
            bank[b, HEAD] = NIL
            bank[b, TAIL] = NIL
            bank[b, ROW] = NIL
        if in_order or arbiter == ARB_REORDER:
            for i in range(n):
                data_end[i] = -1
        act0, act1, act2, act3 = -t_faw, -t_faw, -t_faw, -t_faw  # the last four ACTs, oldest first
        preab_ready, refab_ready = np.int64(0), np.int64(0)
        busy = np.int64(0)  # bit mask of banks that hold requests
        n_touched = 0
        last_direction = np.int64(0)
        last_bank = np.int64(-1)
        reads_waiting, writes_waiting = np.int64(0), np.int64(0)
        open_banks = np.int64(0)

        t, bus = np.int64(0), np.int64(0)
        best, best_bank = FAR, np.int64(-1)
        rescan = False

        # The next request: index, entry into the arbiter, time at the controller.
        i = 0
        entry = arrival[0]
        x = entry
        late, blocked, held = True, False, False
        responses, last_response, oldest, freed = 0, np.int64(-1), 0, 0
        issued = 0

        # Refresh.
        tn = t_refi if refresh else FAR
        flex = np.int64(0)
        pulled_in, forced, masked = NO, NO, NO
        pending = NONE
        flex_high, flex_low = np.int64(-1), np.int64(1)

        # Counters.
        n_act, n_pre, n_rd, n_wr, n_ref = np.int64(0), np.int64(0), np.int64(0), np.int64(0), np.int64(0)
        opened = False
        open_since, closed_since, closing = np.int64(0), np.int64(0), np.int64(0)
        open_cycles, closed_cycles = np.int64(0), np.int64(0)
        last_time, last_tail, last_auto = np.int64(0), np.int64(0), np.int64(-1)
        size_needed, active_needed = np.int64(1), np.int64(1)
        n_log = 0
        left, t_admitted = np.int64(-1), np.int64(-1)
        admit, waiting, trigger = False, False, FAR

        while True:
            # --- banks that were touched choose anew -------------------------------------------------------------------
            clamp = max(t, bus)
            for k in range(n_touched):
                b = np.int64(touched[k])
                g = b >> group_shift
                if bank[b, COUNT] == 0:
                    busy &= ~(np.int64(1) << b)
                    if best_bank == b:
                        rescan = True
                    continue
                busy |= np.int64(1) << b
                q = np.int64(bank[b, HEAD])
                if bank[b, ROW] == NIL:
                    time[b, COMMAND] = ACT
                    time[b, LOCAL] = time[b, ACT_READY]
                    kind, where = 0, g
                else:
                    if scheduler == SCHED_FIFO:
                        hit = page == CLOSED or row_of[q] == bank[b, ROW]
                        further = bank[b, COUNT] > 1 and row_of[link[q, 1]] == bank[b, ROW]
                    else:
                        hit = bank[b, HITS] > 0
                        further = bank[b, HITS] > 1
                        if hit:
                            q = np.int64(bank[b, FIRST_HIT])
                            if scheduler == FRFCFS_GRP and further and 0 < bank[b, WRITE_HITS] < bank[b, HITS]:
                                # The first hit of the last direction that has no older hit to the same address.
                                j = q
                                while j != NIL:
                                    if row_of[j] == bank[b, ROW] and is_write[j] == last_direction:
                                        older = q
                                        while older != j and not (
                                            row_of[older] == bank[b, ROW] and line[older] == line[j]
                                        ):
                                            older = np.int64(link[older, 1])
                                        if older == j:
                                            q = j
                                            break
                                    j = np.int64(link[j, 1])
                    if hit:
                        auto = page == CLOSED or (
                            not further and (page == CLOSED_ADAPTIVE or (page == OPEN_ADAPTIVE and bank[b, COUNT] > 1))
                        )
                        time[b, LOCAL] = time[b, COL_READY]
                        if is_write[q]:
                            time[b, COMMAND] = WRA if auto else WR
                            kind, where = 2, 2 * groups + g
                        else:
                            time[b, COMMAND] = RDA if auto else RD
                            kind, where = 1, groups + g
                            if auto:
                                time[b, LOCAL] = max(time[b, LOCAL], time[b, RDA_READY])
                    else:
                        time[b, COMMAND] = PREPB
                        time[b, LOCAL] = time[b, PRE_READY]
                        kind, where = 3, 3 * groups + g
                # The places of the terms are kept with the number: one load less in the scan.
                time[b, NUMBER_AND_TERMS] = (kind << (SHIFT + 8)) | (where << SHIFT) | q
                if not rescan:
                    key = (max(max(time[b, LOCAL], clamp), max(group_term[where], rank_term[kind])) << SHIFT) | q
                    if b == best_bank:
                        if key <= best:
                            best = key
                        else:
                            rescan = True
                    elif key < best:
                        best = key
                        best_bank = b
            n_touched = 0
            if rescan:
                best, best_bank = FAR, np.int64(-1)
                rest = busy
                while rest:
                    b = lowest_bit(rest)
                    rest &= rest - 1
                    packed = time[b, NUMBER_AND_TERMS]
                    earliest = max(
                        max(time[b, LOCAL], clamp),
                        max(group_term[(packed >> SHIFT) & 255], rank_term[(packed >> (SHIFT + 8)) & 3]),
                    )
                    key = (earliest << SHIFT) | (packed & NUMBER)
                    if key < best:
                        best = key
                        best_bank = b
                rescan = False

            # --- the refresh manager looks at the state (end of a pass, or after an admission) -------------------------
            due = FAR if masked else best >> SHIFT
            wake = due
            arrives = FAR if blocked else x
            if refresh:
                waiting = reads_waiting + writes_waiting > 0
                if t >= tn:
                    tn, flex, pulled_in, forced, pending, flex_high = evaluate_refresh(
                        t, tn, t_refi, flex, pulled_in, forced, open_banks, waiting, max_postponed, flex_high
                    )
                trigger = tn if pending == NONE else max(clamp, preab_ready if pending == PREAB else refab_ready)
                wake = min(due, trigger)
                if forced and not masked and min(wake, arrives) > t:
                    # A block works one pass late, and the pass that set it is over.
                    masked = True
                    due = FAR
                    wake = trigger
            if issued == n and wake > last_response:
                break

            # --- the next pass -----------------------------------------------------------------------------------------
            t = min(wake, arrives)
            if arrives == t and not (late and wake <= t):
                # Admission; its bank chooses anew before the commands of this pass are compared.
                if buffer == BANKWISE:
                    level = np.int64(bank[last_bank, COUNT]) if last_bank >= 0 else np.int64(0)
                elif buffer == READ_WRITE:
                    level = max(reads_waiting, writes_waiting)
                else:
                    level = reads_waiting + writes_waiting
                admit = level < size
                if not admit:
                    blocked = True
                    size_needed = FAR
                    continue
            else:
                if arrives == t:
                    late = False  # the pass without it comes first
                if refresh and pending == NONE and t == tn:
                    tn, flex, pulled_in, forced, pending, flex_high = evaluate_refresh(
                        t, tn, t_refi, flex, pulled_in, forced, open_banks, waiting, max_postponed, flex_high
                    )
                    if pending != NONE:
                        trigger = max(t, bus, preab_ready if pending == PREAB else refab_ready)
                masked = forced  # for the next choice; what was chosen before stays a candidate in this pass
                if refresh and pending != NONE and trigger <= t and trigger <= due:
                    # PREAB or REFAB of the refresh manager; wins ties.
                    if pending == PREAB:
                        for b in range(banks):
                            if bank[b, ROW] != NIL:
                                bank[b, ROW] = NIL
                                bank[b, HITS] = 0
                                bank[b, WRITE_HITS] = 0
                        n_pre += open_banks
                        open_banks = 0
                        closing = max(closing, t)
                        rank_term[0] = max(rank_term[0], t + t_rp)
                        refab_ready = max(refab_ready, t + t_rp)
                        rank_term[3] = t + t_ppd
                        last_tail = t_rp
                    else:
                        n_ref += 1
                        rank_term[0] = max(rank_term[0], t + t_rfc)
                        refab_ready = max(refab_ready, t + t_rfc)
                        if opened:
                            open_cycles += closing - open_since
                            closed_since = closing
                            opened = False
                        closed_cycles += max(t - closed_since, 0)
                        open_cycles += t_rfc - t_rp
                        closed_since = t + t_rfc - t_rp
                        closing = closed_since
                        last_tail = 0
                        forced = False
                        masked = False
                        if pulled_in:
                            flex -= 1
                        else:
                            pulled_in = True
                        flex_low = min(flex_low, flex)
                        if flex == -max_pulled:
                            pulled_in = False
                            tn += t_refi
                    if n_log < log.shape[0]:
                        log[n_log, 0], log[n_log, 1], log[n_log, 2] = t, pending, -1
                    n_log += 1
                    pending = NONE
                    last_time = t
                    bus = t + 1
                    for b in range(banks):
                        if bank[b, COUNT] > 0:
                            touched[n_touched] = b
                            n_touched += 1
                    rescan = True
                    continue
                if due > t:
                    continue  # only a trigger of the refresh manager

                # --- issue the winner ----------------------------------------------------------------------------------
                b = best_bank & 63
                g = b >> group_shift
                cmd = time[b, COMMAND]
                q = best & NUMBER
                bus = t + 1
                rescan = True
                touched[0] = b
                n_touched = 1
                last_time = t
                if n_log < log.shape[0]:
                    log[n_log, 0], log[n_log, 1], log[n_log, 2] = t, cmd, b
                n_log += 1
                if cmd == ACT:
                    n_act += 1
                    row = np.int64(row_of[q])
                    bank[b, ROW] = row
                    open_banks += 1
                    time[b, COL_READY] = t + act_to_column
                    time[b, RDA_READY] = 0
                    time[b, PRE_READY] = t + t_ras
                    time[b, ACT_READY] = t + t_rc
                    act0, act1, act2, act3 = act1, act2, act3, t
                    rank_term[0] = max(rank_term[0], max(t + t_rrd_s, act0 + t_faw))
                    group_term[g] = t + t_rrd_l
                    preab_ready = max(preab_ready, t + t_ras)
                    refab_ready = max(refab_ready, t + t_rc)
                    last_tail = act_tail
                    if not opened:
                        closed_cycles += max(t - closed_since, 0)
                        open_since = t
                        opened = True
                    elif open_banks == 1 and closing <= t:
                        open_cycles += closing - open_since
                        closed_cycles += t - closing
                        open_since = t
                    if scheduler != SCHED_FIFO:
                        bank[b, FIRST_HIT] = q
                        found, writes = np.int64(0), np.int64(0)
                        j = q
                        while j != NIL:
                            if row_of[j] == row:
                                found += 1
                                writes += is_write[j]
                            j = np.int64(link[j, 1])
                        bank[b, HITS] = found
                        bank[b, WRITE_HITS] = writes
                    continue
                if cmd == PREPB:
                    n_pre += 1
                    bank[b, ROW] = NIL
                    open_banks -= 1
                    bank[b, HITS] = 0
                    bank[b, WRITE_HITS] = 0
                    time[b, ACT_READY] = max(time[b, ACT_READY], t + t_rp)
                    refab_ready = max(refab_ready, t + t_rp)
                    rank_term[3] = t + t_ppd
                    closing = max(closing, t)
                    last_tail = t_rp
                    continue
                # Column commands.
                write = np.int64(is_write[q])
                if write:
                    n_wr += 1
                    writes_waiting -= 1
                    end = t + write_end
                    time[b, PRE_READY] = max(time[b, PRE_READY], t + write_to_pre)
                    preab_ready = max(preab_ready, t + write_to_pre)
                    time[b, RDA_READY] = t + write_to_rda
                    rank_term[1] = max(rank_term[1], t + write_to_read_s)
                    rank_term[2] = max(rank_term[2], t + t_ccd_s)
                    group_term[groups + g] = t + write_to_read_l
                    group_term[2 * groups + g] = t + t_ccd_l_wr
                    last_tail = write_tail
                    closes = t + auto_write
                else:
                    n_rd += 1
                    reads_waiting -= 1
                    end = t + read_end
                    time[b, PRE_READY] = max(time[b, PRE_READY], t + read_to_pre)
                    preab_ready = max(preab_ready, t + read_to_pre)
                    rank_term[1] = max(rank_term[1], t + t_ccd_s)
                    rank_term[2] = max(rank_term[2], t + read_to_write)
                    group_term[groups + g] = max(group_term[groups + g], t + t_ccd_l)
                    last_tail = read_tail
                    closes = t + auto_read
                # The request leaves the bank's list.
                j, k = np.int64(link[q, 0]), np.int64(link[q, 1])
                if j != NIL:
                    link[j, 1] = k
                else:
                    bank[b, HEAD] = k
                if k != NIL:
                    link[k, 0] = j
                else:
                    bank[b, TAIL] = j
                bank[b, COUNT] -= 1
                if cmd == RDA or cmd == WRA:
                    n_pre += 1
                    after = write_to_act if write else read_to_act
                    time[b, ACT_READY] = max(time[b, ACT_READY], t + after)
                    refab_ready = max(refab_ready, t + after)
                    closes = max(closes, time[b, COL_READY] - act_to_column + t_ras)
                    closing = max(closing, closes)
                    last_auto = max(last_auto, closes)
                    bank[b, ROW] = NIL
                    open_banks -= 1
                    bank[b, HITS] = 0
                    bank[b, WRITE_HITS] = 0
                elif scheduler != SCHED_FIFO:
                    bank[b, HITS] -= 1
                    bank[b, WRITE_HITS] -= write
                    if q == bank[b, FIRST_HIT] and bank[b, HITS] > 0:
                        while row_of[k] != bank[b, ROW]:
                            k = np.int64(link[k, 1])
                        bank[b, FIRST_HIT] = k
                if scheduler == FRFCFS_GRP and write != last_direction:
                    for k in range(banks):
                        if k != b and 0 < bank[k, WRITE_HITS] < bank[k, HITS]:
                            touched[n_touched] = k
                            n_touched += 1
                last_direction = write
                # Its response, and those that waited for it.
                issued += 1
                if in_order:
                    data_end[q] = end
                    while oldest < n and data_end[oldest] >= 0:
                        last_response = max(data_end[oldest], last_response + 1)
                        answered[oldest] = last_response
                        slot_free[oldest] = last_response
                        oldest += 1
                    responses = oldest
                elif arbiter == ARB_REORDER:
                    # Here the responses leave the controller as they come, and wait in the arbiter for their turn.
                    left = max(end, left + 1)
                    data_end[q] = left
                    while oldest < n and data_end[oldest] >= 0:
                        last_response = max(data_end[oldest], last_response + 1)
                        answered[oldest] = last_response
                        slot_free[oldest] = last_response
                        oldest += 1
                    responses = oldest
                else:
                    last_response = max(end, last_response + 1)
                    answered[q] = last_response
                    slot_free[responses] = last_response
                    responses += 1
                if held and responses > i - limit:
                    held = False
                    if slot_free[i - limit] > entry:
                        entry = slot_free[i - limit]
                        active_needed = FAR
                    x = max(entry, t_admitted + 1)
                    late = entry > t_admitted
                # A request that is blocked at the controller is admitted in this very cycle, if there is space now.
                admit = False
                if blocked:
                    if buffer == BANKWISE:
                        level = np.int64(bank[last_bank, COUNT])
                    elif buffer == READ_WRITE:
                        level = max(reads_waiting, writes_waiting)
                    else:
                        level = reads_waiting + writes_waiting
                    admit = level < size

            if admit:
                blocked = False
                size_needed = max(size_needed, level + 1)
                b = np.int64(bank_of[i])
                last_bank = b
                j = np.int64(bank[b, TAIL])
                link[i, 1] = NIL
                link[i, 0] = j
                if j != NIL:
                    link[j, 1] = i
                else:
                    bank[b, HEAD] = i
                bank[b, TAIL] = i
                bank[b, COUNT] += 1
                if is_write[i]:
                    writes_waiting += 1
                else:
                    reads_waiting += 1
                if scheduler != SCHED_FIFO and bank[b, ROW] == row_of[i]:
                    bank[b, HITS] += 1
                    bank[b, WRITE_HITS] += is_write[i]
                    if bank[b, HITS] == 1:
                        bank[b, FIRST_HIT] = i
                if n_touched == 0 or touched[0] != b:
                    touched[n_touched] = b
                    n_touched += 1
                if arbiter != ARB_SIMPLE:
                    # How many requests were in flight when this one entered: a limit above that would not hold it.
                    while freed < responses and slot_free[freed] <= entry:
                        freed += 1
                    active_needed = max(active_needed, i - freed + 1)
                t_admitted = t
                i += 1
                if i == n:
                    x = FAR
                elif arbiter == ARB_SIMPLE:
                    x = max(arrival[i], t + 1)
                    late = True
                else:
                    entry = max(arrival[i], entry + 1)
                    k = i - limit
                    if k >= 0:
                        if k < responses:
                            if slot_free[k] > entry:
                                entry = slot_free[k]
                                active_needed = FAR
                        else:
                            held = True
                    if held:
                        x = FAR
                    else:
                        x = max(entry, t + 1)
                        late = entry > t

        # --- results -------------------------------------------------------------------------------------------------
        end = last_auto + t_rp - 1 if last_auto > last_time else last_time + last_tail - 1
        if not opened:
            closed_cycles += max(end - closed_since, 0)
        elif open_banks > 0:
            open_cycles += max(end - open_since, 0)
        else:
            open_cycles += closing - open_since
            closed_cycles += max(end - closing, 0)
        out[m, O_TOTAL] = last_response
        out[m, O_ACT], out[m, O_PRE], out[m, O_RD], out[m, O_WR], out[m, O_REF] = n_act, n_pre, n_rd, n_wr, n_ref
        out[m, O_OPEN_CYCLES], out[m, O_CLOSED_CYCLES] = open_cycles, closed_cycles
        out[m, O_ACTIVE_NEEDED] = active_needed
        out[m, O_SIZE_NEEDED], out[m, O_FLEX_HIGH], out[m, O_FLEX_LOW] = size_needed, flex_high, flex_low
        latency_statistics(answered, arrival, is_write, n_wr, I[3], L, out[m])

    return n_runs, n_log
