"""USIMM's traces: ``20 R 0x1ff97c80 0x403d50``, ``6 W 0x1ff97c80``."""

from __future__ import annotations

__all__ = ()

import numpy as np

from archgym.simulators.dram.traces.formats.base import CPU_MHZ, READ, WRITE, Columns, Format, Options
from archgym.simulators.dram.traces.lines import Lines


def _matches(line: str, words: list[str]) -> bool:
    return 3 <= len(words) <= 4 and words[0].isdecimal() and words[1] in ("R", "W") and words[2][:2].lower() == "0x"


def _read(lines: Lines, options: Options) -> Columns:
    lines.cut(" \t", 4, comment="#")
    lines.stop_at(lines.tokens(3, 4, "'instructions R|W 0xADDRESS [0xPC]' like '20 R 0x1ff97c80 0x403d50'"))
    before, before_fault = lines.numbers(0, "the count of instructions without memory access")
    write = lines.words(1, {"R": READ, "W": WRITE})
    address, address_fault = lines.numbers(2, "the address", hexadecimal=True)
    counter_fault = lines.hexadecimal(3, "a program counter like 0x403d50")
    lines.first_fault(before_fault, address_fault, counter_fault, lines.fault_where(write < 0, "R or W as the command"))
    instruction = options.counted(np.cumsum(np.minimum(before, 1 << 40) + 1), lines.path)
    return Columns(instruction, address, write == WRITE)


FORMAT = Format(
    "usimm", "20 R 0x1ff97c80 0x403d50",
    "instructions without memory access, then one access behind the caches of the traced machine; the PC is not used",
    _read, _matches, (), CPU_MHZ, counts_instructions=True,
)  # fmt: skip
