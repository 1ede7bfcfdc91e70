"""Timing parameters of a device as the vectors that the fast controller and the power model take."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.dram.devices import Device
from archgym.simulators.dram.devices import device as device_of


def ddr_timing(device: Device) -> NDArray[np.int64]:
    """Timing of DDR3, DDR4 and DDR5 devices for :mod:`archgym.simulators.dram.controller`; int64 ``(N_TIMING,)``.

    DDR3 has no bank groups: the long and the short distances are the same there. Read to write is
    RL + tBURST + 2 - WL, where DDR4 and DDR5 count one cycle and the write preamble for the 2.
    """
    from archgym.simulators.dram import controller as c

    given = device.timing

    def first(*names: str, default: int | None = None) -> int:
        for name in names:
            if name in given:
                return int(given[name])
        assert default is not None, (device.name, names)
        return default

    vector = np.zeros(c.N_TIMING, dtype=np.int64)
    vector[c.T_BURST] = device.burst_cycles
    for place, names in {
        c.T_RCD: ("RCD",),
        c.T_RP: ("RP",),
        c.T_RAS: ("RAS",),
        c.T_RC: ("RC",),
        c.T_RL: ("RL",),
        c.T_WL: ("WL",),
        c.T_CCD_S: ("CCD_S", "CCD"),
        c.T_CCD_L: ("CCD_L", "CCD"),
        c.T_CCD_L_WR: ("CCD_L_WR", "CCD_L", "CCD"),
        c.T_RRD_S: ("RRD_S", "RRD"),
        c.T_RRD_L: ("RRD_L", "RRD"),
        c.T_FAW: ("FAW",),
        c.T_WTR_S: ("WTR_S", "WTR"),
        c.T_WTR_L: ("WTR_L", "WTR"),
        c.T_RTP: ("RTP",),
        c.T_WR: ("WR",),
        c.T_REFI: ("REFI",),
        c.T_RFC: ("RFC",),
    }.items():
        vector[place] = first(*names)
    vector[c.T_AL] = first("AL", default=0)
    vector[c.T_PPD] = first("PPD", default=0)
    vector[c.T_DQSCK] = first("DQSCK", default=0)
    gap = 2 if device.family == "DDR3" else 1 + first("WPRE", default=1)
    vector[c.T_RDWR] = vector[c.T_RL] + vector[c.T_BURST] + gap - vector[c.T_WL]
    # When the internal precharge of RDA starts counts for the energy only.
    vector[c.T_RTP_AUTO] = max(vector[c.T_RTP], 4) if device.family == "DDR3" else vector[c.T_RTP]
    return vector


@cache
def power_cycles(name: str) -> NDArray[np.int64]:
    """The cycles of a device that :func:`archgym.simulators.dram.kernels.power.count_cycles` takes.

    When the internal precharge of RDA and WRA starts counts for the energy only. LPDDR4 (JESD209-4) begins it
    WL + BL/2 + 1 + tWR after a write with auto-precharge, the other standards WL + BL/2 + tWR.
    """
    from archgym.simulators.dram.kernels import power as p

    dev = device_of(name)
    t, burst = dev.timing, dev.burst_cycles
    write_done = t["WL"] + burst + t["WR"]
    cycles = np.zeros(p.N_CYCLES, np.int64)
    cycles[p.C_READ_PRE] = t.get("AL", 0) + (max(t["RTP"], 4) if dev.family == "DDR3" else t["RTP"])
    cycles[p.C_WRITE_PRE] = write_done + (dev.family == "LPDDR4")
    cycles[p.C_RAS] = t["RAS"]
    cycles[p.C_RP] = t.get("RP", t.get("RPPB", 0))
    cycles[p.C_RFC] = t.get("RFC", t.get("RFCAB", 0))
    cycles[p.C_READ_TAIL] = t["RL"] + t.get("DQSCK", 0) + 1 + burst
    cycles[p.C_WRITE_TAIL] = write_done
    cycles[p.C_ACT_TAIL] = t.get("RCD", t.get("RCDRD", 0))
    return cycles
