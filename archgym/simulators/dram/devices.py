"""DRAM devices: organisation, timing (cycles of the memory clock), currents (mA) and voltages (V).

The numbers are in ``devices.json``, each preset with the published file it comes from. Times are whole clock cycles;
keys are JEDEC names without the leading t (``RCD`` is tRCD). ``file:PATH`` in place of a name is a memory of the user's
own, of a known family: a YAML or JSON file with the fields of a preset.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import fields as dataclass_fields
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType

import msgspec

from archgym.errors import ArchGymError, UnknownNameError
from archgym.reading import checked, own_file, parse_json, quote_path, read_json, read_yaml
from archgym.simulators.dram.constraints import constraints, standard
from archgym.simulators.dram.timing import power_cycles

_WORDS = ("name", "description", "source")


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
    timing: Mapping[str, int] = field(repr=False, hash=False)
    power: Mapping[str, float] = field(repr=False, hash=False)

    @property
    def digest(self) -> str:
        """Hash of all that a device is but its name and description."""
        fields = {f.name: getattr(self, f.name) for f in dataclass_fields(self)}
        told = {k: dict(v) if isinstance(v, Mapping) else v for k, v in fields.items() if k not in _WORDS}
        return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()

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
        return bool(standard(self).per_bank_interval)

    @property
    def supports_power_down(self) -> bool:
        """True where all times of power-down and self refresh are modelled (DDR3 and DDR4)."""
        return standard(self).power_down

    @property
    def has_energy(self) -> bool:
        """True where the preset has currents."""
        return "vdd" in self.power


class Preset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A memory as files describe it; the fields are those of :class:`Device`."""

    family: str
    clock_mhz: float
    burst_length: int
    width_bits: int
    devices: int
    banks: int
    rows: int
    columns: int
    timing: dict[str, int]
    data_rate: int = 2
    bank_groups: int = 1
    ranks: int = 1
    power: dict[str, float] = {}
    name: str = ""
    description: str = ""
    source: str = ""


@cache
def devices() -> Mapping[str, Device]:
    """All presets by name."""
    text = resources.files(__package__).joinpath("devices.json").read_text(encoding="utf-8")
    return MappingProxyType(
        {name: _device(name, checked(entry, Preset, name)) for name, entry in parse_json(text).items()}
    )


def device(name: str) -> Device:
    """A preset by name, or ``file:PATH`` for a memory of the user's own."""
    if (path := own_file(name)) is not None:
        return read_device(path)
    try:
        return devices()[name]
    except KeyError:
        raise UnknownNameError("DRAM device", name, devices(), own_file=True) from None


def read_device(path: Path) -> Device:
    """A memory from a YAML or JSON file with the fields of :class:`Preset`.

    Raises:
        ArchGymError: one sentence, for a missing field or time of the family, one that is unknown, or a bad value.
    """
    read = read_json if path.suffix.lower() == ".json" else read_yaml
    where = f"the DRAM device {quote_path(path)}"
    preset: Preset = checked(read(path, "DRAM device"), Preset, where)
    result = _device(preset.name or path.stem, preset)
    _check(result, where)
    return result


def _device(name: str, preset: Preset) -> Device:
    fields = msgspec.structs.asdict(preset) | {"name": name}
    for mapping in ("timing", "power"):
        fields[mapping] = MappingProxyType(dict(fields[mapping]))
    return Device(**fields)


def _check(dev: Device, where: str) -> None:
    """A device of the user's own: numbers within their ranges, all times that the family's constraints name."""
    powers = ("burst_length", "data_rate", "width_bits", "devices", "bank_groups", "banks", "rows", "columns", "ranks")
    for field_name in powers:
        value = getattr(dev, field_name)
        if not 1 <= value <= 1 << 24 or value & (value - 1):
            raise ArchGymError(f"{where} has {field_name} {value}; expected a power of two")
    if dev.bank_groups > dev.banks or dev.bank_groups > 32 or dev.banks > 64:
        raise ArchGymError(
            f"{where} has {dev.banks} banks in {dev.bank_groups} groups; expected at most 64 in at most 32"
        )
    if not 1 <= dev.clock_mhz <= 100_000:
        raise ArchGymError(f"{where} has a clock of {dev.clock_mhz:g} MHz; expected 1 to 100,000")
    if dev.burst_length < dev.data_rate or dev.burst_bytes > 64 or dev.word_bytes < 1:
        raise ArchGymError(f"{where} moves {dev.burst_bytes} bytes a burst; expected at most the 64 bytes of a line")
    for key, cycles in dev.timing.items():
        if not 0 <= cycles <= 1_000_000:
            raise ArchGymError(f"{where} has the time {key} of {cycles} cycles; expected 0 to 1,000,000")
    for key, amount in dev.power.items():
        if not 0 <= amount <= 1e6:
            raise ArchGymError(f"{where} has {key} {amount:g}; expected 0 to 1e6 (mA or V)")
    for kind, given, known in (
        ("time", dev.timing, {key for preset in devices().values() for key in preset.timing}),
        ("current or voltage", dev.power, {key for preset in devices().values() for key in preset.power}),
    ):
        for key in given:
            if key not in known:
                raise ArchGymError(f"{where}: {UnknownNameError(kind, key, known)}")
    if dev.power and not dev.has_energy:
        raise ArchGymError(f"{where} has currents but not the voltage vdd; leave out both for no energy")
    currents = ("idd0", "idd2n", "idd3n", "idd4r", "idd4w")
    missing = [key for key in currents if key not in dev.power] if dev.has_energy else []
    if missing or (dev.has_energy and not {"idd5", "idd5ab"} & set(dev.power)):
        lacking = missing[0] if missing else "idd5"
        raise ArchGymError(f"{where} has the voltage vdd but not the current {lacking}; leave out both for no energy")
    _check_currents(dev, where)
    try:
        table = constraints(dev)
        power_cycles(dev)
    except KeyError as error:
        raise ArchGymError(
            f"{where} lacks the time {error.args[0]}, which the constraints of {dev.family} need"
        ) from None
    if table.interval < 1:
        raise ArchGymError(f"{where} has a refresh interval REFI of {table.interval} cycles; expected at least 1")


def _check_currents(dev: Device, where: str) -> None:
    """The energy of a command is what its current is above that of standby, so it may not be below."""
    for suffix in ("", "2"):
        given = {
            key: dev.power.get(f"idd{key}{suffix}", 0.0) for key in ("0", "2n", "3n", "4r", "4w", "5", "5ab", "5b")
        }
        for busy, quiet in (("0", "2n"), *((key, "3n") for key in ("0", "4r", "4w", "5", "5ab", "5b"))):
            # What is not given draws as much as standby, but for the activation.
            if given[busy] < given[quiet] and (given[busy] > 0 or busy == "0"):
                raise ArchGymError(
                    f"{where} has the current idd{busy}{suffix} {given[busy]:g} mA below that of standby, idd{quiet}{suffix} "
                    f"{given[quiet]:g} mA; expected at least as much"
                )
