# mypy: ignore-errors
# Numba compiles this module; its integers are machine words, which mypy cannot follow.
"""The power model's counters: commands and cycles of a list of issued commands, as DRAMPower 4 makes them.

A channel has one power state and one set of counters, the banks of all its ranks together: what a rank enters replaces
the state that another one is in, and an exit counts its cycles only where the state still is of its own kind.
"""

from __future__ import annotations

import numpy as np

from archgym.compiling import inner, kernel
from archgym.simulators.dram.commands import (
    ACT,
    LOG_BANK,
    LOG_CHANNEL,
    LOG_COMMAND,
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
from archgym.simulators.dram.kernels.state import NO, YES

COUNTED = ("act", "pre", "rd", "wr", "ref", "ref_bank", "A", "P", "DA", "DP", "S", "sA", "sP", "uA", "uP")
"""What :func:`count_cycles` counts: commands; cycles with banks open (A) and with all closed (P), in active and
precharged power-down (DA, DP), in self refresh (S), and of the refresh that it begins with: inside (s) and on the way out
(u), with banks open and closed."""
_ACT, _PRE, _RD, _WR, _REF, _REF_BANK, _A, _P, _DA, _DP, _S, _SA, _SP, _UA, _UP = range(len(COUNTED))
#: Cycles that it needs: from RDA and WRA to their internal precharge, tRAS, tRP, tRFC, and how long RD, WR and ACT count
#: at the end of the list.
C_READ_PRE, C_WRITE_PRE, C_RAS, C_RP, C_RFC, C_READ_TAIL, C_WRITE_TAIL, C_ACT_TAIL, N_CYCLES = range(9)

NEVER = -(np.int64(1) << 60)


@inner(error_model="numpy")
def self_refresh(entered, end, woken, t_rfc, t_rp, out):
    """Split a self refresh: it begins with a refresh, which a rank that wakes early still finishes (not so at the end of
    the list, ``woken`` False). Returns when the banks count as closed."""
    active = t_rfc - t_rp
    d = end - entered
    if woken:
        d = max(d, 0)  # at the end of the list the reference counts back where nothing followed the entry
    if d >= t_rfc:
        out[_SA] += active
        out[_SP] += t_rp
        out[_S] += d - t_rfc
        return end
    inside_active = min(d, active)
    inside_closed = d - inside_active
    out[_SA] += inside_active
    out[_SP] += inside_closed
    if woken:
        out[_UA] += active - inside_active
        out[_UP] += t_rp - inside_closed
    return end + t_rfc - d


@inner(arrays=True, error_model="numpy")
def in_order(log, count, channel, until, banks, cycles):
    """Commands of a channel and the internal precharges of RDA and WRA, by time, a precharge of a bank before others of
    its cycle: times, commands, banks and the order of them."""
    mine = 0
    for i in range(count):
        if log[i, LOG_CHANNEL] == channel and log[i, LOG_TIME] <= until:
            kind = log[i, LOG_COMMAND]
            mine += 2 if kind == RDA or kind == WRA else 1
    time, command, bank = np.empty(mine, np.int64), np.empty(mine, np.int64), np.empty(mine, np.int64)
    activated = np.empty(banks, np.int64)
    for b in range(banks):
        activated[b] = NEVER
    k = 0
    for i in range(count):
        if log[i, LOG_CHANNEL] != channel or log[i, LOG_TIME] > until:
            continue
        t, kind, b = log[i, LOG_TIME], log[i, LOG_COMMAND], log[i, LOG_BANK]
        time[k], command[k], bank[k] = t, kind, b
        k += 1
        if kind == ACT:
            activated[b] = t
        elif kind == RDA or kind == WRA:
            after = t + (cycles[C_READ_PRE] if kind == RDA else cycles[C_WRITE_PRE])
            time[k], command[k], bank[k] = max(after, activated[b] + cycles[C_RAS]), PREPB, b
            k += 1
    # Nearly sorted, so each moves a few places at most.
    order = np.empty(mine, np.int64)
    for k in range(mine):
        key = time[k] * 2 + (command[k] != PREPB)
        j = k
        while j > 0 and time[order[j - 1]] * 2 + (command[order[j - 1]] != PREPB) > key:
            order[j] = order[j - 1]
            j -= 1
        order[j] = k
    return time, command, bank, order


@kernel(error_model="numpy")
def count_cycles(log, count, channel, until, banks, cycles, out):
    """Add the counts of commands and cycles of one channel to ``out``, int64 ``(len(COUNTED),)``.

    Args:
        log: int64 ``(m, N_LOG)`` in order of time, of which the first ``count`` rows are filled; commands after the cycle
            ``until`` do not count.
        channel: whose commands. banks: of all its ranks.
        cycles: int64 ``(N_CYCLES,)``.
    """
    time, command, bank, order = in_order(log, count, channel, until, banks, cycles)
    is_open, kept = np.zeros(banks, np.bool_), np.zeros(banks, np.bool_)
    n_open, since_open, since_closed = 0, np.int64(0), np.int64(0)
    power_down_since, self_refresh_since = np.int64(0), np.int64(0)
    state = NONE  # or the command that led to power-down
    for place in range(len(order)):
        i = order[place]
        t, kind, b = time[i], command[i], bank[i]
        if kind == ACT:
            # A bank that is held open (see PDXA) takes no further ACT.
            if not is_open[b]:
                out[_ACT] += 1
                if n_open == 0:
                    out[_P] += max(t - since_closed, 0)
                    since_open = t
                is_open[b] = True
                n_open += 1
        elif kind == RD or kind == RDA:
            out[_RD] += 1
        elif kind == WR or kind == WRA:
            out[_WR] += 1
        elif kind == PREPB:
            if is_open[b]:
                out[_PRE] += 1
                is_open[b] = False
                n_open -= 1
                if n_open == 0:
                    out[_A] += max(t - since_open, 0)
                    since_closed = t
        elif kind == PREAB:
            if n_open:
                out[_PRE] += n_open
                out[_A] += max(t - since_open, 0)
                since_closed = t
                for j in range(banks):
                    is_open[j] = False
                n_open = 0
        elif kind == REFAB:
            out[_REF] += 1
            active = cycles[C_RFC] - cycles[C_RP]
            out[_P] += max(t - since_closed, 0)
            out[_A] += active
            since_open, since_closed = t, t + active
            for j in range(banks):
                is_open[j] = False
            n_open = 0
        elif kind == REFPB:
            out[_REF_BANK] += 1
        elif kind == PDEA:
            out[_A] += max(t - since_open, 0)
            for j in range(banks):
                kept[j] = is_open[j]
            state, power_down_since = PDEA, t
        elif kind == PDXA:
            if state == PDEA:
                out[_DA] += max(t - power_down_since, 0)
            since_open = t
            n_open = 0
            for j in range(banks):
                is_open[j] = kept[j]
                n_open += is_open[j]
            state = NONE
        elif kind == PDEP:
            out[_P] += max(t - since_closed, 0)
            state, power_down_since = PDEP, t
        elif kind == PDXP:
            if state == PDEP:
                out[_DP] += max(t - power_down_since, 0)
            since_closed = t
            state = NONE
        elif kind == SREFEN:
            out[_P] += max(t - since_closed, 0)
            state, self_refresh_since = SREFEN, t
        elif kind == SREFEX:
            since_closed = self_refresh(self_refresh_since, t, YES, cycles[C_RFC], cycles[C_RP], out)
            state = NONE
    if len(order) == 0:
        return
    final = order[len(order) - 1]
    last = command[final]
    tail = np.int64(0)
    if last == RD or last == RDA:
        tail = cycles[C_READ_TAIL]
    elif last == WR or last == WRA:
        tail = cycles[C_WRITE_TAIL]
    elif last == ACT:
        tail = cycles[C_ACT_TAIL]
    elif last == PREPB or last == PREAB:
        tail = cycles[C_RP]
    end = time[final] + tail - 1
    if state == PDEA:
        out[_DA] += max(end - power_down_since, 0)
    elif state == PDEP:
        out[_DP] += max(end - power_down_since, 0)
    elif state == SREFEN:
        self_refresh(self_refresh_since, end, NO, cycles[C_RFC], cycles[C_RP], out)
    elif n_open:
        out[_A] += max(end - since_open, 0)
    else:
        out[_P] += max(end - since_closed, 0)
