"""The block library: processing elements, memories and buses, and what a memory of a given capacity costs."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from archgym.simulators.soc.task_graph import AcceleratorFigures

MEMORY_KINDS = ("sram", "dram")


@dataclass(frozen=True)
class Cpu:
    """A general-purpose processor (Cortex-A53); runs any task."""


@dataclass(frozen=True)
class Accelerator:
    """The accelerator of one task; runs only that task (and dummies).

    Attributes:
        task: name of the task.
        unroll: loop unrolling, one of :meth:`BlockLibrary.unrolls`.
        clock_mhz: 100, 400, 600 or 800.
    """

    task: str
    unroll: int = 1
    clock_mhz: int = 100


@dataclass(frozen=True)
class Memory:
    """``kind`` is ``"sram"`` or ``"dram"``; its capacity follows from what is stored."""

    kind: str
    bytes_per_cycle: int
    clock_mhz: int

    @property
    def bandwidth(self) -> float:
        """B/s, for reads and for writes separately."""
        return self.bytes_per_cycle * (self.clock_mhz * 1e6)


@dataclass(frozen=True)
class Bus:
    """A bus; every link out of it has the full bandwidth, for reads and for writes separately."""

    bytes_per_cycle: int
    clock_mhz: int

    @property
    def bandwidth(self) -> float:
        """B/s of each outgoing link and direction."""
        return self.bytes_per_cycle * (self.clock_mhz * 1e6)


ProcessingElement = Cpu | Accelerator


@dataclass(frozen=True)
class BlockLibrary:
    """Figures of the blocks; SI units (see ``data/blocks.yaml``)."""

    cpu_name: str
    cpu_rate: float
    cpu_instructions_per_joule: float
    cpu_area_m2: float
    accelerator_clock_hz: float
    energy_scaling: float
    area_scaling: float
    unroll_limit: int
    widths: tuple[int, ...]
    clocks_mhz: tuple[int, ...]
    capacity_unit_bytes: int
    smallest_bytes: int
    power_window_s: float

    def unrolls(self, figures: AcceleratorFigures) -> tuple[int, ...]:
        """Unroll factors on offer: powers of two up to the trip count (at most 16 of them where there would be more
        than 17), then the trip count itself."""
        if figures.iterations == 1:
            return (1,)
        factors = [2**k for k in range(math.floor(math.log2(figures.iterations)) + 1)]
        if len(factors) > self.unroll_limit:
            factors = factors[: self.unroll_limit - 1]
        if figures.iterations not in factors:
            factors.append(figures.iterations)
        return tuple(factors)

    def accelerator_rate(self, figures: AcceleratorFigures, work: float, unroll: int, clock_mhz: int) -> float:
        """Instructions/s: clock multiplier x unroll x work / (cycles at 100 MHz / 100 MHz)."""
        multiplier = clock_mhz * 1e6 / self.accelerator_clock_hz
        return multiplier * unroll * work / (figures.cycles / self.accelerator_clock_hz)


@cache
def library() -> BlockLibrary:
    """The block library that comes with the package."""
    import yaml

    text = (resources.files(__package__) / "data" / "blocks.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    cpu, accelerator, memory = data["cpu"], data["accelerator"], data["memory"]
    return BlockLibrary(
        cpu_name=cpu["name"],
        cpu_rate=float(cpu["instructions_per_s"]),
        cpu_instructions_per_joule=float(cpu["instructions_per_joule"]),
        cpu_area_m2=float(cpu["area_mm2"]) * 1e-6,
        accelerator_clock_hz=float(accelerator["clock_mhz"]) * 1e6,
        energy_scaling=float(accelerator["energy_scaling"]),
        area_scaling=float(accelerator["area_scaling"]),
        unroll_limit=int(accelerator["unroll_limit"]),
        widths=tuple(memory["bytes_per_cycle"]),
        clocks_mhz=tuple(data["clock_mhz"]),
        capacity_unit_bytes=int(memory["capacity_unit_bytes"]),
        smallest_bytes=int(memory["smallest_bytes"]),
        power_window_s=float(data["power_window_s"]),
    )


class MemoryTable:
    """Energy (J/byte) and area (m2) of memories by kind and capacity in units of 256,000 bytes.

    Row ``k`` of the arrays belongs to ``k + 1`` units; index 0 is SRAM, 1 is DRAM. Sizes missing from the table are
    interpolated linearly between their neighbours; beyond the last size the last two are extrapolated.
    """

    def __init__(self, read: NDArray[np.float64], write: NDArray[np.float64], area: NDArray[np.float64]) -> None:
        self.read, self.write, self.area = read, write, area

    @property
    def units(self) -> int:
        """Capacities in the table."""
        return int(self.read.shape[1])

    def monotone(self) -> MemoryTable:
        """The table with every column made to rise with capacity (running maximum)."""
        return MemoryTable(*(np.maximum.accumulate(column, axis=1) for column in (self.read, self.write, self.area)))

    def lookup(self, kind: str, units: int) -> tuple[float, float, float]:
        """(read J/byte, write J/byte, area m2) of ``units`` x 256,000 bytes."""
        k = MEMORY_KINDS.index(kind)
        return _at(self.read[k], units), _at(self.write[k], units), _at(self.area[k], units)


def _at(column: NDArray[np.float64], units: int) -> float:
    last = len(column)
    if units <= last:
        return float(column[units - 1])
    return float(column[last - 1] + (column[last - 1] - column[last - 2]) * (units - last))


@cache
def memory_table() -> MemoryTable:
    """The table that comes with the package (``data/memory_table.csv``: figures of CACTI 7, scaled)."""
    unit = library().capacity_unit_bytes
    with (resources.files(__package__) / "data" / "memory_table.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    largest = max(int(row["capacity_bytes"]) for row in rows) // unit
    columns = []
    for name, scale in (("read_pj_per_byte", 1e-12), ("write_pj_per_byte", 1e-12), ("area_mm2", 1e-6)):
        column = np.empty((len(MEMORY_KINDS), largest))
        for k, kind in enumerate(MEMORY_KINDS):
            sizes = np.array([int(row["capacity_bytes"]) // unit for row in rows if row["kind"] == kind])
            values = np.array([float(row[name]) * scale for row in rows if row["kind"] == kind])
            column[k] = np.interp(np.arange(1, largest + 1), sizes, values)
            beyond = np.arange(sizes[-1] + 1, largest + 1)
            slope = (values[-1] - values[-2]) / (sizes[-1] - sizes[-2])
            column[k, sizes[-1] :] = values[-1] + slope * (beyond - sizes[-1])
        columns.append(column)
    return MemoryTable(*columns)
