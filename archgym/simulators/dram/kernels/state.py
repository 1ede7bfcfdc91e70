"""The state of a controller in records: what the general controller and the exact order of events work on.

All fields are int64. A compiled function reads and writes them by name: ``m.banks[c, bank].open_row``.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.dram.commands import N_COMMANDS, NONE
from archgym.simulators.dram.constraints import constraints

OPEN, OPEN_ADAPTIVE, CLOSED, CLOSED_ADAPTIVE = range(4)
SCHED_FIFO, FRFCFS_GRP, FRFCFS = range(3)
BANKWISE, READ_WRITE, SHARED = range(3)
RESP_FIFO, RESP_REORDER = range(2)
NO_REFRESH, ALL_BANK, PER_BANK = range(3)
ARB_SIMPLE, ARB_FIFO, ARB_REORDER = range(3)
IDLE, ACTIVE_PDN, PRECHARGE_PDN, SELF_REFRESH, EXTRA_REFRESH = range(5)

FAR = np.int64(1) << 60
NEVER = -FAR

NO, YES = np.bool_(False), np.bool_(True)
"""Truth values as arguments of compiled functions: Numba compiles a function once more for a literal False or True."""


def record(*names: str, **vectors: int) -> np.dtype[Any]:
    """A record of int64 fields, and of vectors of them by name and length."""
    return np.dtype([(name, np.int64) for name in names] + [(name, np.int64, n) for name, n in vectors.items()])


DESIGN = (
    "page", "scheduler", "buffer", "size", "responses", "refresh", "postponed", "pulled_in", "arbiter", "active",
    "power_down", "strict",
)  # fmt: skip
"""The columns of a design's row (archgym.simulators.dram.spaces.WIDE_NAMES); ``strict`` is CmdMux."""
SETUP = record(
    *DESIGN, "channels", "ranks", "banks", "groups", "column_buses", "read_end", "write_end", "interval",
    "most_postponed", "most_pulled_in", "fixed", "now",
)  # fmt: skip
"""The design, the memory and what follows from both; ``banks`` and ``groups`` are of a rank. ``fixed`` counts the open banks
for power-down as they are; the reference forgets auto-precharges. ``now`` is the cycle in which the controllers are."""
REQUEST = record(
    "arrival", "channel", "rank", "bank", "row", "line", "write", "ready", "answered", "number", "next", "end"
)
BANK = record(
    "open_row", "command", "time", "candidate", "blocked", "asleep", "first", "last", "count", "unrefreshed", "dirty",
    "picked",
)  # fmt: skip
RANK = record(
    # the refresh manager, the power-down manager, requests in the buffer, the last four activations
    "trigger", "pulling", "flex", "refresh_command", "refresh_time", "refresh_asleep", "open_banks", "refresh_bank",
    "pinned", "round_count", "state", "entry", "exit", "self_entry", "idle", "counted_open", "power_command",
    "power_time", "waiting", "faw_count", faw_ends=4,
)  # fmt: skip
CHANNEL = record(
    # of both controllers
    "reads", "writes", "last_bank", "last_write", "admitted", "next_strict", "row_bus", "column_bus", "resp_head",
    "resp_tail",
    # of the exact order of events
    "incoming", "incoming_time", "outgoing", "outgoing_time", "payloads", "channel_free", "last_end_req", "queue_head",
    "queue_tail",
    # of the general controller
    "reaches", "late", "refused", "wake", "head", "admitted_at", "resp_last", "resp_next", "place",
)  # fmt: skip

Memory = namedtuple("Memory", ["k", "requests", "banks", "ranks", "channels", "length"])
"""``k`` SETUP ``(1,)``; ``requests`` ``(n,)``; ``banks`` ``(channels, banks of all ranks)``; ``ranks`` ``(channels, ranks)``;
``channels`` ``(channels,)``; ``length`` cycles of each command on its bus, int64 ``(N_COMMANDS,)``."""


def memory_state(row: NDArray[np.int64], prepared: Any, fixed: bool = False) -> Memory:
    """The state at cycle 0 of one design over a trace."""
    n, channels, ranks, dev = prepared.requests, prepared.channels, prepared.ranks, prepared.device
    table = constraints(dev)
    banks = ranks * dev.banks
    k = np.zeros(1, SETUP)
    for name, value in zip(DESIGN, row.tolist(), strict=True):
        k[name] = value
    per_bank = int(k["refresh"][0]) == PER_BANK
    interval, factor = (table.interval_bank, dev.banks) if per_bank else (table.interval, 1)
    k["channels"], k["ranks"], k["banks"], k["groups"] = channels, ranks, dev.banks, dev.bank_groups
    k["column_buses"], k["read_end"], k["write_end"] = table.column_bus, table.read_end, table.write_end
    k["interval"] = 0 if k["refresh"][0] == NO_REFRESH else interval
    k["most_postponed"], k["most_pulled_in"] = k["postponed"] * factor, k["pulled_in"] * factor
    k["fixed"] = fixed

    arrival, place, rows, line, is_write = prepared.columns
    place = place.astype(np.int64)
    requests = np.zeros(n, REQUEST)
    requests["arrival"], requests["row"], requests["line"], requests["write"] = arrival, rows, line, is_write
    requests["channel"], requests["bank"] = place // banks, place % banks
    requests["rank"] = requests["bank"] // dev.banks
    requests["answered"] = requests["next"] = -1
    requests["end"] = FAR

    bank = np.zeros((channels, banks), BANK)
    for name in ("open_row", "candidate", "first", "last"):
        bank[name] = -1
    bank["command"], bank["time"], bank["unrefreshed"], bank["dirty"] = NONE, FAR, 1, 1
    rank = np.zeros((channels, ranks), RANK)
    rank["refresh_command"] = rank["power_command"] = NONE
    rank["refresh_time"] = rank["power_time"] = FAR
    rank["entry"] = rank["idle"] = 1
    rank["faw_ends"] = NEVER
    bits = ranks.bit_length() - 1
    for i in range(ranks):
        reverse = int(f"{i:0{bits}b}"[::-1], 2) if bits else 0
        rank["trigger"][:, i] = interval - reverse * interval // ranks
    channel = np.zeros(channels, CHANNEL)
    channel["incoming"] = channel["outgoing"] = channel["last_bank"] = -1
    channel["outgoing_time"] = channel["last_end_req"] = FAR
    channel["channel_free"] = channel["next_strict"] = 1
    channel["row_bus"] = channel["column_bus"] = table.first_cycle
    assert len(table.length) == N_COMMANDS
    return Memory(k, requests, bank, rank, channel, table.length)
