"""DRAM devices: organisation, timing (cycles of the memory clock), currents (mA) and voltages (V).

The numbers are in ``devices.json``, each preset with the published file it comes from. Times are whole clock cycles;
keys are JEDEC names without the leading t (``RCD`` is tRCD).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from archgym.errors import UnknownNameError


@dataclass(frozen=True)
class Device:
    """One speed grade and organisation: what a rank of one channel is made of.

    Attributes:
        name: ``"DDR4-2400"``.
        family: ``DDR3``, ``DDR4``, ``DDR5``, ``LPDDR4`` or ``HBM2``; selects the table of timing constraints.
        clock_mhz: memory clock.
        burst_length, data_rate: transfers a burst and a clock.
        width_bits, devices: data width of one device and devices of a rank.
        bank_groups, banks: of a rank; ``banks`` counts all of them.
        rows, columns: of a bank.
        ranks: of a channel where nothing else is asked for (HBM2: its two pseudo-channels).
        timing: JEDEC name without t -> cycles.
        power: currents (mA a device) and voltages; empty where the preset has none.
    """

    name: str
    family: str
    description: str
    source: str
    clock_mhz: float
    burst_length: int
    data_rate: int
    width_bits: int
    devices: int
    bank_groups: int
    banks: int
    rows: int
    columns: int
    ranks: int
    timing: Mapping[str, int] = field(repr=False)
    power: Mapping[str, float] = field(repr=False)

    @property
    def tck_ps(self) -> int:
        """Clock period in ps, rounded to a whole one as controllers' presets do (DDR4-2400: 833)."""
        return round(1e6 / self.clock_mhz)

    @property
    def burst_cycles(self) -> int:
        """tBURST: cycles of the data bus a request takes."""
        return self.burst_length // self.data_rate

    @property
    def word_bytes(self) -> int:
        """Bytes one column address stands for: the width of the channel."""
        return self.width_bits * self.devices // 8

    @property
    def burst_bytes(self) -> int:
        """Bytes a request moves."""
        return self.word_bytes * self.burst_length

    @property
    def rank_bytes(self) -> int:
        """Capacity of one rank."""
        return self.word_bytes * self.columns * self.rows * self.banks

    @property
    def supports_per_bank_refresh(self) -> bool:
        """True where the standard has a refresh of single banks."""
        return self.family in ("LPDDR4", "HBM2")

    @property
    def supports_power_down(self) -> bool:
        """True where the preset has all times of power-down and self refresh (DDR3 and DDR4)."""
        return self.family in ("DDR3", "DDR4")

    @property
    def has_energy(self) -> bool:
        """True where the preset has currents."""
        return "vdd" in self.power


@cache
def devices() -> Mapping[str, Device]:
    """All presets by name."""
    text = resources.files(__package__).joinpath("devices.json").read_text(encoding="utf-8")
    return MappingProxyType({name: _device(name, entry) for name, entry in json.loads(text).items()})


def device(name: str) -> Device:
    """A preset by name."""
    try:
        return devices()[name]
    except KeyError:
        raise UnknownNameError("DRAM device", name, devices()) from None


def _device(name: str, entry: dict[str, Any]) -> Device:
    entry = {"power": {}, **entry}
    entry["timing"], entry["power"] = MappingProxyType(entry["timing"]), MappingProxyType(entry["power"])
    return Device(name=name, **entry)
