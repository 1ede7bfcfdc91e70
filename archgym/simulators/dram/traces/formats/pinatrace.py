"""What PIN's example pinatrace prints: ``0x7f2a40: R 0x7ffd18``; every data access of a program, before any cache."""

from __future__ import annotations

__all__ = ()

import numpy as np

from archgym.simulators.dram.traces.formats.base import CPU_MHZ, READ, WRITE, Columns, Format, Options
from archgym.simulators.dram.traces.lines import Lines


def _matches(line: str, words: list[str]) -> bool:
    return len(words) >= 3 and words[0][:2].lower() == "0x" and words[0].endswith(":") and words[1] in ("R", "W")


def _read(lines: Lines, options: Options) -> Columns:
    lines.cut(" \t", 3, comment="#")  # the last line is #eof
    lines.stop_at(lines.tokens(3, 3, "'0xPC: R|W 0xADDRESS' like '0x7f2a40: R 0x7ffd18'"))
    write = lines.words(1, {"R": READ, "W": WRITE})
    address, fault = lines.numbers(2, "the address", hexadecimal=True)
    lines.end[:, 0] -= 1
    wrong = lines.text[lines.end[lines.rows, 0]] != ord(":")
    counter_fault = lines.fault_where(wrong, "a program counter like '0x7f2a40:'")
    counter_fault = counter_fault or lines.hexadecimal(0, "a program counter like '0x7f2a40:'")
    lines.first_fault(fault, counter_fault, lines.fault_where(write < 0, "R or W as the command"))
    return Columns(np.arange(1, len(address) + 1), address, write == WRITE, np.full(len(address), 8, np.int64))


FORMAT = Format(
    "pinatrace", "0x7f2a40: R 0x7ffd18",
    "every data access of a program, before any cache; each counts as one instruction and as 8 bytes",
    _read, _matches, (), CPU_MHZ, counts_instructions=True, cache_kib=1024,
)  # fmt: skip
