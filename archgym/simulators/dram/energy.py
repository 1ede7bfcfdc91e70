"""Energy of the DRAM devices from counts of commands and cycles (DRAMPower's model): core only, no I/O, no termination.

Currents in mA, voltages in V and times in ns make products in pJ. Clock periods are unrounded here (1000 / clock in
MHz), as the power model of the reference has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.dram.devices import Device

PARTS = (
    "energy_activate_pj",
    "energy_precharge_pj",
    "energy_read_pj",
    "energy_write_pj",
    "energy_refresh_pj",
    "energy_standby_active_pj",
    "energy_standby_precharge_pj",
    "energy_powerdown_pj",
    "energy_vpp_pj",
)
"""The parts of the energy; they sum to ``energy_pj``. ``energy_vpp_pj`` is all of the second supply."""

Column = NDArray[np.float64]


def energy(device: Device, ranks: int, count: Mapping[str, NDArray[np.int64]]) -> dict[str, Column]:
    """Parts of the energy of all devices of a channel, pJ, each float64 ``(n,)``; NaN for a preset without currents.

    Args:
        device: the devices.
        ranks: standby cycles count once for each rank.
        count: int64 ``(n,)`` each, by the names of :data:`.kernels.power.COUNTED`: commands and cycles; ``ref_bank`` and
            all cycles but A and P are optional.
    """
    shape = count["act"].shape
    if not device.has_energy:
        return {part: np.full(shape, np.nan) for part in PARTS}
    parts = {}
    for part, terms in _coefficients(device, ranks):
        column = np.zeros(shape)
        for name, coefficient in terms:
            if name in count:
                column = column + coefficient * count[name]
        parts[part] = column
    return parts


@cache
def _coefficients(dev: Device, ranks: int) -> tuple[tuple[str, tuple[tuple[str, float], ...]], ...]:
    """For each part the counts it is made of, each with its pJ a count or cycle."""
    parts = _supply(dev, ranks, "", float(dev.power["vdd"]))
    second: dict[str, float] = {}
    if "vdd2" in dev.power:
        for terms in _supply(dev, ranks, "2", float(dev.power["vdd2"])).values():
            for counter, coefficient in terms.items():
                second[counter] = second.get(counter, 0.0) + coefficient
    parts["energy_vpp_pj"] = second
    return tuple((part, tuple((k, v) for k, v in parts[part].items() if v != 0.0)) for part in PARTS)


def _supply(dev: Device, ranks: int, suffix: str, volt: float) -> dict[str, dict[str, float]]:
    """The terms of one supply, whose currents end in ``suffix``."""
    t, power = dev.timing, dev.power
    t_ras, t_rp = t["RAS"], t.get("RP", t.get("RPPB", 0))
    t_rc = t.get("RC", t.get("RCPB", 0))
    t_rfc, t_rfc_bank = t.get("RFC", t.get("RFCAB", 0)), t.get("RFCPB", 0)

    def idd(*keys: str) -> float:
        for key in keys:
            if f"idd{key}{suffix}" in power:
                return float(power[f"idd{key}{suffix}"])
        return 0.0

    i0, i2n, i3n = idd("0"), idd("2n"), idd("3n")
    i2p, i3p, i6 = idd("2p0", "2p"), idd("3p0", "3p"), idd("6")
    # A supply whose preset gives no current for bursts or refresh (VPP of DDR4) draws no more in them than in standby.
    i4r, i4w = idd("4r") or i3n, idd("4w") or i3n
    i5 = idd("5ab", "5") or i3n
    i5_bank = idd("5b")
    per_bank = (i5_bank - i3n) * t_rfc_bank if i5_bank else (i0 - i3n) * (t_ras + t_rp)
    unit = volt * 1000.0 / dev.clock_mhz * dev.devices
    standby = unit * ranks
    asleep = i5 - i3n  # the refresh that self refresh begins with
    return {
        "energy_activate_pj": {"act": unit * (i0 - i3n) * t_ras},
        "energy_precharge_pj": {"pre": unit * (i0 - i2n) * (t_rc - t_ras)},
        "energy_read_pj": {"rd": unit * (i4r - i3n) * dev.burst_cycles},
        "energy_write_pj": {"wr": unit * (i4w - i3n) * dev.burst_cycles},
        "energy_refresh_pj": {"ref": unit * (i5 - i3n) * t_rfc, "ref_bank": unit * per_bank},
        "energy_standby_active_pj": {"A": standby * i3n},
        "energy_standby_precharge_pj": {"P": standby * i2n},
        "energy_powerdown_pj": {
            "DA": standby * i3p,
            "DP": standby * i2p,
            "S": standby * i6,
            "sA": standby * (asleep + i3p),
            "sP": standby * (asleep + i2p),
            "uA": standby * (asleep + i3n),
            "uP": standby * (asleep + i2n),
        },
    }
