"""Constants of the physical mode (``data/physical.yaml``) and the factors they make."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from typing import Any

from archgym.errors import ArchGymError, UnknownNameError


@dataclass(frozen=True)
class PhysicalConstants:
    """Assumptions of the physical mode; see ``data/physical.yaml`` for each one's grounds. SI units unless named."""

    relative_voltage: tuple[float, ...]
    relative_area: tuple[float, ...]
    unroll_energy_per_doubling: float
    logic_leakage_w_per_mm2: float
    sram_leakage_w_per_byte: float
    wide_access_bytes_per_cycle: float
    sram_energy_per_width_doubling: float
    sram_area_per_width: float
    dram_j_per_byte: float
    dram_interface_mm2_per_gb_s: float
    dram_standby_w_per_gb_s: float
    bus_j_per_byte: float
    bus_energy_per_port_doubling: float
    bus_um2_per_byte_port: float
    complete_within: float
    die_area_mm2: float

    def override(self, given: Mapping[str, float | list[float]]) -> PhysicalConstants:
        """These constants with some replaced; unknown names and negative values raise one sentence."""
        known = {field.name for field in fields(self)}
        changed: dict[str, Any] = {}
        for name, value in given.items():
            if name not in known:
                raise UnknownNameError("physical constant", name, known)
            is_list = isinstance(getattr(self, name), tuple)
            numbers: list[Any] = list(value) if is_list and isinstance(value, list | tuple) else [value]
            if len(numbers) != (len(getattr(self, name)) if is_list else 1) or not all(
                isinstance(number, int | float) and math.isfinite(number) and number >= 0 for number in numbers
            ):
                what = f"a list of {len(getattr(self, name))} numbers >= 0" if is_list else "a number >= 0"
                raise ArchGymError(f"the physical constant {name!r} is {value!r}; expected {what}")
            changed[name] = tuple(float(n) for n in numbers) if is_list else float(numbers[0])
        return replace(self, **changed)

    def sram_energy_factor(self, bytes_per_cycle: int) -> float:
        """Access energy of an SRAM relative to the table."""
        return 1 + self.sram_energy_per_width_doubling * max(
            0.0, math.log2(bytes_per_cycle / self.wide_access_bytes_per_cycle)
        )

    def sram_area_factor(self, bytes_per_cycle: int) -> float:
        """Area of an SRAM relative to the table."""
        return 1 + self.sram_area_per_width * max(0.0, bytes_per_cycle / self.wide_access_bytes_per_cycle - 1)

    def bus_port_factor(self, ports: int) -> float:
        """Energy of a bus crossing relative to a bus of one port."""
        return 1 + self.bus_energy_per_port_doubling * math.log2(ports)


@cache
def physical_constants() -> PhysicalConstants:
    """The constants that come with the package."""
    import yaml

    data = yaml.safe_load((resources.files(__package__) / "data" / "physical.yaml").read_text(encoding="utf-8"))
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else float(v) for k, v in data.items()}
    return PhysicalConstants(**values)
