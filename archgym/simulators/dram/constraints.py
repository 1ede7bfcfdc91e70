"""The standards of memories: what each asks of the times between commands, one declarative table a standard.

A row says: a command may start no earlier than the last earlier command of that kind in the same place plus the cycles;
besides, there are the four-activate window and the bus. This is the plain statement of what JEDEC and the data sheets
ask for as DRAMSys 4.0 counts it. Everything else follows from it: the distances of the general controller and the derived
times of the fast one (:mod:`archgym.simulators.dram.timing`), the rows that the event-exact controller looks back by and
that the checker of command logs replays.

A new family of memories is a :class:`Standard` here and a preset in ``devices.json``.
"""

from __future__ import annotations

__all__ = ()

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archgym.errors import UnknownNameError
from archgym.simulators.dram.commands import (
    ACT,
    BANK,
    COLUMNS,
    GROUP,
    N_COMMANDS,
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

if TYPE_CHECKING:
    from archgym.simulators.dram.devices import Device

Times = Mapping[str, int]
"""JEDEC name without the leading t -> cycles."""


@dataclass
class Table:
    """Rows: command, earlier command, place, cycles between their starts."""

    rows: list[tuple[int, int, int, int]] = field(default_factory=list)

    def add(self, commands: Iterable[int] | int, earlier: Iterable[int] | int, place: int, cycles: int) -> None:
        for command in [commands] if isinstance(commands, int) else commands:
            for before in [earlier] if isinstance(earlier, int) else earlier:
                self.rows.append((command, before, place, cycles))


@dataclass(frozen=True)
class Standard:
    """What the memories of one family have in common.

    Attributes:
        rows: adds the rows of a device's times to a table, given its tBURST.
        data_end: cycles from RD and from WR to the end of their data, given times and tBURST.
        auto_precharge: cycles from RDA and from WRA to their internal precharge, given the same; for the energy only.
        length: cycles that commands take on their bus, where not one.
        window: commands that the four-activate window limits and counts: cycles from their start to their end, and what
            is taken off tFAW, which is counted from the end of the fourth last.
        column_bus: True where column commands have a bus of their own.
        first_cycle: of any command.
        per_bank_interval: name of the interval between refreshes of single banks; empty where there are none.
        power_down: True where all times of power-down and self refresh are modelled.
    """

    rows: Callable[[Table, Times, int], None]
    data_end: Callable[[Times, int], tuple[int, int]]
    auto_precharge: Callable[[Times, int], tuple[int, int]]
    length: Mapping[int, int] = field(default_factory=dict)
    window: Mapping[int, tuple[int, int]] = field(default_factory=lambda: {ACT: (0, 0)})
    column_bus: bool = False
    first_cycle: int = 0
    per_bank_interval: str = ""
    power_down: bool = False


@dataclass(frozen=True)
class Constraints:
    """All that limits when a command of a device may start.

    Attributes:
        rows: int64 ``(r, 4)``: command, earlier command, place, cycles; ordered by command.
        start: int64 ``(commands + 1,)``: the rows of command c are ``rows[start[c]:start[c + 1]]``.
        length: int64 ``(commands,)``: cycles that a command takes on its bus.
        column_bus: True where column commands have a bus of their own.
        faw: int64 ``(commands,)``: cycles from the end of the fourth last ACT (or REFPB, where it counts) of the rank; 0
            where the window does not limit the command.
        window: int64 ``(commands,)``: 1 + cycles from start to end for commands that the window counts, else 0.
        read_end, write_end: cycles from a column command to the end of its data.
        interval, interval_bank: between refreshes of all banks, and of single ones (0 where there are none).
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
    interval: int
    interval_bank: int
    first_cycle: int = 0


def standard(device: Device) -> Standard:
    """The standard of a device's family."""
    try:
        return STANDARDS[device.family]
    except KeyError:
        raise UnknownNameError(f"family of the DRAM device {device.name!r}", device.family, STANDARDS) from None


@cache
def constraints(device: Device) -> Constraints:
    """The constraints of a device."""
    rules, t, burst = standard(device), device.timing, device.burst_cycles
    table = Table()
    rules.rows(table, t, burst)
    rows = np.array(sorted(table.rows), np.int64)
    start = np.searchsorted(rows[:, 0], np.arange(N_COMMANDS + 1)).astype(np.int64)
    length = np.ones(N_COMMANDS, np.int64)
    faw, window = np.zeros(N_COMMANDS, np.int64), np.zeros(N_COMMANDS, np.int64)
    for command, cycles in rules.length.items():
        length[command] = cycles
    for command, (to_end, less) in rules.window.items():
        window[command], faw[command] = 1 + to_end, t["FAW"] - less
    interval_bank = t[rules.per_bank_interval] if rules.per_bank_interval else 0
    return Constraints(
        rows, start, length, rules.column_bus, faw, window, *rules.data_end(t, burst), t["REFI"], interval_bank,
        rules.first_cycle,
    )  # fmt: skip


def _ddr(add: Callable[..., None], t: Times, burst: int, turn: int, read_preamble: int, write_preamble: int) -> None:
    """What DDR3, DDR4 and DDR5 have in common.

    Args:
        turn: cycles between the data of a read and of a write behind it.
        read_preamble, write_preamble: cycles that a switch between ranks takes besides tRTRS.
    """
    al, rl, wl = t.get("AL", 0), t["RL"], t["WL"]
    read_pre, write_pre = al + t["RTP"], wl + burst + t["WR"]
    rtrs = t["RTRS"]

    add(READS + WRITES, ACT, BANK, t["RCD"] - al)
    add(READS, READS, GROUP, t["CCD_L"])
    add(READS, READS, RANK, t["CCD_S"])
    add(READS, WRITES, GROUP, wl + burst + t["WTR_L"] - al)
    add(READS, WRITES, RANK, wl + burst + t["WTR_S"] - al)
    add(READS, READS, OTHER, burst + rtrs)
    add(READS, WRITES, OTHER, wl + burst + rtrs - rl + read_preamble)
    add(RDA, WR, BANK, write_pre - t["RTP"] - al)
    add(WRITES, WRITES, GROUP, t.get("CCD_L_WR", t["CCD_L"]))
    add(WRITES, WRITES, RANK, t["CCD_S"])
    add(WRITES, READS, RANK, rl + burst + turn - wl)
    add(WRITES, WRITES, OTHER, burst + rtrs)
    add(WRITES, READS, OTHER, rl + burst + rtrs - wl + write_preamble)

    add(ACT, ACT, BANK, t["RC"])
    add(ACT, ACT, GROUP, t["RRD_L"])
    add(ACT, ACT, RANK, t["RRD_S"])
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
            add(command, (PREPB, PREAB), RANK, t["PPD"])
    add(REFAB, ACT, RANK, t["RC"])
    add(REFAB, (PREPB, PREAB), RANK, t["RP"])
    add(REFAB, RDA, RANK, read_pre + t["RP"])
    add(REFAB, WRA, RANK, write_pre + t["RP"])
    add(REFAB, REFAB, RANK, t["RFC"])


def _ddr_power_down(add: Callable[..., None], t: Times, burst: int) -> None:
    """Power-down and self refresh of DDR3 and DDR4."""
    al, rl = t.get("AL", 0), t["RL"]
    read_pre, write_pre = al + t["RTP"], t["WL"] + burst + t["WR"]
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


def _ddr3(table: Table, t: Times, burst: int) -> None:
    """DDR3 has no bank groups: short and long distances are equal."""
    both = {f"{name}_{kind}": t[name] for name in ("CCD", "RRD", "WTR") for kind in "SL"}
    _ddr(table.add, {**t, **both}, burst, 2, 0, 0)
    _ddr_power_down(table.add, t, burst)


def _ddr4(table: Table, t: Times, burst: int) -> None:
    """DDR4 counts one cycle and the write preamble between the data of a read and of a write."""
    _ddr5(table, t, burst)
    _ddr_power_down(table.add, t, burst)


def _ddr5(table: Table, t: Times, burst: int) -> None:
    """DDR5 as DDR4; its power-down is not modelled."""
    _ddr(table.add, t, burst, 1 + t["WPRE"], t["RPRE"], t["WPRE"])


def _lpddr4(table: Table, t: Times, burst: int) -> None:
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


def _hbm2(table: Table, t: Times, burst: int) -> None:
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


def _ddr_data_end(t: Times, burst: int) -> tuple[int, int]:
    return t["RL"] + burst, t["WL"] + burst


def _lpddr4_data_end(t: Times, burst: int) -> tuple[int, int]:
    return t["RL"] + t["DQSCK"] + burst + 3, t["WL"] + t["DQSS"] + t["DQS2DQ"] + burst + 3


def _hbm2_data_end(t: Times, burst: int) -> tuple[int, int]:
    return t["RL"] + t["DQSCK"] + burst, t["WL"] + burst


def _after_write_recovery(t: Times, burst: int) -> tuple[int, int]:
    return t.get("AL", 0) + t["RTP"], t["WL"] + burst + t["WR"]


def _ddr3_auto_precharge(t: Times, burst: int) -> tuple[int, int]:
    return t.get("AL", 0) + max(t["RTP"], 4), t["WL"] + burst + t["WR"]


def _lpddr4_auto_precharge(t: Times, burst: int) -> tuple[int, int]:
    """JESD209-4: WL + BL/2 + 1 + tWR after a write."""
    return t["RTP"], t["WL"] + burst + 1 + t["WR"]


_LPDDR4_LENGTH = {
    **dict.fromkeys(range(N_COMMANDS), 2),
    **dict.fromkeys((ACT, *COLUMNS), 4),
    **dict.fromkeys((PDEA, PDEP, PDXA, PDXP), 1),
}
STANDARDS: Mapping[str, Standard] = {
    "DDR3": Standard(_ddr3, _ddr_data_end, _ddr3_auto_precharge, power_down=True),
    "DDR4": Standard(_ddr4, _ddr_data_end, _after_write_recovery, power_down=True),
    "DDR5": Standard(_ddr5, _ddr_data_end, _after_write_recovery),
    "LPDDR4": Standard(
        _lpddr4, _lpddr4_data_end, _lpddr4_auto_precharge, _LPDDR4_LENGTH, {ACT: (3, 3), REFPB: (1, 1)},
        per_bank_interval="REFIPB",
    ),
    "HBM2": Standard(
        _hbm2, _hbm2_data_end, _after_write_recovery, {ACT: 2}, {ACT: (1, 1), REFPB: (0, 0)}, column_bus=True,
        first_cycle=1,  # the reference cannot use a bus earlier
        per_bank_interval="REFISB",
    ),
}  # fmt: skip
"""Family -> standard."""
