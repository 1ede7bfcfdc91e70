"""The times that the controllers and the power model work with, all derived from a standard's one table of constraints.

* the general controller takes for every pair of commands the distance that the second keeps from the first;
* the fast controller, which has one channel and one rank of DDR and only the commands that these need, takes the few of
  these distances that it looks at, by name;
* the power model takes the cycles that commands and precharges count.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.dram.commands import (
    ACT,
    BANK,
    GROUP,
    N_COMMANDS,
    OTHER,
    PREPB,
    RANK,
    RD,
    RDA,
    REFAB,
    REFPB,
    REFPB_ROUND,
    WR,
    WRA,
)
from archgym.simulators.dram.constraints import Constraints, constraints, standard

if TYPE_CHECKING:
    from archgym.simulators.dram.devices import Device

NEVER = -(1 << 40)
"""Stands for "no constraint"."""
(
    S_READ_END, S_WRITE_END, S_FAW_ACT, S_FAW_REF, S_REFI, S_REFI_BANK, S_TWO_BUSES, S_LAST_REF_BANK, N_SCALARS,
) = range(9)  # fmt: skip


@dataclass(frozen=True)
class Distances:
    """The timing of one device as the general controller takes it.

    Attributes:
        bank, group, rank, other: distances in cycles within a bank, a bank group, a rank, and towards the other ranks of
            a channel, int64 ``(N_COMMANDS, N_COMMANDS)``, indexed by (earlier, later).
        length: cycles a command occupies its bus, int64 ``(N_COMMANDS,)``.
        scalars: int64 vector, see the ``S_*`` places.
    """

    bank: NDArray[np.int64]
    group: NDArray[np.int64]
    rank: NDArray[np.int64]
    other: NDArray[np.int64]
    length: NDArray[np.int64]
    scalars: NDArray[np.int64]


@cache
def distances(device: Device) -> Distances:
    """The constraints of a device as one table a place; the strictest row counts."""
    table = constraints(device)
    places = np.full((4, N_COMMANDS, N_COMMANDS), NEVER, np.int64)
    for later, earlier, place, cycles in table.rows.tolist():
        places[place, earlier, later] = max(places[place, earlier, later], cycles)
    scalars = np.zeros(N_SCALARS, np.int64)
    scalars[[S_READ_END, S_WRITE_END]] = table.read_end, table.write_end
    scalars[[S_FAW_ACT, S_FAW_REF]] = table.faw[ACT], table.faw[REFPB]
    scalars[[S_REFI, S_REFI_BANK, S_TWO_BUSES]] = table.interval, table.interval_bank, table.column_bus
    scalars[S_LAST_REF_BANK] = max(places[RANK, REFPB_ROUND, REFPB], 0)
    return Distances(places[BANK], places[GROUP], places[RANK], places[OTHER], np.array(table.length), scalars)


@cache
def fast_times(device: Device) -> NDArray[np.int64]:
    """The distances that the fast controller looks at, int64 ``(N_TIMING,)``: see ``T_*`` in its module."""
    from archgym.simulators.dram.kernels import fast as f

    d, cycles, table = distances(device), power_cycles(device), constraints(device)
    times = np.zeros(f.N_TIMING, np.int64)
    for place, value in {
        f.T_COLUMN: d.bank[ACT, RD],
        f.T_RAS: d.bank[ACT, PREPB],
        f.T_RC: d.bank[ACT, ACT],
        f.T_RP: d.bank[PREPB, ACT],
        f.T_RFC: d.rank[REFAB, ACT],
        f.T_RRD_S: d.rank[ACT, ACT],
        f.T_RRD_L: d.group[ACT, ACT],
        f.T_FAW: table.faw[ACT],
        f.T_CCD_S: d.rank[RD, RD],
        f.T_CCD_L: d.group[RD, RD],
        f.T_CCD_L_WR: d.group[WR, WR],
        f.T_READ_PRE: d.bank[RD, PREPB],
        f.T_WRITE_PRE: d.bank[WR, PREPB],
        f.T_READ_ACT: d.bank[RDA, ACT],
        f.T_WRITE_ACT: d.bank[WRA, ACT],
        f.T_READ_WRITE: d.rank[RD, WR],
        f.T_WRITE_READ_S: d.rank[WR, RD],
        f.T_WRITE_READ_L: d.group[WR, RD],
        f.T_WRITE_RDA: d.bank[WR, RDA],
        f.T_PPD: max(d.rank[PREPB, PREPB], 0),
        f.T_READ_END: table.read_end,
        f.T_WRITE_END: table.write_end,
        f.T_REFI: table.interval,
    }.items():
        times[place] = value
    from archgym.simulators.dram.kernels import power as p

    times[f.T_AUTO_READ], times[f.T_AUTO_WRITE] = cycles[p.C_READ_PRE], cycles[p.C_WRITE_PRE]
    times[f.T_READ_TAIL], times[f.T_WRITE_TAIL] = cycles[p.C_READ_TAIL], cycles[p.C_WRITE_TAIL]
    times[f.T_ACT_TAIL] = cycles[p.C_ACT_TAIL]
    return times


def fits_fast(table: Constraints) -> bool:
    """True where the fast controller, on one channel and rank, has all that the constraints can ask for: commands of one
    cycle on one bus, the times of DDR and no others."""
    return not table.column_bus and bool((table.length == 1).all()) and not table.faw[REFPB]


@cache
def power_cycles(device: Device) -> NDArray[np.int64]:
    """The cycles of a device that :func:`archgym.simulators.dram.kernels.power.count_cycles` takes, int64
    ``(N_CYCLES,)``."""
    from archgym.simulators.dram.kernels import power as p

    t, burst = device.timing, device.burst_cycles
    cycles = np.zeros(p.N_CYCLES, np.int64)
    cycles[[p.C_READ_PRE, p.C_WRITE_PRE]] = standard(device).auto_precharge(t, burst)
    cycles[p.C_RAS] = t["RAS"]
    cycles[p.C_RP] = t.get("RP", t.get("RPPB", 0))
    cycles[p.C_RFC] = t.get("RFC", t.get("RFCAB", 0))
    cycles[p.C_READ_TAIL] = t["RL"] + t.get("DQSCK", 0) + 1 + burst
    cycles[p.C_WRITE_TAIL] = t["WL"] + burst + t["WR"]
    cycles[p.C_ACT_TAIL] = t.get("RCD", t.get("RCDRD", 0))
    return cycles
