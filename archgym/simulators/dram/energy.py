"""Energy of the DRAM devices from counts of commands and cycles (DRAMPower's model): core only, no I/O, no termination.

Currents in mA, voltages in V and times in ns make products in pJ. Clock periods are unrounded here (1000 / clock in
MHz), as the power model of the reference has them.
"""

from __future__ import annotations

from collections.abc import Mapping

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

#: Cycle counters of the power model: active and precharge standby, active and precharge power-down, self refresh, and
#: the refresh inside and the way out of it, each with banks open or closed.
COUNTERS = ("A", "P", "DA", "DP", "S", "sA", "sP", "uA", "uP")

Column = NDArray[np.float64]


def energy(device: Device, ranks: int, count: Mapping[str, NDArray[np.int64]]) -> dict[str, Column]:
    """Parts of the energy of all devices of a channel, pJ, each float64 ``(n,)``; NaN for a preset without currents.

    Args:
        device: the devices.
        ranks: standby cycles count once for each rank.
        count: int64 ``(n,)`` each: ``act``, ``pre``, ``rd``, ``wr``, ``ref`` and optionally ``ref_bank`` (refreshes of
            one bank), and the cycle counters of ``COUNTERS``, of which all but A and P are optional.
    """
    shape = count["act"].shape
    if not device.has_energy:
        return {part: np.full(shape, np.nan) for part in PARTS}
    t, power = device.timing, device.power
    cycle_ns = 1000.0 / device.clock_mhz
    t_ras, t_rp = t["RAS"], t.get("RP", t.get("RPPB", 0))
    t_rc = t.get("RC", t.get("RCPB", 0))
    t_rfc, t_rfc_bank = t.get("RFC", t.get("RFCAB", 0)), t.get("RFCPB", 0)
    number = {name: np.asarray(column, dtype=np.float64) for name, column in count.items()}
    zero = np.zeros(shape)

    def of(name: str) -> Column:
        return number.get(name, zero)

    def supply(suffix: str, volt: float) -> dict[str, Column]:
        def idd(name: str, *others: str) -> float:
            for key in (name, *others):
                if f"idd{key}{suffix}" in power:
                    return float(power[f"idd{key}{suffix}"])
            return 0.0

        i0, i2n, i3n = idd("0"), idd("2n"), idd("3n")
        i2p, i3p, i6 = idd("2p0", "2p"), idd("3p0", "3p"), idd("6")
        i5 = idd("5ab", "5") if device.family == "LPDDR4" else idd("5")
        # A supply whose preset gives no standby current (VPP of DDR4) has none of the differences to it either.
        i4r, i4w = idd("4r") or i3n, idd("4w") or i3n
        i5 = i5 or i3n
        i5_bank = idd("5b")
        if i5_bank:
            per_bank = (i5_bank - i3n) * t_rfc_bank
        else:
            per_bank = (i0 - i3n) * (t_ras + t_rp)
        self_refresh = (
            i6 * of("S")
            + (i5 - i3n) * (of("sA") + of("sP") + of("uA") + of("uP"))
            + i3p * of("sA")
            + i2p * of("sP")
            + i3n * of("uA")
            + i2n * of("uP")
        )
        factor = volt * cycle_ns * device.devices
        return {
            "energy_activate_pj": factor * ((i0 - i3n) * t_ras) * of("act"),
            "energy_precharge_pj": factor * ((i0 - i2n) * (t_rc - t_ras)) * of("pre"),
            "energy_read_pj": factor * ((i4r - i3n) * device.burst_cycles) * of("rd"),
            "energy_write_pj": factor * ((i4w - i3n) * device.burst_cycles) * of("wr"),
            "energy_refresh_pj": factor * ((i5 - i3n) * t_rfc * of("ref") + per_bank * of("ref_bank")),
            "energy_standby_active_pj": factor * ranks * i3n * of("A"),
            "energy_standby_precharge_pj": factor * ranks * i2n * of("P"),
            "energy_powerdown_pj": factor * ranks * (i3p * of("DA") + i2p * of("DP") + self_refresh),
        }

    parts = supply("", float(power["vdd"]))
    second = supply("2", float(power["vdd2"])) if "vdd2" in power else {}
    parts["energy_vpp_pj"] = sum(second.values(), start=zero)
    return parts
