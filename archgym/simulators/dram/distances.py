"""Timing constraints as tables: for every pair of commands the distance that the second keeps from the first.

Four tables a device, each int64 ``(N_COMMANDS, N_COMMANDS)`` indexed by (earlier, later): within a bank, a bank group,
a rank, and towards the other ranks of a channel. ``NEVER`` stands for "no constraint". The four-activate window and
the command buses are not pairs and are given apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.dram.commands import (
    ACT,
    COLUMNS,
    N_COMMANDS,
    PDEA,
    PDEP,
    PDXA,
    PDXP,
    PREAB,
    PREPB,
    RD,
    RDA,
    READS,
    REFAB,
    REFPB,
    SREFEN,
    SREFEX,
    WR,
    WRA,
    WRITES,
)
from archgym.simulators.dram.devices import Device

NEVER = -(1 << 40)


@dataclass(frozen=True)
class Distances:
    """The timing of one device as the general controller takes it.

    Attributes:
        bank, group, rank, other: distances in cycles, int64 ``(N_COMMANDS, N_COMMANDS)``.
        length: cycles a command occupies its bus, int64 ``(N_COMMANDS,)``.
        scalars: int64 vector, see the ``S_*`` places.
    """

    bank: NDArray[np.int64]
    group: NDArray[np.int64]
    rank: NDArray[np.int64]
    other: NDArray[np.int64]
    length: NDArray[np.int64]
    scalars: NDArray[np.int64]


(
    S_READ_END, S_WRITE_END, S_FAW_ACT, S_FAW_REF, S_REFI, S_REFI_BANK, S_TWO_BUSES, S_LAST_REF_BANK, N_SCALARS,
) = range(9)  # fmt: skip


_Vector = NDArray[np.int64]


class _Table:
    """Fills one scope; a later entry for the same pair never loosens it."""

    def __init__(self) -> None:
        self.array = np.full((N_COMMANDS, N_COMMANDS), NEVER, dtype=np.int64)

    def put(self, later: int | tuple[int, ...], earlier: int | tuple[int, ...], distance: int) -> None:
        for b in (later,) if isinstance(later, int) else later:
            for a in (earlier,) if isinstance(earlier, int) else earlier:
                self.array[a, b] = max(self.array[a, b], distance)


def distances(device: Device) -> Distances:
    """The tables of a device."""
    bank, group, rank, other = _Table(), _Table(), _Table(), _Table()
    scalars = np.zeros(N_SCALARS, dtype=np.int64)
    length = np.ones(N_COMMANDS, dtype=np.int64)
    build = {"LPDDR4": _lpddr4, "HBM2": _hbm2}.get(device.family, _ddr)
    build(device, bank, group, rank, other, length, scalars)
    return Distances(bank.array, group.array, rank.array, other.array, length, scalars)


def _ddr(
    device: Device, bank: _Table, group: _Table, rank: _Table, other: _Table, length: _Vector, scalars: _Vector
) -> None:
    """DDR3, DDR4, DDR5."""
    from archgym.simulators.dram import controller as c
    from archgym.simulators.dram.timing import ddr_timing

    v = [int(value) for value in ddr_timing(device)]
    burst, rl, wl, al, rp, rtp = v[c.T_BURST], v[c.T_RL], v[c.T_WL], v[c.T_AL], v[c.T_RP], v[c.T_RTP]
    t = device.timing
    rtrs = t["RTRS"]
    wrpre = wl + burst + v[c.T_WR]
    rpre, wpre = (0, 0) if device.family == "DDR3" else (t["RPRE"], t["WPRE"])

    bank.put(COLUMNS, ACT, v[c.T_RCD] - al)
    bank.put(RDA, WR, wrpre - rtp - al)
    group.put(READS, READS, v[c.T_CCD_L])
    rank.put(READS, READS, v[c.T_CCD_S])
    group.put(READS, WRITES, wl + burst + v[c.T_WTR_L] - al)
    rank.put(READS, WRITES, wl + burst + v[c.T_WTR_S] - al)
    other.put(READS, READS, burst + rtrs)
    other.put(READS, WRITES, wl + burst + rtrs - rl + rpre)
    group.put(WRITES, WRITES, v[c.T_CCD_L_WR])
    rank.put(WRITES, WRITES, v[c.T_CCD_S])
    rank.put(WRITES, READS, v[c.T_RDWR])
    other.put(WRITES, WRITES, burst + rtrs)
    other.put(WRITES, READS, rl + burst + rtrs - wl + wpre)

    bank.put(ACT, ACT, v[c.T_RC])
    group.put(ACT, ACT, v[c.T_RRD_L])
    rank.put(ACT, ACT, v[c.T_RRD_S])
    bank.put(ACT, PREPB, rp)
    rank.put(ACT, PREAB, rp)
    bank.put(ACT, RDA, al + rtp + rp)
    bank.put(ACT, WRA, wrpre + rp)
    rank.put(ACT, REFAB, v[c.T_RFC])

    bank.put(PREPB, ACT, v[c.T_RAS])
    bank.put(PREPB, RD, al + rtp)
    bank.put(PREPB, WR, wrpre)
    rank.put(PREAB, ACT, v[c.T_RAS])
    rank.put(PREAB, READS, al + rtp)
    rank.put(PREAB, WRITES, wrpre)
    if v[c.T_PPD]:
        rank.put((PREPB, PREAB), (PREPB, PREAB), v[c.T_PPD])

    rank.put(REFAB, ACT, v[c.T_RC])
    rank.put(REFAB, (PREPB, PREAB), rp)
    rank.put(REFAB, RDA, al + rtp + rp)
    rank.put(REFAB, WRA, wrpre + rp)
    rank.put(REFAB, REFAB, v[c.T_RFC])

    if device.supports_power_down:
        xp, xs, cke = t["XP"], t["XS"], t["CKE"]
        rank.put((*COLUMNS, PREPB, PREAB), PDXA, xp)
        rank.put(COLUMNS, SREFEX, t["XSDLL"])
        rank.put(ACT, (PDXA, PDXP), xp)
        rank.put((ACT, REFAB, PDEP, SREFEN), SREFEX, xs)
        rank.put((REFAB, SREFEN), PDXP, xp)
        read_done, write_done = rl + burst + 1, wl + burst + v[c.T_WR]
        rank.put((PDEA, PDEP), READS, read_done)
        rank.put((PDEA, PDEP), WRA, write_done + 1)
        rank.put(PDEA, WR, write_done)
        rank.put(PDEA, ACT, t["ACTPDEN"])
        rank.put(PDEA, PREPB, t["PRPDEN"])
        rank.put(PDEP, (PREPB, PREAB), t["PRPDEN"])
        rank.put(PDEP, REFAB, t["REFPDEN"])
        rank.put(PDEA, PDXA, cke)
        rank.put(PDEP, PDXP, cke)
        rank.put(PDXA, PDEA, cke)
        rank.put(PDXP, PDEP, cke)
        rank.put(SREFEN, ACT, v[c.T_RC])
        rank.put(SREFEN, RDA, max(read_done, al + rtp + rp))
        rank.put(SREFEN, WRA, max(wrpre + 1, wrpre + rp))
        rank.put(SREFEN, (PREPB, PREAB), rp)
        rank.put(SREFEN, REFAB, v[c.T_RFC])
        rank.put(SREFEX, SREFEN, t["CKESR"])

    scalars[S_READ_END], scalars[S_WRITE_END] = rl + burst, wl + burst
    scalars[S_FAW_ACT] = v[c.T_FAW]
    scalars[S_REFI] = v[c.T_REFI]


def _lpddr4(
    device: Device, bank: _Table, group: _Table, rank: _Table, other: _Table, length: _Vector, scalars: _Vector
) -> None:
    """LPDDR4: commands of two and four cycles; the small integers make up for where the reference counts from."""
    t, burst = device.timing, device.burst_cycles
    rl, wl, rtrs = t["RL"], t["WL"], t["RTRS"]
    length[:] = 2
    length[[ACT, *COLUMNS]] = 4
    length[[PDEA, PDEP, PDXA, PDXP]] = 1
    read_pre = t["RTP"] + burst - 6
    write_pre = wl + burst + 1 + t["WR"] + 2

    bank.put(COLUMNS, ACT, t["RCD"])
    bank.put(RDA, WR, write_pre - read_pre)
    rank.put(READS, READS, t["CCD"])
    rank.put(WRITES, WRITES, t["CCD"])
    rank.put(READS, WRITES, wl + 1 + burst + t["WTR"])
    rank.put(WRITES, READS, rl + t["DQSCK"] + burst - wl + t["WPRE"] + t["RPST"])
    other.put(READS, READS, burst + rtrs)
    other.put(WRITES, WRITES, burst + rtrs)
    other.put(WRITES, READS, rl + burst + rtrs - wl)
    other.put(READS, WRITES, wl + burst + rtrs - rl)

    bank.put(ACT, ACT, t["RCPB"])
    rank.put(ACT, ACT, t["RRD"])
    bank.put(ACT, RDA, t["RTP"] + burst - 8 + t["RPPB"])
    bank.put(ACT, WRA, wl + burst + 1 + t["WR"] + t["RPPB"])
    bank.put(ACT, PREPB, t["RPPB"] - 2)
    rank.put(ACT, PREAB, t["RPAB"] - 2)
    rank.put(ACT, REFAB, t["RFCAB"] - 2)
    bank.put(ACT, REFPB, t["RFCPB"] - 2)
    rank.put(ACT, REFPB, t["RRD"] - 2)

    bank.put(PREPB, ACT, t["RAS"] + 2)
    bank.put(PREPB, RD, read_pre)
    bank.put(PREPB, WR, write_pre)
    rank.put((PREPB, PREAB), PREPB, t["PPD"])
    rank.put(PREAB, ACT, t["RAS"] + 2)
    rank.put(PREAB, READS, read_pre)
    rank.put(PREAB, WRITES, write_pre)
    rank.put(PREAB, REFPB, t["RFCPB"])

    rank.put(REFAB, ACT, t["RCPB"] + 2)
    rank.put(REFAB, RDA, read_pre + t["RPPB"])
    rank.put(REFAB, WRA, write_pre + t["RPPB"])
    rank.put(REFAB, PREPB, t["RPPB"])
    rank.put(REFAB, PREAB, t["RPAB"])
    rank.put(REFAB, REFAB, t["RFCAB"])
    rank.put(REFAB, REFPB, t["RFCPB"])
    bank.put(REFPB, ACT, t["RCPB"] + 2)
    rank.put(REFPB, ACT, t["RRD"] + 2)
    bank.put(REFPB, RDA, read_pre + t["RPPB"])
    bank.put(REFPB, WRA, write_pre + t["RPPB"])
    bank.put(REFPB, PREPB, t["RPPB"])
    rank.put(REFPB, PREAB, t["RPAB"])
    rank.put(REFPB, REFAB, t["RFCAB"])
    rank.put(REFPB, REFPB, t["RFCPB"])

    scalars[S_READ_END] = rl + t["DQSCK"] + burst + 3
    scalars[S_WRITE_END] = wl + t["DQSS"] + t["DQS2DQ"] + burst + 3
    # The window counts from the last cycle of the command.
    scalars[S_FAW_ACT], scalars[S_FAW_REF] = t["FAW"] - 3, t["FAW"] - 1
    scalars[S_REFI], scalars[S_REFI_BANK] = t["REFI"], t["REFIPB"]


def _hbm2(
    device: Device, bank: _Table, group: _Table, rank: _Table, other: _Table, length: _Vector, scalars: _Vector
) -> None:
    """HBM2: row and column commands on buses of their own; the ranks are pseudo-channels, free of each other."""
    t, burst = device.timing, device.burst_cycles
    rl, wl, rp, rtp = t["RL"], t["WL"], t["RP"], t["RTP"]
    length[ACT] = 2
    write_pre = wl + burst + t["WR"]

    bank.put(READS, ACT, t["RCDRD"] + 1)
    bank.put(WRITES, ACT, t["RCDWR"] + 1)
    bank.put(RDA, WR, write_pre - rtp)
    rank.put(READS, READS, t["CCDS"])
    group.put(READS, READS, t["CCDL"])
    rank.put(WRITES, WRITES, t["CCDS"])
    group.put(WRITES, WRITES, t["CCDL"])
    rank.put(WRITES, READS, t["RTW"])
    rank.put(READS, WRITES, wl + burst + t["WTRS"])
    group.put(READS, WRITES, wl + burst + t["WTRL"])

    bank.put(ACT, ACT, t["RC"])
    group.put(ACT, ACT, t["RRDL"])
    rank.put(ACT, ACT, t["RRDS"])
    bank.put(ACT, RDA, rtp + rp - 1)
    bank.put(ACT, WRA, write_pre + rp - 1)
    bank.put(ACT, PREPB, rp - 1)
    rank.put(ACT, PREAB, rp - 1)
    rank.put(ACT, REFAB, t["RFC"] - 1)
    bank.put(ACT, REFPB, t["RFCSB"] - 1)
    rank.put(ACT, REFPB, t["RREFD"] - 1)

    bank.put(PREPB, ACT, t["RAS"] + 1)
    bank.put(PREPB, RD, rtp)
    bank.put(PREPB, WR, write_pre)
    rank.put(PREAB, ACT, t["RAS"] + 1)
    rank.put(PREAB, READS, rtp)
    rank.put(PREAB, WRITES, write_pre)
    rank.put(PREAB, REFPB, t["RFCSB"])

    rank.put(REFAB, ACT, t["RC"] + 1)
    rank.put(REFAB, RDA, rtp + rp)
    rank.put(REFAB, WRA, write_pre + rp)
    rank.put(REFAB, (PREPB, PREAB), rp)
    rank.put(REFAB, REFAB, t["RFC"])
    rank.put(REFAB, REFPB, t["RFCSB"])
    bank.put(REFPB, ACT, t["RC"] + 1)
    group.put(REFPB, ACT, t["RRDL"] + 1)
    rank.put(REFPB, ACT, t["RRDS"] + 1)
    bank.put(REFPB, RDA, rtp + rp)
    bank.put(REFPB, WRA, write_pre + rp)
    bank.put(REFPB, PREPB, rp)
    rank.put(REFPB, PREAB, rp)
    rank.put(REFPB, REFAB, t["RFC"])
    bank.put(REFPB, REFPB, t["RFCSB"])
    rank.put(REFPB, REFPB, t["RREFD"])

    scalars[S_READ_END], scalars[S_WRITE_END] = rl + t["DQSCK"] + burst, wl + burst
    scalars[S_FAW_ACT], scalars[S_FAW_REF] = t["FAW"] - 1, t["FAW"]
    scalars[S_REFI], scalars[S_REFI_BANK] = t["REFI"], t["REFISB"]
    scalars[S_TWO_BUSES] = 1
    scalars[S_LAST_REF_BANK] = t["RFCSB"]
