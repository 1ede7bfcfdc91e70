"""DRAMSim2's and DRAMSim3's traces (k6, mase): ``0x1C4A3F40 READ 120``."""

from __future__ import annotations

__all__ = ()

from archgym.simulators.dram.trace import CLOCK_MHZ
from archgym.simulators.dram.traces.formats.base import READ, WRITE, Columns, Format, Options
from archgym.simulators.dram.traces.lines import Lines

WORDS = {
    **dict.fromkeys(("READ", "read", "P_MEM_RD", "P_FETCH", "FETCH", "IFETCH"), READ),
    **dict.fromkeys(("WRITE", "write", "P_MEM_WR", "BOFF"), WRITE),
}


def _matches(line: str, words: list[str]) -> bool:
    return len(words) == 3 and words[1] in WORDS


def _read(lines: Lines, options: Options) -> Columns:
    lines.cut(" \t", 3, comment="#")
    lines.stop_at(lines.tokens(3, 3, "'0xADDRESS READ|WRITE cycle' like '0x1C4A3F40 READ 120'"))
    write = lines.words(1, WORDS)
    address, address_fault = lines.numbers(0, "the address", hexadecimal=True)
    time, time_fault = lines.numbers(2, "the cycle")
    lines.first_fault(
        address_fault,
        time_fault,
        lines.fault_where(write < 0, f"one of {', '.join(WORDS)} as the command"),
        lines.backwards(time),
    )
    return Columns(time, address, write == WRITE)


FORMAT = Format(
    "dramsim3", "0x1C4A3F40 READ 120", f"hexadecimal address; {', '.join(WORDS)}; cycle of the memory",
    _read, _matches, (".trc",), CLOCK_MHZ,
)  # fmt: skip
