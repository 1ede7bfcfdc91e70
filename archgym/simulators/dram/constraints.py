"""The timing constraints of a memory, one row each: command, earlier command, where, cycles between their starts.

This is the plain statement of what JEDEC and the device's data sheet ask for as DRAMSys 4.0 counts it; the event-exact
controller and the checker of command logs work from it. A command may start no earlier than, for each row, the last
earlier command of that kind in the same place plus the cycles; besides, the four-activate window and the bus.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.dram.commands import (
    ACT,
    BANK,
    COMMANDS,
    GROUP,
    OTHER,
    PDEA,
    PDEP,
    PDXA,
    PDXP,
    PREAB,
    PREPB,
    RANK,
    RD,
    RDA,
    READS,
    REFAB,
    REFPB,
    REFPB_ROUND,
    SREFEN,
    SREFEX,
    WR,
    WRA,
    WRITES,
)
from archgym.simulators.dram.devices import Device


@dataclass(frozen=True)
class Constraints:
    """All that limits when a command may start.

    Attributes:
        rows: int64 ``(r, 4)``: command, earlier command, place, cycles; ordered by command.
        start: int64 ``(commands + 1,)``: the rows of command c are ``rows[start[c]:start[c + 1]]``.
        length: int64 ``(commands,)``: cycles that a command takes on its bus.
        column_bus: True where column commands have a bus of their own.
        faw: int64 ``(commands,)``: cycles from the end of the fourth last ACT (or REFPB, where it counts) of the rank; 0
            where the window does not limit the command.
        window: int64 ``(commands,)``: 1 + cycles from start to end for commands that the window counts, else 0.
        read_end, write_end: cycles from a column command to the end of its data.
        first_cycle: of any command.
    """

    rows: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    column_bus: bool
    faw: NDArray[np.int64]
    window: NDArray[np.int64]
    read_end: int
    write_end: int
    first_cycle: int = 0


@dataclass
class _Table:
    rows: list[tuple[int, int, int, int]] = field(default_factory=list)

    def add(self, commands: Iterable[int] | int, earlier: Iterable[int] | int, place: int, cycles: int) -> None:
        for command in [commands] if isinstance(commands, int) else commands:
            for before in [earlier] if isinstance(earlier, int) else earlier:
                self.rows.append((command, before, place, cycles))


def constraints(device: Device) -> Constraints:
    """The constraints of a device."""
    table = _Table()
    length = np.ones(len(COMMANDS), np.int64)
    faw, window = np.zeros(len(COMMANDS), np.int64), np.zeros(len(COMMANDS), np.int64)
    t = device.timing
    burst = device.burst_cycles
    window[ACT], faw[ACT] = 1, t["FAW"]
    first_cycle = 0
    if device.family == "LPDDR4":
        _lpddr4(table, t, burst)
        length[:] = 2
        length[[ACT, RD, RDA, WR, WRA]] = 4
        length[[PDEA, PDEP, PDXA, PDXP]] = 1
        window[ACT], faw[ACT] = 1 + 3, t["FAW"] - 3
        window[REFPB], faw[REFPB] = 1 + 1, t["FAW"] - 1
        read_end = t["RL"] + t["DQSCK"] + burst + 3
        write_end = t["WL"] + t["DQSS"] + t["DQS2DQ"] + burst + 3
    elif device.family == "HBM2":
        _hbm2(table, t, burst)
        length[ACT] = 2
        window[ACT], faw[ACT] = 1 + 1, t["FAW"] - 1
        window[REFPB], faw[REFPB] = 1 + 0, t["FAW"]
        read_end, write_end = t["RL"] + t["DQSCK"] + burst, t["WL"] + burst
        first_cycle = 1  # the reference cannot use a bus earlier
    else:
        _ddr(table, device)
        read_end, write_end = t["RL"] + burst, t["WL"] + burst
    rows = np.array(sorted(table.rows), np.int64)
    start = np.searchsorted(rows[:, 0], np.arange(len(COMMANDS) + 1)).astype(np.int64)
    return Constraints(rows, start, length, device.family == "HBM2", faw, window, read_end, write_end, first_cycle)


def _ddr(table: _Table, device: Device) -> None:
    """DDR3, DDR4 and DDR5. DDR3 has no bank groups: short and long distances are equal there."""
    t, burst, add = device.timing, device.burst_cycles, table.add
    ddr3 = device.family == "DDR3"

    def short_long(name: str) -> tuple[int, int]:
        return (t[name], t[name]) if name in t else (t[f"{name}_S"], t[f"{name}_L"])

    al, rl, wl = t.get("AL", 0), t["RL"], t["WL"]
    ccd_s, ccd_l = short_long("CCD")
    rrd_s, rrd_l = short_long("RRD")
    wtr_s, wtr_l = short_long("WTR")
    read_pre, write_pre = al + t["RTP"], wl + burst + t["WR"]
    rtrs = t.get("RTRS", 1)
    preamble_r, preamble_w = (0, 0) if ddr3 else (t.get("RPRE", 1), t.get("WPRE", 1))
    read_write = rl + burst - wl + (2 if ddr3 else 1 + t.get("WPRE", 1))

    add(READS + WRITES, ACT, BANK, t["RCD"] - al)
    add(READS, READS, GROUP, ccd_l)
    add(READS, READS, RANK, ccd_s)
    add(READS, WRITES, GROUP, wl + burst + wtr_l - al)
    add(READS, WRITES, RANK, wl + burst + wtr_s - al)
    add(READS, READS, OTHER, burst + rtrs)
    add(READS, WRITES, OTHER, wl + burst + rtrs - rl + preamble_r)
    add(RDA, WR, BANK, write_pre - t["RTP"] - al)
    add(WRITES, WRITES, GROUP, t.get("CCD_L_WR", ccd_l))
    add(WRITES, WRITES, RANK, ccd_s)
    add(WRITES, READS, RANK, read_write)
    add(WRITES, WRITES, OTHER, burst + rtrs)
    add(WRITES, READS, OTHER, rl + burst + rtrs - wl + preamble_w)

    add(ACT, ACT, BANK, t["RC"])
    add(ACT, ACT, GROUP, rrd_l)
    add(ACT, ACT, RANK, rrd_s)
    add(ACT, PREPB, BANK, t["RP"])
    add(ACT, PREAB, RANK, t["RP"])
    add(ACT, RDA, BANK, read_pre + t["RP"])
    add(ACT, WRA, BANK, write_pre + t["RP"])
    add(ACT, REFAB, RANK, t["RFC"])
    for command, place in ((PREPB, BANK), (PREAB, RANK)):
        add(command, ACT, place, t["RAS"])
        add(command, READS if command == PREAB else RD, place, read_pre)
        add(command, WRITES if command == PREAB else WR, place, write_pre)
        if "PPD" in t:
            add(command, PREPB, RANK, t["PPD"])
    add(REFAB, ACT, RANK, t["RC"])
    add(REFAB, (PREPB, PREAB), RANK, t["RP"])
    add(REFAB, RDA, RANK, read_pre + t["RP"])
    add(REFAB, WRA, RANK, write_pre + t["RP"])
    add(REFAB, REFAB, RANK, t["RFC"])

    if device.supports_power_down:
        read_done, write_done = rl + burst + 1, write_pre + 1
        add(READS + WRITES, PDXA, RANK, t["XP"])
        add(READS + WRITES, SREFEX, RANK, t["XSDLL"])
        add(ACT, (PDXA, PDXP), RANK, t["XP"])
        add((ACT, REFAB), SREFEX, RANK, t["XS"])
        add((PREPB, PREAB), PDXA, RANK, t["XP"])
        add(REFAB, PDXP, RANK, t["XP"])
        add(PDEA, ACT, RANK, t["ACTPDEN"])
        add((PDEA, PDEP), READS, RANK, read_done)
        add(PDEA, WR, RANK, write_pre)
        add((PDEA, PDEP), WRA, RANK, write_done)
        add((PDEA, PDEP), PREPB, RANK, t["PRPDEN"])
        add(PDEP, PREAB, RANK, t["PRPDEN"])
        add(PDEA, PDXA, RANK, t["CKE"])
        add(PDEP, REFAB, RANK, t["REFPDEN"])
        add(PDEP, PDXP, RANK, t["CKE"])
        add(PDEP, SREFEX, RANK, t["XS"])
        add(PDXA, PDEA, RANK, t["CKE"])
        add(PDXP, PDEP, RANK, t["CKE"])
        add(SREFEN, ACT, RANK, t["RC"])
        add(SREFEN, RDA, RANK, max(read_done, read_pre + t["RP"]))
        add(SREFEN, WRA, RANK, max(write_done, write_pre + t["RP"]))
        add(SREFEN, (PREPB, PREAB), RANK, t["RP"])
        add(SREFEN, PDXP, RANK, t["XP"])
        add(SREFEN, REFAB, RANK, t["RFC"])
        add(SREFEN, SREFEX, RANK, t["XS"])
        add(SREFEX, SREFEN, RANK, t["CKESR"])


def _lpddr4(table: _Table, t: Mapping[str, int], burst: int) -> None:
    """LPDDR4: commands take 2 or 4 cycles; the small numbers are what is left of a half-finished earlier command."""
    add = table.add
    rl, wl = t["RL"], t["WL"]
    read_pre, write_pre = t["RTP"] + burst - 6, wl + burst + 1 + t["WR"] + 2
    add(READS + WRITES, ACT, BANK, t["RCD"])
    add(READS, READS, RANK, t["CCD"])
    add(READS, WRITES, RANK, wl + 1 + burst + t["WTR"])
    add(READS, READS, OTHER, burst + t["RTRS"])
    add(READS, WRITES, OTHER, wl + burst + t["RTRS"] - rl)
    add(RDA, WR, BANK, write_pre - read_pre)
    add(WRITES, WRITES, RANK, t["CCD"])
    add(WRITES, READS, RANK, rl + t["DQSCK"] + burst - wl + t["WPRE"] + t["RPST"])
    add(WRITES, WRITES, OTHER, burst + t["RTRS"])
    add(WRITES, READS, OTHER, rl + burst + t["RTRS"] - wl)

    add(ACT, ACT, BANK, t["RCPB"])
    add(ACT, ACT, RANK, t["RRD"])
    add(ACT, RDA, BANK, t["RTP"] + burst - 8 + t["RPPB"])
    add(ACT, WRA, BANK, wl + burst + 1 + t["WR"] + t["RPPB"])
    add(ACT, PREPB, BANK, t["RPPB"] - 2)
    add(ACT, PREAB, RANK, t["RPAB"] - 2)
    add(ACT, REFAB, RANK, t["RFCAB"] - 2)
    add(ACT, REFPB, BANK, t["RFCPB"] - 2)
    add(ACT, REFPB, RANK, t["RRD"] - 2)
    for command, place in ((PREPB, BANK), (PREAB, RANK)):
        add(command, ACT, place, t["RAS"] + 2)
        add(command, READS if command == PREAB else RD, place, read_pre)
        add(command, WRITES if command == PREAB else WR, place, write_pre)
        add(command, PREPB, RANK, t["PPD"])
    add(PREAB, REFPB, RANK, t["RFCPB"])
    for command, place in ((REFAB, RANK), (REFPB, BANK)):
        add(command, ACT, place, t["RCPB"] + 2)
        add(command, RDA, place, read_pre + t["RPPB"])
        add(command, WRA, place, write_pre + t["RPPB"])
        add(command, PREPB, place, t["RPPB"])
        add(command, PREAB, RANK, t["RPAB"])
        add(command, REFAB, RANK, t["RFCAB"])
        add(command, REFPB, RANK, t["RFCPB"])
    add(REFPB, ACT, RANK, t["RRD"] + 2)


def _hbm2(table: _Table, t: Mapping[str, int], burst: int) -> None:
    """HBM2: ranks are pseudo-channels that share the row and the column command bus, and nothing else."""
    add = table.add
    wl = t["WL"]
    read_pre, write_pre = t["RTP"], wl + burst + t["WR"]
    add(READS, ACT, BANK, t["RCDRD"] + 1)
    add(READS, READS, GROUP, t["CCDL"])
    add(READS, READS, RANK, t["CCDS"])
    add(READS, WRITES, GROUP, wl + burst + t["WTRL"])
    add(READS, WRITES, RANK, wl + burst + t["WTRS"])
    add(RDA, WR, BANK, write_pre - read_pre)
    add(WRITES, ACT, BANK, t["RCDWR"] + 1)
    add(WRITES, WRITES, GROUP, t["CCDL"])
    add(WRITES, WRITES, RANK, t["CCDS"])
    add(WRITES, READS, RANK, t["RTW"])

    add(ACT, ACT, BANK, t["RC"])
    add(ACT, ACT, GROUP, t["RRDL"])
    add(ACT, ACT, RANK, t["RRDS"])
    add(ACT, RDA, BANK, read_pre + t["RP"] - 1)
    add(ACT, WRA, BANK, write_pre + t["RP"] - 1)
    add(ACT, PREPB, BANK, t["RP"] - 1)
    add(ACT, PREAB, RANK, t["RP"] - 1)
    add(ACT, REFAB, RANK, t["RFC"] - 1)
    add(ACT, REFPB, BANK, t["RFCSB"] - 1)
    add(ACT, REFPB, RANK, t["RREFD"] - 1)
    for command, place in ((PREPB, BANK), (PREAB, RANK)):
        add(command, ACT, place, t["RAS"] + 1)
        add(command, READS if command == PREAB else RD, place, read_pre)
        add(command, WRITES if command == PREAB else WR, place, write_pre)
    add(PREAB, REFPB, RANK, t["RFCSB"])
    for command, place in ((REFAB, RANK), (REFPB, BANK)):
        add(command, ACT, place, t["RC"] + 1)
        add(command, RDA, place, read_pre + t["RP"])
        add(command, WRA, place, write_pre + t["RP"])
        add(command, PREPB, place, t["RP"])
        add(command, PREAB, RANK, t["RP"])
        add(command, REFAB, RANK, t["RFC"])
        add(command, REFPB, place, t["RFCSB"])
    add(REFPB, ACT, GROUP, t["RRDL"] + 1)
    add(REFPB, ACT, RANK, t["RRDS"] + 1)
    add(REFPB, REFPB, RANK, t["RREFD"])
    add(REFPB, REFPB_ROUND, RANK, t["RFCSB"])
